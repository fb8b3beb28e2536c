/* Attention on tensor cores: 16 queries a warp against tiles of 64 keys at absolute positions, online softmax, probabilities in
 * registers and rounded to bf16 before they multiply the values. Sequences and pages of a cache share every instruction from the
 * scores on, so that both give a row the same bits; a row's bits do not depend on the other 15. */
#ifndef GPU_KERNELS_FLASH_CUH
#define GPU_KERNELS_FLASH_CUH

#include "gpu/kernels/tiles/attention_tile.cuh"
#include "gpu/kernels/tiles/mma_tile.cuh"

/* Widths that a head's are padded to by zeros: of queries and keys, of values. */
template <int DQ_, int DV_> struct FlashShape {
    static constexpr int DQ = DQ_, DV = DV_, CQ = DQ / CHUNK, CV = DV / CHUNK, STAGE = TILE * (DQ + DV);
};

enum { FLASH_ROWS = 16, SCORE_TILES = TILE / 8 };

/* What a warp knows of its 16 queries; a thread has rows lane / 4 and 8 more. */
template <class F> struct FlashRows {
    uint32_t q[F::DQ / 16][4];
    float acc[F::DV / 8][4], m[2], l[2];
    int pos[2];
};

/* ROWS rows of CH chunks: columns [0, split) out of a, the following out of b, zeros from column D and row `rows` on. whole: all
 * pieces of 8 are of one of them and lie at multiples of 16 bytes; then the copies only begin here. */
template <int ROWS, int CH, int THREADS>
DEVICE void head_tile(uint16_t *tile, Row a, size_t a_row, int split, Row b, size_t b_row, int D, int rows, bool whole)
{
    if (whole) {
#pragma unroll 2
        for (int e = (int)threadIdx.x; e < ROWS * CH; e += THREADS) {
            int r = e / CH, d = e % CH * CHUNK;
            bool in = r < rows && d < D;
            Row from = d < split ? row_from(a, (size_t)r * a_row + (size_t)d)
                                 : row_from(b, (size_t)r * b_row + (size_t)(d - split));
            copy_async16(chunk_at<CH>(tile, r, d / CHUNK), in ? from.p : a.p, in);
        }
        return;
    }
    for (int e = (int)threadIdx.x; e < ROWS * CH * CHUNK; e += THREADS) {
        int r = e / (CH * CHUNK), d = e % (CH * CHUNK);
        float v = r >= rows || d >= D ? 0.0f
                  : d < split         ? row_get(a, (size_t)r * a_row + (size_t)d)
                                      : row_get(b, (size_t)r * b_row + (size_t)(d - split));
        chunk_at<CH>(tile, r, d / CHUNK)[d % CHUNK] = (uint16_t)narrow(v);
    }
}

/* Of one view. */
template <int ROWS, int CH, int THREADS>
DEVICE void head_tile(uint16_t *tile, Row a, size_t a_row, int D, int rows, bool whole)
{
    head_tile<ROWS, CH, THREADS>(tile, a, a_row, D, a, a_row, D, rows, whole);
}

template <class F> DEVICE void flash_begin(FlashRows<F> &f, uint16_t *queries, int first)
{
#pragma unroll
    for (int k = 0; k < F::DQ / 16; k++) a_rows<F::CQ>(f.q[k], queries, first, 16 * k);
#pragma unroll
    for (int d = 0; d < F::DV / 8; d++)
#pragma unroll
        for (int e = 0; e < 4; e++) f.acc[d][e] = 0.0f;
    f.m[0] = f.m[1] = -INFINITY;
    f.l[0] = f.l[1] = 0.0f;
}

/* s = q k of 16 queries and 64 keys. COLUMNS: keys lie [DQ][64], else [64][DQ]. */
template <int DQ, bool COLUMNS>
DEVICE void flash_scores(float (&s)[SCORE_TILES][4], const uint32_t (&q)[DQ / 16][4], uint16_t *keys)
{
#pragma unroll
    for (int j = 0; j < SCORE_TILES; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) s[j][e] = 0.0f;
#pragma unroll
    for (int k = 0; k < DQ / 16; k++)
#pragma unroll
        for (int j = 0; j < SCORE_TILES / 2; j++) {
            uint32_t b[4];
            if (COLUMNS) b_columns<TILE / CHUNK>(b, keys, 16 * j, 16 * k);
            else b_rows<DQ / CHUNK>(b, keys, 16 * j, 16 * k);
            mma_16x16(s[2 * j], s[2 * j + 1], q[k], b);
        }
}

DEVICE float quad_sum(float v)
{
    v = v + __shfl_xor_sync(0xffffffffu, v, 1);
    return v + __shfl_xor_sync(0xffffffffu, v, 2);
}

/* Scores of the keys from `key` on become e^(scale s - m'), 0 behind a row's position; m, l and the sums so far follow. */
template <class F> DEVICE void flash_softmax(FlashRows<F> &f, float (&s)[SCORE_TILES][4], int key, float scale)
{
    float max[2] = {-INFINITY, -INFINITY}, sum[2] = {0.0f, 0.0f}, alpha[2];
    int first = key + (int)threadIdx.x % 4 * 2;
#pragma unroll
    for (int j = 0; j < SCORE_TILES; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            bool seen = first + 8 * j + (e & 1) <= f.pos[e / 2];
            s[j][e] = seen ? s[j][e] * scale : -INFINITY;
            max[e / 2] = larger(s[j][e], max[e / 2]);
        }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        max[h] = larger(quad_max(max[h]), f.m[h]);
        alpha[h] = exp_r1(f.m[h] - max[h]);
        f.m[h] = max[h];
    }
#pragma unroll
    for (int j = 0; j < SCORE_TILES; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            s[j][e] = s[j][e] == -INFINITY ? 0.0f : exp_r1(s[j][e] - f.m[e / 2]);
            sum[e / 2] += s[j][e];
        }
#pragma unroll
    for (int h = 0; h < 2; h++) f.l[h] = fmaf(f.l[h], alpha[h], quad_sum(sum[h]));
#pragma unroll
    for (int d = 0; d < F::DV / 8; d++)
#pragma unroll
        for (int e = 0; e < 4; e++) f.acc[d][e] *= alpha[e / 2];
}

/* Values of 16 rows and 64 columns as the four fragments of operand a. */
DEVICE void fragments_of(uint32_t (&a)[TILE / 16][4], const float (&s)[SCORE_TILES][4])
{
#pragma unroll
    for (int j = 0; j < SCORE_TILES; j++)
#pragma unroll
        for (int h = 0; h < 2; h++) a[j / 2][j % 2 * 2 + h] = pack_bf16(s[j][2 * h], s[j][2 * h + 1]);
}

/* acc += a x, x [64][D]. */
template <int D> DEVICE void flash_add(float (&acc)[D / 8][4], const uint32_t (&a)[TILE / 16][4], uint16_t *x)
{
#pragma unroll
    for (int k = 0; k < TILE / 16; k++)
#pragma unroll
        for (int d = 0; d < D / 16; d++) {
            uint32_t b[4];
            b_columns<D / CHUNK>(b, x, 16 * d, 16 * k);
            mma_16x16(acc[2 * d], acc[2 * d + 1], a[k], b);
        }
}

/* One tile of keys and values. */
template <class F, bool COLUMNS>
DEVICE void flash_tile(FlashRows<F> &f, uint16_t *keys, uint16_t *values, int key, float scale)
{
    float s[SCORE_TILES][4];
    uint32_t p[TILE / 16][4];
    flash_scores<F::DQ, COLUMNS>(s, f.q, keys);
    flash_softmax(f, s, key, scale);
    fragments_of(p, s);
    flash_add<F::DV>(f.acc, p, values);
}

/* All tiles of keys up to position `last`, in a ring of two stages: load(stage, i) begins to bring tile i. */
template <class F, bool COLUMNS, class Load>
DEVICE void flash_keys(FlashRows<F> &f, uint16_t *ring, int last, float scale, const Load &load)
{
    __syncthreads(); /* the queries are in registers: keys may take their place */
    load(ring, 0);
    copy_async_commit();
    for (int i = 0; i * TILE <= last; i++) {
        if ((i + 1) * TILE <= last) load(ring + (i + 1) % 2 * F::STAGE, i + 1);
        copy_async_commit();
        copy_async_wait<1>();
        __syncthreads();
        uint16_t *stage = ring + i % 2 * F::STAGE;
        flash_tile<F, COLUMNS>(f, stage, stage + TILE * F::DQ, i * TILE, scale);
        __syncthreads(); /* all have left the stage that is loaded next */
    }
}

/* Row h of this thread's two: o = acc / l. */
template <class F> DEVICE void flash_store(const FlashRows<F> &f, int h, Row o, int Dv)
{
    float inverse = 1.0f / f.l[h];
#pragma unroll
    for (int d = 0; d < F::DV / 8; d++)
        put_pair(o, 8 * d + (int)threadIdx.x % 4 * 2, Dv, f.acc[d][2 * h] * inverse, f.acc[d][2 * h + 1] * inverse);
}

/* Whether pieces of 8 of every head lie at multiples of 16 bytes. */
static inline bool heads_lie_well(HeadView v, int D)
{
    return D == 0 || (v.dtype == DTYPE_BF16 && D % CHUNK == 0 && (uintptr_t)v.p % 16 == 0 && v.row % CHUNK == 0 &&
                      v.head % CHUNK == 0);
}

/* Runs call<FlashShape<..>>(...) with the smallest widths that hold a head; false: none does. */
#define FLASH_BY_WIDTHS(s, call, ...)                                                                                  \
    ((s).Dn + (s).Dr <= 32 && (s).Dv <= 32     ? (call<FlashShape<32, 32>>(__VA_ARGS__), true)                         \
     : (s).Dn + (s).Dr <= 64 && (s).Dv <= 64   ? (call<FlashShape<64, 64>>(__VA_ARGS__), true)                         \
     : (s).Dn + (s).Dr <= 128 && (s).Dv <= 128 ? (call<FlashShape<128, 128>>(__VA_ARGS__), true)                       \
     : (s).Dn + (s).Dr <= 192 && (s).Dv <= 128 ? (call<FlashShape<192, 128>>(__VA_ARGS__), true)                       \
                                               : false)

#endif
