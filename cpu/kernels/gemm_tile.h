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

VEC_INLINE void tile_finish(const Tile *t, v16 sum, size_t r, size_t v)
{
    size_t j = v * VEC, k = row_lanes(t->cols - j);
    float *c = t->c + r * t->c_row + j;
    if (t->bias) {
        sum = v16_add(sum, row_load(t->bias + j, k));
    }
    if (t->add) {
        sum = v16_add(row_load(c, k), sum);
    }
    row_store(c, sum, k);
}

VEC_INLINE void tile_run(const Tile *t, const int R, const int V, const size_t a_row, const size_t a_k)
{
    v16 sum[14][4];
    for (int r = 0; r < R; r++) {
        for (int v = 0; v < V; v++) {
            sum[r][v] = t->start ? v16_load(t->start + (size_t)r * t->start_row + v * VEC) : v16_zero();
        }
    }
    const float *a = t->a, *b = t->b;
    const size_t b_k = t->b_k;
    for (size_t k = t->K; k > 0; k--) {
        v16 bv[4];
        for (int v = 0; v < V; v++) {
            bv[v] = v16_load(b + v * VEC);
        }
        for (int r = 0; r < R; r++) {
            v16 ar = v16_set1(a[(size_t)r * a_row]);
            for (int v = 0; v < V; v++) {
                sum[r][v] = v16_fma(ar, bv[v], sum[r][v]);
            }
        }
        a += a_k;
        b += b_k;
    }
    for (int r = 0; r < R; r++) {
        for (int v = 0; v < V; v++) {
            tile_finish(t, sum[r][v], (size_t)r, (size_t)v);
        }
    }
}

#endif
