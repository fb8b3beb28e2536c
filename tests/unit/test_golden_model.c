/* The model against the public reference implementation: tests/golden, tolerances of its README. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/losses/grpo.h"
#include "tests/tolerances.h"
#include "tests/unit/golden.h"
#include "tests/unit/unit.h"

enum { GREEDY_PROMPT = 5, GREEDY_TOKENS = 16 };

static void check_logits(Golden *g, const Tape *tape)
{
    Engine *e = &g->policy->engine;
    size_t V = (size_t)e->config->V, C = (size_t)e->config->C, n;
    for (int s = 0; s < g->batch.nseq; s++) {
        char name[32];
        size_t T = (size_t)(g->batch.offsets[s + 1] - g->batch.offsets[s]);
        float *logits = malloc(T * V * sizeof *logits);
        head_logits(e, &g->policy->w, logits, tape->xn + (size_t)g->batch.offsets[s] * C, T);
        snprintf(name, sizeof name, "logits.%d", s);
        const float *want = golden_floats(g->expected, &n, "%s", name);
        assert_int_equal(n, T * V);
        expect_close(name, logits, want, n, TOL_GOLDEN_LOGITS);
        free(logits);
    }
}

static void check_hidden_and_router(Golden *g, const Tape *tape)
{
    const ModelConfig *c = &g->policy->config;
    size_t n;
    char name[64];
    for (int l = 0; l < c->L; l++) {
        snprintf(name, sizeof name, "hidden.%d", l);
        const float *want = golden_floats(g->expected, &n, "%s", name);
        expect_relative(name, tape->x[l + 1], want, n, TOL_GOLDEN_HIDDEN);
        if (!config_is_moe(c, l)) continue;
        const Routing *r = &tape->routing[l];
        want = golden_floats(g->expected, &n, "router.%d.logits", l);
        expect_close("router logits", r->logits, want, n, TOL_GOLDEN_LOGITS);
        want = golden_floats(g->expected, &n, "router.%d.scores", l);
        expect_relative("router scores", r->scores, want, n, TOL_GOLDEN_HIDDEN);
        want = golden_floats(g->expected, &n, "router.%d.weights", l);
        expect_relative("router weights", r->weights, want, n, TOL_GOLDEN_HIDDEN);
        const int32_t *idx = golden_ints(g->expected, &n, "router.%d.indices", l);
        expect_ints("router indices", r->idx, idx, n);
    }
}

static void check_log_probs(Golden *g, const float *lp)
{
    size_t n;
    for (int s = 0; s < g->batch.nseq; s++) {
        const float *want = golden_floats(g->expected, &n, "logprobs.%d", s);
        expect_close("logprobs", lp, want, n, TOL_GOLDEN_LOGPROBS);
        lp += n;
    }
}

static void gradients(Golden *g, const BalanceConfig *balance, TrainOut *out)
{
    NllLoss nll = {g->weight};
    Loss loss = nll_loss(&nll);
    TrainStep task = {.batch = batch_view(&g->batch),
                      .predict = batch_predictions(&g->batch),
                      .inv_temperature = 1.0f,
                      .loss = &loss,
                      .balance = balance};
    policy_train_open(g->policy);
    train_gradients(&g->policy->engine, &g->policy->w, &g->policy->g, &task, out);
}

static void check_greedy(Golden *g, CacheKind cache)
{
    RolloutPrompt prompts[3];
    Completion out[3];
    Status st = {0};
    RolloutSpec spec = {.slots = 3,
                        .samples = 1,
                        .max_tokens = GREEDY_TOKENS,
                        .cache = cache,
                        .sampling = {.temperature = 0.0f, .top_p = 1.0f},
                        .purpose = RNG_ROLLOUT};
    for (int s = 0; s < 3; s++)
        prompts[s] = (RolloutPrompt){g->batch.ids + g->batch.offsets[s], GREEDY_PROMPT, (uint32_t)s};
    assert_true(rollout_run(g->policy->sampler, &g->policy->w, &spec, prompts, 3, out, NULL, &st));
    for (int s = 0; s < 3; s++) {
        size_t n;
        const int32_t *want = golden_ints(g->expected, &n, "greedy.%d", s);
        assert_int_equal(n, GREEDY_TOKENS);
        assert_int_equal(out[s].n, GREEDY_TOKENS);
        expect_ints(cache == CACHE_EXACT ? "greedy, exact cache" : "greedy, latent cache", out[s].ids, want, n);
    }
}

static void run_case(void **state)
{
    Golden g;
    TrainOut out;
    Tape tape;
    golden_open(&g, *state, *state);
    double nll = golden_scalar(g.expected, "nll");
    engine_reset(&g.policy->engine);
    model_forward(&g.policy->engine, &g.policy->w, batch_view(&g.batch), TAPE_HIDDEN, &tape);
    check_hidden_and_router(&g, &tape);
    check_logits(&g, &tape);
    gradients(&g, NULL, &out);
    check_log_probs(&g, out.rows.lp);
    expect_number("nll", out.loss, nll, TOL_GOLDEN_NLL);
    expect_gradients(&g, g.expected, "grad.", true);
    check_greedy(&g, CACHE_EXACT);
    if (g.policy->config.attention == ATTENTION_MLA) check_greedy(&g, CACHE_LATENT);
    golden_close(&g);
}

static double alpha(const Golden *g, const char *kind)
{
    const Json *v = json_get(json_get(json_get(g->about, "balance"), "alphas"), kind);
    return v ? json_number(v) : 0.0;
}

static int optional_int(const Golden *g, const char *key)
{
    const Json *v = json_get(json_get(g->about, "balance"), key);
    return v ? (int)json_integer(v) : 1;
}

/* The value of each sequence alone, the counts of the batch and, for V3, the bias after its update. */
static void check_balance_layer(const Golden *g, const StFile *f, const BalanceLosses *b, const Routing *r, int layer)
{
    const ModelConfig *c = &g->policy->config;
    size_t n, E = (size_t)c->E;
    for (int s = 0; s < g->batch.nseq; s++) {
        BalanceValues v = b->values[layer * g->batch.nseq + s];
        const char *kinds[] = {"expert", "device", "comm", "sequence"};
        double got[] = {v.expert, v.device, v.comm, v.sequence};
        for (int k = 0; k < 4; k++)
            if (alpha(g, kinds[k]) != 0.0)
                expect_number(kinds[k], got[k], golden_floats(f, &n, "%s.%d", kinds[k], layer)[s], TOL_GOLDEN_BALANCE);
    }
    int32_t *counts = calloc(E, sizeof *counts);
    for (size_t i = 0; i < E; i++) counts[i] = r->offsets[i + 1] - r->offsets[i];
    const int32_t *want_counts = golden_ints(f, &n, "counts.%d", layer);
    expect_ints("counts", counts, want_counts, n);
    if (c->arch == ARCH_DEEPSEEK_V3) {
        float *bias = malloc(E * sizeof *bias);
        memcpy(bias, g->policy->w.layers[layer].router_bias, E * sizeof *bias);
        g->machine.ops->bias_update(g->machine.backend, bias, r->offsets, c->E,
                                    (float)golden_number(g->about, "balance", "bias_update_speed"));
        const float *want = golden_floats(f, &n, "bias_after.%d", layer);
        expect_close("bias_after", bias, want, n, 0.0);
        free(bias);
    }
    free(counts);
}

/* The policy's own step of every layer's bias, from what a gradient leaves behind. */
static void check_policy_bias(Golden *g, const StFile *f, const TrainOut *out)
{
    const ModelConfig *c = &g->policy->config;
    policy_bias_update(g->policy, out->routing, (float)golden_number(g->about, "balance", "bias_update_speed"));
    for (int l = 0; l < c->L; l++) {
        size_t n;
        if (!config_is_moe(c, l)) continue;
        const float *want = golden_floats(f, &n, "bias_after.%d", l);
        expect_close("bias_after", g->policy->w.layers[l].router_bias, want, n, 0.0);
    }
}

static void run_balance(void **state)
{
    Golden g;
    TrainOut out;
    Tape tape;
    char name[128];
    golden_open(&g, *state, *state);
    snprintf(name, sizeof name, "%s/expected_balance.safetensors", (const char *)*state);
    StFile *f = golden_file(name);
    BalanceConfig b = {(float)alpha(&g, "expert"),   (float)alpha(&g, "device"), (float)alpha(&g, "comm"),
                       (float)alpha(&g, "sequence"), optional_int(&g, "D"),      optional_int(&g, "M")};
    engine_reset(&g.policy->engine);
    model_forward(&g.policy->engine, &g.policy->w, batch_view(&g.batch), TAPE_HIDDEN, &tape);
    BalanceLosses losses;
    assert_true(model_balance(&g.policy->engine, &tape, &b, &losses));
    for (int l = 0; l < g.policy->config.L; l++)
        if (config_is_moe(&g.policy->config, l)) check_balance_layer(&g, f, &losses, &tape.routing[l], l);
    gradients(&g, &b, &out);
    if (g.policy->config.arch == ARCH_DEEPSEEK_V3) check_policy_bias(&g, f, &out);
    expect_number("aux", out.aux, golden_scalar(f, "aux"), TOL_GOLDEN_NLL);
    expect_number("total", out.loss + out.aux, golden_scalar(f, "total"), TOL_GOLDEN_NLL);
    expect_gradients(&g, f, "grad.", true);
    st_close(f);
    golden_close(&g);
}

static void check_checksum(const StFile *f, const Param *p, const float *w)
{
    char name[128];
    snprintf(name, sizeof name, "checksum.%s", p->name);
    const StTensor *t = golden_tensor(f, name);
    assert_int_equal(t->dtype, ST_F64);
    double sum = 0.0, absolute = 0.0, want[2];
    memcpy(want, t->data, sizeof want);
    for (size_t i = 0; i < p->count; i++) {
        sum += w[i];
        absolute += w[i] < 0 ? -(double)w[i] : w[i];
    }
    expect_number(name, sum, want[0], TOL_GOLDEN_WEIGHTS * want[1]);
    expect_number(name, absolute, want[1], TOL_GOLDEN_WEIGHTS * want[1]);
}

static void run_adamw(void **state)
{
    (void)state;
    Golden g, after;
    TrainOut out;
    Status st = {0};
    size_t n;
    golden_open(&g, "v2_lite", "v2_lite");
    golden_open(&after, "v2_lite", "adamw");
    const float *losses = golden_floats(after.expected, &n, "loss"),
                *norms = golden_floats(after.expected, &n, "grad_norm");
    OptimizerConfig adam = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.1f, .max_norm = 1.0f};
    for (int step = 0; step < 3; step++) {
        double norm;
        gradients(&g, NULL, &out);
        expect_number("loss", out.loss, losses[step], TOL_GOLDEN_NLL);
        assert_true(policy_update(g.policy, &adam, 1e-3f, &norm, &st));
        expect_number("gradient norm", norm, norms[step], TOL_GOLDEN_GRADIENT * norms[step]);
    }
    gradients(&g, NULL, &out);
    expect_number("loss after step 3", out.loss, losses[3], TOL_GOLDEN_NLL);
    const ParamTable *table = &g.policy->engine.table;
    for (int i = 0; i < table->n; i++) {
        char name[128];
        const Param *p = &table->params[i];
        snprintf(name, sizeof name, "weight.%s", p->name);
        const StTensor *t = st_find(after.expected, name);
        if (t) expect_relative(name, g.policy->weights.plain + p->offset, t->data, p->count, TOL_GOLDEN_WEIGHTS);
        else check_checksum(after.expected, p, g.policy->weights.plain + p->offset);
    }
    golden_close(&g);
    golden_close(&after);
}

/* The rows of the eight completions, as arrays the loss wants. */
typedef struct GrpoRows {
    BatchBuilder batch;
    int lengths[8], first[8];
    float *weight, *advantage, *old_lp, *ref_lp, *ratio, *kl;
    uint8_t *flags;
} GrpoRows;

static float *rows_of(int m)
{
    float *p = calloc((size_t)m, sizeof *p);
    assert_non_null(p);
    return p;
}

static void grpo_rows_open(GrpoRows *r, const StFile *f)
{
    *r = (GrpoRows){0};
    for (int i = 0; i < 8; i++) {
        size_t n, m;
        const int32_t *prompt = golden_ints(f, &n, "prompt.%d", i / 4),
                      *completion = golden_ints(f, &m, "completion.%d", i);
        int32_t ids[64];
        assert_true(n + m <= 64);
        memcpy(ids, prompt, n * sizeof *ids);
        memcpy(ids + n, completion, m * sizeof *ids);
        r->lengths[i] = (int)m;
        r->first[i] = batch_add(&r->batch, ids, (int)(n + m), (int)n);
    }
    int m = r->batch.m;
    r->weight = rows_of(m), r->advantage = rows_of(m), r->old_lp = rows_of(m), r->ref_lp = rows_of(m);
    r->ratio = rows_of(m), r->kl = rows_of(m);
    r->flags = calloc((size_t)m, 1);
    for (int i = 0; i < 8; i++) {
        size_t n;
        memcpy(r->old_lp + r->first[i], golden_floats(f, &n, "old_logprobs.%d", i),
               (size_t)r->lengths[i] * sizeof(float));
        memcpy(r->ref_lp + r->first[i], golden_floats(f, &n, "ref_logprobs.%d", i),
               (size_t)r->lengths[i] * sizeof(float));
    }
}

static void grpo_rows_close(GrpoRows *r)
{
    float *lists[] = {r->weight, r->advantage, r->old_lp, r->ref_lp, r->ratio, r->kl};
    for (int i = 0; i < 6; i++) free(lists[i]);
    free(r->flags);
    batch_free(&r->batch);
}

/* Advantages of the two groups and the weight of every row. */
static void grpo_rows_fill(GrpoRows *r, const StFile *f, const GrpoConfig *c, const char *variant, bool by_std)
{
    size_t n;
    float advantage[8], weight[8];
    const float *rewards = golden_floats(f, &n, "rewards");
    for (int p = 0; p < 2; p++) grpo_advantages(advantage + 4 * p, rewards + 4 * p, 4, by_std);
    const float *want = golden_floats(f, &n, "%s.advantages", variant);
    expect_close("advantages", advantage, want, n, TOL_GOLDEN_GRPO_LOSS);
    grpo_token_weights(weight, c, r->lengths, 8);
    for (int i = 0; i < 8; i++) {
        for (int t = 0; t < r->lengths[i]; t++) {
            r->advantage[r->first[i] + t] = advantage[i];
            r->weight[r->first[i] + t] = weight[i];
        }
    }
}

static void check_grpo_rows(const GrpoRows *r, const StFile *f, const float *lp, bool kl)
{
    for (int i = 0; i < 8; i++) {
        size_t n;
        const float *want = golden_floats(f, &n, "logprobs.%d", i);
        expect_close("grpo logprobs", lp + r->first[i], want, n, TOL_GOLDEN_LOGPROBS);
        want = golden_floats(f, &n, "ratio.%d", i);
        expect_relative("ratio", r->ratio + r->first[i], want, n, TOL_GOLDEN_RATIO);
        if (!kl) continue;
        want = golden_floats(f, &n, "kl.%d", i);
        expect_close("kl", r->kl + r->first[i], want, n, TOL_GOLDEN_LOGPROBS);
    }
}

static void grpo_variant(Golden *g, GrpoRows *r, const char *name, GrpoConfig c, bool by_std)
{
    char key[64];
    GrpoLoss ctx = {.config = c,
                    .weight = r->weight,
                    .advantage = r->advantage,
                    .old_lp = r->old_lp,
                    .ref_lp = r->ref_lp,
                    .ratio = r->ratio,
                    .kl = r->kl,
                    .flags = r->flags};
    grpo_rows_fill(r, g->expected, &c, name, by_std);
    Loss loss = grpo_loss(&ctx);
    TrainStep task = {.batch = batch_view(&r->batch),
                      .predict = batch_predictions(&r->batch),
                      .inv_temperature = 1.0f,
                      .loss = &loss};
    TrainOut out;
    policy_train_open(g->policy);
    train_gradients(&g->policy->engine, &g->policy->w, &g->policy->g, &task, &out);
    check_grpo_rows(r, g->expected, out.rows.lp, c.beta != 0.0f);
    snprintf(key, sizeof key, "%s.loss", name);
    expect_number(key, out.loss, golden_scalar(g->expected, key), TOL_GOLDEN_GRPO_LOSS);
    snprintf(key, sizeof key, "%s.clip_fraction", name);
    expect_number(key, grpo_stats(&ctx, r->batch.m).clip_region, golden_scalar(g->expected, key), 1e-6);
    snprintf(key, sizeof key, "%s.grad.", name);
    int compared = expect_gradients(g, g->expected, key, c.kind == GRPO_TOKEN);
    assert_true(compared >= 7);
}

static void run_grpo(void **state)
{
    (void)state;
    Golden g;
    GrpoRows rows;
    golden_open(&g, "v2_lite", "grpo");
    grpo_rows_open(&rows, g.expected);
    GrpoConfig base = {.clip_low = 0.2f, .clip_high = 0.2f, .estimator = KL_K3, .log_clamp = 20.0f, .max_length = 16};
    GrpoConfig grpo = base, dr = base, dapo = base;
    grpo.kind = GRPO_TOKEN, grpo.beta = 0.04f;
    dr.kind = GRPO_DR;
    dapo.kind = GRPO_DAPO, dapo.clip_high = 0.28f;
    grpo_variant(&g, &rows, "grpo", grpo, true);
    grpo_variant(&g, &rows, "dr_grpo", dr, false);
    grpo_variant(&g, &rows, "dapo", dapo, true);
    grpo_rows_close(&rows);
    golden_close(&g);
}

#define CASE(name)                                                                                                     \
    {                                                                                                                  \
        "golden " name, run_case, NULL, NULL, (void *)name                                                             \
    }
#define BALANCE(name)                                                                                                  \
    {                                                                                                                  \
        "balance " name, run_balance, NULL, NULL, (void *)name                                                         \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE("v2_lite"),
        CASE("v2_full"),
        CASE("v2_yarn"),
        CASE("v3"),
        CASE("qwen2"),
        CASE("qwen3"),
        CASE("llama"),
        CASE("llama3_rope"),
        CASE("linear_rope"),
        CASE("dynamic_rope"),
        CASE("llama_bias"),
        CASE("qwen3_bias"),
        CASE("glm4_moe"),
        BALANCE("v2_lite"),
        BALANCE("v2_full"),
        BALANCE("v3"),
        cmocka_unit_test(run_adamw),
        cmocka_unit_test(run_grpo),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
