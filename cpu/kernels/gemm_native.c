/* Our matmul: the same bits for any number of rows, any cut of the columns, any thread count. One code for three forms:
 *  native: f32.
 *  widen:  bf16 operands become f32 and meet in f32 FMAs: any instruction set, the same bits on all of them.
 *  dot:    pairs of bf16 with neighbouring inner index go through v16_dot, one instruction on CPUs with AVX512_BF16. An odd
 *          one gets a 0 beside it.
 * Under the last two x and w are bf16, and gradients are rounded to bf16 before they are multiplied; sums are f32. */
#include "cpu/kernels/gemm_panel.h"
#include "cpu/kernels/table.h"

/* How a form holds its operands. */
typedef struct Form {
    TileKind kind;
    TileKind packed;     /* of the packed weight: b of fwd */
    /* m as operand a, inner index along the columns: m itself or a copy in scratch. */
    const void *(*rows)(Backend *b, int thread, Mat m, size_t *stride);
    /* Columns [from, from + cols) of m as operand b (or a by columns), inner index along the rows, `width` a row, padded by 0. */
    void (*panel)(float *panel, Mat m, size_t from, size_t cols, size_t width);
} Form;

static size_t round_up(size_t n, size_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/* Steps of the inner index. */
VEC_INLINE size_t inner(const Form *f, size_t n)
{
    return f->kind == TILE_DOT ? (n + 1) / 2 : n;
}

/* ---- operands */

static const void *rows_as_they_are(Backend *b, int thread, Mat m, size_t *stride)
{
    (void)b, (void)thread;
    *stride = m.stride;
    return m.p;
}

static const void *rows_widened(Backend *b, int thread, Mat m, size_t *stride)
{
    *stride = round_up(m.cols, VEC);
    float *wide = cpu_scratch(b, thread, m.rows * *stride);
    panel_copy(wide, m, 0, m.cols, *stride, true);
    return wide;
}

/* Strides count pairs. */
static const void *rows_of_pairs(Backend *b, int thread, Mat m, size_t *stride)
{
    if (m.dtype == DTYPE_BF16 && m.cols % 2 == 0 && m.stride % 2 == 0 && (uintptr_t)m.p % 4 == 0) {
        *stride = m.stride / 2;
        return m.p;
    }
    size_t row = round_up(m.cols, VEC);
    uint16_t *copy = (uint16_t *)cpu_scratch(b, thread, m.rows * row / 2);
    for (size_t n = 0; n < m.rows; n++) {
        for (size_t j = 0; j < row; j += VEC) {
            v16_store_bf16(copy + n * row + j, any_load(row_of(m, n), j, row_lanes(m.cols - j)));
        }
    }
    *stride = row / 2;
    return copy;
}

static void panel_exact(float *panel, Mat m, size_t from, size_t cols, size_t width)
{
    panel_copy(panel, m, from, cols, width, false);
}

static void panel_rounded(float *panel, Mat m, size_t from, size_t cols, size_t width)
{
    panel_copy(panel, m, from, cols, width, true);
}

/* Two rows of m side by side: panel[i * width + j] = (m[2i][from + j], m[2i + 1][from + j]). */
static void panel_pairs(float *panel, Mat m, size_t from, size_t cols, size_t width)
{
    for (size_t i = 0; i < m.rows; i += 2) {
        bool both = i + 1 < m.rows;
        Row first = row_from(row_of(m, i), from), second = row_from(row_of(m, i + both), from);
        for (size_t j = 0; j < width; j += VEC) {
            size_t k = j < cols ? row_lanes(cols - j) : 0;
            v16 low = k ? any_load(first, j, k) : v16_zero(), high = k && both ? any_load(second, j, k) : v16_zero();
            if (m.dtype == DTYPE_F32) {
                low = v16_round_bf16(low);
                high = v16_round_bf16(high);
            }
            v16_store(panel + i / 2 * width + j, v16_pair(low, high));
        }
    }
}

/* ---- packed weights: panels in order of their columns, each [inner][16 vectors], padded by 0. The panel at column j starts at
 * element j * inner. */

static size_t pack_bytes(const Form *f, size_t out, size_t in)
{
    return round_up(out, VEC) * inner(f, in) * (f->packed == TILE_HALF ? 2 : 4);
}

static void pack(const Form *f, Backend *b, int thread, void *packed, Mat w, size_t from, size_t to)
{
    ArenaMark mark = cpu_mark(b, thread);
    float *turned = f->kind == TILE_DOT ? cpu_scratch(b, thread, w.cols * PANEL / 2) : NULL;
    for (size_t o = from; o < to;) {
        size_t width = panel_vectors(w.rows - o) * VEC, real = w.rows - o < width ? w.rows - o : width;
        void *panel = (void *)tile_b(f->packed, packed, o * inner(f, w.cols));
        Row out = {turned ? turned : panel, f->kind == TILE_F32 && f->packed == TILE_F32 ? DTYPE_F32 : DTYPE_BF16};
        panel_transpose(out, mat_rows(w, o, real), width);
        if (turned) {
            panel_pairs(panel, mat_of(turned, DTYPE_BF16, w.cols, width), 0, width, width);
        }
        o += width;
    }
    cpu_release(b, thread, mark);
}

/* ---- products */

static void fwd(const Form *f, Backend *b, int thread, Mat y, Mat x, const void *packed, size_t from, size_t to,
                const float *bias, bool add)
{
    ArenaMark mark = cpu_mark(b, thread);
    size_t a_row, K = inner(f, x.cols);
    const void *a = f->rows(b, thread, x, &a_row);
    float *sums = K > K_BLOCK ? cpu_scratch(b, thread, x.rows * PANEL) : NULL;
    bool widen = f->packed != f->kind && x.rows >= ROWS_WORTH_A_COPY;
    float *wide = widen ? cpu_scratch(b, thread, K * PANEL) : NULL;
    for (size_t o = from; o < to;) {
        size_t vectors = panel_vectors(y.cols - o), width = vectors * VEC;
        const void *panel = tile_b(f->packed, packed, o * K);
        if (widen) {
            panel_exact(wide, mat_of((void *)panel, DTYPE_BF16, K, width), 0, width, width);
        }
        Tile t = {.a = a, .a_row = a_row, .a_k = 1, .b = widen ? wide : panel, .b_k = width, .K = K,
                  .c = row_from(row_of(y, 0), o), .c_row = y.stride, .cols = y.cols - o < width ? y.cols - o : width,
                  .bias = bias ? bias + o : NULL, .add = add};
        panel_run(widen ? f->kind : f->packed, t, x.rows, vectors, false, sums);
        o += width;
    }
    cpu_release(b, thread, mark);
}

static void bwd_x(const Form *f, Backend *b, int thread, Mat dx, Mat dy, Mat w, size_t from, size_t to, bool add)
{
    ArenaMark mark = cpu_mark(b, thread);
    size_t a_row, K = inner(f, w.rows);
    const void *a = f->rows(b, thread, dy, &a_row);
    float *sums = K > K_BLOCK ? cpu_scratch(b, thread, dy.rows * PANEL) : NULL;
    float *panel = cpu_scratch(b, thread, K * PANEL);
    for (size_t i = from; i < to;) {
        size_t vectors = panel_vectors(dx.cols - i), width = vectors * VEC;
        size_t cols = dx.cols - i < width ? dx.cols - i : width;
        /* A cut panel must not be overread. */
        bool copy = w.dtype == DTYPE_BF16 || cols < width || dy.rows >= ROWS_WORTH_A_COPY;
        if (copy) {
            f->panel(panel, w, i, cols, width);
        }
        Tile t = {.a = a, .a_row = a_row, .a_k = 1, .b = copy ? panel : (float *)w.p + i, .b_k = copy ? width : w.stride,
                  .K = K, .c = row_from(row_of(dx, 0), i), .c_row = dx.stride, .cols = cols, .add = add};
        panel_run(f->kind, t, dy.rows, vectors, false, sums);
        i += width;
    }
    cpu_release(b, thread, mark);
}

/* Both operands are copied: their columns lie far apart in memory, often at distances that share cache sets. */
static void bwd_w(const Form *f, Backend *b, int thread, Mat dw, Mat dy, Mat x, size_t o0, size_t o1)
{
    ArenaMark mark = cpu_mark(b, thread);
    size_t outs = round_up(o1 - o0, VEC), K = inner(f, x.rows);
    float *columns = cpu_scratch(b, thread, K * outs), *panel = cpu_scratch(b, thread, K * PANEL);
    f->panel(columns, dy, o0, o1 - o0, outs);
    for (size_t i = 0; i < x.cols;) {
        size_t vectors = panel_vectors(x.cols - i), width = vectors * VEC;
        size_t cols = x.cols - i < width ? x.cols - i : width;
        f->panel(panel, x, i, cols, width);
        Tile t = {.a = columns, .a_row = 1, .a_k = outs, .b = panel, .b_k = width, .K = K,
                  .c = row_from(row_of(dw, o0), i), .c_row = dw.stride, .cols = cols, .add = true};
        panel_run(f->kind, t, o1 - o0, vectors, true, NULL);
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

/* A provider gemm_NAME of form f. */
#define PROVIDER(title, f, type, matters)                                                                              \
    static size_t title##_pack_bytes(size_t out, size_t in)                                                            \
    {                                                                                                                  \
        return pack_bytes(&f, out, in);                                                                                \
    }                                                                                                                  \
    static void title##_pack(Backend *b, int thread, void *packed, Mat w, size_t from, size_t to)                      \
    {                                                                                                                  \
        pack(&f, b, thread, packed, w, from, to);                                                                      \
    }                                                                                                                  \
    static void title##_fwd(Backend *b, int thread, Mat y, Mat x, const void *packed, size_t from, size_t to,          \
                            const float *bias, bool add)                                                               \
    {                                                                                                                  \
        fwd(&f, b, thread, y, x, packed, from, to, bias, add);                                                         \
    }                                                                                                                  \
    static void title##_bwd_x(Backend *b, int thread, Mat dx, Mat dy, Mat w, size_t from, size_t to, bool add)         \
    {                                                                                                                  \
        bwd_x(&f, b, thread, dx, dy, w, from, to, add);                                                                \
    }                                                                                                                  \
    static void title##_bwd_w(Backend *b, int thread, Mat dw, Mat dy, Mat x, size_t o0, size_t o1)                     \
    {                                                                                                                  \
        bwd_w(&f, b, thread, dw, dy, x, o0, o1);                                                                       \
    }                                                                                                                  \
    const GemmProvider gemm_##title = {                                                                                \
        .name = #title,                                                                                                \
        .dtype = type,                                                                                                 \
        .isa_matters = matters,                                                                                        \
        .column_unit = 64,                                                                                             \
        .pack_bytes = title##_pack_bytes,                                                                              \
        .pack = title##_pack,                                                                                          \
        .fwd = title##_fwd,                                                                                            \
        .bwd_x = title##_bwd_x,                                                                                        \
        .bwd_w = title##_bwd_w,                                                                                        \
    };

static const Form f32_form = {TILE_F32, TILE_F32, rows_as_they_are, panel_exact};
static const Form widen_form = {TILE_F32, TILE_HALF, rows_widened, panel_rounded};
static const Form dot_form = {TILE_DOT, TILE_DOT, rows_of_pairs, panel_pairs};
PROVIDER(native, f32_form, DTYPE_F32, false)
PROVIDER(widen, widen_form, DTYPE_BF16, false)
PROVIDER(dot, dot_form, DTYPE_BF16, true)
