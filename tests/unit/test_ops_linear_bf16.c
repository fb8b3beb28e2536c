/* linear_* and grouped_* on bf16 operands, in both forms, and on the emulated GPU's tensor cores: the order of every chain
 * exactly, against f64, rows independent of the batch. Weights lie in split storage (row stride 2 K). */
#include "tests/unit/linear_case.h"

#include "gpu/gpu.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Matrices of one layer: x and dy with `gap` unused columns, everything beginning at element `shift` of its buffer. The float
 * arrays hold the values of the bf16 ones; dy is f32 in the call. */
typedef struct Layer {
    LinearCase c;
    size_t M, N, K, gap, shift;
    bool dot;
    float *x, *w, *dy, *bias, *was;
    uint16_t *x_half, *w_half, *dy_half, *was_half;
    float *dy_exact;
} Layer;

static size_t largest(size_t a, size_t b)
{
    return a > b ? a : b;
}

static Mat bf16_mat(uint16_t *p, size_t rows, size_t cols, size_t stride)
{
    return (Mat){p, DTYPE_BF16, rows, cols, stride, false};
}

static Layer layer_make(size_t M, size_t N, size_t K, size_t gap, size_t shift)
{
    size_t xs = shift + M * (K + gap), ws = shift + N * 2 * K, dys = shift + M * (N + gap);
    size_t outs = M * (N + 1) + M * K + N * K + N;
    Layer l = {.M = M,
               .N = N,
               .K = K,
               .gap = gap,
               .shift = shift,
               .x = lab_random(xs, 1),
               .w = lab_random(ws, 2),
               .dy = lab_random(dys, 3),
               .bias = lab_random(N, 4),
               .was = lab_random(outs, 5)};
    l.dy_exact = malloc(largest(dys, 1) * sizeof(float));
    memcpy(l.dy_exact, l.dy, dys * sizeof(float));
    l.x_half = lab_rounded(l.x, xs), l.w_half = lab_rounded(l.w, ws), l.dy_half = lab_rounded(l.dy, dys);
    float *was = lab_random(outs, 6);
    l.was_half = lab_rounded(was, outs);
    free(was);
    /* What is not of the matrices (gaps, the lower halves of split weights) must not be read, not even times 0. */
    for (size_t i = shift; i < xs; i++)
        if ((i - shift) % (K + gap) >= K) l.x_half[i] = 0x7fc0;
    for (size_t i = shift; i < ws; i++)
        if ((i - shift) % (2 * K) >= K) l.w_half[i] = 0x7fc0;
    for (size_t i = shift; i < dys; i++)
        if ((i - shift) % (N + gap) >= N) l.dy_half[i] = 0x7fc0, l.dy_exact[i] = NAN;
    l.c = (LinearCase){.x = bf16_mat(l.x_half + shift, M, K, K + gap),
                       .w = bf16_mat(l.w_half + shift, N, K, 2 * K),
                       .dy = {l.dy_exact + shift, DTYPE_F32, M, N, N + gap, false},
                       .bias = l.bias};
    return l;
}

static void layer_free(Layer *l)
{
    void *all[] = {l->x, l->w, l->dy, l->bias, l->was, l->x_half, l->w_half, l->dy_half, l->was_half, l->dy_exact};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

static const float *x_at(const Layer *l, size_t m)
{
    return l->x + l->shift + m * (l->K + l->gap);
}
static const float *w_at(const Layer *l, size_t n)
{
    return l->w + l->shift + n * 2 * l->K;
}
static const float *dy_at(const Layer *l, size_t m)
{
    return l->dy + l->shift + m * (l->N + l->gap);
}

static float *forward_sums(const Layer *l)
{
    float *sums = malloc(l->M * l->N * sizeof *sums);
    for (size_t i = 0; i < l->M * l->N; i++)
        sums[i] = linear_chain(l->dot, x_at(l, i / l->N), 1, w_at(l, i % l->N), 1, l->K);
    return sums;
}

static void check_fwd(Layer *l)
{
    LabTrial t = {.run = linear_run_fwd, .in = l, .initial = l->was};
    l->c.y_bf16 = false;
    lab_out(&t, l->M, l->N, l->gap);
    float *out = lab_run(&t), *sums = forward_sums(l);
    for (size_t i = 0; i < l->M * l->N; i++) {
        float sum = sums[i] + l->bias[i % l->N], want = l->c.add ? l->was[i] + sum : sum;
        linear_expect("linear_fwd", mat_row(lab_mat(&t, out, 0), i / l->N)[i % l->N], want, i / l->N, i % l->N);
    }
    free(out), free(sums);
}

static void check_fwd_to_bf16(Layer *l)
{
    LabTrial t = {.run = linear_run_fwd, .in = l, .initial = (float *)l->was_half};
    l->c.y_bf16 = true;
    lab_out(&t, l->M, lab_halves(l->N), l->gap);
    size_t row = 2 * lab_halves(l->N); /* of `was` */
    float *out = lab_run(&t), *sums = forward_sums(l);
    for (size_t i = 0; i < l->M; i++)
        for (size_t j = 0; j < l->N; j++) {
            float *sum = &sums[i * l->N + j];
            *sum += l->bias[j];
            if (l->c.add) *sum += lab_widen(l->was_half[i * row + j]);
        }
    Mat y = lab_bf16(&t, out, 0, l->N);
    lab_is_rounded("linear_fwd to bf16", y, sums);
    for (size_t i = 0; l->N % 2 && i < l->M; i++)
        assert_int_equal(((uint16_t *)y.p)[i * y.stride + l->N], l->was_half[i * row + l->N]);
    free(out), free(sums);
}

static void check_bwd_x(Layer *l)
{
    LabTrial t = {.run = linear_run_bwd_x, .in = l, .initial = l->was};
    lab_out(&t, l->M, l->K, l->gap);
    float *out = lab_run(&t);
    for (size_t i = 0; i < l->M; i++) {
        for (size_t j = 0; j < l->K; j++) {
            float sum = linear_chain(l->dot, dy_at(l, i), 1, w_at(l, 0) + j, 2 * l->K, l->N);
            float want = l->c.add ? l->was[i * l->K + j] + sum : sum;
            linear_expect("linear_bwd_x", mat_row(lab_mat(&t, out, 0), i)[j], want, i, j);
        }
    }
    free(out);
}

/* dbias sums the f32 dy. */
static void check_bias(const Layer *l, const float *got)
{
    for (size_t o = 0; o < l->N; o++) {
        float bias = l->was[l->N * l->K + o];
        for (size_t n = 0; n < l->M; n += TOKEN_BLOCK) {
            float sum = 0.0f;
            for (size_t k = n; k < l->M && k < n + TOKEN_BLOCK; k++) sum += mat_row(l->c.dy, k)[o];
            bias += sum;
        }
        linear_expect("dbias", got[o], bias, 0, o);
    }
}

static void check_bwd_w(Layer *l)
{
    LabTrial t = {.run = linear_run_bwd_w, .in = l, .initial = l->was};
    lab_out(&t, l->N, l->K, l->gap);
    lab_out(&t, 1, l->N, 0);
    float *out = lab_run(&t);
    for (size_t o = 0; o < l->N; o++)
        for (size_t i = 0; i < l->K; i++) {
            float want = l->was[o * l->K + i];
            for (size_t n = 0; n < l->M; n += TOKEN_BLOCK) {
                size_t rows = l->M - n < TOKEN_BLOCK ? l->M - n : TOKEN_BLOCK;
                want += linear_chain(l->dot, dy_at(l, n) + o, l->N + l->gap, x_at(l, n) + i, l->K + l->gap, rows);
            }
            linear_expect("linear_bwd_w", mat_row(lab_mat(&t, out, 0), o)[i], want, o, i);
        }
    check_bias(l, lab_at(&t, out, 1));
    free(out);
}

/* What `state` says: the backends open compute in that form. */
static bool is_dot(void **state)
{
    return !strcmp(*state, "dot");
}

static void check_layer(Layer *l)
{
    for (int add = 0; add < 2; add++) {
        l->c.add = add;
        check_fwd(l);
        check_fwd_to_bf16(l);
        check_bwd_x(l);
        check_bwd_w(l);
    }
}

/* Sizes around tiles, panels, ROWS_WORTH_A_COPY (24) and K_BLOCK (1,024; pairs in dot); gaps and shifts make rows of pairs lie
 * at odd addresses. */
static void exact_order(void **state)
{
    static const size_t shapes[][3] = {{1, 1, 1},     {1, 17, 5},   {2, 64, 33},   {7, 100, 64},  {33, 129, 31},
                                       {5, 9, 1101},  {48, 1, 48},  {13, 112, 16}, {25, 40, 96},  {23, 30, 2},
                                       {24, 30, 3},   {2, 9, 2200}, {26, 5, 2051}, {6, 1050, 20}, {27, 2061, 3},
                                       {120, 65, 70}, {3, 700, 40}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        Layer l = layer_make(shapes[s][0], shapes[s][1], shapes[s][2], s % 3, s % 4 == 3);
        l.dot = is_dot(state);
        check_layer(&l);
        layer_free(&l);
    }
}

/* More columns than are done at once, more inner steps than a block (of pairs too), rows on both sides of a copied panel. */
static void blocks_of_columns(void **state)
{
    static const size_t shapes[][3] = {{25, 530, 2070}, {3, 530, 2070}, {25, 2070, 530}, {3, 2070, 530}};
    for (size_t s = 0; s < 4; s++) {
        Layer l = layer_make(shapes[s][0], shapes[s][1], shapes[s][2], 0, 0);
        l.dot = is_dot(state);
        l.c.add = s % 2;
        if (s < 2) check_fwd(&l);
        else check_bwd_x(&l);
        layer_free(&l);
    }
}

static void token_blocks(void **state)
{
    static const size_t rows[] = {1, 2, 1023, 1024, 1025, 3001};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        Layer l = layer_make(rows[i], 19, 23, 1, 0);
        l.dot = is_dot(state);
        check_bwd_w(&l);
        layer_free(&l);
    }
}

/* The chain itself is right: against f64 on the rounded operands. */
static void against_double(void **state)
{
    (void)state;
    Layer l = layer_make(40, 70, 90, 0, 0);
    LabTrial y = {.run = linear_run_fwd, .in = &l}, dx = {.run = linear_run_bwd_x, .in = &l},
             dw = {.run = linear_run_bwd_w, .in = &l};
    float *zero = calloc(l.N * (l.K + 1), sizeof *zero);
    dw.initial = zero;
    lab_out(&y, l.M, l.N, 0), lab_out(&dx, l.M, l.K, 0), lab_out(&dw, l.N, l.K, 0), lab_out(&dw, 1, l.N, 0);
    float *got_y = lab_run(&y), *got_dx = lab_run(&dx), *got_dw = lab_run(&dw);
    double *want_y = calloc(l.M * l.N, sizeof(double)), *want_dx = calloc(l.M * l.K, sizeof(double)),
           *want_dw = calloc(l.N * l.K, sizeof(double));
    for (size_t i = 0; i < l.M; i++)
        for (size_t j = 0; j < l.N; j++) {
            want_y[i * l.N + j] = (double)l.bias[j];
            for (size_t k = 0; k < l.K; k++) {
                want_y[i * l.N + j] += (double)x_at(&l, i)[k] * (double)w_at(&l, j)[k];
                want_dx[i * l.K + k] += (double)dy_at(&l, i)[j] * (double)w_at(&l, j)[k];
                want_dw[j * l.K + k] += (double)dy_at(&l, i)[j] * (double)x_at(&l, i)[k];
            }
        }
    lab_near("linear_fwd", lab_mat(&y, got_y, 0), want_y, TOL_ROW_SUM);
    lab_near("linear_bwd_x", lab_mat(&dx, got_dx, 0), want_dx, TOL_ROW_SUM);
    lab_near("linear_bwd_w", lab_mat(&dw, got_dw, 0), want_dw, TOL_ROW_SUM);
    free(got_y), free(got_dx), free(got_dw), free(want_y), free(want_dx), free(want_dw), free(zero);
    layer_free(&l);
}

/* Rows alone, and in parts on both sides of ROWS_WORTH_A_COPY, by packed copies as in sampling, equal those of a batch by the
 * weights themselves, on whatever backend is given. */
static void check_rows_alone(const Ops *ops, Backend *b, size_t N, size_t K)
{
    enum { M = 50, MOST = 601 };
    Layer l = layer_make(M, N, K, 1, 0);
    static float all[M * MOST], some[M * MOST], dx[M * MOST], dx_some[M * MOST];
    static uint16_t all_half[M * MOST], some_half[M * MOST];
    ops->weights_changed(b);
    ops->linear_fwd(b, mat_f32(all, M, N), l.c.x, l.c.w, l.bias, false);
    ops->linear_fwd(b, mat_of(all_half, DTYPE_BF16, M, N), l.c.x, l.c.w, l.bias, false);
    ops->linear_bwd_x(b, mat_f32(dx, M, K), l.c.dy, l.c.w, false);
    lab_is_rounded("y", mat_of(all_half, DTYPE_BF16, M, N), all);
    ops->keep_packed(b, true);
    static const size_t parts[] = {1, 2, 3, 5, 6, 7, 23, 24, 25, 30, 31, 32, 33};
    for (size_t p = 0; p < sizeof parts / sizeof *parts; p++)
        for (size_t i = 0; i + parts[p] <= M; i += parts[p]) {
            size_t n = parts[p];
            Mat x = mat_rows(l.c.x, i, n);
            ops->linear_fwd(b, mat_f32(some, n, N), x, l.c.w, l.bias, false);
            ops->linear_fwd(b, mat_of(some_half, DTYPE_BF16, n, N), x, l.c.w, l.bias, false);
            ops->linear_bwd_x(b, mat_f32(dx_some, n, K), mat_rows(l.c.dy, i, n), l.c.w, false);
            assert_memory_equal(some, all + i * N, n * N * sizeof *some);
            assert_memory_equal(some_half, all_half + i * N, n * N * sizeof *some_half);
            assert_memory_equal(dx_some, dx + i * K, n * K * sizeof *dx);
        }
    ops->keep_packed(b, false);
    layer_free(&l);
}

static void rows_alone(void **state)
{
    (void)state;
    check_rows_alone(lab_ops(), lab_backend(), 330, 601);
}

/* On tensor cores every tile gives the same bits (lab_run) near those of the widened chain; what is not of a matrix is not read.
 * Sizes around tiles, with rows at multiples of 16 bytes and elsewhere. */
static void tiles_agree(void **state)
{
    (void)state;
    static const size_t shapes[][5] = {{1, 8, 16, 0, 0},  {17, 33, 24, 1, 1},  {66, 65, 40, 0, 0},
                                       {5, 130, 8, 8, 0}, {130, 16, 72, 8, 0}, {3, 1, 1, 0, 0}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        Layer l = layer_make(shapes[s][0], shapes[s][1], shapes[s][2], shapes[s][3], shapes[s][4]);
        LabTrial y = {.run = linear_run_fwd, .in = &l}, y_half = y, dx = {.run = linear_run_bwd_x, .in = &l},
                 dw = {.run = linear_run_bwd_w, .in = &l};
        l.c.add = s % 2;
        y.initial = dx.initial = dw.initial = l.was, y_half.initial = (float *)l.was_half;
        lab_out(&y, l.M, l.N, l.gap), lab_out(&y_half, l.M, lab_halves(l.N), l.gap), lab_out(&dx, l.M, l.K, l.gap);
        lab_out(&dw, l.N, l.K, l.gap), lab_out(&dw, 1, l.N, 0);
        float *out = lab_run(&y), *sums = forward_sums(&l);
        for (size_t i = 0; i < l.M * l.N; i++) sums[i] += l.bias[i % l.N] + (l.c.add ? l.was[i] : 0);
        double *want = lab_doubles(sums, l.M * l.N);
        lab_near("linear_fwd", lab_mat(&y, out, 0), want, TOL_ROW_SUM);
        free(want), free(sums), free(out);
        l.c.y_bf16 = true;
        free(lab_run(&y_half)), free(lab_run(&dx)), free(lab_run(&dw));
        layer_free(&l);
    }
}

/* cuBLAS promises no row its bits in another batch, and the backend says so; with it in the backward alone, forwards
 * keep theirs. */
static void rows_depend(void **state)
{
    (void)state;
    enum { M = 33, N = 24, K = 72 };
    Layer l = layer_make(M, N, K, 0, 0);
    static float all[M * N], some[M * N];
    const Ops *ops = lab_ops(), *both;
    Backend *b = lab_backend();
    assert_false(ops->rows_independent(b));
    assert_non_null(strstr(ops->machine_kind(b), "cublas"));
    ops->linear_fwd(b, mat_f32(all, M, N), l.c.x, l.c.w, NULL, false);
    ops->linear_fwd(b, mat_f32(some, M - 1, N), mat_rows(l.c.x, 0, M - 1), l.c.w, NULL, false);
    assert_memory_not_equal(all, some, (M - 1) * N * sizeof *all);
    Status st = {0};
    b = lab_plugin(&st)->open(&(GpuOptions){.dtype = DTYPE_BF16, .matmul = "mma+cublas"}, &both, &st);
    assert_non_null(b);
    assert_true(both->rows_independent(b));
    both->linear_fwd(b, mat_f32(all, M, N), l.c.x, l.c.w, NULL, false);
    both->linear_fwd(b, mat_f32(some, M - 1, N), mat_rows(l.c.x, 0, M - 1), l.c.w, NULL, false);
    assert_memory_equal(all, some, (M - 1) * N * sizeof *all);
    both->close(b);
    layer_free(&l);
}

/* A weight's gradient goes on from what it holds: tokens may be cut at multiples of 16. */
static void tokens_cut(void **state)
{
    (void)state;
    enum { M = 70, N = 24, K = 40, CUT = 32 };
    Layer l = layer_make(M, N, K, 0, 0);
    static float whole[N * K], parts[N * K];
    for (int i = 0; i < N * K; i++) whole[i] = parts[i] = l.was[i];
    const Ops *ops = lab_ops();
    ops->linear_bwd_w(lab_backend(), mat_f32(whole, N, K), NULL, l.c.dy, l.c.x);
    ops->linear_bwd_w(lab_backend(), mat_f32(parts, N, K), NULL, mat_rows(l.c.dy, 0, CUT), mat_rows(l.c.x, 0, CUT));
    ops->linear_bwd_w(lab_backend(), mat_f32(parts, N, K), NULL, mat_rows(l.c.dy, CUT, M - CUT),
                      mat_rows(l.c.x, CUT, M - CUT));
    assert_memory_equal(whole, parts, sizeof whole);
    assert_memory_not_equal(whole, l.was, sizeof whole);
    layer_free(&l);
}

static void rows_alone_mma(void **state)
{
    (void)state;
    check_rows_alone(lab_ops(), lab_backend(), 40, 72);
    check_rows_alone(lab_ops(), lab_backend(), 21, 35);
}

/* Queries of the latent cache are bf16 already: the same products as of an f32 dy that has bf16 values. */
static void gradient_of_bf16(void **state)
{
    (void)state;
    Layer l = layer_make(30, 21, 40, 1, 1);
    const Ops *ops = lab_ops();
    Backend *b = lab_backend();
    float a[30 * 40], c[30 * 40];
    Mat f32 = {l.dy + l.shift, DTYPE_F32, l.M, l.N, l.N + l.gap, false},
        half = bf16_mat(l.dy_half + l.shift, l.M, l.N, l.N + l.gap);
    for (size_t n = 1; n <= 30; n += 29) {
        ops->linear_bwd_x(b, mat_f32(a, n, 40), mat_rows(f32, 0, n), l.c.w, false);
        ops->linear_bwd_x(b, mat_f32(c, n, 40), mat_rows(half, 0, n), l.c.w, false);
        assert_memory_equal(a, c, n * 40 * sizeof *a);
    }
    layer_free(&l);
}

/* f32 matrices (router, reward head) stay f32 on a backend whose models are bf16. */
static void f32_stays(void **state)
{
    (void)state;
    const float x[3] = {1.0f + 0x1p-20f, 0x1p-12f, 1}, w[3] = {1, 1.0f + 0x1p-11f, 0x1p-23f};
    float y;
    const Ops *ops = lab_ops();
    ops->weights_changed(lab_backend());
    ops->linear_fwd(lab_backend(), mat_f32(&y, 1, 1), mat_f32((float *)x, 1, 3), mat_f32((float *)w, 1, 3), NULL,
                    false);
    linear_expect("f32", y, linear_chain(false, x, 1, w, 1, 3), 0, 0);
}

enum { EXPERTS = 5, OUT = 37, IN = 51 };

typedef struct Experts {
    int32_t offsets[EXPERTS + 1];
    uint16_t *x;
    float *dy;
    Mat w[EXPERTS];
    bool apart; /* by a linear call per expert */
} Experts;

static void run_grouped(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const Experts *g = t->in;
    size_t rows = (size_t)g->offsets[EXPERTS];
    Mat x = mat_of(g->x, DTYPE_BF16, rows, IN), dy = mat_f32(g->dy, rows, OUT), dw[EXPERTS];
    Mat y_half = lab_bf16(t, out, 0, OUT), y = lab_mat(t, out, 1), dx = lab_mat(t, out, 2);
    for (size_t e = 0; e < EXPERTS; e++) dw[e] = mat_rows(lab_mat(t, out, 3), e * OUT, OUT);
    if (!g->apart) {
        ops->grouped_fwd(b, y_half, x, g->w, g->offsets, EXPERTS);
        ops->grouped_fwd(b, y, x, g->w, g->offsets, EXPERTS);
        ops->grouped_bwd_x(b, dx, dy, g->w, g->offsets, EXPERTS);
        ops->grouped_bwd_w(b, dw, dy, x, g->offsets, EXPERTS);
        return;
    }
    for (size_t e = 0; e < EXPERTS; e++) {
        size_t from = (size_t)g->offsets[e], n = (size_t)g->offsets[e + 1] - from;
        Mat xe = mat_rows(x, from, n), dye = mat_rows(dy, from, n);
        ops->linear_fwd(b, mat_rows(y_half, from, n), xe, g->w[e], NULL, false);
        ops->linear_fwd(b, mat_rows(y, from, n), xe, g->w[e], NULL, false);
        ops->linear_bwd_x(b, mat_rows(dx, from, n), dye, g->w[e], false);
        ops->linear_bwd_w(b, dw[e], NULL, dye, xe);
    }
}

static void check_grouped(const int32_t *counts)
{
    Experts g = {0};
    for (int e = 0; e < EXPERTS; e++) g.offsets[e + 1] = g.offsets[e] + counts[e];
    size_t rows = (size_t)g.offsets[EXPERTS], outputs = rows * (lab_halves(OUT) + OUT + IN) + EXPERTS * OUT * IN;
    float *x = lab_random(rows * IN, 1), *w = lab_random(EXPERTS * OUT * 2 * IN, 4), *was = lab_random(outputs, 3);
    uint16_t *w_half = lab_rounded(w, EXPERTS * OUT * 2 * IN);
    g.x = lab_rounded(x, rows * IN), g.dy = lab_random(rows * OUT, 2);
    for (size_t e = 0; e < EXPERTS; e++) g.w[e] = bf16_mat(w_half + e * OUT * 2 * IN, OUT, IN, 2 * IN);
    LabTrial t = {.run = run_grouped, .in = &g, .initial = was};
    lab_out(&t, rows, lab_halves(OUT), 2), lab_out(&t, rows, OUT, 1), lab_out(&t, rows, IN, 0),
        lab_out(&t, EXPERTS * OUT, IN, 1);
    float *a = lab_run(&t);
    g.apart = true;
    float *b = lab_run(&t);
    size_t floats = t.outs[3].at + t.outs[3].rows * t.outs[3].stride;
    assert_memory_equal(a, b, floats * sizeof(float));
    free(a), free(b), free(x), free(w), free(was), free(w_half), free(g.x), free(g.dy);
}

static void grouped_equals_apart(void **state)
{
    (void)state;
    check_grouped((int32_t[]){3, 0, 300, 1, 29});
    check_grouped((int32_t[]){0, 0, 0, 2100, 0});
    check_grouped((int32_t[]){0, 0, 0, 0, 0});
    check_grouped((int32_t[]){1, 1, 1, 1, 1});
    check_grouped((int32_t[]){23, 24, 25, 0, 7});
}

/* An update is seen after weights_changed, and copies do not pile up. */
static void packed_weights(void **state)
{
    (void)state;
    float x[3] = {1, 2, 3}, w[12] = {1, 0, 0, 9, 9, 9, 0, 1, 0, 9, 9, 9}, y[2];
    uint16_t *x_half = lab_rounded(x, 3), *w_half = lab_rounded(w, 12);
    Mat xm = mat_of(x_half, DTYPE_BF16, 1, 3), wm = bf16_mat(w_half, 2, 3, 6);
    const Ops *ops = lab_ops();
    Backend *b = lab_backend();
    ops->weights_changed(b);
    assert_false(ops->keep_packed(b, true));
    ops->linear_fwd(b, mat_f32(y, 1, 2), xm, wm, NULL, false);
    assert_true(y[0] == 1.0f && y[1] == 2.0f);
    w_half[2] = lab_round(1.0f);
    ops->weights_changed(b);
    ops->linear_fwd(b, mat_f32(y, 1, 2), xm, wm, NULL, false);
    assert_true(y[0] == 4.0f && y[1] == 2.0f);
    size_t bytes = ops->bytes(b);
    for (int i = 0; i < 100; i++) {
        ops->weights_changed(b);
        ops->linear_fwd(b, mat_f32(y, 1, 2), xm, wm, NULL, false);
    }
    assert_true(ops->bytes(b) <= bytes);
    assert_true(ops->keep_packed(b, false));
    free(x_half), free(w_half);
}

/* The instruction itself, where the machine has it: near f64, and the same row for row and thread for thread. */
static void instruction(void **state)
{
    (void)state;
    const Ops *ops;
    Status st = {0};
    Backend *one = cpu_open(&(CpuOptions){.threads = 1, .isa = "avx512bf16", .bf16 = "dot"}, &ops, &st);
    if (!one) skip();
    Backend *two = cpu_open(&(CpuOptions){.threads = 2, .isa = "avx512bf16", .bf16 = "dot"}, &ops, &st);
    assert_non_null(two);
    check_rows_alone(ops, one, 330, 601);
    Layer l = layer_make(70, 130, 201, 1, 0);
    l.dot = true;
    LabTrial trials[] = {
        {.run = linear_run_fwd, .in = &l}, {.run = linear_run_bwd_x, .in = &l}, {.run = linear_run_bwd_w, .in = &l}};
    lab_out(&trials[0], l.M, l.N, 0), lab_out(&trials[1], l.M, l.K, 0), lab_out(&trials[2], l.N, l.K, 0);
    lab_out(&trials[2], 1, l.N, 0);
    for (int i = 0; i < 3; i++) {
        trials[i].initial = i == 2 ? l.was : NULL;
        float *a = lab_run_on(ops, one, &trials[i], "one thread"), *b = lab_run_on(ops, two, &trials[i], "two threads");
        float *defined = lab_run(&trials[i]);
        Mat m = lab_mat(&trials[i], defined, 0);
        assert_memory_equal(lab_at(&trials[i], a, 0), lab_at(&trials[i], b, 0), m.rows * m.cols * sizeof(float));
        double *want = lab_doubles(m.p, m.rows * m.cols);
        lab_near("avx512bf16", lab_mat(&trials[i], a, 0), want, TOL_ROW_SUM);
        free(want), free(a), free(b), free(defined);
    }
    layer_free(&l);
    ops->close(one), ops->close(two);
}

/* A name that is none is refused, and what fixes the bits is named: the form, and for dot the instruction set. */
static void names(void **state)
{
    (void)state;
    const Ops *ops, *plain;
    Status st = {0};
    assert_null(cpu_open(&(CpuOptions){.bf16 = "fast"}, &ops, &st));
    assert_non_null(strstr(st.text, "\"fast\""));
    const char *forms[] = {"dot", "widen"};
    for (int i = 0; i < 2; i++) {
        Backend *b = cpu_open(&(CpuOptions){.threads = 1, .dtype = DTYPE_BF16, .bf16 = forms[i]}, &ops, &st);
        Backend *p =
            cpu_open(&(CpuOptions){.threads = 1, .dtype = DTYPE_BF16, .bf16 = forms[i], .isa = "plain"}, &plain, &st);
        assert_true(b && p);
        assert_non_null(strstr(ops->machine_kind(b), forms[i]));
        assert_non_null(strstr(ops->machine_kind(b), "bf16"));
        assert_true(ops->rows_independent(b));
        bool same = strcmp(ops->machine_kind(b), plain->machine_kind(p)) == 0;
        assert_true(same == (i == 1 || strstr(ops->describe(b), "plain")));
        ops->close(b), plain->close(p);
    }
}

#define FORM(test, form)                                                                                               \
    {                                                                                                                  \
        form " " #test, test, NULL, NULL, (void *)form                                                                 \
    }
#define CASES(form)                                                                                                    \
    FORM(exact_order, form), FORM(blocks_of_columns, form), FORM(token_blocks, form), FORM(against_double, form),      \
        FORM(rows_alone, form), FORM(gradient_of_bf16, form), FORM(f32_stays, form), FORM(grouped_equals_apart, form), \
        FORM(packed_weights, form)

int main(void)
{
    const struct CMUnitTest widen[] = {CASES("widen")};
    const struct CMUnitTest dot[] = {CASES("dot"), FORM(instruction, "dot"), FORM(names, "dot")};
    const struct CMUnitTest mma[] = {cmocka_unit_test(tiles_agree),         cmocka_unit_test(tokens_cut),
                                     cmocka_unit_test(against_double),      cmocka_unit_test(rows_alone_mma),
                                     cmocka_unit_test(gradient_of_bf16),    cmocka_unit_test(f32_stays),
                                     cmocka_unit_test(grouped_equals_apart)};
    if (getenv("R1_LAB_ONLY")) cmocka_set_test_filter(getenv("R1_LAB_ONLY")); /* on the checked emulator */
    int failed = cmocka_run_group_tests(widen, lab_open_widen, lab_close);
    failed += cmocka_run_group_tests(dot, lab_open_dot, lab_close);
    if (!lab_has_emulated()) return failed;
    const struct CMUnitTest cublas[] = {cmocka_unit_test(against_double), cmocka_unit_test(gradient_of_bf16),
                                        cmocka_unit_test(f32_stays), cmocka_unit_test(rows_depend)};
    failed += cmocka_run_group_tests(mma, lab_open_mma, lab_close);
    return failed + cmocka_run_group_tests(cublas, lab_open_cublas, lab_close);
}
