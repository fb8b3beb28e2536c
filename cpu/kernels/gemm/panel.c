/* Panels of the native matmul: packing operands, and the tile that runs for each height and width. */
#include "cpu/kernels/gemm/panel.h"

/* Tile heights by vectors a tile: sums, one row of b and a broadcast must fit the registers. */
#if defined(__AVX512F__)
static const int tile_rows[5] = {0, 14, 12, 0, 6};
/* clang-format off */
#define EACH_TILE(TILE, kind)                                                                                          \
    TILE(kind, 1, 1) TILE(kind, 2, 1) TILE(kind, 3, 1) TILE(kind, 4, 1) TILE(kind, 5, 1) TILE(kind, 6, 1)              \
    TILE(kind, 7, 1) TILE(kind, 8, 1) TILE(kind, 9, 1) TILE(kind, 10, 1) TILE(kind, 11, 1) TILE(kind, 12, 1)           \
    TILE(kind, 13, 1) TILE(kind, 14, 1)                                                                                \
    TILE(kind, 1, 2) TILE(kind, 2, 2) TILE(kind, 3, 2) TILE(kind, 4, 2) TILE(kind, 5, 2) TILE(kind, 6, 2)              \
    TILE(kind, 7, 2) TILE(kind, 8, 2) TILE(kind, 9, 2) TILE(kind, 10, 2) TILE(kind, 11, 2) TILE(kind, 12, 2)           \
    TILE(kind, 1, 4) TILE(kind, 2, 4) TILE(kind, 3, 4) TILE(kind, 4, 4) TILE(kind, 5, 4) TILE(kind, 6, 4)
/* clang-format on */
/* clang-format off */
#define EACH_PACKED_TILE(TILE, kind)                                                                                   \
    TILE(kind, 1, 1) TILE(kind, 2, 1) TILE(kind, 3, 1) TILE(kind, 4, 1) TILE(kind, 5, 1) TILE(kind, 6, 1)              \
    TILE(kind, 1, 2) TILE(kind, 2, 2) TILE(kind, 3, 2) TILE(kind, 4, 2) TILE(kind, 5, 2) TILE(kind, 6, 2)              \
    TILE(kind, 1, 4) TILE(kind, 2, 4) TILE(kind, 3, 4) TILE(kind, 4, 4) TILE(kind, 5, 4) TILE(kind, 6, 4)
/* clang-format on */
#else
static const int tile_rows[5] = {0, 6};
#define EACH_PACKED_TILE EACH_TILE
/* clang-format off */
#define EACH_TILE(TILE, kind)                                                                                          \
    TILE(kind, 1, 1) TILE(kind, 2, 1) TILE(kind, 3, 1) TILE(kind, 4, 1) TILE(kind, 5, 1) TILE(kind, 6, 1)
/* clang-format on */
#endif

enum { MAX_ROWS = 14 };

#define DEFINE_TILE(kind, R, V)                                                                                        \
    static void rows_##kind##_##R##x##V(const Tile *t)                                                                 \
    {                                                                                                                  \
        tile_run(t, kind, R, V, t->a_row, 1);                                                                          \
    }
#define DEFINE_PACKED_TILE(kind, R, V)                                                                                 \
    static void cols_##kind##_##R##x##V(const Tile *t)                                                                 \
    {                                                                                                                  \
        tile_run(t, kind, R, V, 1, t->a_k);                                                                            \
    }
EACH_TILE(DEFINE_TILE, TILE_F32)
EACH_TILE(DEFINE_TILE, TILE_HALF)
EACH_TILE(DEFINE_TILE, TILE_DOT)
EACH_PACKED_TILE(DEFINE_PACKED_TILE, TILE_F32)
EACH_PACKED_TILE(DEFINE_PACKED_TILE, TILE_DOT)

typedef void TileRun(const Tile *t);
#define BY_ROWS(kind, R, V) [kind][V][R] = rows_##kind##_##R##x##V,
#define BY_COLS(kind, R, V) [kind][V][R] = cols_##kind##_##R##x##V,
static TileRun *const tiles_by_rows[TILE_KINDS][5][MAX_ROWS + 1] = {
    EACH_TILE(BY_ROWS, TILE_F32) EACH_TILE(BY_ROWS, TILE_HALF) EACH_TILE(BY_ROWS, TILE_DOT)};
static TileRun *const tiles_by_cols[TILE_KINDS][5][MAX_ROWS + 1] = {EACH_PACKED_TILE(BY_COLS, TILE_F32)
                                                                        EACH_PACKED_TILE(BY_COLS, TILE_DOT)};

/* Up to FEW_ROWS rows leave registers free: the FMA chains of P panels run in parallel, which hides the FMA's latency, and DRAM
 * sees P streams. By rows only. */
enum { FEW_ROWS = 3, MOST_PANELS = 4 };
#define EACH_FEW(TILE, kind) TILE(kind, 1, 4) TILE(kind, 1, 2) TILE(kind, 2, 2) TILE(kind, 3, 2)
#define DEFINE_FEW(kind, R, P)                                                                                         \
    static void few_##kind##_##R##x##P(const Tile *t)                                                                  \
    {                                                                                                                  \
        tile_run(t, kind, R, P *PANEL_VECTORS, t->a_row, 1);                                                           \
    }
EACH_FEW(DEFINE_FEW, TILE_F32)
EACH_FEW(DEFINE_FEW, TILE_HALF)
EACH_FEW(DEFINE_FEW, TILE_DOT)
#define BY_FEW(kind, R, P) [kind][P][R] = few_##kind##_##R##x##P,
static TileRun *const tiles_of_few[TILE_KINDS][MOST_PANELS + 1][FEW_ROWS + 1] = {
    EACH_FEW(BY_FEW, TILE_F32) EACH_FEW(BY_FEW, TILE_HALF) EACH_FEW(BY_FEW, TILE_DOT)};

size_t panels_side_by_side(size_t rows, size_t panels)
{
    if (rows > FEW_ROWS) return 1;
    return rows == 1 && panels >= 4 ? 4 : panels >= 2 ? 2 : 1;
}

void panels_run(TileKind kind, Tile t, const OperandA *a, size_t panels)
{
    t.a_row = a->stride;
    t.a = a->p;
    t.b_k = PANEL;
    /* The first 8 lines of the panels read next: from there on the hardware prefetcher follows. */
    for (size_t i = 0; i < panels; i++) {
        const char *next = tile_b(kind, t.b, i * t.b_panel + t.K * PANEL);
        for (int line = 0; line < 8; line++) __builtin_prefetch(next + line * LINE);
    }
    tiles_of_few[kind][panels][a->rows](&t);
}

/* Rows are cut into tiles of nearly equal height, the taller ones first. */
static size_t tile_count(size_t rows, size_t most)
{
    return (rows + most - 1) / most;
}

static size_t tile_height(size_t rows, size_t count, size_t i)
{
    return rows / count + (i < rows % count);
}

static size_t block_floats(size_t rows)
{
    return rows * K_BLOCK + tile_count(rows, TILE_ROWS) * VEC;
}

static void ahead_step(Ahead *w)
{
    for (size_t rows = 0; w->left > 0 && rows < w->pace; rows++) {
        for (size_t i = 0; i < w->lines; i++) __builtin_prefetch(w->at + i * LINE);
        w->at += w->stride;
        w->left--;
    }
}

void panel_run(TileKind kind, Tile t, const OperandA *a, size_t k0, size_t vectors, Ahead *ahead_b, Ahead *ahead_a)
{
    bool in_tiles = a->stride == 0;
    TileRun *const *tiles = (in_tiles ? tiles_by_cols : tiles_by_rows)[kind][vectors];
    size_t count = tile_count(a->rows, in_tiles ? TILE_ROWS : (size_t)tile_rows[vectors]);
    t.a_row = in_tiles ? 1 : a->stride;
    t.a = tile_a(a->p, in_tiles ? k0 / K_BLOCK * block_floats(a->rows) : k0);
    for (size_t i = 0; i < count; i++) {
        size_t height = tile_height(a->rows, count, i);
        t.a_k = in_tiles ? height : 1;
        ahead_step(ahead_b);
        ahead_step(ahead_a);
        tiles[height](&t);
        t.a = tile_a(t.a, in_tiles ? t.K * height + VEC : height * t.a_row);
        t.c = row_from(t.c, height * t.c_row);
        t.start = t.start ? t.start + height * t.start_row : NULL;
    }
}

size_t tiles_floats(size_t rows, size_t K)
{
    return (K + K_BLOCK - 1) / K_BLOCK * block_floats(rows);
}

/* What is read of a matrix: f32 as it is or rounded to bf16 values, bf16, pairs of rows of either. */
typedef enum { STEP_F32, STEP_ROUNDED, STEP_BF16, STEP_PAIRS_F32, STEP_PAIRS_BF16 } Step;

static Step step_of(Mat m, bool pairs, bool rounded)
{
    if (pairs) return m.dtype == DTYPE_F32 ? STEP_PAIRS_F32 : STEP_PAIRS_BF16;
    return m.dtype == DTYPE_BF16 ? STEP_BF16 : rounded ? STEP_ROUNDED : STEP_F32;
}

VEC_INLINE bool step_is_f32(const Step step)
{
    return step == STEP_F32 || step == STEP_ROUNDED || step == STEP_PAIRS_F32;
}

VEC_INLINE v16 step_row(const Step step, Mat m, size_t row, size_t column, size_t lanes)
{
    size_t at = row * m.stride + column;
    if (!step_is_f32(step)) return v16_load_bf16_n((const uint16_t *)m.p + at, (int)lanes);
    v16 v = row_load((const float *)m.p + at, lanes);
    return step == STEP_F32 ? v : v16_round_bf16(v);
}

/* 16 columns of step k; a pair's second row may be missing. */
VEC_INLINE v16 step_load(const Step step, Mat m, size_t k, size_t column, size_t lanes)
{
    if (step != STEP_PAIRS_F32 && step != STEP_PAIRS_BF16) return step_row(step, m, k, column, lanes);
    v16 second = 2 * k + 1 < m.rows ? step_row(step, m, 2 * k + 1, column, lanes) : v16_zero();
    return v16_pair(step_row(step, m, 2 * k, column, lanes), second);
}

/* CALL(step) with the step as a constant. */
#define STEP_SWITCH(step)                                                                                              \
    switch (step) {                                                                                                    \
    case STEP_F32: CALL(STEP_F32); break;                                                                              \
    case STEP_ROUNDED: CALL(STEP_ROUNDED); break;                                                                      \
    case STEP_BF16: CALL(STEP_BF16); break;                                                                            \
    case STEP_PAIRS_F32: CALL(STEP_PAIRS_F32); break;                                                                  \
    case STEP_PAIRS_BF16: CALL(STEP_PAIRS_BF16); break;                                                                \
    }

/* out[k * height + r] = m[r][k], transposed in 16 x 16 blocks. A store of 8 overruns a tile's `height` columns into the next
 * step, which is written after it. */
VEC_INLINE void tile_from_rows(const Step step, float *out, Mat m, size_t row, size_t height, size_t k0, size_t K)
{
    for (size_t k = 0; k < K; k += VEC) {
        size_t wide = row_lanes(K - k);
        v16 square[VEC];
        for (size_t r = 0; r < VEC; r++) square[r] = v16_zero();
        for (size_t r = 0; r < TILE_ROWS; r++)
            if (r < height) square[r] = step_row(step, m, row + r, k0 + k, wide);
        v16_transpose(square);
        for (size_t i = 0; i < wide; i++) v16_store_half(out + (k + i) * height, square[i]);
    }
}

VEC_INLINE void tiles_of_rows(const Step step, float *out, Mat m)
{
    size_t count = tile_count(m.rows, TILE_ROWS);
    for (size_t k0 = 0; k0 < m.cols; k0 += K_BLOCK) {
        size_t K = m.cols - k0 < K_BLOCK ? m.cols - k0 : K_BLOCK;
        float *to = out + k0 / K_BLOCK * block_floats(m.rows);
        for (size_t i = 0, row = 0; i < count; i++) {
            size_t height = tile_height(m.rows, count, i);
            tile_from_rows(step, to, m, row, height, k0, K);
            to += K * height + VEC;
            row += height;
        }
    }
}

OperandA tiles_from_rows(float *out, Mat m, bool rounded)
{
#define CALL(step) tiles_of_rows(step, out, m)
    STEP_SWITCH(step_of(m, false, rounded))
#undef CALL
    return (OperandA){.p = out, .rows = m.rows, .K = m.cols};
}

/* Step k of `count` tiles of one height, `apart` floats from each other; whole: 16 columns exist from the first of each on. */
VEC_INLINE void tiles_step(const Step step, float *out, size_t apart, Mat m, size_t k, size_t column, size_t height,
                           size_t count, bool whole)
{
    for (size_t i = 0; i < count; i++, out += apart, column += height) {
        v16_store_half(out, step_load(step, m, k, column, whole ? VEC : row_lanes(m.cols - column)));
    }
}

/* Tiles of one height, the first from column `from` on, for steps [k0, k0 + K). Returns where the next ones begin. */
VEC_INLINE float *tiles_alike(const Step step, float *out, Mat m, size_t from, size_t height, size_t count, size_t k0,
                              size_t K)
{
    size_t apart = K * height + VEC, whole = 0;
    while (whole < count && from + whole * height + VEC <= m.cols) whole++;
    for (size_t k = 0; k < K; k++) {
        const char *ahead = row_from(row_of(m, k0 + k + 8), from).p;
        for (size_t i = 0; i < count * height * dtype_size(m.dtype); i += LINE) __builtin_prefetch(ahead + i);
        tiles_step(step, out + k * height, apart, m, k0 + k, from, height, whole, true);
        tiles_step(step, out + whole * apart + k * height, apart, m, k0 + k, from + whole * height, height,
                   count - whole, false);
    }
    return out + count * apart;
}

/* Steps [k0, k0 + K) of one block. */
VEC_INLINE void tiles_block(const Step step, float *out, Mat m, size_t from, size_t rows, size_t k0, size_t K)
{
    size_t count = tile_count(rows, TILE_ROWS), height = rows / count, higher = rows % count;
    out = tiles_alike(step, out, m, from, height + 1, higher, k0, K);
    tiles_alike(step, out, m, from + higher * (height + 1), height, count - higher, k0, K);
}

OperandA tiles_from_columns(float *out, Mat m, size_t from, size_t rows, bool pairs, bool rounded)
{
    size_t K = pairs ? (m.rows + 1) / 2 : m.rows;
    for (size_t k0 = 0; k0 < K; k0 += K_BLOCK) {
        float *to = out + k0 / K_BLOCK * block_floats(rows);
        size_t steps = K - k0 < K_BLOCK ? K - k0 : K_BLOCK;
#define CALL(step) tiles_block(step, to, m, from, rows, k0, steps)
        STEP_SWITCH(step_of(m, pairs, rounded))
#undef CALL
    }
    return (OperandA){.p = out, .rows = rows, .K = K};
}

/* `count` whole panels beside each other, columns [from, from + count * width). */
VEC_INLINE void panels_whole(const Step step, float *panel, Mat m, size_t from, size_t count, const size_t width,
                             size_t steps)
{
    for (size_t k = 0; k < steps; k++) {
        float *to = panel + k * width;
        for (size_t i = 0, column = from; i < count; i++, to += steps * width) {
            for (size_t j = 0; j < width; j += VEC, column += VEC)
                v16_store(to + j, step_load(step, m, k, column, VEC));
        }
    }
}

VEC_INLINE void panel_cut(const Step step, float *panel, Mat m, size_t from, size_t cols, size_t width, size_t steps)
{
    for (size_t k = 0; k < steps; k++) {
        for (size_t j = 0; j < width; j += VEC) {
            v16 column = j < cols ? step_load(step, m, k, from + j, row_lanes(cols - j)) : v16_zero();
            v16_store(panel + k * width + j, column);
        }
    }
}

VEC_INLINE void panels_fill(const Step step, float *panel, Mat m, size_t from, size_t cols, size_t width, size_t steps)
{
    size_t whole = cols / width, done = whole * width;
    if (width == VEC) panels_whole(step, panel, m, from, whole, VEC, steps);
    else panels_whole(step, panel, m, from, whole, width, steps);
    if (done < cols) panel_cut(step, panel + done * steps, m, from + done, cols - done, width, steps);
}

void panel_copy(float *panel, Mat m, size_t from, size_t cols, size_t width, bool pairs, bool rounded)
{
    size_t steps = pairs ? (m.rows + 1) / 2 : m.rows;
#define CALL(step) panels_fill(step, panel, m, from, cols, width, steps)
    STEP_SWITCH(step_of(m, pairs, rounded))
#undef CALL
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
