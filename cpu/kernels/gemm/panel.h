/* A panel of the native matmul: up to PANEL output columns, all rows of a call, all of k. The same bits for any number of
 * rows, any cut of the columns, any thread count. */
#ifndef CPU_KERNELS_GEMM_PANEL_H
#define CPU_KERNELS_GEMM_PANEL_H

#include "cpu/kernels/gemm/tile.h"

/* Steps of the inner index in a k-block of both operands: a panel of b is 16 KiB (AVX2, fits L1) or 64 KiB (AVX-512, a fraction
 * of L2), PIECE_ROWS rows of a are 384 KiB (fit L2). Between k-blocks the sums are kept in memory, so the bits are those of one
 * pass. */
enum { PANEL = PANEL_VECTORS * VEC, K_BLOCK = 256, LINE = 64 };

/* Fewer rows do not reuse a panel of the weight often enough to pay for copying or widening it first. */
enum { ROWS_WORTH_A_COPY = 32 };

/* Vectors of the panel that starts at a column with `left` columns to go: 4, then 2, then 1. */
VEC_INLINE size_t panel_vectors(size_t left)
{
    size_t vectors = (left + VEC - 1) / VEC;
    return vectors >= PANEL_VECTORS ? PANEL_VECTORS : vectors >= 2 ? 2 : 1;
}

/* Operand a of a product of `rows` rows and K steps: element (r, k) at p[r * stride + k], or in tiles (stride 0): block after
 * block of k, tile after tile of at most TILE_ROWS rows, [k][rows of the tile] and VEC more, so that they are read in the order
 * they lie in. */
typedef struct OperandA {
    const void *p;
    size_t stride, rows, K;
    bool cold; /* read from DRAM: nothing has touched it just before */
} OperandA;

enum { TILE_ROWS = 6 };
size_t tiles_floats(size_t rows, size_t K);
/* m in tiles, the inner index along its columns. out: tiles_floats. Worth it when many panels reuse the rows. */
OperandA tiles_from_rows(float *out, Mat m, bool rounded);
/* Columns [from, from + rows) of m as rows of a. pairs: steps are pairs of m's rows; rounded: to bf16 values. */
OperandA tiles_from_columns(float *out, Mat m, size_t from, size_t rows, bool pairs, bool rounded);

/* A prefetch under way: `left` rows of `lines` cache lines, `pace` rows with each tile that runs. */
typedef struct Ahead {
    const char *at;
    size_t stride, lines, left, pace; /* stride: bytes to the next row */
} Ahead;

/* Runs steps [k0, k0 + t.K) of a panel of `vectors` vectors for all rows of a. t: as for the first row, without a. */
void panel_run(TileKind kind, Tile t, const OperandA *a, size_t k0, size_t vectors, Ahead *ahead_b, Ahead *ahead_a);

/* How many of `panels` packed panels `rows` rows run at once, where that is more than one; and running them through all of K: t
 * without a and b_k, as for the first row and panel; b_panel and c_panel lead to the next one. */
size_t panels_side_by_side(size_t rows, size_t panels);
void panels_run(TileKind kind, Tile t, const OperandA *a, size_t panels);

/* Columns [from, from + cols) of m as f32 panels, one behind another, with rows of `width`, padded by 0. pairs: a row is two
 * rows of m, (m[2i][from + j], m[2i + 1][from + j]) as bf16; rounded: to bf16 values. */
void panel_copy(float *panel, Mat m, size_t from, size_t cols, size_t width, bool pairs, bool rounded);

/* m [rows, cols] transposed in vectors' squares: out[i * width + j] = m[j][i], for j < width, 0 from m.rows on. */
void panel_transpose(Row out, Mat m, size_t width);

#endif
