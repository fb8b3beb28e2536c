/* DPO: the loss by its formula, its gradient by central differences, far-off margins, what is logged. */
#include "tests/unit/unit.h"

#include <math.h>

#include "core/losses/dpo.h"

enum { ROWS = 10 };
static const int32_t outputs_of[ROWS] = {0, 0, 1, 1, 1, 2, 3, 3, 3, 3};
static const float start_lp[ROWS] = {-1, -0.5f, -2, -1, -0.2f, -3, -0.7f, -1.1f, -0.4f, -2};
static const float ref_lp[ROWS] = {-1.2f, -0.9f, -1.5f, -1, -0.1f, -2, -1.7f, -1, -0.9f, -2};

static double total(const float *lp, float *loss, float *dlp, DpoLoss *g, int chunk)
{
    Loss l = dpo_loss(g);
    l.prepare(l.ctx, lp, ROWS);
    for (int a = 0; a < ROWS; a += chunk) {
        LossRows in = {.first = a, .n = ROWS - a < chunk ? ROWS - a : chunk, .lp = lp + a};
        LossGrads out = {.loss = loss + a, .dlp = dlp + a};
        l.eval(l.ctx, &in, &out);
    }
    return sum_in_blocks(loss, ROWS);
}

/* Sums of lp - ref_lp by hand: 0.6, -0.6 and -1, 1.4: margins 1.2 beta and -2.4 beta. */
static void value(void **state)
{
    (void)state;
    DpoOutput o[4];
    DpoLoss g = {.beta = 0.5f, .n_pairs = 2, .ref_lp = ref_lp, .output = outputs_of, .outputs = o};
    float loss[ROWS], dlp[ROWS];
    double want = (log1p(exp(-0.6)) + log1p(exp(1.2))) / 2;
    assert_true(fabs(total(start_lp, loss, dlp, &g, ROWS) - want) < 1e-6);
    assert_true(total(start_lp, loss, dlp, &g, ROWS) == total(start_lp, loss, dlp, &g, 3));
    DpoStats s = dpo_stats(&g);
    assert_true(s.accuracy == 0.5 && fabs(s.margin + 0.3) < 1e-6 && fabs(s.chosen + 0.2) < 1e-6);
    assert_true(fabs(s.rejected - 0.4) < 1e-6);
}

/* Of labels that are wrong with probability 0.1: -(0.9 log sigma(z) + 0.1 log sigma(-z)). */
static void smoothing(void **state)
{
    (void)state;
    DpoOutput o[4];
    DpoLoss g = {
        .beta = 0.5f, .label_smoothing = 0.1f, .n_pairs = 2, .ref_lp = ref_lp, .output = outputs_of, .outputs = o};
    float loss[ROWS], dlp[ROWS];
    double z[2] = {0.6, -1.2}, want = 0;
    for (int p = 0; p < 2; p++) want += (0.9 * log1p(exp(-z[p])) + 0.1 * log1p(exp(z[p]))) / 2;
    assert_true(fabs(total(start_lp, loss, dlp, &g, ROWS) - want) < 1e-6);
}

static void gradient(void **state)
{
    DpoOutput o[4];
    DpoLoss g = {.beta = 0.5f,
                 .label_smoothing = *state ? 0.2f : 0.0f,
                 .n_pairs = 2,
                 .ref_lp = ref_lp,
                 .output = outputs_of,
                 .outputs = o};
    float lp[ROWS], loss[ROWS], dlp[ROWS], ignored[ROWS];
    for (int i = 0; i < ROWS; i++) lp[i] = start_lp[i];
    total(lp, loss, dlp, &g, ROWS);
    for (int i = 0; i < ROWS; i++) {
        float keep = lp[i], up = keep + 0.01f, down = keep - 0.01f;
        lp[i] = up;
        double above = total(lp, loss, ignored, &g, ROWS);
        lp[i] = down;
        double want = (above - total(lp, loss, ignored, &g, ROWS)) / ((double)up - down);
        lp[i] = keep;
        if (fabs(dlp[i] - want) > 1e-4) fail_msg("row %d: %g, want %g", i, (double)dlp[i], want);
    }
}

/* A pair that is far on either side has a finite loss: 0, or beta times the margin. */
static void far_off(void **state)
{
    (void)state;
    DpoOutput o[4];
    DpoLoss g = {.beta = 10, .n_pairs = 2, .ref_lp = ref_lp, .output = outputs_of, .outputs = o};
    float lp[ROWS], loss[ROWS], dlp[ROWS];
    for (int i = 0; i < ROWS; i++) lp[i] = i == 0 ? 400.0f : i == 5 ? -500.0f : start_lp[i];
    double got = total(lp, loss, dlp, &g, ROWS);
    assert_true(isfinite(got) && fabs(got - 10 * (498 + 1.4) / 2) < 0.01);
    for (int i = 0; i < ROWS; i++) assert_true(isfinite(dlp[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(value),     cmocka_unit_test(gradient), cmocka_unit_test_prestate(gradient, "smoothed"),
        cmocka_unit_test(smoothing), cmocka_unit_test(far_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
