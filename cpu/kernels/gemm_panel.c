#include "cpu/kernels/gemm_panel.h"

/* Tile heights by vectors a tile: sums, one row of b and a broadcast must fit the registers. */
#if defined(__AVX512F__)
static const int tile_rows[5] = {0, 14, 12, 0, 6};
#define EACH_TILE(TILE, kind)                                                                                          \
    TILE(kind, 1, 1) TILE(kind, 2, 1) TILE(kind, 3, 1) TILE(kind, 4, 1) TILE(kind, 5, 1) TILE(kind, 6, 1)              \
    TILE(kind, 7, 1) TILE(kind, 8, 1) TILE(kind, 9, 1) TILE(kind, 10, 1) TILE(kind, 11, 1) TILE(kind, 12, 1)           \
    TILE(kind, 13, 1) TILE(kind, 14, 1)                                                                                \
    TILE(kind, 1, 2) TILE(kind, 2, 2) TILE(kind, 3, 2) TILE(kind, 4, 2) TILE(kind, 5, 2) TILE(kind, 6, 2)              \
    TILE(kind, 7, 2) TILE(kind, 8, 2) TILE(kind, 9, 2) TILE(kind, 10, 2) TILE(kind, 11, 2) TILE(kind, 12, 2)           \
    TILE(kind, 1, 4) TILE(kind, 2, 4) TILE(kind, 3, 4) TILE(kind, 4, 4) TILE(kind, 5, 4) TILE(kind, 6, 4)
#else
static const int tile_rows[5] = {0, 6};
#define EACH_TILE(TILE, kind)                                                                                          \
    TILE(kind, 1, 1) TILE(kind, 2, 1) TILE(kind, 3, 1) TILE(kind, 4, 1) TILE(kind, 5, 1) TILE(kind, 6, 1)
#endif

enum { MAX_ROWS = 14 };

#define DEFINE_TILE(kind, R, V)                                                                                        \
    static void rows_##kind##_##R##x##V(const Tile *t)                                                                 \
    {                                                                                                                  \
        tile_run(t, kind, R, V, t->a_row, 1);                                                                          \
    }                                                                                                                  \
    static void cols_##kind##_##R##x##V(const Tile *t)                                                                 \
    {                                                                                                                  \
        tile_run(t, kind, R, V, 1, t->a_k);                                                                            \
    }
EACH_TILE(DEFINE_TILE, TILE_F32)
EACH_TILE(DEFINE_TILE, TILE_HALF)
EACH_TILE(DEFINE_TILE, TILE_DOT)

typedef void TileRun(const Tile *t);
#define BY_ROWS(kind, R, V) [kind][V][R] = rows_##kind##_##R##x##V,
#define BY_COLS(kind, R, V) [kind][V][R] = cols_##kind##_##R##x##V,
static TileRun *const tiles_by_rows[TILE_KINDS][5][MAX_ROWS + 1] = {
    EACH_TILE(BY_ROWS, TILE_F32) EACH_TILE(BY_ROWS, TILE_HALF) EACH_TILE(BY_ROWS, TILE_DOT)};
static TileRun *const tiles_by_cols[TILE_KINDS][5][MAX_ROWS + 1] = {
    EACH_TILE(BY_COLS, TILE_F32) EACH_TILE(BY_COLS, TILE_HALF) EACH_TILE(BY_COLS, TILE_DOT)};

/* All rows in tiles of nearly equal height. */
static void run_once(TileRun *const tiles[MAX_ROWS + 1], Tile t, size_t rows, size_t most)
{
    size_t count = (rows + most - 1) / most;
    for (size_t i = 0; i < count; i++) {
        size_t height = rows / count + (i < rows % count);
        tiles[height](&t);
        t.a = tile_a(t.a, height * t.a_row);
        t.c = row_from(t.c, height * t.c_row);
        t.start = t.start ? t.start + height * t.start_row : NULL;
    }
}

/* Cut along k where a panel of b would leave the cache; between cuts the chains rest in `sums`, so the bits are those of one
 * pass. */
void panel_run(TileKind kind, Tile t, size_t rows, size_t vectors, bool by_cols, float *sums)
{
    TileRun *const *tiles = (by_cols ? tiles_by_cols : tiles_by_rows)[kind][vectors];
    size_t width = vectors * VEC, most = (size_t)tile_rows[vectors];
    Tile part = t;
    for (size_t k = 0; k < t.K || k == 0; k += K_BLOCK) {
        bool last = k + K_BLOCK >= t.K;
        part.a = tile_a(t.a, k * t.a_k);
        part.b = tile_b(kind, t.b, k * t.b_k);
        part.K = last ? t.K - k : K_BLOCK;
        part.start = k ? sums : NULL;
        part.start_row = width;
        part.c = last ? t.c : (Row){sums, DTYPE_F32};
        part.c_row = last ? t.c_row : width;
        part.cols = last ? t.cols : width;
        part.bias = last ? t.bias : NULL;
        part.add = last && t.add;
        run_once(tiles, part, rows, most);
    }
}

void panel_copy(float *panel, Mat m, size_t from, size_t cols, size_t width, bool rounded)
{
    bool round = rounded && m.dtype == DTYPE_F32;
    for (size_t i = 0; i < m.rows; i++) {
        Row row = row_from(row_of(m, i), from);
        for (size_t j = 0; j < width; j += VEC) {
            v16 v = j < cols ? any_load(row, j, row_lanes(cols - j)) : v16_zero();
            v16_store(panel + i * width + j, round ? v16_round_bf16(v) : v);
        }
    }
}

void panel_transpose(Row out, Mat m, size_t width)
{
    for (size_t i = 0; i < m.cols; i += VEC) {
        size_t wide = row_lanes(m.cols - i);
        for (size_t j = 0; j < width; j += VEC) {
            v16 square[VEC];
            for (size_t r = 0; r < VEC; r++)
                square[r] = j + r < m.rows ? any_load(row_of(m, j + r), i, wide) : v16_zero();
            v16_transpose(square);
            for (size_t c = 0; c < wide; c++) any_store(out, (i + c) * width + j, square[c], VEC);
        }
    }
}
