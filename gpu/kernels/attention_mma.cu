/* Attention of bf16 heads on tensor cores: whole sequences, and rows against the pages of an exact cache
 * (tiles/flash.cuh). Rows of both kinds agree bit for bit. */
#include "gpu/kernels/attention_mma.h"
#include "gpu/kernels/tiles/flash.cuh"

enum { FLASH_WARPS = 4, FLASH_THREADS = FLASH_WARPS * WARP };

typedef struct SequenceCall {
    AttentionShape s;
    HeadView o;
    float *lse;
    AttentionInputs in;
    const int32_t *offsets;
    int nseq;
    bool whole;
} SequenceCall;

/* Keys and values of positions [key, key + 64) begin to arrive in a stage. */
template <class F> DEVICE void load_keys(uint16_t *stage, const SequenceCall &c, TileAt t, int key, int h)
{
    size_t n = (size_t)(t.start + key);
    int rows = t.length - key;
    head_tile<TILE, F::CQ, FLASH_THREADS>(stage, head_row(c.in.k, n, (size_t)h), c.in.k.row, c.s.Dn,
                                          head_row(c.in.k_rope, n, (size_t)h), c.in.k_rope.row, c.s.Dn + c.s.Dr, rows,
                                          c.whole);
    head_tile<TILE, F::CV, FLASH_THREADS>(stage + TILE * F::DQ, head_row(c.in.v, n, (size_t)h), c.in.v.row, c.s.Dv,
                                          rows, c.whole);
}

/* Block: 64 queries of a head (blockIdx.y), all key tiles up to theirs in a ring of two stages. Bound: tensor cores. */
template <class F> __global__ void __launch_bounds__(FLASH_THREADS, 1) flash(SequenceCall c)
{
    DSMEM(uint16_t, ring);
    TileAt t = tile_at(c.offsets, c.nseq, (int)blockIdx.x);
    if (!t.any) return;
    int head = (int)blockIdx.y, h = head / (c.s.H / c.s.Hkv), first = (int)threadIdx.x / WARP * FLASH_ROWS;
    size_t n = (size_t)(t.start + t.first);
    FlashRows<F> f;
    head_tile<TILE, F::CQ, FLASH_THREADS>(ring, head_row(c.in.q, n, (size_t)head), c.in.q.row, c.s.Dn + c.s.Dr,
                                          t.length - t.first, c.whole);
    copy_async_commit();
    copy_async_wait<0>();
    __syncthreads();
    flash_begin(f, ring, first);
    int row = t.first + first + (int)threadIdx.x % WARP / 4;
    f.pos[0] = row, f.pos[1] = row + 8;
    flash_keys<F, false>(f, ring, t.first, c.s.scale,
                         [&](uint16_t *stage, int i) { load_keys<F>(stage, c, t, i * TILE, h); });
#pragma unroll
    for (int i = 0; i < 2; i++) {
        if (f.pos[i] >= t.length) continue;
        size_t at = (size_t)(t.start + f.pos[i]);
        flash_store(f, i, head_row(c.o, at, (size_t)head), c.s.Dv);
        if (threadIdx.x % 4 == 0) c.lse[at * (size_t)c.s.H + (size_t)head] = f.m[i] + log_r1(f.l[i]);
    }
}

template <class F> static void launch_flash(Backend *b, const SequenceCall &c, int rows)
{
    size_t bytes = 2 * F::STAGE * sizeof(uint16_t);
    ALLOW_SHARED(flash<F>, bytes);
    LAUNCH(flash<F>, dim3((unsigned)(rows / TILE + c.nseq), (unsigned)c.s.H), FLASH_THREADS, bytes, b->stream, c);
}

bool attention_mma_fwd(Backend *b, AttentionShape s, HeadView o, float *lse, AttentionInputs in, SequenceRows seq)
{
    bool whole = heads_lie_well(in.q, s.Dn + s.Dr) && heads_lie_well(in.k, s.Dn) && heads_lie_well(in.k_rope, s.Dr) &&
                 heads_lie_well(in.v, s.Dv);
    SequenceCall c = {s, o, lse, in, seq.offsets, seq.count, whole};
    return FLASH_BY_WIDTHS(s, launch_flash, b, c, seq.rows);
}

/* ---- exact cache */

typedef struct CachedCall {
    AttentionShape s;
    HeadView o, q;
    CacheLayer cache;
    const CacheRow *rows;
    int n;
    bool queries_whole, pages_whole;
} CachedCall;

/* One page of a head: keys as [DQ][64], values as [64][DV], none behind position `limit` - 1 of the page. */
template <class F> DEVICE void load_page(uint16_t *stage, const CachedCall &c, int at, int i, int h, int limit)
{
    Row base = {c.cache.base, c.cache.dtype == DTYPE_BF16};
    Row page = row_from(base, (size_t)c.cache.pages[at + i] * c.cache.page_stride);
    size_t rope_head = c.cache.rope_shared ? 0 : (size_t)h, Dn = (size_t)c.s.Dn, Dr = (size_t)c.s.Dr,
           Dv = (size_t)c.s.Dv;
    Row k = row_from(page, (size_t)h * Dn * TILE), v = row_from(page, c.cache.v_at + (size_t)h * TILE * Dv);
    Row rope = row_from(page, c.cache.rope_at + rope_head * Dr * TILE);
    for (int e = (int)threadIdx.x; e < F::DQ * (TILE / CHUNK); e += WARP) {
        int d = e / (TILE / CHUNK), j = e % (TILE / CHUNK) * CHUNK;
        bool in = d < c.s.Dn + c.s.Dr;
        Row from = d < c.s.Dn ? row_from(k, (size_t)(d * TILE + j)) : row_from(rope, (size_t)((d - c.s.Dn) * TILE + j));
        uint16_t *to = chunk_at<TILE / CHUNK>(stage, d, j / CHUNK);
        if (c.pages_whole) copy_async16(to, in ? from.p : page.p, in);
        else
            for (int x = 0; x < CHUNK; x++) to[x] = (uint16_t)(in ? narrow(row_get(from, (size_t)x)) : 0u);
    }
    head_tile<TILE, F::CV, WARP>(stage + TILE * F::DQ, v, Dv, c.s.Dv, limit, c.pages_whole && c.s.Dv % CHUNK == 0);
}

/* Rows [r, r + count) are of one sequence: r begins such a run, or is a multiple of 16. 0: r is inside of one. */
DEVICE int run_of(const CachedCall &c, int r)
{
    int at = c.rows[r].at, count = 1;
    if (r % FLASH_ROWS != 0 && c.rows[r - 1].at == at) return 0;
    while (r + count < c.n && (r + count) % FLASH_ROWS != 0 && c.rows[r + count].at == at) count++;
    return count;
}

/* Block: a warp, up to 16 rows of one sequence, one head (blockIdx.y). Bound: bytes of the pages. */
template <class F> __global__ void __launch_bounds__(WARP, 1) flash_cached(CachedCall c)
{
    DSMEM(uint16_t, ring);
    int r = (int)blockIdx.x, head = (int)blockIdx.y, h = head / (c.s.H / c.s.Hkv), count = run_of(c, r), last = 0;
    if (count == 0) return;
    for (int i = 0; i < count; i++) last = c.rows[r + i].pos > last ? c.rows[r + i].pos : last;
    FlashRows<F> f;
    head_tile<FLASH_ROWS, F::CQ, WARP>(ring, head_row(c.q, (size_t)r, (size_t)head), c.q.row, c.s.Dn + c.s.Dr, count,
                                       c.queries_whole);
    copy_async_commit();
    copy_async_wait<0>();
    __syncthreads();
    flash_begin(f, ring, 0);
    int mine = (int)threadIdx.x / 4, at = c.rows[r].at;
#pragma unroll
    for (int i = 0; i < 2; i++) f.pos[i] = c.rows[r + (mine + 8 * i < count ? mine + 8 * i : 0)].pos;
    flash_keys<F, true>(f, ring, last, c.s.scale,
                        [&](uint16_t *stage, int i) { load_page<F>(stage, c, at, i, h, last + 1 - i * TILE); });
#pragma unroll
    for (int i = 0; i < 2; i++)
        if (mine + 8 * i < count) flash_store(f, i, head_row(c.o, (size_t)(r + mine + 8 * i), (size_t)head), c.s.Dv);
}

template <class F> static void launch_cached(Backend *b, const CachedCall &c)
{
    size_t bytes = 2 * F::STAGE * sizeof(uint16_t);
    ALLOW_SHARED(flash_cached<F>, bytes);
    LAUNCH(flash_cached<F>, dim3((unsigned)c.n, (unsigned)c.s.H), WARP, bytes, b->stream, c);
}

bool attention_mma_cached(Backend *b, AttentionShape s, HeadView o, HeadView q, CacheLayer cache, const CacheRow *rows,
                          int n)
{
    bool pages = cache.dtype == DTYPE_BF16 && (uintptr_t)cache.base % 16 == 0 && cache.page_stride % CHUNK == 0 &&
                 cache.rope_at % CHUNK == 0 && cache.v_at % CHUNK == 0;
    CachedCall c = {s, o, q, cache, rows, n, heads_lie_well(q, s.Dn + s.Dr), pages};
    return FLASH_BY_WIDTHS(s, launch_cached, b, c);
}
