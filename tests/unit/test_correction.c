/* Importance correction: weights of tokens and of outputs by hand, what is cut or masked, and their place in the loss. */
#include <math.h>

#include "core/losses/correction.h"
#include "tests/unit/unit.h"

enum { N = 4 };
static const float trainer[N] = {-1, -2, -0.5f, -3}, sampler[N] = {-1, -3, -0.4f, -1};
/* ratios: 1, e = 2.718, e^-0.1 = 0.905, e^-2 = 0.135; of the output e^-1.1, of its mean token e^-0.275 */

static void expect(const float *w, double a, double b, double c, double d)
{
    const double want[N] = {a, b, c, d};
    for (int i = 0; i < N; i++)
        if (fabs((double)w[i] - want[i]) > 1e-6) fail_msg("weight %d: %g, want %g", i, (double)w[i], want[i]);
}

static void tokens(void **state)
{
    (void)state;
    float w[N];
    assert_int_equal(correction_weights(w, trainer, sampler, N, GRPO_DAPO, CORRECTION_TRUNCATED, 2), 1);
    expect(w, 1, 2, exp(-0.1), exp(-2));
    assert_int_equal(correction_weights(w, trainer, sampler, N, GRPO_DAPO, CORRECTION_MASKED, 2), 2);
    expect(w, 1, 0, exp(-0.1), 0);
    assert_int_equal(correction_weights(w, trainer, sampler, N, GRPO_DAPO, CORRECTION_MASKED, 8), 0);
    expect(w, 1, exp(1), exp(-0.1), exp(-2));
    assert_int_equal(correction_weights(w, trainer, sampler, N, GRPO_DAPO, CORRECTION_NONE, 2), 0);
    expect(w, 1, 1, 1, 1);
    const float far[1] = {0}, away[1] = {-2000};
    assert_int_equal(correction_weights(w, far, away, 1, GRPO_DR, CORRECTION_TRUNCATED, 3), 1);
    assert_true(w[0] == 3.0f); /* an infinite ratio is cut too */
}

static void outputs(void **state)
{
    (void)state;
    float w[N];
    assert_int_equal(correction_weights(w, trainer, sampler, N, GRPO_SEQUENCE, CORRECTION_TRUNCATED, 2), 0);
    double all = exp(-1.1), mean = exp(-1.1 / 4);
    expect(w, all, all, all, all);
    assert_int_equal(correction_weights(w, trainer, sampler, N, GRPO_GSPO, CORRECTION_TRUNCATED, 2), 0);
    expect(w, mean, mean, mean, mean);
    assert_int_equal(correction_weights(w, trainer, sampler, N, GRPO_RLOO, CORRECTION_MASKED, 2), N);
    expect(w, 0, 0, 0, 0);
}

/* The policy gradient is weighted, the KL is not. */
static void in_the_loss(void **state)
{
    (void)state;
    const float weight[2] = {0.5f, 0.5f}, advantage[2] = {2, 2}, old_lp[2] = {-1, -1}, ref[2] = {-1.5f, -1.5f},
                lp[2] = {-1.1f, -1.1f}, correction[2] = {1, 0.25f};
    float ratio[2], kl[2], loss[2], dlp[2];
    uint8_t flags[2];
    GrpoLoss g = {.config = {.kind = GRPO_DAPO,
                             .clip_low = 0.2f,
                             .clip_high = 0.2f,
                             .beta = 0.1f,
                             .estimator = KL_K3,
                             .log_clamp = 20,
                             .max_length = 2},
                  .weight = weight,
                  .advantage = advantage,
                  .old_lp = old_lp,
                  .ref_lp = ref,
                  .correction = correction,
                  .ratio = ratio,
                  .kl = kl,
                  .flags = flags};
    Loss l = grpo_loss(&g);
    l.eval(l.ctx, &(LossRows){.first = 0, .n = 2, .lp = lp}, &(LossGrads){.loss = loss, .dlp = dlp});
    double r = exp(-0.1), d = -0.4, k = exp(d) - d - 1, dk = 1 - exp(d);
    for (int i = 0; i < 2; i++) {
        double c = correction[i];
        assert_true(fabs((double)loss[i] - 0.5 * (-c * r * 2 + 0.1 * k)) < 1e-6);
        assert_true(fabs((double)dlp[i] - 0.5 * (-c * r * 2 + 0.1 * dk)) < 1e-6);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens),
        cmocka_unit_test(outputs),
        cmocka_unit_test(in_the_loss),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
