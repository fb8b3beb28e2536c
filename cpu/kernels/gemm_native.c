/* Our matmul: the same bits for any number of rows, any cut of the columns, any thread count and any instruction set. */
#include <string.h>

#include "cpu/kernels/gemm_tile.h"
#include "cpu/kernels/table.h"

/* Tile heights by vectors a tile: sums, one row of b and a broadcast must fit the registers. */
#if defined(__AVX512F__)
enum { VECTORS = 4 };
static const int tile_rows[5] = {0, 14, 12, 0, 6};
#define EACH_TILE(TILE)                                                                                                \
    TILE(1, 1) TILE(2, 1) TILE(3, 1) TILE(4, 1) TILE(5, 1) TILE(6, 1) TILE(7, 1) TILE(8, 1) TILE(9, 1) TILE(10, 1)     \
    TILE(11, 1) TILE(12, 1) TILE(13, 1) TILE(14, 1)                                                                    \
    TILE(1, 2) TILE(2, 2) TILE(3, 2) TILE(4, 2) TILE(5, 2) TILE(6, 2) TILE(7, 2) TILE(8, 2) TILE(9, 2) TILE(10, 2)     \
    TILE(11, 2) TILE(12, 2)                                                                                            \
    TILE(1, 4) TILE(2, 4) TILE(3, 4) TILE(4, 4) TILE(5, 4) TILE(6, 4)
#else
enum { VECTORS = 1 };
static const int tile_rows[5] = {0, 6};
#define EACH_TILE(TILE) TILE(1, 1) TILE(2, 1) TILE(3, 1) TILE(4, 1) TILE(5, 1) TILE(6, 1)
#endif

enum { PANEL = VECTORS * VEC, K_BLOCK = 1024, MAX_ROWS = 14 };

/* By rows: a's k are neighbours (x, dy). By columns: a's rows are neighbours (dy transposed). */
#define DEFINE_TILE(R, V)                                                                                              \
    static void tile_rows_##R##x##V(const Tile *t)                                                                     \
    {                                                                                                                  \
        tile_run(t, R, V, t->a_row, 1);                                                                                \
    }                                                                                                                  \
    static void tile_cols_##R##x##V(const Tile *t)                                                                     \
    {                                                                                                                  \
        tile_run(t, R, V, 1, t->a_k);                                                                                  \
    }
EACH_TILE(DEFINE_TILE)

#define TILE_BY_ROWS(R, V) [V][R] = tile_rows_##R##x##V,
#define TILE_BY_COLS(R, V) [V][R] = tile_cols_##R##x##V,
static void (*const tiles_by_rows[5][MAX_ROWS + 1])(const Tile *) = {EACH_TILE(TILE_BY_ROWS)};
static void (*const tiles_by_cols[5][MAX_ROWS + 1])(const Tile *) = {EACH_TILE(TILE_BY_COLS)};

/* Columns of the panel that starts at a column with `left` columns to go, in vectors: 4, then 2, then 1. */
static size_t panel_vectors(size_t left)
{
    size_t vectors = (left + VEC - 1) / VEC;
    return vectors >= VECTORS ? VECTORS : vectors >= 2 ? 2 : 1;
}

/* All rows of one panel, in tiles of nearly equal height. t: as for the first row. */
static void panel_run(Tile t, size_t rows, size_t vectors, bool by_cols)
{
    size_t most = (size_t)tile_rows[vectors], count = (rows + most - 1) / most;
    for (size_t i = 0; i < count; i++) {
        size_t height = rows / count + (i < rows % count);
        (by_cols ? tiles_by_cols : tiles_by_rows)[vectors][height](&t);
        t.a += height * t.a_row;
        t.c += height * t.c_row;
        t.start = t.start ? t.start + height * t.start_row : NULL;
    }
}

/* The same cut along k where a panel of b would leave the cache; between cuts the chains rest in `sums` [rows][16 vectors],
 * so the bits are those of one pass. */
static void panel_run_blocked(Tile t, size_t rows, size_t vectors, bool by_cols, float *sums)
{
    Tile part = t;
    size_t width = vectors * VEC;
    for (size_t k = 0; k < t.K; k += K_BLOCK) {
        bool last = k + K_BLOCK >= t.K;
        part.a = t.a + k * t.a_k;
        part.b = t.b + k * t.b_k;
        part.K = last ? t.K - k : K_BLOCK;
        part.start = k ? sums : NULL;
        part.start_row = width;
        part.c = last ? t.c : sums;
        part.c_row = last ? t.c_row : width;
        part.cols = last ? t.cols : width;
        part.bias = last ? t.bias : NULL;
        part.add = last && t.add;
        panel_run(part, rows, vectors, by_cols);
    }
}

static size_t native_pack_floats(size_t out, size_t in)
{
    return (out + VEC - 1) / VEC * VEC * in;
}

/* Panels in order of their columns, each [in][16 vectors]: the panel at column j starts at j * in. Padding is 0. */
static void native_pack(Backend *b, int thread, float *packed, Mat w, size_t from, size_t to)
{
    (void)b, (void)thread;
    for (size_t o = from; o < to;) {
        size_t width = panel_vectors(w.rows - o) * VEC, real = w.rows - o < width ? w.rows - o : width;
        float *panel = packed + o * w.cols;
        for (size_t i = 0; i < w.cols; i++) {
            for (size_t j = 0; j < width; j++) {
                panel[i * width + j] = j < real ? mat_row(w, o + j)[i] : 0.0f;
            }
        }
        o += width;
    }
}

static void native_fwd(Backend *b, int thread, Mat y, Mat x, const float *packed, size_t from, size_t to,
                       const float *bias, bool add)
{
    ArenaMark mark = cpu_mark(b, thread);
    float *sums = x.cols > K_BLOCK ? cpu_scratch(b, thread, x.rows * PANEL) : NULL;
    for (size_t o = from; o < to;) {
        size_t vectors = panel_vectors(y.cols - o), width = vectors * VEC;
        Tile t = {.a = x.p, .a_row = x.stride, .a_k = 1, .b = packed + o * x.cols, .b_k = width, .K = x.cols,
                  .c = (float *)y.p + o, .c_row = y.stride, .cols = y.cols - o < width ? y.cols - o : width,
                  .bias = bias ? bias + o : NULL, .add = add};
        panel_run_blocked(t, x.rows, vectors, false, sums);
        o += width;
    }
    cpu_release(b, thread, mark);
}

/* Copies m's columns [from, from + cols) to rows of `width` floats, padded by 0. */
static void copy_panel(float *panel, Mat m, size_t from, size_t cols, size_t width)
{
    for (size_t i = 0; i < m.rows; i++) {
        const float *row = mat_row(m, i) + from;
        for (size_t j = 0; j < width; j += VEC) {
            size_t k = j < cols ? row_lanes(cols - j) : 0;
            v16_store(panel + i * width + j, row_load(row + j, k));
        }
    }
}

static void native_bwd_x(Backend *b, int thread, Mat dx, Mat dy, Mat w, size_t from, size_t to, bool add)
{
    ArenaMark mark = cpu_mark(b, thread);
    float *sums = w.rows > K_BLOCK ? cpu_scratch(b, thread, dy.rows * PANEL) : NULL;
    float *panel = cpu_scratch(b, thread, w.rows * PANEL);
    for (size_t i = from; i < to;) {
        size_t vectors = panel_vectors(dx.cols - i), width = vectors * VEC;
        size_t cols = dx.cols - i < width ? dx.cols - i : width;
        bool copy = cols < width || dy.rows >= 24; /* few rows do not pay for the copy; a cut panel must not be overread */
        if (copy) {
            copy_panel(panel, w, i, cols, width);
        }
        Tile t = {.a = dy.p, .a_row = dy.stride, .a_k = 1, .b = copy ? panel : (float *)w.p + i,
                  .b_k = copy ? width : w.stride, .K = w.rows, .c = (float *)dx.p + i, .c_row = dx.stride, .cols = cols,
                  .add = add};
        panel_run_blocked(t, dy.rows, vectors, false, sums);
        i += width;
    }
    cpu_release(b, thread, mark);
}

/* Both operands are copied: their columns lie far apart in memory, often at distances that share cache sets. */
static void native_bwd_w(Backend *b, int thread, Mat dw, Mat dy, Mat x, size_t o0, size_t o1)
{
    ArenaMark mark = cpu_mark(b, thread);
    size_t outs = (o1 - o0 + VEC - 1) / VEC * VEC;
    float *columns = cpu_scratch(b, thread, dy.rows * outs), *panel = cpu_scratch(b, thread, x.rows * PANEL);
    copy_panel(columns, dy, o0, o1 - o0, outs);
    for (size_t i = 0; i < x.cols;) {
        size_t vectors = panel_vectors(x.cols - i), width = vectors * VEC;
        size_t cols = x.cols - i < width ? x.cols - i : width;
        copy_panel(panel, x, i, cols, width);
        Tile t = {.a = columns, .a_row = 1, .a_k = outs, .b = panel, .b_k = width, .K = x.rows,
                  .c = mat_row(dw, o0) + i, .c_row = dw.stride, .cols = cols, .add = true};
        panel_run(t, o1 - o0, vectors, true);
        i += width;
    }
    cpu_release(b, thread, mark);
}

void column_sums(float *sum, Mat x, size_t from, size_t to)
{
    for (size_t j = from; j < to; j += VEC) {
        size_t k = row_lanes(to - j);
        for (size_t block = 0; block < x.rows; block += TOKEN_BLOCK) {
            v16 s = v16_zero();
            for (size_t n = block; n < x.rows && n < block + TOKEN_BLOCK; n++) {
                s = v16_add(s, row_load(mat_row(x, n) + j, k));
            }
            row_store(sum + j, v16_add(row_load(sum + j, k), s), k);
        }
    }
}

const GemmProvider gemm_native = {
    .name = "native",
    .column_unit = 64,
    .pack_floats = native_pack_floats,
    .pack = native_pack,
    .fwd = native_fwd,
    .bwd_x = native_bwd_x,
    .bwd_w = native_bwd_w,
};
