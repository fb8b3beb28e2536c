/* Fused ops give the bits of the ops that they stand for, on every device that has them; a backend without them runs those. */
#include "tests/unit/ops_lab.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { EXPERTS = 5, TOKENS = 41 };

/* gate | up of rows of x [TOKENS, C] by experts, or with one = true of one matrix. */
typedef struct GateUp {
    size_t C, F, rows;
    DType dtype;
    int32_t offsets[EXPERTS + 1], *index; /* index NULL: x itself */
    void *x, *weights, *gathered;
    Mat w[EXPERTS];
    bool one, composed;
} GateUp;

static Mat output(const LabTrial *t, float *out, int number, const GateUp *g, size_t cols)
{
    return g->dtype == DTYPE_BF16 ? lab_bf16(t, out, number, cols) : lab_mat(t, out, number);
}

static void run_gate_up(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const GateUp *g = t->in;
    Mat gu = output(t, out, 0, g, 2 * g->F), h = output(t, out, 1, g, g->F), x = mat_of(g->x, g->dtype, TOKENS, g->C),
        xs = mat_of(g->gathered, g->dtype, g->rows, g->C);
    const int32_t *offsets = g->one ? NULL : g->offsets;
    if (ops->gate_up_fwd && !g->composed) {
        ops->gate_up_fwd(b, h, gu, x, g->index, g->w, offsets, g->one ? 1 : EXPERTS);
        return;
    }
    if (g->index) ops->gather_rows(b, xs, x, g->index);
    else xs = x;
    if (g->one) ops->linear_fwd(b, gu, xs, g->w[0], NULL, false);
    else ops->grouped_fwd(b, gu, xs, g->w, offsets, EXPERTS);
    ops->swiglu_fwd(b, h, gu);
}

/* n numbers as dtype; caller frees. */
static void *numbers(DType dtype, size_t n, uint64_t seed)
{
    float *x = lab_random(n, seed);
    if (dtype == DTYPE_F32) return x;
    uint16_t *half = lab_rounded(x, n);
    free(x);
    return half;
}

/* Weights lie `gap` apart, those of expert 1 and 2 in each other's place where `uneven`. */
static GateUp gate_up_make(DType dtype, size_t C, size_t F, const int32_t *counts, bool gather, bool uneven)
{
    GateUp g = {.C = C, .F = F, .dtype = dtype, .one = !counts};
    for (int e = 0; counts && e < EXPERTS; e++) g.offsets[e + 1] = g.offsets[e] + counts[e];
    g.rows = counts ? (size_t)g.offsets[EXPERTS] : gather ? 70 : TOKENS;
    size_t gap = 8, stride = C + gap, size = 2 * F * stride;
    g.x = numbers(dtype, TOKENS * C, 1), g.weights = numbers(dtype, EXPERTS * size, 2);
    g.gathered = calloc(g.rows * C + 1, dtype_size(dtype));
    for (size_t e = 0; e < EXPERTS; e++) {
        size_t at = uneven && (e == 1 || e == 2) ? 3 - e : e;
        g.w[e] = (Mat){(char *)g.weights + at * size * dtype_size(dtype), dtype, 2 * F, C, stride, false};
    }
    if (gather) g.index = malloc((g.rows + 1) * sizeof *g.index);
    for (size_t i = 0; gather && i < g.rows; i++) g.index[i] = (int32_t)(i * i * 7 % TOKENS);
    return g;
}

static void check_gate_up(GateUp g)
{
    LabTrial t = {.run = run_gate_up, .in = &g};
    size_t gu = 2 * g.F, h = g.F;
    if (g.dtype == DTYPE_BF16) gu = lab_halves(gu), h = lab_halves(h);
    lab_out(&t, g.rows, gu, 1), lab_out(&t, g.rows, h, 2);
    float *fused = lab_run(&t);
    g.composed = true;
    float *composed = lab_run(&t);
    size_t floats = t.outs[1].at + t.outs[1].rows * t.outs[1].stride;
    if (memcmp(fused, composed, floats * sizeof(float))) fail_msg("%zu x %zu: fused is not its composition", g.C, g.F);
    free(fused), free(composed), free(g.x), free(g.weights), free(g.gathered), free(g.index);
}

/* Sizes around tiles of all kinds, rows at multiples of 16 bytes and elsewhere; experts without rows, all rows at one expert, no
 * rows at all, matrices at uneven distances; one matrix, with gathered rows and without. */
static void gate_up(void **state)
{
    DType dtype = *state && !strcmp(*state, "bf16") ? DTYPE_BF16 : DTYPE_F32;
    const int32_t some[] = {3, 0, 140, 1, 29}, all[] = {0, 0, 0, 600, 0}, none[] = {0, 0, 0, 0, 0},
                  few[] = {1, 1, 1, 1, 1};
    check_gate_up(gate_up_make(dtype, 48, 40, some, true, false));
    check_gate_up(gate_up_make(dtype, 51, 37, some, true, true));
    check_gate_up(gate_up_make(dtype, 24, 70, all, true, false));
    check_gate_up(gate_up_make(dtype, 24, 8, none, true, false));
    check_gate_up(gate_up_make(dtype, 72, 33, few, true, true));
    check_gate_up(gate_up_make(dtype, 40, 65, NULL, false, false));
    check_gate_up(gate_up_make(dtype, 1, 1, NULL, true, false));
}

/* Arrays of all lengths around a block of squares, one of them empty. */
enum { ARRAYS = 6 };
typedef struct SquaresList {
    FloatRun list[ARRAYS];
    bool composed;
} SquaresList;

static void run_squares(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const SquaresList *s = t->in;
    double *sums = (double *)lab_at(t, out, 0);
    if (ops->sum_squares_list && !s->composed) ops->sum_squares_list(b, sums, s->list, ARRAYS);
    else
        for (int i = 0; i < ARRAYS; i++) ops->sum_squares(b, sums + i, s->list[i].x, s->list[i].n);
}

static void squares(void **state)
{
    (void)state;
    const size_t lengths[ARRAYS] = {1, 4096, 0, 4097, 20000, 31};
    SquaresList s = {.composed = false};
    for (int i = 0; i < ARRAYS; i++) s.list[i] = (FloatRun){lab_random(lengths[i], (uint64_t)i + 1), lengths[i]};
    LabTrial t = {.run = run_squares, .in = &s};
    lab_out(&t, 1, 2 * ARRAYS, 0);
    float *fused = lab_run(&t);
    s.composed = true;
    float *composed = lab_run(&t);
    assert_memory_equal(lab_at(&t, fused, 0), lab_at(&t, composed, 0), ARRAYS * sizeof(double));
    assert_true(((double *)lab_at(&t, fused, 0))[4] > 1000.0);
    for (int i = 0; i < ARRAYS; i++) free((void *)(uintptr_t)s.list[i].x);
    free(fused), free(composed);
}

/* A chunk of the head: logits of a policy and of a reference, and what head_stats makes of them. */
typedef struct HeadChunk {
    size_t n, V, C;
    float inv_temperature;
    void *x, *w[2];
    DType dtype;
    int32_t *targets;
    bool composed;
} HeadChunk;

static void largest_of_groups(float *maxima, Mat logits)
{
    for (size_t i = 0; i < logits.rows; i++)
        for (size_t j = 0; j < logits.cols; j += MAXIMA_COLUMNS) {
            float max = mat_row(logits, i)[j];
            for (size_t k = j; k < logits.cols && k < j + MAXIMA_COLUMNS; k++) max = fmaxf(max, mat_row(logits, i)[k]);
            *maxima++ = max;
        }
}

/* Outputs: logits, their statistics, the reference's logits, maxima of both. */
static void run_head(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const HeadChunk *h = t->in;
    bool fused = ops->logits_fwd && !h->composed;
    Mat x = mat_of(h->x, h->dtype, h->n, h->C), logits[2] = {lab_mat(t, out, 0), lab_mat(t, out, 2)};
    float *maxima[2] = {lab_at(t, out, 3), lab_at(t, out, 4)}, *stats = lab_at(t, out, 1);
    for (int i = 0; i < 2; i++) {
        Mat w = mat_of(h->w[i], h->dtype, h->V, h->C);
        if (fused) {
            ops->logits_fwd(b, logits[i], maxima[i], x, w);
            continue;
        }
        Status st = {0};
        ops->linear_fwd(b, logits[i], x, w, NULL, false);
        assert_true(ops->fault(b, &st)); /* waits */
        largest_of_groups(maxima[i], logits[i]);
    }
    HeadMaxima known = {0};
    if (fused) known = (HeadMaxima){maxima[0], maxima[1]};
    ops->head_stats(b, logits[0], (HeadStats){stats, stats + h->n, stats + 2 * h->n}, h->targets, h->inv_temperature,
                    &logits[1], known);
}

static void check_head(DType dtype, size_t n, size_t V, size_t C, float inv_temperature)
{
    HeadChunk h = {.n = n, .V = V, .C = C, .inv_temperature = inv_temperature, .dtype = dtype};
    h.x = numbers(dtype, n * C, 1), h.w[0] = numbers(dtype, V * C, 2), h.w[1] = numbers(dtype, V * C, 3);
    h.targets = malloc(n * sizeof *h.targets);
    for (size_t i = 0; i < n; i++) h.targets[i] = i % 5 == 4 ? -1 : (int32_t)(i * 7 % V);
    LabTrial t = {.run = run_head, .in = &h};
    size_t groups = (V + MAXIMA_COLUMNS - 1) / MAXIMA_COLUMNS;
    lab_out(&t, n, V, 0), lab_out(&t, 3, n, 0), lab_out(&t, n, V, 3), lab_out(&t, n, groups, 0),
        lab_out(&t, n, groups, 0);
    float *fused = lab_run(&t);
    h.composed = true;
    float *composed = lab_run(&t);
    size_t floats = t.outs[4].at + n * groups;
    if (memcmp(fused, composed, floats * sizeof(float))) fail_msg("%zu x %zu: fused is not its composition", n, V);
    free(fused), free(composed), free(h.x), free(h.w[0]), free(h.w[1]), free(h.targets);
}

/* Columns on both sides of a group of maxima and of tiles, rows of every tile. */
static void head(void **state)
{
    DType dtype = *state && !strcmp(*state, "bf16") ? DTYPE_BF16 : DTYPE_F32;
    check_head(dtype, 1, 5, 8, 1.0f);
    check_head(dtype, 33, 130, 24, 1.0f / 0.7f);
    check_head(dtype, 17, 64, 51, 1.0f);
    check_head(dtype, 520, 161, 16, 2.0f);
}

#define FUSED_TESTS(form)                                                                                              \
    {                                                                                                                  \
        {form " gate_up", gate_up, NULL, NULL, (void *)form}, {form " head", head, NULL, NULL, (void *)form},          \
        {                                                                                                              \
            form " squares", squares, NULL, NULL, (void *)form                                                         \
        }                                                                                                              \
    }

int main(void)
{
    const struct CMUnitTest f32[] = FUSED_TESTS("f32"), bf16[] = FUSED_TESTS("bf16");
    if (getenv("R1_LAB_ONLY")) cmocka_set_test_filter(getenv("R1_LAB_ONLY")); /* on the checked emulator */
    int failed = cmocka_run_group_tests_name("f32", f32, lab_open, lab_close);
    failed += cmocka_run_group_tests_name("widen", bf16, lab_open_widen, lab_close);
    if (!lab_has_emulated()) return failed;
    failed += cmocka_run_group_tests_name("mma", bf16, lab_open_mma, lab_close);
    return failed + cmocka_run_group_tests_name("cublas", bf16, lab_open_cublas, lab_close);
}
