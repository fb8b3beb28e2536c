/* Losses of outputs and coefficients (grpo_sequence, gspo, rloo, cispo, reinforce_pp, ppo): each once more by its paper in
 * double, its gradient by central differences of the whole loss, and the baselines of rewards by hand. */
#include "tests/unit/unit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/losses/grpo.h"
#include "core/base/philox.h"

enum { OUTPUTS = 6, MOST = 9, ROWS = OUTPUTS * MOST };

typedef struct Case {
    int n, length[OUTPUTS];
    int32_t output[ROWS];
    float lp[ROWS], old_lp[ROWS], ref_lp[ROWS], exact[ROWS], weight[ROWS], advantage[ROWS], of_output[OUTPUTS];
    float ratio[ROWS], kl[ROWS], loss[ROWS], dlp[ROWS], dkl[ROWS];
    uint8_t flags[ROWS];
    GrpoOutput outputs[OUTPUTS];
} Case;

static void fill(Case *c, const GrpoConfig *config)
{
    memset(c, 0, sizeof *c);
    Rng rng = rng_stream(11, RNG_DATA, 3, 0);
    float weights[OUTPUTS];
    for (int i = 0; i < OUTPUTS; i++) {
        c->length[i] = i == 2 ? 1 : 2 + i;
        c->of_output[i] = i % 2 ? -0.7f - 0.1f * (float)i : 0.9f + 0.2f * (float)i;
        for (int t = 0; t < c->length[i]; t++, c->n++) {
            int n = c->n;
            c->output[n] = i;
            c->lp[n] = (float)(-2 * rng_double(&rng) - 0.05);
            c->old_lp[n] = c->lp[n] + (float)(0.3 * rng_double(&rng) - 0.15);
            c->ref_lp[n] = c->lp[n] + (float)(0.6 * rng_double(&rng) - 0.3);
            c->exact[n] = (float)rng_double(&rng);
            c->advantage[n] = c->of_output[i];
        }
    }
    grpo_token_weights(weights, config, c->length, OUTPUTS);
    for (int n = 0; n < c->n; n++) c->weight[n] = weights[c->output[n]];
}

static double total(Case *c, const GrpoConfig *config, int chunk)
{
    GrpoLoss g = {.config = *config,
                  .weight = c->weight,
                  .advantage = c->advantage,
                  .old_lp = c->old_lp,
                  .ref_lp = config->estimator == KL_EXACT ? NULL : c->ref_lp,
                  .output = c->output,
                  .outputs = c->outputs,
                  .n_outputs = OUTPUTS,
                  .ratio = c->ratio,
                  .kl = c->kl,
                  .flags = c->flags};
    Loss l = grpo_loss(&g);
    if (l.prepare) l.prepare(l.ctx, c->lp, c->n);
    for (int a = 0; a < c->n; a += chunk) {
        int m = c->n - a < chunk ? c->n - a : chunk;
        LossRows in = {.first = a, .n = m, .lp = c->lp + a, .kl = c->exact + a};
        LossGrads out = {.loss = c->loss + a, .dlp = c->dlp + a, .dkl = l.needs_kl ? c->dkl + a : NULL};
        l.eval(l.ctx, &in, &out);
    }
    return sum_in_blocks(c->loss, c->n);
}

static double k_of(KlEstimator e, double d)
{
    return e == KL_K1 ? -d : e == KL_K2 ? d * d / 2 : exp(d) - d - 1;
}

/* The loss by the papers, an output at a time. */
static double by_hand(const Case *c, const GrpoConfig *f)
{
    double sum = 0, tokens = c->n;
    for (int i = 0, first = 0; i < OUTPUTS; first += c->length[i], i++) {
        int T = c->length[i];
        double s = 0, d = 0, exact = 0, A = c->of_output[i], low = 1 - (double)f->clip_low,
               high = 1 + (double)f->clip_high;
        for (int t = first; t < first + T; t++) {
            s += (double)c->lp[t] - c->old_lp[t];
            d += (double)c->ref_lp[t] - c->lp[t];
            exact += c->exact[t];
        }
        bool whole = f->kind == GRPO_SEQUENCE || f->kind == GRPO_RLOO;
        if (whole || f->kind == GRPO_GSPO) {
            double r = exp(f->kind == GRPO_GSPO ? s / T : s);
            sum += -fmin(r * A, fmin(fmax(r, low), high) * A) / OUTPUTS;
            if (whole) sum += f->beta * (f->estimator == KL_EXACT ? exact : k_of(f->estimator, d)) / OUTPUTS;
        }
        for (int t = first; t < first + T; t++) {
            double r = exp((double)c->lp[t] - c->old_lp[t]), dt = (double)c->ref_lp[t] - c->lp[t];
            double kl = f->beta * (f->estimator == KL_EXACT ? c->exact[t] : k_of(f->estimator, dt));
            if (f->kind == GRPO_GSPO) sum += kl / T / OUTPUTS;
            if (f->kind == GRPO_CISPO) sum += (-fmin(r, high) * A * c->lp[t] + kl) / tokens;
            if (f->kind == GRPO_PPO) sum += (-fmin(r * A, fmin(fmax(r, low), high) * A) + kl) / tokens;
            if (f->kind == GRPO_REINFORCE_PP) sum += (-fmin(r * A, fmin(fmax(r, low), high) * A) + kl) / T / OUTPUTS;
        }
    }
    return sum;
}

static void near(const char *kind, const char *what, double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance)) fail_msg("%s, %s: %.9g, want %.9g", kind, what, got, want);
}

/* Outputs on both sides of both clips, so that no branch is left out. */
static GrpoConfig config_of(GrpoKind kind, KlEstimator e)
{
    bool mean = kind == GRPO_GSPO;
    return (GrpoConfig){.kind = kind,
                        .clip_low = mean ? 0.02f : 0.1f,
                        .clip_high = mean ? 0.03f : 0.12f,
                        .beta = 0.3f,
                        .estimator = e,
                        .log_clamp = 20};
}

static void values(void **state)
{
    (void)state;
    static Case c;
    for (int kind = GRPO_SEQUENCE; grpo_kind_name(kind); kind++)
        for (int e = KL_K1; e <= KL_EXACT; e++) {
            GrpoConfig f = config_of((GrpoKind)kind, (KlEstimator)e);
            fill(&c, &f);
            double whole = total(&c, &f, ROWS);
            near(grpo_kind_name(kind), kl_estimator_name(e), whole, by_hand(&c, &f), 1e-6);
            assert_true(whole == total(&c, &f, 5));
            int cut = 0, kept = 0;
            for (int n = 0; n < c.n; n++) (c.flags[n] & (GRPO_CLIP_LOW | GRPO_CLIP_HIGH)) ? cut++ : kept++;
            assert_true(cut > 0 && kept > 0);
        }
}

/* A row's lp moves its whole output. cispo's coefficient has no derivative: -w min(ratio, high) A + the KL's slope. */
static void slopes(void **state)
{
    (void)state;
    static Case c;
    const float h = 1e-3f;
    for (int kind = GRPO_SEQUENCE; grpo_kind_name(kind); kind++) {
        GrpoConfig f = config_of((GrpoKind)kind, KL_K3);
        fill(&c, &f);
        total(&c, &f, ROWS);
        float dlp[ROWS];
        memcpy(dlp, c.dlp, sizeof dlp);
        for (int n = 0; n < c.n; n++) {
            double want;
            if (kind == GRPO_CISPO) {
                double d = (double)c.ref_lp[n] - c.lp[n], r = exp((double)c.lp[n] - c.old_lp[n]);
                want = c.weight[n] * (-fmin(r, 1 + (double)f.clip_high) * c.advantage[n] - f.beta * expm1(d));
            } else {
                float keep = c.lp[n], up = keep + h, down = keep - h;
                c.lp[n] = up;
                double above = by_hand(&c, &f);
                c.lp[n] = down;
                want = (above - by_hand(&c, &f)) / ((double)up - down);
                c.lp[n] = keep;
            }
            near(grpo_kind_name(kind), "dlp", dlp[n], want, 2e-4 * (1 + fabs(want)));
        }
    }
}

/* On fresh samples every ratio is 1 and all are REINFORCE: -w A, times the output's length where the ratio is its own. */
static void on_policy(void **state)
{
    (void)state;
    static Case c;
    for (int kind = GRPO_SEQUENCE; grpo_kind_name(kind); kind++) {
        GrpoConfig f = config_of((GrpoKind)kind, KL_K3);
        f.beta = 0;
        fill(&c, &f);
        memcpy(c.old_lp, c.lp, sizeof c.lp);
        total(&c, &f, ROWS);
        for (int n = 0; n < c.n; n++) {
            int T = kind == GRPO_SEQUENCE || kind == GRPO_RLOO ? c.length[c.output[n]] : 1;
            assert_true(c.ratio[n] == 1.0f);
            near(grpo_kind_name(kind), "dlp", c.dlp[n], -(double)c.weight[n] * c.advantage[n] * T, 1e-6);
        }
    }
}

static void baselines(void **state)
{
    (void)state;
    const float reward[6] = {1, 0, 2, 0.5f, 0.5f, 0.5f};
    float a[6];
    for (int g = 0; g < 2; g++) grpo_advantages(a + 3 * g, reward + 3 * g, 3, false);
    grpo_batch_advantages(a, reward, GRPO_RLOO, 2, 3);
    near("rloo", "first", a[0], 1 - (0 + 2) / 2.0, 1e-6);
    near("rloo", "second", a[1], 0 - (1 + 2) / 2.0, 1e-6);
    near("rloo", "third", a[2], 2 - (1 + 0) / 2.0, 1e-6);
    assert_true(a[3] == 0 && a[4] == 0 && a[5] == 0);
    grpo_batch_advantages(a, reward, GRPO_REINFORCE_PP, 2, 3);
    double mean = 4.5 / 6, squares = 0;
    for (int i = 0; i < 6; i++) squares += (reward[i] - mean) * (reward[i] - mean);
    for (int i = 0; i < 6; i++)
        near("reinforce_pp", "advantage", a[i], (reward[i] - mean) / (sqrt(squares / 6) + 1e-4), 1e-6);
    float kept[2] = {0.25f, -0.25f};
    grpo_batch_advantages(kept, reward, GRPO_DR, 1, 2);
    assert_true(kept[0] == 0.25f && kept[1] == -0.25f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),
        cmocka_unit_test(slopes),
        cmocka_unit_test(on_policy),
        cmocka_unit_test(baselines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
