/* linear_* and grouped_*: against f64, the order rules exactly, rows independent of the batch, every provider. */
#include "tests/unit/linear_case.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"

/* Matrices of one linear layer; ld* leave gaps of `gap` columns. */
typedef struct Layer {
    LinearCase c;
    size_t M, N, K, gap;
    float *x, *w, *dy, *bias, *was; /* was: what the output held */
} Layer;

static Mat strided(float *p, size_t rows, size_t cols, size_t gap)
{
    return (Mat){p, DTYPE_F32, rows, cols, cols + gap, false};
}

static Layer layer_make(size_t M, size_t N, size_t K, size_t gap)
{
    Layer l = {.M = M,
               .N = N,
               .K = K,
               .gap = gap,
               .x = lab_random(M * (K + gap), 1),
               .w = lab_random(N * (K + gap), 2),
               .dy = lab_random(M * (N + gap), 3),
               .bias = lab_random(N, 4),
               .was = lab_random(M * N + M * K + N * K + N, 5)};
    l.c = (LinearCase){
        .x = strided(l.x, M, K, gap), .w = strided(l.w, N, K, gap), .dy = strided(l.dy, M, N, gap), .bias = l.bias};
    return l;
}

static void layer_free(Layer *l)
{
    free(l->x), free(l->w), free(l->dy), free(l->bias), free(l->was);
}

static void check_fwd(Layer *l)
{
    LabTrial t = {.run = linear_run_fwd, .in = l, .initial = l->was};
    lab_out(&t, l->M, l->N, l->gap);
    float *out = lab_run(&t);
    for (size_t i = 0; i < l->M; i++) {
        for (size_t j = 0; j < l->N; j++) {
            float sum = linear_chain(false, mat_row(l->c.x, i), 1, mat_row(l->c.w, j), 1, l->K);
            sum += l->bias[j];
            float want = l->c.add ? l->was[i * l->N + j] + sum : sum;
            linear_expect("linear_fwd", mat_row(lab_mat(&t, out, 0), i)[j], want, i, j);
        }
    }
    free(out);
}

static void check_bwd_x(Layer *l)
{
    LabTrial t = {.run = linear_run_bwd_x, .in = l, .initial = l->was};
    lab_out(&t, l->M, l->K, l->gap);
    float *out = lab_run(&t);
    for (size_t i = 0; i < l->M; i++) {
        for (size_t j = 0; j < l->K; j++) {
            float sum = linear_chain(false, mat_row(l->c.dy, i), 1, l->w + j, l->K + l->gap, l->N);
            float want = l->c.add ? l->was[i * l->K + j] + sum : sum;
            linear_expect("linear_bwd_x", mat_row(lab_mat(&t, out, 0), i)[j], want, i, j);
        }
    }
    free(out);
}

/* dw and dbias by their rule: partial sums over blocks of TOKEN_BLOCK rows, added in order to what was there. */
static void check_bwd_w(Layer *l)
{
    LabTrial t = {.run = linear_run_bwd_w, .in = l, .initial = l->was};
    lab_out(&t, l->N, l->K, l->gap);
    lab_out(&t, 1, l->N, 0);
    float *out = lab_run(&t);
    size_t ldx = l->K + l->gap, ldy = l->N + l->gap;
    for (size_t o = 0; o < l->N; o++) {
        float bias = l->was[l->N * l->K + o];
        for (size_t i = 0; i < l->K; i++) {
            float want = l->was[o * l->K + i];
            for (size_t n = 0; n < l->M; n += TOKEN_BLOCK) {
                size_t rows = l->M - n < TOKEN_BLOCK ? l->M - n : TOKEN_BLOCK;
                want += linear_chain(false, l->dy + n * ldy + o, ldy, l->x + n * ldx + i, ldx, rows);
            }
            linear_expect("linear_bwd_w", mat_row(lab_mat(&t, out, 0), o)[i], want, o, i);
        }
        for (size_t n = 0; n < l->M; n += TOKEN_BLOCK) {
            float sum = 0.0f;
            for (size_t k = n; k < l->M && k < n + TOKEN_BLOCK; k++) {
                sum += l->dy[k * ldy + o];
            }
            bias += sum;
        }
        linear_expect("dbias", lab_at(&t, out, 1)[o], bias, 0, o);
    }
    free(out);
}

static void exact_order(void **state)
{
    (void)state;
    static const size_t shapes[][3] = {{1, 1, 1},     {1, 17, 5},    {2, 64, 33},   {7, 100, 64}, {33, 129, 31},
                                       {5, 8, 1100},  {48, 1, 48},   {13, 112, 16}, {25, 40, 96}, {200, 65, 70},
                                       {6, 1050, 20}, {1, 330, 600}, {3, 130, 700}, {6, 70, 520}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        for (int add = 0; add < 2; add++) {
            Layer l = layer_make(shapes[s][0], shapes[s][1], shapes[s][2], s % 2 ? 3 : 0);
            l.c.add = add;
            check_fwd(&l);
            check_bwd_x(&l);
            check_bwd_w(&l);
            layer_free(&l);
        }
    }
}

/* More columns than are done at once, several blocks of the inner index, and cuts of columns at odd multiples of the unit. */
static void cut_columns(void **state)
{
    (void)state;
    Layer l = layer_make(100, 300, 2688, 0);
    check_bwd_x(&l);
    layer_free(&l);
    l = layer_make(100, 2688, 300, 0);
    check_fwd(&l);
    layer_free(&l);
}

static void token_blocks(void **state)
{
    (void)state;
    static const size_t rows[] = {1, 1023, 1024, 1025, 3000};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        Layer l = layer_make(rows[i], 21, 35, 1);
        check_bwd_w(&l);
        layer_free(&l);
    }
}

/* The chain itself is right: against f64. */
static void against_double(void **state)
{
    (void)state;
    Layer l = layer_make(40, 70, 90, 0);
    LabTrial t = {.run = linear_run_fwd, .in = &l};
    lab_out(&t, l.M, l.N, 0);
    float *out = lab_run(&t);
    double *want = calloc(l.M * l.N, sizeof(double));
    for (size_t i = 0; i < l.M; i++) {
        for (size_t j = 0; j < l.N; j++) {
            want[i * l.N + j] = (double)l.bias[j];
            for (size_t k = 0; k < l.K; k++) {
                want[i * l.N + j] += (double)l.x[i * l.K + k] * (double)l.w[j * l.K + k];
            }
        }
    }
    lab_near("linear_fwd", lab_mat(&t, out, 0), want, TOL_ROW_SUM);
    free(want), free(out);
    layer_free(&l);
}

/* Rows alone and a few together, by packed copies as in sampling, equal those of a batch, by the weights themselves as in
 * training. */
static void row_alone(void **state)
{
    (void)state;
    enum { MOST = 5, N = 330 };
    Layer l = layer_make(50, N, 600, 0);
    float *all = calloc(l.M * l.N, sizeof(float)), some[MOST * N];
    const Ops *ops = lab_ops();
    Backend *b = lab_backend();
    ops->weights_changed(b);
    ops->linear_fwd(b, mat_f32(all, l.M, l.N), l.c.x, l.c.w, l.bias, false);
    ops->keep_packed(b, true);
    for (size_t rows = 1; rows <= MOST; rows++) {
        for (size_t i = 0; i + rows <= l.M; i++) {
            ops->linear_fwd(b, mat_f32(some, rows, N), mat_rows(l.c.x, i, rows), l.c.w, l.bias, false);
            assert_memory_equal(some, all + i * N, rows * N * sizeof *some);
        }
    }
    ops->keep_packed(b, false);
    free(all);
    layer_free(&l);
}

enum { EXPERTS = 5, OUT = 37, IN = 50 };

typedef struct Experts {
    int32_t offsets[EXPERTS + 1];
    float *x, *dy;
    Mat w[EXPERTS];
    float *was;
} Experts;

static void run_grouped(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const Experts *g = t->in;
    size_t rows = (size_t)g->offsets[EXPERTS];
    Mat x = mat_f32(g->x, rows, IN), dy = mat_f32(g->dy, rows, OUT), dw[EXPERTS];
    ops->grouped_fwd(b, lab_mat(t, out, 0), x, g->w, g->offsets, EXPERTS);
    ops->grouped_bwd_x(b, lab_mat(t, out, 1), dy, g->w, g->offsets, EXPERTS);
    for (size_t e = 0; e < EXPERTS; e++) {
        dw[e] = mat_rows(lab_mat(t, out, 2), e * OUT, OUT);
    }
    ops->grouped_bwd_w(b, dw, dy, x, g->offsets, EXPERTS);
}

/* The same by a linear call per expert. */
static void run_apart(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const Experts *g = t->in;
    for (size_t e = 0; e < EXPERTS; e++) {
        size_t from = (size_t)g->offsets[e], rows = (size_t)g->offsets[e + 1] - from;
        Mat x = mat_f32(g->x + from * IN, rows, IN), dy = mat_f32(g->dy + from * OUT, rows, OUT);
        ops->linear_fwd(b, mat_rows(lab_mat(t, out, 0), from, rows), x, g->w[e], NULL, false);
        ops->linear_bwd_x(b, mat_rows(lab_mat(t, out, 1), from, rows), dy, g->w[e], false);
        ops->linear_bwd_w(b, mat_rows(lab_mat(t, out, 2), e * OUT, OUT), NULL, dy, x);
    }
}

static void check_grouped(const int32_t *counts)
{
    Experts g = {0};
    for (int e = 0; e < EXPERTS; e++) {
        g.offsets[e + 1] = g.offsets[e] + counts[e];
    }
    size_t rows = (size_t)g.offsets[EXPERTS], outputs = rows * (OUT + IN) + EXPERTS * OUT * IN;
    g.x = lab_random(rows * IN, 1), g.dy = lab_random(rows * OUT, 2), g.was = lab_random(outputs, 3);
    float *w = lab_random(EXPERTS * OUT * IN, 4);
    for (size_t e = 0; e < EXPERTS; e++) {
        g.w[e] = mat_f32(w + e * OUT * IN, OUT, IN);
    }
    LabTrial t = {.run = run_grouped, .in = &g, .initial = g.was}, apart;
    lab_out(&t, rows, OUT, 2), lab_out(&t, rows, IN, 0), lab_out(&t, EXPERTS * OUT, IN, 1);
    apart = t;
    apart.run = run_apart;
    float *a = lab_run(&t), *b = lab_run(&apart);
    size_t floats = t.outs[2].at + t.outs[2].rows * t.outs[2].stride;
    assert_memory_equal(a, b, floats * sizeof(float));
    free(a), free(b), free(g.x), free(g.dy), free(g.was), free(w);
}

static void grouped_equals_apart(void **state)
{
    (void)state;
    check_grouped((int32_t[]){3, 0, 700, 1, 29});
    check_grouped((int32_t[]){0, 0, 0, 2100, 0});
    check_grouped((int32_t[]){0, 0, 0, 0, 0});
    check_grouped((int32_t[]){1, 1, 1, 1, 1});
}

/* Packed copies: stale after weights_changed, and not before (that is the contract); none are made unless asked for. */
static void packed_weights(void **state)
{
    (void)state;
    float x[3] = {1, 2, 3}, w[6] = {1, 0, 0, 0, 1, 0}, y[2];
    const Ops *ops = lab_ops();
    Backend *b = lab_backend();
    ops->weights_changed(b);
    assert_false(ops->keep_packed(b, true));
    ops->linear_fwd(b, mat_f32(y, 1, 2), mat_f32(x, 1, 3), mat_f32(w, 2, 3), NULL, false);
    assert_true(y[0] == 1.0f && y[1] == 2.0f);
    w[2] = 1.0f;
    ops->weights_changed(b);
    ops->linear_fwd(b, mat_f32(y, 1, 2), mat_f32(x, 1, 3), mat_f32(w, 2, 3), NULL, false);
    assert_true(y[0] == 4.0f && y[1] == 2.0f);
    size_t bytes = ops->bytes(b);
    for (int i = 0; i < 100; i++) {
        ops->weights_changed(b);
        ops->linear_fwd(b, mat_f32(y, 1, 2), mat_f32(x, 1, 3), mat_f32(w, 2, 3), NULL, false);
    }
    assert_true(ops->bytes(b) <= bytes);
    ops->weights_freed(b);
    assert_true(ops->bytes(b) < bytes);
    ops->linear_fwd(b, mat_f32(y, 1, 2), mat_f32(x, 1, 3), mat_f32(w, 2, 3), NULL, false);
    assert_true(ops->keep_packed(b, false));
    float other[6] = {0, 0, 1, 2, 0, 0};
    w[2] = 2.0f;
    ops->linear_fwd(b, mat_f32(y, 1, 2), mat_f32(x, 1, 3), mat_f32(w, 2, 3), NULL, false);
    assert_true(y[0] == 4.0f && y[1] == 2.0f);
    ops->weights_changed(b);
    ops->linear_fwd(b, mat_f32(y, 1, 2), mat_f32(x, 1, 3), mat_f32(w, 2, 3), NULL, false);
    assert_true(y[0] == 7.0f && y[1] == 2.0f);
    bytes = ops->bytes(b);
    ops->linear_fwd(b, mat_f32(y, 1, 2), mat_f32(x, 1, 3), mat_f32(other, 2, 3), NULL, false);
    assert_true(y[0] == 3.0f && y[1] == 2.0f);
    assert_int_equal(ops->bytes(b), bytes);
}

/* A library's numbers are near ours. */
static void check_provider(const Ops *ops, Backend *b, const char *name, const LabTrial *t)
{
    float *got = lab_run_on(ops, b, t, name), *ours = lab_run(t);
    for (int i = 0; i < t->count; i++) {
        Mat m = lab_mat(t, ours, i);
        double *want = lab_doubles(m.p, m.rows * m.cols);
        lab_near(name, lab_mat(t, got, i), want, TOL_ROW_SUM);
        free(want);
    }
    free(got), free(ours);
}

static void other_providers(void **state)
{
    (void)state;
    static const char *const names[] = {"onednn", "openblas"};
    Layer l = layer_make(70, 90, 64, 2);
    for (size_t p = 0; p < 2; p++) {
        Status st = {0};
        const Ops *ops;
        Backend *b = cpu_open(&(CpuOptions){.threads = 2, .matmul = names[p]}, &ops, &st);
        if (!b) {
            assert_non_null(strstr(st.text, "is not in this build"));
            continue;
        }
        LabTrial y = {.run = linear_run_fwd, .in = &l}, x = {.run = linear_run_bwd_x, .in = &l},
                 w = {.run = linear_run_bwd_w, .in = &l, .initial = l.was};
        lab_out(&y, l.M, l.N, 0), lab_out(&x, l.M, l.K, 0), lab_out(&w, l.N, l.K, 0), lab_out(&w, 1, l.N, 0);
        check_provider(ops, b, names[p], &y);
        check_provider(ops, b, names[p], &x);
        check_provider(ops, b, names[p], &w);
        ops->close(b);
    }
    layer_free(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_order),     cmocka_unit_test(cut_columns),
        cmocka_unit_test(token_blocks),    cmocka_unit_test(against_double),
        cmocka_unit_test(row_alone),       cmocka_unit_test(packed_weights),
        cmocka_unit_test(other_providers), cmocka_unit_test(grouped_equals_apart),
    };
    return cmocka_run_group_tests(tests, lab_open, lab_close);
}
