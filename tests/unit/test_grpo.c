/* GRPO, Dr. GRPO, DAPO: the reference values of tests/golden/grpo, derivatives by central differences, edges. */
#include "tests/unit/unit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/hf/safetensors.h"
#include "core/losses/grpo.h"
#include "core/base/philox.h"

enum { ROWS = 200, COMPLETIONS = 8, GROUP = 4 };

/* Rows of a batch and what eval writes. */
typedef struct Rows {
    int n;
    float lp[ROWS], old_lp[ROWS], ref_lp[ROWS], advantage[ROWS], weight[ROWS], entropy[ROWS], exact[ROWS];
    float kl_weight[ROWS];
    float ratio[ROWS], kl[ROWS], loss[ROWS], dlp[ROWS], dentropy[ROWS], dkl[ROWS];
    uint8_t flags[ROWS];
} Rows;

static GrpoLoss over(Rows *r, GrpoConfig config)
{
    return (GrpoLoss){.config = config,
                      .weight = r->weight,
                      .advantage = r->advantage,
                      .old_lp = r->old_lp,
                      .ref_lp = r->ref_lp,
                      .ratio = r->ratio,
                      .kl = r->kl,
                      .flags = r->flags};
}

/* The total, evaluated in chunks of `chunk` rows. */
static double evaluate(Rows *r, GrpoLoss *g, int chunk)
{
    Loss l = grpo_loss(g);
    for (int a = 0; a < r->n; a += chunk) {
        int b = a + chunk < r->n ? a + chunk : r->n;
        LossRows in = {.first = a, .n = b - a, .lp = r->lp + a};
        LossGrads out = {.loss = r->loss + a, .dlp = r->dlp + a};
        if (l.needs_entropy) in.entropy = r->entropy + a, out.dentropy = r->dentropy + a;
        if (l.needs_kl) in.kl = r->exact + a, out.dkl = r->dkl + a;
        l.eval(l.ctx, &in, &out);
    }
    return sum_in_blocks(r->loss, r->n);
}

static int read_tensor(const StFile *f, const char *name, int i, float *out)
{
    char full[64];
    snprintf(full, sizeof full, i < 0 ? "%s" : "%s.%d", name, i);
    const StTensor *t = st_find(f, full);
    Status st = {0};
    if (!t || !st_read_f32(t, out, &st)) fail_msg("%s: %s", full, st.text);
    return (int)t->count;
}

static void near(const char *what, double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance)) fail_msg("%s: %.9g, want %.9g", what, got, want);
}

static void check_variant(const StFile *f, const char *name, GrpoConfig config, bool by_std)
{
    Rows r = {0};
    char key[64];
    float rewards[COMPLETIONS], advantages[COMPLETIONS], want[ROWS], weights[COMPLETIONS];
    int lengths[COMPLETIONS], first[COMPLETIONS];
    read_tensor(f, "rewards", -1, rewards);
    for (int p = 0; p < COMPLETIONS; p += GROUP)
        assert_true(grpo_advantages(advantages + p, rewards + p, GROUP, by_std));
    snprintf(key, sizeof key, "%s.advantages", name);
    read_tensor(f, key, -1, want);
    for (int i = 0; i < COMPLETIONS; i++) near(key, advantages[i], want[i], 1e-6);

    for (int i = 0; i < COMPLETIONS; i++) {
        first[i] = r.n;
        lengths[i] = read_tensor(f, "logprobs", i, r.lp + r.n);
        read_tensor(f, "old_logprobs", i, r.old_lp + r.n);
        read_tensor(f, "ref_logprobs", i, r.ref_lp + r.n);
        r.n += lengths[i];
    }
    grpo_token_weights(weights, &config, lengths, COMPLETIONS);
    for (int i = 0; i < COMPLETIONS; i++)
        for (int t = first[i]; t < first[i] + lengths[i]; t++) r.weight[t] = weights[i], r.advantage[t] = advantages[i];

    GrpoLoss g = over(&r, config);
    snprintf(key, sizeof key, "%s.loss", name);
    read_tensor(f, key, -1, want);
    near(key, evaluate(&r, &g, 13), want[0], 2e-6);
    GrpoStats s = grpo_stats(&g, r.n);
    snprintf(key, sizeof key, "%s.clip_fraction", name);
    read_tensor(f, key, -1, want);
    near(key, s.clip_region, want[0], 1e-6);
    near(key, s.clip_low + s.clip_high, want[0], 1e-6);
    assert_true(s.clip_low > 0 && s.clip_high > 0 && s.tokens == r.n && s.kl_clamps == 0 && s.ratio_clamps == 0);
    for (int i = 0; i < COMPLETIONS; i++) {
        read_tensor(f, "ratio", i, want);
        for (int t = 0; t < lengths[i]; t++) near("ratio", r.ratio[first[i] + t], want[t], 1e-5 * want[t]);
        if (config.beta == 0.0f) continue;
        read_tensor(f, "kl", i, want);
        for (int t = 0; t < lengths[i]; t++) near("kl", r.kl[first[i] + t], want[t], 1e-6);
    }
}

static void golden(void **state)
{
    (void)state;
    Status st = {0};
    StFile *f = st_open("tests/golden/grpo/expected.safetensors", &st);
    if (!f) fail_msg("%s", st.text);
    check_variant(f, "grpo",
                  (GrpoConfig){.kind = GRPO_TOKEN,
                               .clip_low = 0.2f,
                               .clip_high = 0.2f,
                               .beta = 0.04f,
                               .estimator = KL_K3,
                               .log_clamp = 20},
                  true);
    check_variant(f, "dr_grpo",
                  (GrpoConfig){.kind = GRPO_DR,
                               .clip_low = 0.2f,
                               .clip_high = 0.2f,
                               .estimator = KL_K3,
                               .log_clamp = 20,
                               .max_length = 16},
                  false);
    check_variant(
        f, "dapo",
        (GrpoConfig){.kind = GRPO_DAPO, .clip_low = 0.2f, .clip_high = 0.28f, .estimator = KL_K3, .log_clamp = 20},
        true);
    st_close(f);
}

static void random_rows(Rows *r)
{
    memset(r, 0, sizeof *r);
    r->n = ROWS;
    Rng rng = rng_stream(5, RNG_DATA, 1, 0);
    for (int i = 0; i < ROWS; i++) {
        r->lp[i] = (float)(-3 * rng_double(&rng) - 0.01);
        r->old_lp[i] = r->lp[i] + (float)(rng_double(&rng) - 0.5);
        r->ref_lp[i] = r->lp[i] + (float)(2 * rng_double(&rng) - 1);
        r->advantage[i] = (float)(4 * rng_double(&rng) - 2);
        r->weight[i] = i % 9 == 0 ? 0.0f : (float)(rng_double(&rng) + 0.1);
        r->entropy[i] = (float)(3 * rng_double(&rng));
        r->exact[i] = (float)rng_double(&rng);
        r->kl_weight[i] = i % 5 == 0 ? 0.0f : 1.0f;
    }
}

/* A step of 2 h across an edge of the formula has no derivative to compare with. */
static bool at_edge(const Rows *r, const GrpoConfig *c, int i, double h)
{
    double log_ratio = r->lp[i] - r->old_lp[i], d = r->ref_lp[i] - r->lp[i];
    return fabs(log_ratio - log(1 - c->clip_low)) < 2 * h || fabs(log_ratio - log(1 + c->clip_high)) < 2 * h ||
           fabs(fabs(log_ratio) - c->log_clamp) < 2 * h || fabs(fabs(d) - c->log_clamp) < 2 * h;
}

/* Central difference of the total by x[i], against the derivative eval wrote. */
static void check_slope(Rows *r, GrpoLoss *g, const char *what, float *x, const float *d, int i, float h)
{
    float keep = x[i], got = d[i], up = keep + h, down = keep - h;
    x[i] = up;
    evaluate(r, g, ROWS);
    double above = r->loss[i];
    x[i] = down;
    evaluate(r, g, ROWS);
    double want = (above - r->loss[i]) / ((double)up - down);
    x[i] = keep;
    evaluate(r, g, ROWS);
    if (!(fabs(got - want) <= 2e-4 * (1 + fabs(want)))) fail_msg("%s of row %d: %.7g, want %.7g", what, i, got, want);
}

static void derivatives(void **state)
{
    (void)state;
    static Rows r;
    const float h = 2e-3f, clamps[] = {0.45f, 20};
    for (int estimator = KL_K1; estimator <= KL_EXACT; estimator++)
        for (int k = 0; k < 2; k++) {
            random_rows(&r);
            GrpoConfig c = {.clip_low = 0.2f,
                            .clip_high = 0.28f,
                            .beta = 0.3f,
                            .estimator = (KlEstimator)estimator,
                            .log_clamp = clamps[k],
                            .entropy_bonus = 0.07f};
            GrpoLoss g = over(&r, c);
            g.kl_weight = r.kl_weight;
            evaluate(&r, &g, ROWS);
            int cut = 0, clamped = 0;
            for (int i = 0; i < ROWS; i++) {
                cut += (r.flags[i] & (GRPO_CLIP_LOW | GRPO_CLIP_HIGH)) != 0;
                clamped += (r.flags[i] & (GRPO_KL_CLAMPED | GRPO_RATIO_CLAMPED)) != 0;
                if (!at_edge(&r, &c, i, h)) check_slope(&r, &g, "dlp", r.lp, r.dlp, i, h);
                check_slope(&r, &g, "dentropy", r.entropy, r.dentropy, i, h);
                if (estimator == KL_EXACT) check_slope(&r, &g, "dkl", r.exact, r.dkl, i, h);
                if (r.weight[i] == 0.0f)
                    assert_true(r.loss[i] == 0 && r.dlp[i] == 0 && r.ratio[i] == 0 && r.flags[i] == 0);
            }
            assert_true(cut > 10 && (k == 1 || clamped > 10));
        }
}

/* The formula, once more and naively. */
static void values(void **state)
{
    (void)state;
    static Rows r;
    random_rows(&r);
    GrpoConfig c = {
        .clip_low = 0.1f, .clip_high = 0.3f, .beta = 0.5f, .estimator = KL_K2, .log_clamp = 20, .entropy_bonus = 0.2f};
    GrpoLoss g = over(&r, c);
    evaluate(&r, &g, ROWS);
    double ratios = 0, most = 0;
    int tokens = 0;
    for (int i = 0; i < ROWS; i++) {
        if (r.weight[i] == 0.0f) continue;
        double ratio = exp((double)r.lp[i] - r.old_lp[i]), A = r.advantage[i], d = (double)r.ref_lp[i] - r.lp[i];
        double clipped = fmin(fmax(ratio, 1 - 0.1f), 1 + (double)0.3f);
        double value = -fmin(ratio * A, clipped * A) + 0.25 * d * d - 0.2 * r.entropy[i];
        near("loss", r.loss[i], r.weight[i] * value, 1e-6);
        ratios += ratio;
        most = fmax(most, ratio);
        tokens++;
    }
    GrpoStats s = grpo_stats(&g, ROWS);
    assert_int_equal(s.tokens, tokens);
    near("mean ratio", s.ratio_mean, ratios / tokens, 1e-6);
    near("largest ratio", s.ratio_max, most, 1e-6);
}

static void chunks(void **state)
{
    (void)state;
    static Rows a, b;
    random_rows(&a);
    b = a;
    GrpoConfig c = {.clip_low = 0.2f, .clip_high = 0.2f, .beta = 0.1f, .estimator = KL_K3, .log_clamp = 0.6f};
    GrpoLoss g = over(&a, c), h = over(&b, c);
    assert_true(evaluate(&a, &g, ROWS) == evaluate(&b, &h, 7));
    GrpoStats s = grpo_stats(&g, ROWS), t = grpo_stats(&h, ROWS);
    assert_true(s.ratio_mean == t.ratio_mean && s.kl_mean == t.kl_mean && s.ratio_max == t.ratio_max);
    assert_true(s.clip_region == t.clip_region && s.kl_clamps == t.kl_clamps);
    assert_memory_equal(a.dlp, b.dlp, sizeof a.dlp);
    assert_true(s.kl_clamps > 0);
}

/* Fresh samples: the ratio is 1 and the gradient is that of REINFORCE; far-off log-probs stay finite. */
static void edges(void **state)
{
    (void)state;
    static Rows r;
    random_rows(&r);
    memcpy(r.old_lp, r.lp, sizeof r.lp);
    r.old_lp[1] = -500, r.lp[1] = -0.1f, r.advantage[1] = -1;
    r.ref_lp[2] = -1000;
    GrpoConfig c = {.clip_low = 10, .clip_high = 10, .beta = 0.001f, .estimator = KL_K3, .log_clamp = 20};
    GrpoLoss g = over(&r, c);
    assert_true(isfinite(evaluate(&r, &g, ROWS)));
    for (int i = 3; i < ROWS; i++)
        if (r.weight[i] != 0.0f) assert_true(r.ratio[i] == 1.0f);
    assert_int_equal(r.flags[1], GRPO_RATIO_CLAMPED);
    assert_int_equal(r.flags[2], GRPO_KL_CLAMPED);
    c.beta = 0;
    g = over(&r, c);
    g.kl = NULL, g.ref_lp = NULL;
    evaluate(&r, &g, ROWS);
    for (int i = 2; i < ROWS; i++) near("dlp", r.dlp[i], -r.weight[i] * r.advantage[i], 1e-6);
}

static void advantages(void **state)
{
    (void)state;
    float a[4];
    const float rewards[4] = {0.1f, 0.4f, 0.1f, 1.0f}, equal[4] = {0.1f, 0.1f, 0.1f, 0.1f};
    assert_true(grpo_advantages(a, rewards, 4, true));
    double mean = 0.4, std = sqrt((0.09 + 0.09 + 0.36) / 3) + 1e-4;
    for (int i = 0; i < 4; i++) near("advantage", a[i], (rewards[i] - mean) / std, 1e-6);
    for (int G = 1; G <= 4; G++) {
        a[0] = a[G - 1] = 7;
        assert_false(grpo_advantages(a, equal, G, true));
        assert_true(a[0] == 0.0f && a[G - 1] == 0.0f);
    }
}

static void token_weights(void **state)
{
    (void)state;
    const int lengths[3] = {2, 0, 6}, none[2] = {0, 0};
    float w[3];
    GrpoConfig c = {.max_length = 10};
    c.kind = GRPO_TOKEN;
    grpo_token_weights(w, &c, lengths, 3);
    assert_true(w[0] == (float)(1.0 / 6) && w[1] == 0.0f && w[2] == (float)(1.0 / 18));
    c.kind = GRPO_DR;
    grpo_token_weights(w, &c, lengths, 3);
    assert_true(w[0] == (float)(1.0 / 30) && w[1] == 0.0f && w[2] == w[0]);
    c.kind = GRPO_DAPO;
    grpo_token_weights(w, &c, lengths, 3);
    assert_true(w[0] == 0.125f && w[1] == 0.0f && w[2] == 0.125f);
    grpo_token_weights(w, &c, none, 2);
    assert_true(w[0] == 0.0f && w[1] == 0.0f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden),        cmocka_unit_test(derivatives), cmocka_unit_test(values),
        cmocka_unit_test(chunks),        cmocka_unit_test(edges),       cmocka_unit_test(advantages),
        cmocka_unit_test(token_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
