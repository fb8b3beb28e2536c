/* What attention's kernels share: 64 rows against 64 keys, inner dimensions in pieces of 32 through shared memory. A
 * block has 128 threads in 16 x 8: thread (ty, tx) owns rows 4 ty .. 4 ty + 3, and columns 8 tx .. 8 tx + 7 of scores
 * or 4 tx .. 4 tx + 3 of 32 value dimensions. Every element is one chain of fmaf in ascending order
 * (cpu/kernels/tiles/tile_product.h); results are kept in global memory between tiles, where their one owner reads
 * them again, so that no head size is too large for registers. */
#ifndef GPU_KERNELS_ATTENTION_TILE_CUH
#define GPU_KERNELS_ATTENTION_TILE_CUH

#include "gpu/kernels/tiles/heads_f32.cuh"

enum {
    TILE_THREADS = 128,
    TILE = KEY_TILE,
    PIECE = 32,
    PIECE_ROW = TILE + 4, /* of a piece with rows in the columns */
    SCORE_ROW = TILE + 1, /* of scores */
    PIECE_FLOATS = PIECE * PIECE_ROW
};

/* Rows of one head: element (r, d) at r * row + d of `at`, r < rows. */
typedef struct TileRows {
    Row at;
    size_t row;
    int rows;
} TileRows;

DEVICE TileRows tile_rows(HeadView v, size_t n, int h, int rows)
{
    TileRows t = {head_row(v, n, (size_t)h), v.row, rows < TILE ? rows : TILE};
    return t;
}

/* From dimension d on. */
DEVICE TileRows tile_from(TileRows t, int d)
{
    t.at = row_from(t.at, (size_t)d);
    return t;
}

/* The tile of this block: rows [first, first + rows) of its sequence, which begins at row `start` of the call.
 * Sequence s has its tiles from slot offsets[s] / 64 + s on: no length is needed on the host; a surplus slot has no
 * rows. */
typedef struct TileAt {
    int start, length, first;
    bool any;
} TileAt;

DEVICE TileAt tile_at(const int32_t *offsets, int nseq, int slot)
{
    int low = 0, high = nseq - 1;
    while (low < high) {
        int mid = (low + high + 1) / 2;
        if (offsets[mid] / TILE + mid <= slot) low = mid;
        else high = mid - 1;
    }
    TileAt t = {offsets[low], offsets[low + 1] - offsets[low], (slot - offsets[low] / TILE - low) * TILE, false};
    t.any = t.first < t.length;
    return t;
}

/* piece[d][r] = x[r][d0 + d], zeros outside. */
DEVICE void load_columns(float *piece, TileRows x, int d0, int D)
{
#pragma unroll 4
    for (int e = (int)threadIdx.x; e < PIECE * TILE; e += TILE_THREADS) {
        int d = e % PIECE, r = e / PIECE;
        piece[d * PIECE_ROW + r] =
            r < x.rows && d0 + d < D ? row_get(x.at, (size_t)r * x.row + (size_t)(d0 + d)) : 0.0f;
    }
}

/* piece[r][d] = x[r][d0 + d], zeros outside. */
DEVICE void load_rows(float *piece, TileRows x, int d0, int D)
{
#pragma unroll 4
    for (int e = (int)threadIdx.x; e < PIECE * TILE; e += TILE_THREADS) {
        int d = e % PIECE, r = e / PIECE;
        piece[r * PIECE + d] = r < x.rows && d0 + d < D ? row_get(x.at, (size_t)r * x.row + (size_t)(d0 + d)) : 0.0f;
    }
}

/* s[i][j] += sum over d < D of a[4 ty + i][d] b[8 tx + j][d]. Pieces: two of PIECE_FLOATS. Barriers at its beginning
 * and end. */
DEVICE void add_scores(float (&s)[4][8], TileRows a, TileRows b, int D, float *pieces)
{
    const float *x = pieces + threadIdx.x / 8 * 4, *y = pieces + PIECE_FLOATS + threadIdx.x % 8 * 8;
    for (int d0 = 0; d0 < D; d0 += PIECE) {
        int depth = D - d0 < PIECE ? D - d0 : PIECE;
        __syncthreads();
        load_columns(pieces, a, d0, D);
        load_columns(pieces + PIECE_FLOATS, b, d0, D);
        __syncthreads();
        for (int d = 0; d < depth; d++) {
            float u[4], v[8];
#pragma unroll
            for (int i = 0; i < 4; i++) u[i] = x[d * PIECE_ROW + i];
#pragma unroll
            for (int j = 0; j < 8; j++) v[j] = y[d * PIECE_ROW + j];
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 8; j++) s[i][j] = fmaf(u[i], v[j], s[i][j]);
        }
    }
    __syncthreads();
}

/* scale (q . k) of 64 queries and keys; keys are two views. */
DEVICE void tile_scores(float (&s)[4][8], const AttentionShape &shape, TileRows q, TileRows k, TileRows k_rope,
                        float *pieces)
{
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 8; j++) s[i][j] = 0.0f;
    if (shape.Dn) add_scores(s, q, k, shape.Dn, pieces);
    if (shape.Dr) add_scores(s, tile_from(q, shape.Dn), k_rope, shape.Dr, pieces);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 8; j++) s[i][j] = s[i][j] * shape.scale;
}

/* Keys of positions [first, first + 64) for key head h. */
typedef struct TileKeys {
    TileRows k, k_rope, v;
} TileKeys;

DEVICE TileKeys tile_keys(const AttentionInputs &in, TileAt t, int first, int h)
{
    size_t n = (size_t)(t.start + first);
    int rows = t.length - first;
    TileKeys keys = {tile_rows(in.k, n, h, rows), tile_rows(in.k_rope, n, h, rows), tile_rows(in.v, n, h, rows)};
    return keys;
}

#endif
