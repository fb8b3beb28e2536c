/* Losses on log-probs and on values: formulas in f64, derivatives by central differences, sums in blocks. */
#include "tests/unit/unit.h"

#include <math.h>
#include <stdlib.h>

#include "core/losses/loss.h"
#include "core/ops/ops.h"
#include "core/base/philox.h"

enum { N = 2 * TOKEN_BLOCK + 77 };

static void blocks(void **state)
{
    (void)state;
    float *x = malloc(N * sizeof *x);
    rng_fill_normal(x, N, 1.0f, 1, "x");
    /* Magnitudes far apart: any other order of adding rounds otherwise. */
    for (int i = 0; i < N; i++) x[i] = ldexpf(x[i], i * 37 % 90);
    double want = 0;
    for (int from = 0; from < N; from += TOKEN_BLOCK) {
        double part = 0;
        for (int i = from; i < N && i < from + TOKEN_BLOCK; i++) part += x[i];
        want += part;
    }
    assert_true(sum_in_blocks(x, N) == want);
    assert_true(sum_in_blocks(x, 1) == x[0] && sum_in_blocks(x, 0) == 0.0);
    free(x);
}

static void nll(void **state)
{
    (void)state;
    const int32_t targets[5] = {3, -1, 0, 7, -100};
    float weight[5], lp[5] = {-1.0f, -INFINITY, -2.0f, -0.5f, 0.0f}, loss[5], dlp[5], dentropy[5] = {9}, dkl[5] = {9};
    assert_int_equal(nll_weights_mean(weight, targets, 5), 3);
    NllLoss ctx = {weight};
    Loss l = nll_loss(&ctx);
    assert_false(l.needs_entropy || l.needs_kl);
    /* In two chunks: the weights are those of rows 0, 1 and of rows 2 .. 4. */
    l.eval(l.ctx, &(LossRows){.first = 0, .n = 2, .lp = lp}, &(LossGrads){loss, dlp, dentropy, dkl});
    l.eval(l.ctx, &(LossRows){.first = 2, .n = 3, .lp = lp + 2}, &(LossGrads){loss + 2, dlp + 2, NULL, NULL});
    assert_true(fabs(sum_in_blocks(loss, 5) - 3.5 / 3) < 1e-7);
    for (int i = 0; i < 5; i++) assert_true(dlp[i] == (targets[i] >= 0 ? (float)(-1.0 / 3) : 0.0f));
    assert_true(loss[1] == 0.0f && dentropy[0] == 0.0f && dentropy[1] == 0.0f && dkl[0] == 0.0f);
    const int32_t none[2] = {-1, -1};
    assert_int_equal(nll_weights_mean(weight, none, 2), 0);
    assert_true(weight[0] == 0.0f && weight[1] == 0.0f);
}

/* weight x kl, its slope the weight; a row without weight gives 0 whatever its kl is. */
static void kl(void **state)
{
    (void)state;
    const float weight[3] = {0.5f, 0, 0.25f}, lp[3] = {-1, -2, -3}, value[3] = {0.4f, INFINITY, 2};
    float loss[3], dlp[3] = {9, 9, 9}, dkl[3];
    KlLoss ctx = {weight};
    Loss l = kl_loss(&ctx);
    assert_true(l.needs_kl && !l.needs_entropy);
    l.eval(l.ctx, &(LossRows){.first = 0, .n = 1, .lp = lp, .kl = value}, &(LossGrads){loss, dlp, NULL, dkl});
    l.eval(l.ctx, &(LossRows){.first = 1, .n = 2, .lp = lp + 1, .kl = value + 1},
           &(LossGrads){loss + 1, dlp + 1, NULL, dkl + 1});
    assert_true(loss[0] == 0.2f && loss[1] == 0.0f && loss[2] == 0.5f);
    for (int i = 0; i < 3; i++) assert_true(dlp[i] == 0.0f && dkl[i] == weight[i]);
}

static double log_sigma(double x)
{
    return -log(1 + exp(-x));
}

static void pairwise(void **state)
{
    (void)state;
    const float chosen[4] = {1.5f, -2, 0, 200}, rejected[4] = {-0.5f, 3, 0, -200};
    float loss[4], dc[4], dr[4];
    pairwise_loss(loss, dc, dr, chosen, rejected, 0.25f, 4);
    for (int i = 0; i < 4; i++) {
        double gap = (double)chosen[i] - rejected[i], h = 1e-4;
        double slope = -0.25 * (log_sigma(gap + h) - log_sigma(gap - h)) / (2 * h);
        assert_true(fabs(loss[i] + 0.25 * log_sigma(gap)) < 1e-7 * (1 + fabs(gap)));
        assert_true(fabs(dc[i] - slope) < 1e-7 && dr[i] == -dc[i]);
    }
    pairwise_loss(loss, dc, dr, rejected + 3, chosen + 3, 1.0f, 1); /* the wrong way round, far out: no overflow */
    assert_true(loss[0] == 400.0f && dc[0] == -1.0f && dr[0] == 1.0f);
}

static void pointwise(void **state)
{
    (void)state;
    const float value[5] = {0.3f, -4, 2, 1e4f, -1e4f}, label[5] = {1, 0, 0.5f, 0, 0};
    float loss[5], d[5];
    pointwise_loss(loss, d, value, label, 0.5f, 5);
    for (int i = 0; i < 3; i++) {
        double x = value[i], y = label[i], h = 1e-4;
        double up = y * log_sigma(x + h) + (1 - y) * log_sigma(-x - h);
        double down = y * log_sigma(x - h) + (1 - y) * log_sigma(h - x);
        assert_true(fabs(loss[i] + 0.5 * (y * log_sigma(x) + (1 - y) * log_sigma(-x))) < 1e-6);
        assert_true(fabs(d[i] + 0.5 * (up - down) / (2 * h)) < 1e-7);
    }
    assert_true(loss[3] == 5000.0f && d[3] == 0.5f && loss[4] == 0.0f && d[4] == 0.0f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(blocks), cmocka_unit_test(nll), cmocka_unit_test(kl),
                                       cmocka_unit_test(pairwise), cmocka_unit_test(pointwise)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
