/* PPO: advantages and returns by hand, rewards with a penalty, the value loss by its formula and by central differences, and the
 * gradient of a critic through its whole trunk. */
#include "tests/unit/unit.h"

#include <math.h>

#include "core/batches.h"
#include "core/losses/ppo.h"
#include "core/policy.h"
#include "core/scalar_head.h"
#include "recipes/model/machine.h"

/* gamma 0.9, lambda 0.5, from the end: delta = 1 - 0.4, 0.9 * 0.4 - 0.2, 0.9 * 0.2 - 0.5 + 0.1. */
static void advantages(void **state)
{
    (void)state;
    const float reward[3] = {0.1f, 0, 1}, value[3] = {0.5f, 0.2f, 0.4f};
    float a[3], returns[3];
    ppo_gae(a, returns, reward, value, 3, 0.9, 0.5);
    double last = 0.6, middle = 0.16 + 0.45 * last, first = -0.22 + 0.45 * middle;
    assert_true(fabs((double)a[2] - last) < 1e-6 && fabs((double)a[1] - middle) < 1e-6);
    assert_true(fabs((double)a[0] - first) < 1e-6 && fabs((double)returns[0] - first - 0.5) < 1e-6);
    ppo_gae(a, returns, reward, value, 3, 1, 1); /* the sum of later rewards, whatever the values */
    assert_true(fabs((double)returns[0] - 1.1) < 1e-6 && fabs((double)returns[2] - 1) < 1e-6);
    ppo_gae(a, returns, reward, value, 3, 1, 0); /* one step: r + V' */
    assert_true(fabs((double)returns[0] - 0.3) < 1e-6 && fabs((double)returns[1] - 0.4) < 1e-6);
}

/* k1's estimate is lp - ref_lp; one beyond the clamp counts as the clamp. */
static void penalty(void **state)
{
    (void)state;
    const float lp[3] = {-1, -2, -3}, ref_lp[3] = {-1.5f, -1, -9};
    float r[3];
    PpoPenalty p = {.beta = 0.1, .clamp = 2, .estimator = 1, .lp = lp, .ref_lp = ref_lp};
    assert_true(fabs(ppo_rewards(r, 5, &p, 3) - 1.5) < 1e-9);
    assert_true(fabs((double)r[0] + 0.05) < 1e-6 && fabs((double)r[1] - 0.1) < 1e-6 && fabs((double)r[2] - 4.8) < 1e-6);
    p.estimator = 3;
    ppo_rewards(r, 5, &p, 3);
    assert_true(fabs((double)r[1] + 0.1 * (exp(1) - 2)) < 1e-6);
    p = (PpoPenalty){.beta = 0, .estimator = 1};
    assert_true(ppo_rewards(r, 5, &p, 3) == 0 && r[0] == 0 && r[2] == 5);
}

static void whitened(void **state)
{
    (void)state;
    float a[4] = {1, 100, 2, 6};
    const float weight[4] = {0.5f, 0, 0.5f, 0.5f};
    ppo_whiten(a, weight, 4);
    double std = sqrt((4 + 1 + 9) / 2.0);
    assert_true(a[1] == 0 && fabs((double)a[0] + 2 / std) < 1e-6 && fabs((double)a[3] - 3 / std) < 1e-6);
    float one[1] = {3};
    ppo_whiten(one, weight, 1);
    assert_true(one[0] == 3);
}

enum { ROWS = 6 };
static const float row_weight[ROWS] = {0.25f, 0.25f, 0.25f, 0.25f, 0, 0.25f};
static const float old_value[ROWS] = {0, 0, 0, 1, 0, 0.1f}, row_returns[ROWS] = {1, 1, -1, 1, 5, 0.1f};
/* inside; beyond and towards R: cut; beyond and away; beyond on the way down towards a nearer R; without weight; at R */
static const float row_value[ROWS] = {0.1f, 0.5f, 0.6f, 0.4f, 3, 0.1f};

static void values(void **state)
{
    (void)state;
    float loss[ROWS], dvalue[ROWS];
    ValueLoss l = {0.2f, row_weight, old_value, row_returns};
    assert_int_equal(value_loss(loss, dvalue, row_value, &l, ROWS), 1);
    const double want[ROWS] = {0.81, 0.64, 2.56, 0.36, 0, 0}, slope[ROWS] = {-0.9, 0, 1.6, -0.6, 0, 0};
    for (int i = 0; i < ROWS; i++) {
        if (fabs((double)loss[i] - want[i] * (double)row_weight[i] / 2) > 1e-6) fail_msg("loss of row %d", i);
        if (fabs((double)dvalue[i] - slope[i] * (double)row_weight[i]) > 1e-6) fail_msg("slope of row %d", i);
    }
    l.clip = 0;
    assert_int_equal(value_loss(loss, dvalue, row_value, &l, ROWS), 0);
    assert_true(fabs((double)loss[1] - 0.25 * 0.25 / 2) < 1e-6);
}

static void value_slopes(void **state)
{
    (void)state;
    float v[ROWS], loss[ROWS], dvalue[ROWS], ignored[ROWS];
    ValueLoss l = {0.2f, row_weight, old_value, row_returns};
    for (int i = 0; i < ROWS; i++) v[i] = row_value[i];
    value_loss(loss, dvalue, v, &l, ROWS);
    for (int i = 0; i < ROWS; i++) {
        float keep = v[i], up = keep + 0.01f, down = keep - 0.01f;
        v[i] = up;
        value_loss(loss, ignored, v, &l, ROWS);
        double above = sum_in_blocks(loss, ROWS);
        v[i] = down;
        value_loss(loss, ignored, v, &l, ROWS);
        double want = (above - sum_in_blocks(loss, ROWS)) / ((double)up - (double)down);
        v[i] = keep;
        if (fabs((double)dvalue[i] - want) > 1e-4) fail_msg("row %d: %g, want %g", i, (double)dvalue[i], want);
    }
}

static void explained(void **state)
{
    (void)state;
    const float returns[4] = {1, 2, 3, 4}, far[4] = {11, 12, 13, 14}, mean[4] = {2, 2, 2, 2};
    assert_true(ppo_explained(returns, returns, 4) == 1 && fabs(ppo_explained(far, returns, 4) - 1) < 1e-9);
    assert_true(fabs(ppo_explained(mean, returns, 4)) < 1e-9 && isnan(ppo_explained(returns, mean, 4)));
}

/* ---- A critic's gradient through the model ---- */

enum { LENGTH = 7, SEQUENCES = 3, CRITIC_ROWS = SEQUENCES * 4 };

static ModelConfig critic_config(void)
{
    return (ModelConfig){.arch = ARCH_LLAMA,
                         .attention = ATTENTION_GQA,
                         .head = HEAD_SCALAR,
                         .V = 13,
                         .C = 12,
                         .L = 2,
                         .H = 2,
                         .Hkv = 1,
                         .Dr = 4,
                         .Dv = 4,
                         .F = 16,
                         .n_group = 1,
                         .topk_group = 1,
                         .moe_freq = 1,
                         .routed_scale = 1,
                         .eps = 1e-6f,
                         .rope = {.theta = 1000},
                         .max_positions = 64,
                         .init_std = 0.3f,
                         .bos = 0,
                         .eos = 1};
}

/* By central differences of every parameter; the values of a step's rows are those that scalar_row_values gives. */
static void critic_gradient(void **state)
{
    (void)state;
    Machine m;
    Status st = {0};
    RuntimeOptions o = runtime_defaults();
    o.threads = 1;
    if (!machine_open(&m, &o, &st)) fail_msg("%s", st.text);
    ModelConfig c = critic_config();
    Policy *p = policy_new(machine_engine(&m), &c, 3, NULL);
    policy_train_open(p);
    BatchBuilder b = {0};
    for (int s = 0; s < SEQUENCES; s++) {
        int32_t ids[LENGTH];
        for (int i = 0; i < LENGTH; i++) ids[i] = (s * 5 + i * 4) % 13;
        batch_add(&b, ids, LENGTH, 3);
    }
    assert_int_equal(b.m, CRITIC_ROWS);
    float value[CRITIC_ROWS], old[CRITIC_ROWS], returns[CRITIC_ROWS], weight[CRITIC_ROWS], loss[CRITIC_ROWS],
        ignored[CRITIC_ROWS];
    Predictions rows = batch_predictions(&b);
    scalar_row_values(&p->engine, &p->w, batch_view(&b), rows.rows, rows.M, value);
    for (int i = 0; i < CRITIC_ROWS; i++) {
        old[i] = value[i] + (float)(i % 3 - 1); /* two of three are beyond the clip */
        returns[i] = 0.7f * (float)(i % 5) - 1;
        weight[i] = i % 6 == 5 ? 0 : 0.1f * (float)(1 + i % 2);
    }
    ValueStep step = {.batch = batch_view(&b), .rows = rows.rows, .n = rows.M, .loss = {0.25f, weight, old, returns}};
    ScalarOut out;
    value_gradients(&p->engine, &p->w, &p->g, &step, &out);
    int cut = value_loss(loss, ignored, value, &step.loss, CRITIC_ROWS);
    assert_true(cut > 0 && out.cut == cut && out.loss == sum_in_blocks(loss, CRITIC_ROWS));
    double worst = 0, largest = 0;
    for (size_t i = 0; i < p->engine.table.total; i += 3) {
        float keep = p->weights.plain[i], h = 2e-3f;
        double at[2];
        for (int k = 0; k < 2; k++) {
            p->weights.plain[i] = k ? keep - h : keep + h;
            policy_weights_changed(p);
            scalar_row_values(&p->engine, &p->w, batch_view(&b), rows.rows, rows.M, value);
            value_loss(loss, ignored, value, &step.loss, CRITIC_ROWS);
            at[k] = sum_in_blocks(loss, CRITIC_ROWS);
        }
        p->weights.plain[i] = keep;
        double want = (at[0] - at[1]) / (2 * (double)h), got = (double)p->grads[i];
        worst = fmax(worst, fabs(want - got));
        largest = fmax(largest, fabs(want));
    }
    if (worst > 2e-3 * largest) fail_msg("gradients off by %g, the largest is %g", worst, largest);
    batch_free(&b);
    policy_free(p);
    machine_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(advantages),      cmocka_unit_test(penalty),      cmocka_unit_test(whitened),
        cmocka_unit_test(values),          cmocka_unit_test(value_slopes), cmocka_unit_test(explained),
        cmocka_unit_test(critic_gradient),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
