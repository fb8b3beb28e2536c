/* The inner routine of every attention forward: a panel of query rows walks key tiles in ascending order.
 *
 * Online softmax (Milakov & Gimelshein, arXiv:1805.02867; Dao et al., arXiv:2205.14135): per tile and row
 *   s_j = scale * (q . k_j) for j <= pos, m' = max(m, max_j s_j), alpha = e^(m - m'), p_j = e^(s_j - m'),
 *   l = l * alpha + sum_j p_j, acc = acc * alpha + sum_j p_j v_j;   at the end o = acc * (1 / l), lse = m + log l.
 * A row's arithmetic is fixed by its position and its keys alone: tiles lie at absolute positions, masked keys enter
 * no sum, what lies in a tile beyond the row's position is never used. */
#ifndef CPU_KERNELS_ATTENTION_TILE_H
#define CPU_KERNELS_ATTENTION_TILE_H

#include "core/ops/ops.h"
#include "cpu/kernels/simd/rows.h"
#include "cpu/kernels/tiles/tile_product.h"

enum { PANEL_ROWS = 8 * BLOCK_ROWS };

/* Keys [i * KEY_TILE, (i + 1) * KEY_TILE): k [Dn][KEY_TILE], k_rope [Dr][KEY_TILE] of one type, v [KEY_TILE] rows v_row
 * values apart. v_width is Dv, or Dv rounded up to 16 where that many values of every row may be read. k_apart, rope_apart,
 * v_apart: from the keys of a panel's row to those of its next row; 0 where all rows have one key head. */
typedef struct KeyTile {
    Row k, k_rope, v;
    size_t v_row;
    int v_width;
    size_t k_apart, rope_apart, v_apart;
} KeyTile;

/* Gives tile i; what it points at stays valid until the next call. */
typedef KeyTile KeyTileAt(void *from, int i);

/* Up to PANEL_ROWS rows of one sequence, all of one key head or each of its own. Row r attends to positions 0 .. pos[r]. */
typedef struct QueryPanel {
    int rows;
    int pos[PANEL_ROWS];
    Row q[PANEL_ROWS]; /* Dn + Dr values; a scattered row is two pieces */
    Row q_rope[PANEL_ROWS];
    Row o[PANEL_ROWS];      /* Dv values, overwritten */
    float *lse[PANEL_ROWS]; /* NULL: not wanted */
} QueryPanel;

/* Floats of `work`. */
size_t panel_work(AttentionShape s);

/* Runs the panel. `work` is 64-byte aligned scratch of panel_work(s) floats; s: only Dn, Dr, Dv, scale. */
void panel_attend(const QueryPanel *panel, AttentionShape s, KeyTileAt *tile, void *from, float *work);

#endif
