/* A panel of the native matmul: up to PANEL output columns, all rows of a call, all of k. The same bits for any number of
 * rows, any cut of the columns, any thread count. */
#ifndef CPU_KERNELS_GEMM_PANEL_H
#define CPU_KERNELS_GEMM_PANEL_H

#include "cpu/kernels/gemm_tile.h"

#if defined(__AVX512F__)
enum { PANEL_VECTORS = 4 };
#else
enum { PANEL_VECTORS = 1 };
#endif

enum { PANEL = PANEL_VECTORS * VEC, K_BLOCK = 1024 };

/* Fewer rows than this do not pay for copying or widening a panel of the weight first. */
enum { ROWS_WORTH_A_COPY = 24 };

/* Vectors of the panel that starts at a column with `left` columns to go: 4, then 2, then 1. */
VEC_INLINE size_t panel_vectors(size_t left)
{
    size_t vectors = (left + VEC - 1) / VEC;
    return vectors >= PANEL_VECTORS ? PANEL_VECTORS : vectors >= 2 ? 2 : 1;
}

/* Runs the panel of `vectors` vectors. t: as for its first row. by_cols: a's rows are neighbours in memory (a_row 1),
 * else its k are (a_k 1). sums: scratch [rows][16 vectors], needed when K is more than K_BLOCK. */
void panel_run(TileKind kind, Tile t, size_t rows, size_t vectors, bool by_cols, float *sums);

/* Columns [from, from + cols) of m as f32 rows of `width`, padded by 0. rounded: to bf16 values. */
void panel_copy(float *panel, Mat m, size_t from, size_t cols, size_t width, bool rounded);

/* m [rows, cols] transposed in vectors' squares: out[i * width + j] = m[j][i], for j < width, 0 from m.rows on. */
void panel_transpose(Row out, Mat m, size_t width);

#endif
