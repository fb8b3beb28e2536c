/* Backward of attention on tensor cores, in two passes as in attention_bwd.cu: dk and dv by key tile, dq by query tile.
 * Probabilities and ds are rounded to bf16 before they are multiplied, sums are f32. */
#include "gpu/kernels/attention_mma.h"
#include "gpu/kernels/tiles/attention_backward.cuh"
#include "gpu/kernels/tiles/flash.cuh"

/* KEY_WARPS: 4 x 2 warps, which share scores as 16 queries x 32 keys, gradients as 16 keys x half of the widths. */
enum { KEY_WARPS = 8, KEY_THREADS = KEY_WARPS * WARP, QUERY_THREADS = 4 * WARP, SQUARE = TILE * TILE };

typedef struct FlashBackward {
    BackwardCall c;
    HeadView dout; /* bf16 */
    bool whole;
} FlashBackward;

template <class F, int THREADS>
DEVICE void load_queries(uint16_t *q, uint16_t *dout, const FlashBackward &g, TileAt t, int row, int head)
{
    size_t n = (size_t)(t.start + row);
    int rows = t.length - row;
    const AttentionShape &s = g.c.s;
    head_tile<TILE, F::CQ, THREADS>(q, head_row(g.c.in.q, n, (size_t)head), g.c.in.q.row, s.Dn + s.Dr, rows, g.whole);
    head_tile<TILE, F::CV, THREADS>(dout, head_row(g.dout, n, (size_t)head), g.dout.row, s.Dv, rows, g.whole);
}

template <class F, int THREADS>
DEVICE void load_keys(uint16_t *k, uint16_t *v, const FlashBackward &g, TileAt t, int key, int h)
{
    size_t n = (size_t)(t.start + key);
    int rows = t.length - key;
    const AttentionInputs &in = g.c.in;
    head_tile<TILE, F::CQ, THREADS>(k, head_row(in.k, n, (size_t)h), in.k.row, g.c.s.Dn,
                                    head_row(in.k_rope, n, (size_t)h), in.k_rope.row, g.c.s.Dn + g.c.s.Dr, rows,
                                    g.whole);
    head_tile<TILE, F::CV, THREADS>(v, head_row(in.v, n, (size_t)h), in.v.row, g.c.s.Dv, rows, g.whole);
}

/* x[16 rows from `row`][32 columns from `column`] = a b^T, inner dimension D. */
template <int D> DEVICE void scores_16x32(float (&x)[4][4], uint16_t *a_tile, uint16_t *b_tile, int row, int column)
{
#pragma unroll
    for (int j = 0; j < 4; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) x[j][e] = 0.0f;
#pragma unroll 4
    for (int k = 0; k < D / 16; k++) {
        uint32_t a[4];
        a_rows<D / CHUNK>(a, a_tile, row, 16 * k);
#pragma unroll
        for (int j = 0; j < 2; j++) {
            uint32_t b[4];
            b_rows<D / CHUNK>(b, b_tile, column + 16 * j, 16 * k);
            mma_16x16(x[2 * j], x[2 * j + 1], a, b);
        }
    }
}

/* acc[16 keys from `key`][D / 2 columns of x from `column`] += squares^T x. */
template <int D> DEVICE void add_keys(float (&acc)[D / 16][4], uint16_t *squares, uint16_t *x, int key, int column)
{
#pragma unroll
    for (int k = 0; k < TILE / 16; k++) {
        uint32_t a[4];
        a_columns<TILE / CHUNK>(a, squares, key, 16 * k);
#pragma unroll
        for (int d = 0; d < D / 32; d++) {
            uint32_t b[4];
            b_columns<D / CHUNK>(b, x, column + 16 * d, 16 * k);
            mma_16x16(acc[2 * d], acc[2 * d + 1], a, b);
        }
    }
}

/* p and ds of a row's position, key and raw score. */
DEVICE float probability(float score, float scale, float lse, bool seen)
{
    return seen ? exp_r1(fmaf(score, scale, -lse)) : 0.0f;
}

/* p and ds of 64 queries from `row` on against the keys from `key` on, rounded, into shared memory; a barrier follows. */
template <class F>
DEVICE void write_squares(uint16_t *ps, uint16_t *ds, uint16_t *const (&tiles)[4], const FlashBackward &g, TileAt t,
                          int head, int row, int key)
{
    int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP, wr = warp / 2 * 16, wc = warp % 2 * 32;
    float x[4][4], y[4][4], scale = g.c.s.scale;
    scores_16x32<F::DQ>(x, tiles[2], tiles[0], wr, wc);
    scores_16x32<F::DV>(y, tiles[3], tiles[1], wr, wc);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int r = wr + lane / 4 + 8 * h;
        bool on = row + r < t.length;
        size_t at = (size_t)(t.start + (on ? row + r : 0)) * (size_t)g.c.s.H + (size_t)head;
        float lse = g.c.lse[at], delta = g.c.delta[at];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            int column = wc + 8 * j + lane % 4 * 2;
            float p[2], d[2];
#pragma unroll
            for (int e = 0; e < 2; e++) {
                p[e] = probability(x[j][2 * h + e], scale, lse, on && key + column + e <= row + r);
                d[e] = p[e] * (y[j][2 * h + e] - delta) * scale;
            }
            *(uint32_t *)(chunk_at<TILE / CHUNK>(ps, r, column / CHUNK) + column % CHUNK) = pack_bf16(p[0], p[1]);
            *(uint32_t *)(chunk_at<TILE / CHUNK>(ds, r, column / CHUNK) + column % CHUNK) = pack_bf16(d[0], d[1]);
        }
    }
    __syncthreads();
}

/* Dimension d of key row n of head h: dk, or behind Dn the rope part (of its head where the key is shared). */
DEVICE float *key_gradient(const BackwardCall &c, size_t n, int h, int d)
{
    if (d < c.s.Dn) return head_ptr(c.din.k, n, (size_t)h) + d;
    if (c.rope_parts) return c.rope_parts + ((size_t)h * c.rows + n) * (size_t)c.s.Dr + (d - c.s.Dn);
    return head_ptr(c.din.k_rope, n, (size_t)h) + (d - c.s.Dn);
}

/* Block: 64 keys of a key head (blockIdx.y); all its query heads, all query tiles from its own on. Bound: tensor cores. */
template <class F> __global__ void __launch_bounds__(KEY_THREADS, 1) flash_keys(FlashBackward g)
{
    DSMEM(uint16_t, shared);
    const AttentionShape &s = g.c.s;
    TileAt t = tile_at(g.c.offsets, g.c.nseq, (int)blockIdx.x);
    if (!t.any) return;
    uint16_t *ks = shared, *vs = ks + TILE * F::DQ, *qs = vs + TILE * F::DV, *os = qs + TILE * F::DQ,
             *ps = os + TILE * F::DV, *ds = ps + SQUARE, *const tiles[4] = {ks, vs, qs, os};
    int h = (int)blockIdx.y, share = s.H / s.Hkv, warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    int wr = warp / 2 * 16, wq = warp % 2 * (F::DQ / 2), wv = warp % 2 * (F::DV / 2);
    float dv[F::DV / 16][4] = {}, dk[F::DQ / 16][4] = {};
    load_keys<F, KEY_THREADS>(ks, vs, g, t, t.first, h);
    for (int head = h * share; head < (h + 1) * share; head++)
        for (int row = t.first; row < t.length; row += TILE) {
            load_queries<F, KEY_THREADS>(qs, os, g, t, row, head);
            copy_async_commit();
            copy_async_wait<0>();
            __syncthreads();
            write_squares<F>(ps, ds, tiles, g, t, head, row, t.first);
            add_keys<F::DV>(dv, ps, os, wr, wv);
            add_keys<F::DQ>(dk, ds, qs, wr, wq);
            __syncthreads(); /* all have read the queries and the squares */
        }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        int r = t.first + wr + lane / 4 + 8 * i;
        if (r >= t.length) continue;
        size_t n = (size_t)(t.start + r);
#pragma unroll
        for (int j = 0; j < F::DV / 16; j++)
            put_pair(head_row(g.c.din.v, n, (size_t)h), wv + 8 * j + lane % 4 * 2, s.Dv, dv[j][2 * i],
                     dv[j][2 * i + 1]);
#pragma unroll
        for (int j = 0; j < F::DQ / 16; j++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                int d = wq + 8 * j + lane % 4 * 2 + e;
                if (d < s.Dn + s.Dr) *key_gradient(g.c, n, h, d) = dk[j][2 * i + e];
            }
    }
}

/* ds of a warp's 16 queries against a tile of keys as fragments of operand a. */
template <class F>
DEVICE void query_fragments(uint32_t (&a)[TILE / 16][4], const FlashBackward &g, uint16_t *const (&tiles)[4], int first,
                            const int (&pos)[2], const float (&lse)[2], const float (&delta)[2], int key)
{
    float x[SCORE_TILES][4], y[SCORE_TILES][4], scale = g.c.s.scale;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float u[4][4], v[4][4];
        scores_16x32<F::DQ>(u, tiles[2], tiles[0], first, 32 * half);
        scores_16x32<F::DV>(v, tiles[3], tiles[1], first, 32 * half);
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) x[4 * half + j][e] = u[j][e], y[4 * half + j][e] = v[j][e];
    }
#pragma unroll
    for (int j = 0; j < SCORE_TILES; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            bool seen = key + 8 * j + (int)threadIdx.x % 4 * 2 + (e & 1) <= pos[e / 2];
            x[j][e] = probability(x[j][e], scale, lse[e / 2], seen) * (y[j][e] - delta[e / 2]) * scale;
        }
    fragments_of(a, x);
}

/* Block: 64 queries of a head (blockIdx.y), all key tiles up to theirs. Bound: tensor cores. */
template <class F> __global__ void __launch_bounds__(QUERY_THREADS, 1) flash_queries(FlashBackward g)
{
    DSMEM(uint16_t, shared);
    const AttentionShape &s = g.c.s;
    TileAt t = tile_at(g.c.offsets, g.c.nseq, (int)blockIdx.x);
    if (!t.any) return;
    uint16_t *ks = shared, *vs = ks + TILE * F::DQ, *qs = vs + TILE * F::DV,
             *os = qs + TILE * F::DQ, *const tiles[4] = {ks, vs, qs, os};
    int head = (int)blockIdx.y, first = (int)threadIdx.x / WARP * 16, lane = (int)threadIdx.x % WARP, pos[2];
    float lse[2], delta[2], dq[F::DQ / 8][4] = {};
#pragma unroll
    for (int i = 0; i < 2; i++) {
        pos[i] = t.first + first + lane / 4 + 8 * i;
        size_t at = (size_t)(t.start + (pos[i] < t.length ? pos[i] : 0)) * (size_t)s.H + (size_t)head;
        lse[i] = g.c.lse[at], delta[i] = g.c.delta[at];
    }
    load_queries<F, QUERY_THREADS>(qs, os, g, t, t.first, head);
    for (int key = 0; key <= t.first; key += TILE) {
        load_keys<F, QUERY_THREADS>(ks, vs, g, t, key, head / (s.H / s.Hkv));
        copy_async_commit();
        copy_async_wait<0>();
        __syncthreads();
        uint32_t a[TILE / 16][4];
        query_fragments<F>(a, g, tiles, first, pos, lse, delta, key);
        flash_add<F::DQ>(dq, a, ks);
        __syncthreads(); /* all have read the keys */
    }
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < F::DQ / 8; j++)
            if (pos[i] < t.length)
                put_pair(head_row(g.c.din.q, (size_t)(t.start + pos[i]), (size_t)head), 8 * j + lane % 4 * 2,
                         s.Dn + s.Dr, dq[j][2 * i], dq[j][2 * i + 1]);
}

template <class F> static void launch_backward(Backend *b, const FlashBackward &g)
{
    size_t tiles_bytes = 2 * F::STAGE * sizeof(uint16_t), keys_bytes = tiles_bytes + 2 * SQUARE * sizeof(uint16_t);
    unsigned tiles = (unsigned)(g.c.rows / TILE + (size_t)g.c.nseq);
    ALLOW_SHARED(flash_keys<F>, keys_bytes);
    ALLOW_SHARED(flash_queries<F>, tiles_bytes);
    LAUNCH(flash_keys<F>, dim3(tiles, (unsigned)g.c.s.Hkv), KEY_THREADS, keys_bytes, b->stream, g);
    LAUNCH(flash_queries<F>, dim3(tiles, (unsigned)g.c.s.H), QUERY_THREADS, tiles_bytes, b->stream, g);
}

bool attention_mma_bwd(Backend *b, AttentionShape s, AttentionInputs din, HeadView dout, HeadView o, const float *lse,
                       AttentionInputs in, SequenceRows seq)
{
    size_t N = (size_t)seq.rows, H = (size_t)s.H, width = ceil_div((size_t)s.Dv, CHUNK) * CHUNK;
    FlashBackward g = {};
    g.c = backward_call(s, din, dout, o, lse, in);
    if (s.Dn + s.Dr > 192 || s.Dv > 128) return false;
    if (!backward_begin(b, &g.c, seq, N * H * width * sizeof(uint16_t))) return true;
    HeadView rounded = {g.c.extra, H * width, width, DTYPE_BF16};
    g.dout = rounded;
    g.whole = heads_lie_well(in.q, s.Dn + s.Dr) && heads_lie_well(in.k, s.Dn) && heads_lie_well(in.k_rope, s.Dr) &&
              heads_lie_well(in.v, s.Dv) && s.Dv % CHUNK == 0;
    LAUNCH(copy_heads, ceil_div(N * H, WARP_ROWS), ROW_THREADS, 0, b->stream, rounded, dout, N, H, (size_t)s.Dv);
    bool done = FLASH_BY_WIDTHS(s, launch_backward, b, g);
    backward_end(b, &g.c);
    return done;
}
