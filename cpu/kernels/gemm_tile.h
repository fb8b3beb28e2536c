/* The register tile of the native matmul: R rows x V vectors of c = sum_k a[r][k] b[k][:], every element one chain of FMAs
 * over k ascending. R and V are constants wherever it is inlined, so that the sums live in registers. */
#ifndef CPU_KERNELS_GEMM_TILE_H
#define CPU_KERNELS_GEMM_TILE_H

#include "cpu/kernels/rows.h"

/* a(r, k) = a[r * a_row + k * a_k]; b(k, j) = b[k * b_k + j], 16 V columns readable. The chains start at `start` (NULL: 0),
 * [R][16 V] with row stride start_row. c gets them plus bias (NULL: none), or has them added; `cols` of its columns exist. */
typedef struct Tile {
    const float *a, *b;
    size_t a_row, a_k, b_k, K;
    const float *start;
    size_t start_row;
    float *c;
    size_t c_row, cols;
    const float *bias;
    bool add;
} Tile;

/* Only the last vector of a tile may be cut. */
VEC_INLINE void tile_finish(const Tile *t, v16 sum, size_t r, size_t v, size_t V)
{
    size_t j = v * VEC, k = v + 1 < V ? VEC : row_lanes(t->cols - j);
    float *c = t->c + r * t->c_row + j;
    if (t->bias) {
        sum = v16_add(sum, row_load(t->bias + j, k));
    }
    if (t->add) {
        sum = v16_add(row_load(c, k), sum);
    }
    row_store(c, sum, k);
}

/* Sum i is that of row i / V, vector i % V. They are named, not an array: GCC keeps an array on the stack at both ends of the
 * loop. Those from R * V on vanish. */
#define EACH_TILE_SUM(DO)                                                                                              \
    DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)                                          \
    DO(12) DO(13) DO(14) DO(15) DO(16) DO(17) DO(18) DO(19) DO(20) DO(21) DO(22) DO(23)

VEC_INLINE v16 tile_start(const Tile *t, size_t r, size_t v)
{
    return t->start ? v16_load(t->start + r * t->start_row + v * VEC) : v16_zero();
}

VEC_INLINE void tile_run(const Tile *t, const int R, const int V, const size_t a_row, const size_t a_k)
{
    const float *a = t->a, *b = t->b;
    const size_t b_k = t->b_k;
#define SUM_START(i) v16 sum##i = i < R * V ? tile_start(t, i / V, i % V) : v16_zero();
    EACH_TILE_SUM(SUM_START)
    for (size_t k = t->K; k > 0; k--) {
#define SUM_STEP(i)                                                                                                    \
    if (i < R * V) sum##i = v16_fma(v16_set1(a[i / V * a_row]), v16_load(b + i % V * VEC), sum##i);
        EACH_TILE_SUM(SUM_STEP)
        a += a_k;
        b += b_k;
    }
#define SUM_FINISH(i)                                                                                                  \
    if (i < R * V) tile_finish(t, sum##i, i / V, i % V, V);
    EACH_TILE_SUM(SUM_FINISH)
#undef SUM_START
#undef SUM_STEP
#undef SUM_FINISH
}

#endif
