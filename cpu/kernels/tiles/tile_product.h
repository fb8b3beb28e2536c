/* Small matrix products of attention: a few rows against one tile of KEY_TILE keys.
 *
 * Every output element is one chain of FMAs in ascending order of the inner index, whatever the number of rows and
 * columns computed beside it; lanes and rows never mix. On this rest batch invariance and "decode equals training". */
#ifndef CPU_KERNELS_TILE_PRODUCT_H
#define CPU_KERNELS_TILE_PRODUCT_H

#include <stddef.h>

#include "core/ops/ops.h"
#include "cpu/kernels/simd/rows.h"

enum { BLOCK_ROWS = 6 };

/* Keys in the lanes. For r < rows <= BLOCK_ROWS, j < 16 * groups:
 *   c[r][j] = scale * (sum_{d < Dn} a[r][d] k[d][j] + sum_{d < Dr} a[r][Dn + d] k_rope[d][j])
 * one chain over both sums, started at 0. c, k and k_rope have rows of KEY_TILE; k and k_rope are of one type. Row r takes
 * k at k + r * k_apart and k_rope at k_rope + r * rope_apart: 0 where all rows have one key head. */
typedef struct ScoreProduct {
    float *c;
    const float *a;
    size_t a_row;
    Row k, k_rope;
    int Dn, Dr;
    float scale;
    size_t k_apart, rope_apart;
} ScoreProduct;
void tile_scores(const ScoreProduct *p, int rows, int groups);

/* Value dims in the lanes. For r < rows <= BLOCK_ROWS, i < width:
 *   c[r][i] = c[r][i] * factor[r] + sum_{j < limit[r]} a[r][j] b[j][i]      (factor NULL: 1)
 * one chain that starts at c * factor. a has rows of KEY_TILE; 0 <= limit[r] <= KEY_TILE. Nothing is read from row j of
 * b for j at or above the largest limit, and row r takes nothing from rows at or above its own limit. Row r's b begins at
 * b + r * b_apart. */
typedef struct ValueProduct {
    float *c;
    size_t c_row;
    const float *factor, *a;
    Row b;
    size_t b_row;
    const int *limit;
    int width;
    size_t b_apart;
} ValueProduct;
void tile_values(const ValueProduct *p, int rows);

/* c[j][i] += sum_{from <= r < to} a[r][j] b[r][i] for j < keys, i < 16 * groups: one chain that starts at c. a has
 * rows of KEY_TILE. triangle: key block [j, j + BLOCK_ROWS) starts at r = j instead of `from`. */
typedef struct KeyProduct {
    float *c;
    size_t c_row;
    const float *a, *b;
    size_t b_row;
    int from, to;
    int groups;
    bool triangle;
} KeyProduct;
void tile_keys(const KeyProduct *p, int keys);

#endif
