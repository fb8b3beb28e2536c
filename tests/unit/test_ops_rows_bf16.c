/* Row ops on bf16 rows: each is its f32 form on the widened inputs, rounded once where it writes bf16, to the bit; on every
 * instruction set. The f32 forms are tested elsewhere. */
#include "tests/unit/ops_lab.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* n random values that are bf16, both ways. */
typedef struct Values {
    float *f;
    uint16_t *h;
} Values;

static Values values_make(size_t n, uint64_t seed)
{
    Values v = {.f = lab_random(n, seed)};
    v.h = lab_rounded(v.f, n);
    return v;
}

static void values_free(Values v)
{
    free(v.f), free(v.h);
}

/* rows x cols of v with `gap` unused values after each row, in either type. */
static Mat of(Values v, bool half, size_t rows, size_t cols, size_t gap)
{
    return (Mat){half ? (void *)v.h : (void *)v.f, half ? DTYPE_BF16 : DTYPE_F32, rows, cols, cols + gap, false};
}

/* The inputs of a case; each runs an op in f32 (half = false) to outputs 0, 1, ... and in bf16 to the following ones. */
typedef struct Case {
    size_t n, C;
    Values a, b, c;
    float *w, *dy, *rstd;
    int32_t *ids;
    bool other; /* a case's own switch */
} Case;

static Case case_make(size_t n, size_t C)
{
    size_t most = 4 * n * (2 * C + 8);
    Case k = {.n = n,
              .C = C,
              .a = values_make(most, 1),
              .b = values_make(most, 2),
              .c = values_make(most, 3),
              .w = lab_random(2 * C, 4),
              .dy = lab_random(most, 5),
              .rstd = lab_random(4 * n, 6)};
    k.ids = malloc(4 * n * sizeof *k.ids);
    for (size_t i = 0; i < 4 * n; i++) {
        k.ids[i] = (int32_t)(i * 7 % (2 * n));
        k.rstd[i] = 1.5f + k.rstd[i];
    }
    return k;
}

static void case_free(Case *k)
{
    values_free(k->a), values_free(k->b), values_free(k->c);
    free(k->w), free(k->dy), free(k->rstd), free(k->ids);
}

/* The float half left over by an odd number of bf16 keeps what it held. */
static void expect_leftover(const LabTrial *t, float *out, int number, size_t cols, const float *was)
{
    Mat m = lab_bf16(t, out, number, cols);
    for (int i = 0; i < number; i++) was += t->outs[i].rows * t->outs[i].cols;
    const uint16_t *held = (const uint16_t *)was;
    for (size_t r = 0; cols % 2 && r < m.rows; r++)
        assert_int_equal(((uint16_t *)m.p)[r * m.stride + cols], held[(r + 1) * 2 * lab_halves(cols) - 1]);
}

/* Output `got` of cols bf16 is output `want`, dense f32, rounded. */
static void expect_rounded(const char *what, const LabTrial *t, float *out, int got, size_t cols, int want)
{
    assert_int_equal(t->outs[want].stride, t->outs[want].cols);
    lab_is_rounded(what, lab_bf16(t, out, got, cols), lab_at(t, out, want));
    expect_leftover(t, out, got, cols, t->initial);
}

static void expect_same(const char *what, const LabTrial *t, float *out, int got, int want)
{
    Mat a = lab_mat(t, out, got), b = lab_mat(t, out, want);
    for (size_t i = 0; i < a.rows; i++)
        if (memcmp(mat_row(a, i), mat_row(b, i), a.cols * sizeof(float))) fail_msg("%s: row %zu differs", what, i);
}

typedef void Check(LabTrial *t, float *out, const Case *k);

static void run_case(Case *k, void (*run)(const Ops *, Backend *, const LabTrial *, float *), LabTrial t, Check *check)
{
    size_t floats = 0;
    for (int i = 0; i < t.count; i++) floats += t.outs[i].rows * t.outs[i].cols;
    Values was = values_make(2 * floats, 7); /* sound as f32 and as bf16 */
    t.run = run;
    t.in = k;
    t.initial = (float *)was.h;
    float *out = lab_run(&t);
    check(&t, out, k);
    free(out);
    values_free(was);
}

static const size_t SIZES[][2] = {{1, 1}, {3, 16}, {5, 67}, {4, 131}, {70, 48}}; /* rows, columns */

static void each_size(void (*body)(Case *k))
{
    for (size_t s = 0; s < sizeof SIZES / sizeof *SIZES; s++) {
        Case k = case_make(SIZES[s][0], SIZES[s][1]);
        for (int other = 0; other < 2; other++) {
            k.other = other;
            body(&k);
        }
        case_free(&k);
    }
}

/* ---- norms; other: per head, two heads a row */

static const float EPS = 1e-5f;

static HeadView heads_of(Mat m, size_t D)
{
    return (HeadView){m.p, m.stride, D, m.dtype};
}

static void norm(const Ops *ops, Backend *b, const Case *k, Mat y, float *rstd, Mat x)
{
    if (k->other)
        ops->headnorm_fwd(b, heads_of(y, k->C), rstd, heads_of(x, k->C), (HeadNorm){k->w, (int)k->n, 2, (int)k->C},
                          EPS);
    else ops->rmsnorm_fwd(b, y, rstd, x, k->w, EPS);
}

static size_t norm_width(const Case *k)
{
    return k->other ? 2 * k->C : k->C;
}

/* f32; bf16 to bf16; f32 to bf16 as of the residual stream (the strided rows are those of MLA's latent). */
static void run_norm(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const Case *k = t->in;
    size_t W = norm_width(k);
    float *rstd = lab_at(t, out, 3);
    norm(ops, b, k, lab_mat(t, out, 0), rstd, of(k->a, false, k->n, W, 5));
    norm(ops, b, k, lab_bf16(t, out, 1, W), rstd + 2 * k->n, of(k->a, true, k->n, W, 5));
    norm(ops, b, k, lab_bf16(t, out, 2, W), rstd + 4 * k->n, of(k->a, false, k->n, W, 5));
}

static void check_norm(LabTrial *t, float *out, const Case *k)
{
    size_t W = norm_width(k), rows = k->other ? 2 * k->n : k->n;
    const float *rstd = lab_at(t, out, 3);
    expect_rounded("norm of bf16", t, out, 1, W, 0);
    expect_rounded("norm to bf16", t, out, 2, W, 0);
    assert_memory_equal(rstd, rstd + 2 * k->n, rows * sizeof *rstd);
    assert_memory_equal(rstd, rstd + 4 * k->n, rows * sizeof *rstd);
}

static void norm_grad(const Ops *ops, Backend *b, const Case *k, Mat dx, float *dw, Mat x)
{
    size_t W = norm_width(k);
    HeadView dy = heads_f32(k->dy, W, k->C);
    if (k->other)
        ops->headnorm_bwd(b, heads_of(dx, k->C), dw, dy, heads_of(x, k->C), (HeadNorm){k->w, (int)k->n, 2, (int)k->C},
                          k->rstd);
    else ops->rmsnorm_bwd(b, dx, dw, mat_f32(k->dy, k->n, W), x, k->w, k->rstd, true);
}

static void run_norm_bwd(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const Case *k = t->in;
    size_t W = norm_width(k);
    for (int half = 0; half < 2; half++) {
        Mat dx = lab_mat(t, out, 2 * half), dw = lab_mat(t, out, 2 * half + 1);
        ops->fill(b, dw.p, k->C, 0.5f);
        for (size_t i = 0; i < k->n; i++) ops->fill(b, mat_row(dx, i), W, 0.25f);
        norm_grad(ops, b, k, dx, dw.p, of(k->a, half, k->n, W, 3));
    }
}

static void check_norm_bwd(LabTrial *t, float *out, const Case *k)
{
    (void)k;
    expect_same("dx", t, out, 2, 0);
    expect_same("dw", t, out, 3, 1);
}

static void norms_of(Case *k)
{
    size_t W = norm_width(k);
    LabTrial fwd = {0}, bwd = {0};
    lab_out(&fwd, k->n, W, 0), lab_out(&fwd, k->n, lab_halves(W), 2), lab_out(&fwd, k->n, lab_halves(W), 0);
    lab_out(&fwd, 1, 6 * k->n, 0);
    run_case(k, run_norm, fwd, check_norm);
    lab_out(&bwd, k->n, W, 1), lab_out(&bwd, 1, k->C, 0), lab_out(&bwd, k->n, W, 2), lab_out(&bwd, 1, k->C, 0);
    run_case(k, run_norm_bwd, bwd, check_norm_bwd);
}

static void norms(void **state)
{
    (void)state;
    each_size(norms_of);
}

/* ---- SwiGLU */

static void run_swiglu(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const Case *k = t->in;
    Mat dh = mat_f32(k->dy, k->n, k->C), gu = of(k->a, false, k->n, 2 * k->C, 1),
        gu_half = of(k->a, true, k->n, 2 * k->C, 1);
    if (k->other) {
        ops->swiglu_bwd(b, lab_mat(t, out, 0), dh, gu);
        ops->swiglu_bwd(b, lab_mat(t, out, 1), dh, gu_half);
        return;
    }
    ops->swiglu_fwd(b, lab_mat(t, out, 0), gu);
    ops->swiglu_fwd(b, lab_bf16(t, out, 1, k->C), gu_half);
}

static void check_swiglu(LabTrial *t, float *out, const Case *k)
{
    if (k->other) expect_same("dgu", t, out, 1, 0);
    else expect_rounded("h", t, out, 1, k->C, 0);
}

static void swiglu_of(Case *k)
{
    LabTrial t = {0};
    lab_out(&t, k->n, k->other ? 2 * k->C : k->C, 0);
    lab_out(&t, k->n, k->other ? 2 * k->C : lab_halves(k->C), k->other ? 1 : 2);
    run_case(k, run_swiglu, t, check_swiglu);
}

static void swiglu(void **state)
{
    (void)state;
    each_size(swiglu_of);
}

/* ---- copies: gather and copy in every pair of types, embedding of a split table. The table has 2 n rows. */

static void run_gather(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const Case *k = t->in;
    size_t rows = k->other ? k->n : 2 * k->n; /* copied, or gathered from */
    Mat x = of(k->a, false, rows, k->C, 3), x_half = of(k->a, true, rows, k->C, 3);
    Mat y[] = {lab_bf16(t, out, 0, k->C), lab_bf16(t, out, 1, k->C), lab_mat(t, out, 2)};
    if (k->other) {
        ops->copy(b, y[0], x);
        ops->copy(b, y[1], x_half);
        ops->copy(b, y[2], x_half);
    } else {
        ops->gather_rows(b, y[0], x, k->ids);
        ops->gather_rows(b, y[1], x_half, k->ids);
        ops->gather_rows(b, y[2], x_half, k->ids);
    }
}

static void check_gather(LabTrial *t, float *out, const Case *k)
{
    for (size_t i = 0; i < k->n; i++) {
        size_t from = (k->other ? i : (size_t)k->ids[i]) * (k->C + 3);
        Mat half[] = {lab_bf16(t, out, 0, k->C), lab_bf16(t, out, 1, k->C)};
        for (int o = 0; o < 2; o++) lab_is_rounded("copy", mat_rows(half[o], i, 1), k->a.f + from);
        assert_memory_equal(mat_row(lab_mat(t, out, 2), i), k->a.f + from, k->C * sizeof(float));
    }
    expect_leftover(t, out, 0, k->C, t->initial);
    expect_leftover(t, out, 1, k->C, t->initial);
}

static void copies_of(Case *k)
{
    LabTrial t = {0};
    lab_out(&t, k->n, lab_halves(k->C), 1), lab_out(&t, k->n, lab_halves(k->C), 0), lab_out(&t, k->n, k->C, 2);
    run_case(k, run_gather, t, check_gather);
}

static void run_embed(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const Case *k = t->in;
    ops->embed_fwd(b, lab_mat(t, out, 0), of(k->a, true, 2 * k->n, k->C, k->C), k->ids);
}

static void check_embed(LabTrial *t, float *out, const Case *k)
{
    for (size_t i = 0; i < k->n; i++)
        assert_memory_equal(mat_row(lab_mat(t, out, 0), i), k->a.f + (size_t)k->ids[i] * 2 * k->C,
                            k->C * sizeof(float));
}

static void embedding_of(Case *k)
{
    LabTrial t = {0};
    lab_out(&t, k->n, k->C, 3);
    run_case(k, run_embed, t, check_embed);
}

static void copies(void **state)
{
    (void)state;
    each_size(copies_of);
    each_size(embedding_of);
}

/* Every bf16 as f32 and back, and what rounds: ties, NaN, infinities, denormals, overflow. */
enum { SPECIAL = 3 * 65536 };

static void run_round_all(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const Case *k = t->in;
    ops->copy(b, lab_bf16(t, out, 0, SPECIAL), mat_f32(k->dy, 1, SPECIAL));
    ops->copy(b, lab_mat(t, out, 1), mat_of(k->a.h, DTYPE_BF16, 1, 65536));
}

static void round_all(void **state)
{
    (void)state;
    static const uint32_t lows[] = {0, 0x8000, 0x8001};
    Case k = {.dy = malloc(SPECIAL * sizeof(float)), .a.h = malloc(65536 * sizeof(uint16_t))};
    for (uint32_t i = 0; i < SPECIAL; i++) {
        uint32_t bits = (i / 3) << 16 | lows[i % 3];
        memcpy(&k.dy[i], &bits, sizeof bits);
        k.a.h[i / 3] = (uint16_t)(i / 3);
    }
    LabTrial t = {.run = run_round_all, .in = &k};
    lab_out(&t, 1, SPECIAL / 2, 0), lab_out(&t, 1, 65536, 0);
    float *out = lab_run(&t);
    lab_is_rounded("rounding", lab_bf16(&t, out, 0, SPECIAL), k.dy);
    for (uint32_t i = 0; i < 65536; i++) {
        uint32_t bits;
        memcpy(&bits, lab_at(&t, out, 1) + i, sizeof bits);
        assert_int_equal(bits, i << 16);
    }
    free(out), free(k.dy), free(k.a.h);
}

/* ---- combine: n tokens of two pairs each, with a shared expert's rows or without (other) */

static void combine(const Ops *ops, Backend *b, const Case *k, Mat y, Mat x, Mat shared)
{
    ops->copy(b, y, mat_f32(k->dy, k->n, k->C));
    ops->combine_fwd(b, y, x, k->ids, mat_f32(k->rstd, k->n, 2), k->other ? (Mat){0} : shared);
}

static void run_combine(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const Case *k = t->in;
    combine(ops, b, k, lab_mat(t, out, 0), of(k->a, false, 2 * k->n, k->C, 1), of(k->b, false, k->n, k->C, 2));
    combine(ops, b, k, lab_mat(t, out, 1), of(k->a, true, 2 * k->n, k->C, 1), of(k->b, true, k->n, k->C, 2));
}

static void check_combine(LabTrial *t, float *out, const Case *k)
{
    (void)k;
    expect_same("combine", t, out, 1, 0);
}

static void run_combine_bwd(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const Case *k = t->in;
    for (int half = 0; half < 2; half++)
        ops->combine_bwd(b, lab_mat(t, out, 2 * half), lab_mat(t, out, 2 * half + 1), mat_f32(k->dy, k->n, k->C),
                         of(k->a, half, 2 * k->n, k->C, 1), k->ids, mat_f32(k->rstd, k->n, 2));
}

static void check_combine_bwd(LabTrial *t, float *out, const Case *k)
{
    (void)k;
    expect_same("dx", t, out, 2, 0);
    expect_same("dweights", t, out, 3, 1);
}

static void combine_of(Case *k)
{
    LabTrial fwd = {0}, bwd = {0};
    for (size_t i = 0; i < 2 * k->n; i++) k->ids[i] = (int32_t)(2 * k->n - 1 - i); /* every sorted row is one pair's */
    lab_out(&fwd, k->n, k->C, 0), lab_out(&fwd, k->n, k->C, 3);
    run_case(k, run_combine, fwd, check_combine);
    lab_out(&bwd, 2 * k->n, k->C, 0), lab_out(&bwd, k->n, 2, 0), lab_out(&bwd, 2 * k->n, k->C, 0),
        lab_out(&bwd, k->n, 2, 1);
    run_case(k, run_combine_bwd, bwd, check_combine_bwd);
}

static void combination(void **state)
{
    (void)state;
    each_size(combine_of);
}

/* ---- rope, in place; C is the head's width */

typedef struct Rope {
    size_t n, heads, Dr;
    bool interleaved, inverse;
    const float *cos, *sin;
    const int32_t *pos;
} Rope;

static void run_rope(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const Rope *r = t->in;
    size_t W = r->heads * r->Dr;
    Mat half = lab_bf16(t, out, 0, W), wide = lab_mat(t, out, 1);
    ops->copy(b, wide, half);
    RopeArgs args = {r->cos, r->sin, (int)r->Dr, r->interleaved, r->inverse};
    ops->rope(b, heads_of(wide, r->Dr), r->pos, args, (int)r->n, (int)r->heads);
    ops->rope(b, heads_of(half, r->Dr), r->pos, args, (int)r->n, (int)r->heads);
}

static void rope(void **state)
{
    (void)state;
    static const size_t sizes[][3] = {{1, 1, 2}, {5, 1, 8}, {7, 3, 22}, {40, 4, 64}, {3, 2, 70}};
    float *cos = lab_random(40 * 35, 1), *sin = lab_random(40 * 35, 2);
    int32_t pos[40];
    for (int i = 0; i < 40; i++) pos[i] = 11 * i % 40;
    for (int s = 0; s < 20; s++) {
        const size_t *z = sizes[s / 4];
        Rope r = {z[0], z[1], z[2], s % 2, s / 2 % 2, cos, sin, pos};
        size_t W = r.heads * r.Dr;
        Values was = values_make(4 * r.n * W, 3);
        LabTrial t = {.run = run_rope, .in = &r, .initial = (float *)was.h};
        lab_out(&t, r.n, lab_halves(W), 3), lab_out(&t, r.n, W, 0);
        float *out = lab_run(&t);
        lab_is_rounded("rope", lab_bf16(&t, out, 0, W), lab_at(&t, out, 1));
        assert_memory_not_equal(lab_bf16(&t, out, 0, W).p, was.h, W);
        free(out);
        values_free(was);
    }
    free(cos), free(sin);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norms),     cmocka_unit_test(swiglu),      cmocka_unit_test(copies),
        cmocka_unit_test(round_all), cmocka_unit_test(combination), cmocka_unit_test(rope),
    };
    return cmocka_run_group_tests(tests, lab_open, lab_close);
}
