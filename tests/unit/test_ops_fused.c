/* Fused ops give the bits of the ops that they stand for, on every device that has them; a backend without them runs those. */
#include "tests/unit/ops_lab.h"

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

#define FUSED_TESTS(form)                                                                                              \
    {                                                                                                                  \
        {                                                                                                              \
            form " gate_up", gate_up, NULL, NULL, (void *)form                                                         \
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
