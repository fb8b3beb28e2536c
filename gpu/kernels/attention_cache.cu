/* The exact cache: keys and values into pages, and attention of rows to them. */
#include "gpu/kernels/attention_mma.h"
#include "gpu/kernels/tiles/attention_pages.cuh"

/* Row r's keys go to column pos % 64 of its page, its values to a row of it. A warp a row. Bound: bytes; the keys' stores are
 * scattered. */
__global__ void __launch_bounds__(ROW_THREADS, 4)
    write_pages(AttentionShape s, CacheLayer cache, const CacheRow *rows, int n, AttentionInputs in)
{
    size_t r = warp_row();
    int lane = (int)threadIdx.x % WARP, rope_heads = cache.rope_shared ? 1 : s.Hkv;
    if (r >= (size_t)n) return;
    CacheRow row = rows[r];
    Row page = page_of(cache, row, row.pos / KEY_TILE);
    size_t at = (size_t)(row.pos % KEY_TILE);
    for (int i = lane; i < s.Hkv * s.Dn; i += WARP)
        row_put(page, (size_t)i * KEY_TILE + at, row_get(head_row(in.k, r, (size_t)(i / s.Dn)), (size_t)(i % s.Dn)));
    for (int i = lane; i < rope_heads * s.Dr; i += WARP)
        row_put(page, cache.rope_at + (size_t)i * KEY_TILE + at,
                row_get(head_row(in.k_rope, r, (size_t)(i / s.Dr)), (size_t)(i % s.Dr)));
    for (int i = lane; i < s.Hkv * s.Dv; i += WARP) {
        size_t h = (size_t)(i / s.Dv), d = (size_t)(i % s.Dv);
        row_put(page, cache.v_at + (h * KEY_TILE + at) * (size_t)s.Dv + d, row_get(head_row(in.v, r, h), d));
    }
}

/* Block: one row, one head (blockIdx.y). Bound: bytes of the pages (heads of a group read them from the second cache). */
__global__ void __launch_bounds__(PAGE_THREADS, 8)
    cached(AttentionShape s, HeadView o, HeadView q, CacheLayer cache, const CacheRow *rows)
{
    DSMEM(float, query);
    SMEM(PageState, state, [1]);
    size_t r = blockIdx.x, head = blockIdx.y, h = head / (size_t)(s.H / s.Hkv), rope_head = cache.rope_shared ? 0 : h;
    for (int d = (int)threadIdx.x; d < s.Dn + s.Dr; d += PAGE_THREADS)
        query[d] = row_get(head_row(q, r, head), (size_t)d);
    PageLayout p = {h * (size_t)s.Dn * KEY_TILE,
                    cache.rope_at + rope_head * (size_t)s.Dr * KEY_TILE,
                    cache.v_at + h * KEY_TILE * (size_t)s.Dv,
                    KEY_TILE,
                    1,
                    (size_t)s.Dv,
                    s.Dn,
                    s.Dr,
                    s.Dv,
                    s.scale};
    __syncthreads();
    attend_pages(head_ptr(o, r, head), query, state, cache, rows[r], p);
}

void gpu_cache_write(Backend *b, AttentionShape s, CacheLayer cache, const CacheRow *rows, int n, AttentionInputs in)
{
    if (n > 0) LAUNCH(write_pages, ceil_div((size_t)n, WARP_ROWS), ROW_THREADS, 0, b->stream, s, cache, rows, n, in);
}

void gpu_attention_cached(Backend *b, AttentionShape s, HeadView o, HeadView q, CacheLayer cache, const CacheRow *rows,
                          int n)
{
    CHECK(s.Hkv > 0 && s.H % s.Hkv == 0);
    if (n > 0 && b->mma && q.dtype == DTYPE_BF16 && attention_mma_cached(b, s, o, q, cache, rows, n)) return;
    HeadView sums = n > 0 ? heads_in_f32(b, o, (size_t)n, (size_t)s.H, (size_t)s.Dv) : o;
    size_t bytes = (size_t)(s.Dn + s.Dr) * sizeof(float);
    if (n <= 0 || !sums.p) return;
    LAUNCH(cached, dim3((unsigned)n, (unsigned)s.H), PAGE_THREADS, bytes, b->stream, s, sums, q, cache, rows);
    heads_rounded(b, o, sums, (size_t)n, (size_t)s.H, (size_t)s.Dv);
}
