/* Our matmul: the same bits for any number of rows, any cut of the columns, any thread count. One code for three forms:
 *  native: f32.
 *  widen:  bf16 operands become f32 and go through f32 FMAs: any instruction set, the same bits on all of them.
 *  dot:    pairs of bf16 with neighbouring inner index go through v16_dot, one instruction on CPUs with AVX512_BF16. An odd
 *          last element is paired with 0.
 * Under the last two x and w are bf16, and gradients are rounded to bf16 before they are multiplied; sums are f32. */
#include "cpu/kernels/gemm/panel.h"
#include "cpu/kernels/table.h"

/* How a form holds its operands. */
typedef struct Form {
    TileKind kind;
    TileKind packed; /* of the packed weight: b of fwd */
    bool rounded;    /* f32 operands become bf16 values */
} Form;

/* With several k-blocks: columns of b finished before the next, so that partial sums stay in L2. And columns of b copied in one
 * pass, so that a row of b is read in runs of 256 bytes instead of one panel's 64 (AVX2). Multiples of PANEL. */
enum { COLUMNS_AT_ONCE = 512, COPIED_AT_ONCE = 64 };

/* From this many rows on a packed panel is reused often enough that streaming it from DRAM costs nothing: no prefetch. */
enum { ROWS_THAT_HIDE_DRAM = 128 };

/* dW: up to this many rows of dy^T the next k-block is prefetched while this one is multiplied. 192 rows of two k-blocks of 256
 * steps, packed and as they lie in dy, are 0.75 MiB of f32: they fit an L2 of 1 MiB. */
enum { DW_ROWS_PACKED = 192 };

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

/* Pairs of neighbouring columns, bf16, as if they were f32: m itself or a copy in scratch. */
static Mat paired(Backend *b, int thread, Mat m)
{
    if (m.dtype == DTYPE_BF16 && m.cols % 2 == 0 && m.stride % 2 == 0 && (uintptr_t)m.p % 4 == 0) {
        return (Mat){m.p, DTYPE_F32, m.rows, m.cols / 2, m.stride / 2, false};
    }
    size_t row = round_up(m.cols, VEC);
    uint16_t *copy = (uint16_t *)cpu_scratch(b, thread, m.rows * row / 2);
    for (size_t n = 0; n < m.rows; n++) {
        for (size_t j = 0; j < row; j += VEC) {
            v16_store_bf16(copy + n * row + j, any_load(row_of(m, n), j, row_lanes(m.cols - j)));
        }
    }
    return (Mat){copy, DTYPE_F32, m.rows, (m.cols + 1) / 2, row / 2, false};
}

static Mat widened(Backend *b, int thread, Mat m)
{
    size_t stride = round_up(m.cols, VEC);
    float *wide = cpu_scratch(b, thread, m.rows * stride);
    panel_copy(wide, m, 0, m.cols, stride, false, true);
    return (Mat){wide, DTYPE_F32, m.rows, m.cols, stride, false};
}

/* m as operand a, its columns the inner index. Packing into tiles pays where each row is reused by many columns of b; few rows,
 * or short ones, are in L1 as they are. */
static OperandA operand_a(const Form *f, Backend *b, int thread, Mat m, size_t columns)
{
    bool pairs = f->kind == TILE_DOT, rounded = f->rounded && !pairs;
    if (pairs) m = paired(b, thread, m);
    if (m.rows >= ROWS_WORTH_A_COPY && m.cols > K_BLOCK / 2 && columns >= COLUMNS_AT_ONCE / 2) {
        return tiles_from_rows(cpu_scratch(b, thread, tiles_floats(m.rows, m.cols)), m, rounded);
    }
    if (rounded) m = widened(b, thread, m);
    return (OperandA){m.p, m.stride, m.rows, m.cols, !f->rounded};
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
    float *transposed = f->kind == TILE_DOT ? cpu_scratch(b, thread, w.cols * PANEL / 2) : NULL;
    for (size_t o = from; o < to;) {
        size_t width = panel_vectors(w.rows - o) * VEC, real = w.rows - o < width ? w.rows - o : width;
        void *panel = (void *)tile_b(f->packed, packed, o * inner(f, w.cols));
        Row out = {transposed ? transposed : panel,
                   f->kind == TILE_F32 && f->packed == TILE_F32 ? DTYPE_F32 : DTYPE_BF16};
        panel_transpose(out, mat_rows(w, o, real), width);
        if (transposed) {
            panel_copy(panel, mat_of(transposed, DTYPE_BF16, w.cols, width), 0, width, width, true, true);
        }
        o += width;
    }
    cpu_release(b, thread, mark);
}

/* ---- products */

/* c[:, from:to) = a b + bias, or added to c; c has `cols` columns. a: as it is, or columns from `first` on of `columns`, which
 * are packed into tiles one k-block at a time, so that the tiles are still in L2 when they are read. b: packed, or w, or w
 * transposed. */
typedef struct Product {
    OperandA a;
    size_t K, block; /* steps of the inner index; of a block of it */
    Mat columns;
    size_t first;
    float *tiles;
    const void *packed;
    Mat w;
    bool transposed; /* w is [columns, K], a dot's steps as `paired` has them */
    Mat c;
    size_t from, to;
    const float *bias;
    bool add;
} Product;

/* Prefetch of `rows` rows of `bytes` bytes: about 12 cache lines a tile, which is what DRAM delivers while a tile runs. */
static Ahead ahead_of(const void *at, size_t stride, size_t bytes, size_t rows)
{
    size_t lines = (bytes + LINE - 1) / LINE;
    return (Ahead){at, stride, lines, rows, lines ? (12 + lines - 1) / lines : 0};
}

/* Rows of a that are not in a cache yet: each tile prefetches the rows of the next. */
static Ahead ahead_of_tiles(const OperandA *a)
{
    size_t row = a->stride * sizeof(float);
    if (a->rows <= TILE_ROWS) return (Ahead){0};
    Ahead ahead = ahead_of((const char *)a->p + TILE_ROWS * row, row, a->K * sizeof(float), a->rows - TILE_ROWS);
    ahead.pace = TILE_ROWS;
    return ahead;
}

/* Columns [from, to) for the steps [k0, k0 + K) of the inner index, panel after panel. */
typedef struct Block {
    size_t from, to, k0, K;
    float *copy;            /* of panels of w */
    Ahead ahead_b, ahead_a; /* prefetches: what b reads next; the rows that the next block packs */
} Block;

/* Prefetch of the next packed panel, after the one of `width` columns at j: same k-block; after the last panel of this k-block
 * comes the first panel of the next. */
static Ahead ahead_of_packed(TileKind kind, const Product *p, const Block *b, size_t j, size_t width)
{
    size_t next = j + width, k0 = b->k0;
    if (next >= b->to) next = b->from, k0 += p->block;
    if (k0 >= p->K) return (Ahead){0};
    size_t wide = panel_vectors(p->c.cols - next) * VEC, steps = min_size(p->block, p->K - k0);
    const char *at = tile_b(kind, p->packed, next * p->K + k0 * wide);
    size_t lines = (size_t)((const char *)tile_b(kind, at, steps * wide) - at) / LINE, tiles = p->a.rows / TILE_ROWS;
    return (Ahead){at, LINE, 1, lines, lines / (tiles ? tiles : 1) + 1};
}

/* Prefetch of columns [j, j + most) of w, which are copied next; after the last come the first of the next k-block. */
static Ahead ahead_of_columns(const Product *p, const Block *b, size_t j, size_t most, size_t step)
{
    size_t from = b->k0 * step, size = dtype_size(p->w.dtype);
    if (j >= b->to) j = b->from, from += K_BLOCK * step;
    if (from >= p->w.rows) return (Ahead){0};
    Mat rows = mat_rows(p->w, from, min_size(p->w.rows - from, K_BLOCK * step));
    return ahead_of((const char *)rows.p + j * size, rows.stride * size, min_size(most, b->to - j) * size, rows.rows);
}

/* Prefetch of rows [j, j + width) of w, which are transposed next; after the last come the first, of the next k-block. */
static Ahead ahead_of_rows(const Product *p, const Block *b, size_t j, size_t width)
{
    size_t k0 = b->k0, size = dtype_size(p->w.dtype);
    if (j >= b->to) j = b->from, k0 += p->block;
    if (k0 >= p->K) return (Ahead){0};
    return ahead_of(row_from(row_of(p->w, j), k0).p, p->w.stride * size, min_size(p->block, p->K - k0) * size,
                    min_size(p->w.rows - j, width));
}

/* Steps of rows [j, j + width) of w become a panel. */
static const void *panel_of_rows(const Product *p, Block *b, size_t j, size_t width)
{
    Mat steps = mat_rows(p->w, j, min_size(p->w.rows - j, width));
    steps.p = row_from(row_of(steps, 0), b->k0).p;
    steps.cols = b->K;
    panel_transpose((Row){b->copy, DTYPE_F32}, steps, width);
    b->ahead_b = ahead_of_rows(p, b, j + width, width);
    return b->copy;
}

/* The panel of b at column j; copied where that must be or pays, together with those beside it. */
static const void *panel_of(const Form *f, const Product *p, Block *b, size_t j, size_t width, size_t *b_k)
{
    bool many = p->a.rows >= ROWS_WORTH_A_COPY;
    *b_k = width;
    if (p->packed) {
        const void *half = tile_b(f->packed, p->packed, j * p->K + b->k0 * width);
        if (p->a.rows < ROWS_THAT_HIDE_DRAM) b->ahead_b = ahead_of_packed(f->packed, p, b, j, width);
        if (f->packed == f->kind || !many) return half;
        panel_copy(b->copy, mat_of((void *)half, DTYPE_BF16, b->K, width), 0, width, width, false, false);
        return b->copy;
    }
    if (p->transposed) return panel_of_rows(p, b, j, width);
    size_t cols = p->w.cols - j, step = f->kind == TILE_DOT ? 2 : 1;
    if (p->w.dtype == DTYPE_F32 && f->kind == TILE_F32 && !f->rounded && cols >= width && !many) {
        *b_k = p->w.stride; /* only whole panels: a cut one would be read past its end */
        return mat_row(p->w, b->k0) + j;
    }
    bool together = many && COPIED_AT_ONCE > (int)PANEL;
    size_t at = together ? j % COPIED_AT_ONCE : 0, most = together ? COPIED_AT_ONCE - at : width;
    if (at == 0 || j == b->from) {
        Mat rows = mat_rows(p->w, b->k0 * step, min_size(p->w.rows - b->k0 * step, b->K * step));
        panel_copy(b->copy + at * b->K, rows, j, min_size(cols, most), width, step == 2, f->rounded);
        b->ahead_b = ahead_of_columns(p, b, j + most, most, step);
    }
    return b->copy + at * b->K;
}

/* Packs this k-block of a into tiles, and prefetches the next one unless both do not fit L2 (DW_ROWS_PACKED). */
static void pack_block(const Form *f, Product *p, Block *b)
{
    size_t step = f->kind == TILE_DOT ? 2 : 1, from = b->k0 * step, next = from + K_BLOCK * step;
    size_t size = dtype_size(p->columns.dtype), height = p->columns.rows;
    Mat rows = mat_rows(p->columns, from, min_size(b->K * step, height - from));
    p->a = tiles_from_columns(p->tiles, rows, p->first, p->c.rows, step == 2, f->rounded);
    if (next >= height || p->c.rows > DW_ROWS_PACKED) return;
    size_t left = min_size(height - next, K_BLOCK * step),
           runs = (b->to - b->from) * p->c.rows / (PANEL * TILE_ROWS) + 1;
    const char *at = (const char *)p->columns.p + (next * p->columns.stride + p->first) * size;
    b->ahead_a = ahead_of(at, p->columns.stride * size, p->c.rows * size, left);
    b->ahead_a.pace = left / runs + 1;
}

/* Few rows (decode): as many panels in parallel as there are registers for, so that no FMA waits for the one before; the panels
 * lie far apart in the weight, so that DRAM sees several streams. Decoding one sequence: 2 % faster than with neighbouring
 * panels (r1 bench, two Zen 5 cores). Returns the column after the last panel done so. */
static size_t multiply_few(TileKind kind, const Product *p, const Block *b)
{
    size_t from = b->from;
    for (size_t together; (together = panels_side_by_side(p->a.rows, (b->to - from) / PANEL)) > 1;) {
        size_t apart = (b->to - from) / PANEL / together * PANEL;
        Tile t = {.K = p->K,
                  .b_panel = apart * p->K,
                  .c_row = p->c.stride,
                  .c_panel = apart,
                  .cols = together * PANEL,
                  .add = p->add};
        for (size_t j = from; j < from + apart; j += PANEL) {
            t.b = tile_b(kind, p->packed, j * p->K);
            t.c = row_from(row_of(p->c, 0), j);
            t.bias = p->bias ? p->bias + j : NULL;
            panels_run(kind, t, &p->a, together);
        }
        from += apart * together;
    }
    return from;
}

/* sums: [a.rows * (b.to - b.from)] when there are several blocks of the inner index. */
static void multiply_block(const Form *f, Product *p, Block *b, float *sums)
{
    size_t cols = p->c.cols, at = p->columns.p ? 0 : b->k0; /* at: where a has the steps */
    bool last = b->k0 + b->K >= p->K;
    if (p->columns.p) pack_block(f, p, b);
    TileKind kind = p->packed && p->a.rows < ROWS_WORTH_A_COPY ? f->packed : f->kind;
    for (size_t j = p->packed && p->a.stride ? multiply_few(kind, p, b) : b->from; j < b->to;) {
        size_t vectors = panel_vectors(cols - j), width = vectors * VEC;
        Tile t = {.K = b->K, .start = b->k0 ? sums : NULL, .start_row = width};
        t.b = panel_of(f, p, b, j, width, &t.b_k);
        if (p->a.cold && j == p->from && b->k0 == 0) b->ahead_b = ahead_of_tiles(&p->a);
        t.c = last ? row_from(row_of(p->c, 0), j) : (Row){sums, DTYPE_F32};
        t.c_row = last ? p->c.stride : width;
        t.cols = last && cols - j < width ? cols - j : width;
        t.bias = last && p->bias ? p->bias + j : NULL;
        t.add = last && p->add;
        panel_run(kind, t, &p->a, at, vectors, &b->ahead_b, &b->ahead_a);
        sums = sums ? sums + p->a.rows * width : NULL;
        j += width;
    }
}

static void multiply(const Form *f, Backend *b, int thread, Product *p)
{
    size_t K = p->K, rows = p->c.rows, wide = round_up(p->to - p->from, VEC);
    ArenaMark mark = cpu_mark(b, thread);
    float *copy = cpu_scratch(b, thread, K_BLOCK * (COPIED_AT_ONCE + PANEL)), *sums = NULL;
    p->block = p->packed && p->a.stride && rows <= TILE_ROWS
                   ? K
                   : K_BLOCK; /* one tile reads a packed panel once: nothing to keep in a cache */
    size_t at_once = K > p->block ? min_size(wide, COLUMNS_AT_ONCE) : wide;
    if (K > p->block) {
        sums = cpu_scratch(b, thread, rows * (at_once + PANEL));
    }
    for (size_t o = p->from; o < p->to; o += at_once) {
        for (size_t k0 = 0; k0 < K; k0 += p->block) {
            Block block = {o, min_size(p->to, o + at_once), k0, min_size(p->block, K - k0), .copy = copy};
            multiply_block(f, p, &block, sums);
        }
    }
    cpu_release(b, thread, mark);
}

/* p, whose a are the rows of x. */
static void multiply_rows(const Form *f, Backend *b, int thread, Product p, Mat x)
{
    ArenaMark mark = cpu_mark(b, thread);
    if (p.transposed && f->kind == TILE_DOT) p.w = paired(b, thread, p.w);
    p.a = operand_a(f, b, thread, x, p.to - p.from);
    p.K = p.a.K;
    multiply(f, b, thread, &p);
    cpu_release(b, thread, mark);
}

static void fwd(const Form *f, Backend *b, int thread, Mat y, Mat x, const void *packed, size_t from, size_t to,
                const float *bias, bool add)
{
    Product p = {.packed = packed, .c = y, .from = from, .to = to, .bias = bias, .add = add};
    multiply_rows(f, b, thread, p, x);
}

static void fwd_unpacked(const Form *f, Backend *b, int thread, Mat y, Mat x, Mat w, size_t from, size_t to,
                         const float *bias, bool add)
{
    Product p = {.w = w, .transposed = true, .c = y, .from = from, .to = to, .bias = bias, .add = add};
    multiply_rows(f, b, thread, p, x);
}

static void bwd_x(const Form *f, Backend *b, int thread, Mat dx, Mat dy, Mat w, size_t from, size_t to, bool add)
{
    Product p = {.w = w, .c = dx, .from = from, .to = to, .add = add};
    multiply_rows(f, b, thread, p, dy);
}

static void bwd_w(const Form *f, Backend *b, int thread, Mat dw, Mat dy, Mat x, size_t o0, size_t o1)
{
    ArenaMark mark = cpu_mark(b, thread);
    size_t K = inner(f, x.rows);
    Product p = {.K = K, .columns = dy, .first = o0, .w = x, .c = mat_rows(dw, o0, o1 - o0), .to = x.cols, .add = true};
    p.tiles = cpu_scratch(b, thread, tiles_floats(o1 - o0, min_size(K, K_BLOCK)));
    multiply(f, b, thread, &p);
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

/* What multiply and operand_a take; dw's packing of a k-block is smaller. */
static size_t scratch_bytes(size_t rows, size_t inner_size)
{
    size_t copies = K_BLOCK * (COPIED_AT_ONCE + PANEL), sums = rows * (COLUMNS_AT_ONCE + PANEL);
    return (tiles_floats(rows, inner_size) + copies + sums) * sizeof(float);
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
    static void title##_fwd_unpacked(Backend *b, int thread, Mat y, Mat x, Mat w, size_t from, size_t to,              \
                                     const float *bias, bool add)                                                      \
    {                                                                                                                  \
        fwd_unpacked(&f, b, thread, y, x, w, from, to, bias, add);                                                     \
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
        .column_unit = PANEL_VECTORS > 1 ? PANEL : 2 * PANEL,                                                          \
        .pack_bytes = title##_pack_bytes,                                                                              \
        .pack = title##_pack,                                                                                          \
        .fwd = title##_fwd,                                                                                            \
        .fwd_unpacked = title##_fwd_unpacked,                                                                          \
        .bwd_x = title##_bwd_x,                                                                                        \
        .bwd_w = title##_bwd_w,                                                                                        \
        .scratch = scratch_bytes,                                                                                      \
    };

static const Form f32_form = {TILE_F32, TILE_F32, false};
static const Form widen_form = {TILE_F32, TILE_HALF, true};
static const Form dot_form = {TILE_DOT, TILE_DOT, true};
PROVIDER(native, f32_form, DTYPE_F32, false)
PROVIDER(widen, widen_form, DTYPE_BF16, false)
PROVIDER(dot, dot_form, DTYPE_BF16, true)
