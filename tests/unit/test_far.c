/* core on a device: training, sampling, GRPO and a reward model in memory that the process may not touch, and on the emulated
 * GPU, whose decode steps are recorded and issued again, end with the bits of the CPU's own memory. */
#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>

#include "core/batches.h"
#include "core/losses/grpo.h"
#include "core/base/memory.h"
#include "core/policy.h"
#include "core/scalar_head.h"
#include "recipes/model/plugin.h"
#include "tests/unit/places.h"
#include "tests/unit/policy_values.h"

enum { PROMPTS = 5, SAMPLES = 3, TOKENS = 12, ROWS = 400 };

static void sequences(BatchBuilder *b, Rng *rng, int n, int longest)
{
    int32_t ids[ROWS];
    batch_reset(b);
    for (int s = 0; s < n; s++) {
        int T = rng_range(rng, 2, longest);
        for (int i = 0; i < T; i++) ids[i] = (int32_t)rng_below(rng, PLACES_VOCAB);
        batch_add(b, ids, T, 1);
    }
}

static BalanceConfig balance_of(const ModelConfig *c)
{
    if (c->topk == TOPK_NOAUX) return (BalanceConfig){.sequence = 0.01f, .devices = 1, .limit = 1};
    return (BalanceConfig){.expert = 0.01f, .device = 0.02f, .comm = 0.03f, .devices = 4, .limit = 2};
}

static void update(Policy *p, const TrainOut *out, Trace *t)
{
    OptimizerConfig o = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.1f, .max_norm = 1};
    Status st = {0};
    double norm;
    if (!policy_update(p, &o, 3e-3f, &norm, &st)) fail_msg("%s", st.text);
    if (p->config.topk == TOPK_NOAUX) policy_bias_update(p, out->routing, 0.01f);
    trace(t, &norm, sizeof norm);
    trace(t, &out->loss, sizeof out->loss);
    trace(t, &out->aux, sizeof out->aux);
}

static void pretrain(Policy *p, Rng *rng, Trace *t)
{
    BatchBuilder b = {0};
    BalanceConfig balance = balance_of(&p->config);
    float weight[ROWS];
    policy_train_open(p);
    for (int step = 0; step < 3; step++) {
        sequences(&b, rng, 6, 50);
        nll_weights_mean(weight, b.targets, b.m);
        NllLoss nll = {weight};
        Loss loss = nll_loss(&nll);
        TrainStep s = {.batch = batch_view(&b),
                       .predict = batch_predictions(&b),
                       .inv_temperature = 1,
                       .loss = &loss,
                       .balance = p->config.E ? &balance : NULL};
        TrainOut out;
        train_gradients(&p->engine, &p->w, &p->g, &s, &out);
        update(p, &out, t);
    }
    batch_free(&b);
}

static void sample(Policy *p, CacheKind cache, float temperature, int32_t prompts[PROMPTS][90], RolloutPrompt *list,
                   Completion *out, Trace *t)
{
    static const int32_t stop = 1;
    static const int lengths[PROMPTS] = {3, 64, 90, 1, 20};
    RolloutSpec spec = {.slots = 7,
                        .samples = SAMPLES,
                        .max_tokens = TOKENS,
                        .cache = cache,
                        .sampling = {.temperature = temperature, .top_p = 1},
                        .stops = &stop,
                        .n_stops = 1,
                        .seed = 11,
                        .purpose = RNG_ROLLOUT};
    Status st = {0};
    for (int i = 0; i < PROMPTS; i++) list[i] = (RolloutPrompt){prompts[i], lengths[i], (uint32_t)i};
    if (!rollout_run(p->sampler, &p->w, &spec, list, PROMPTS, out, NULL, &st)) fail_msg("%s", st.text);
    for (int i = 0; i < PROMPTS * SAMPLES; i++) {
        trace(t, out[i].ids, (size_t)out[i].n * sizeof *out[i].ids);
        trace(t, out[i].logprobs, (size_t)out[i].n * sizeof *out[i].logprobs);
    }
}

/* GRPO steps on the completions of the first two prompts, with the exact KL to a reference and an entropy bonus, and one of
 * distillation on the reference's logits. */
static void grpo(Policy *p, const RolloutPrompt *prompts, const Completion *completions, Trace *t)
{
    static float weight[ROWS], advantage[ROWS], old[ROWS], ratio[ROWS], kl[ROWS], ref_lp[ROWS];
    static uint8_t flags[ROWS];
    BatchBuilder b = {0};
    int32_t ids[ROWS];
    policy_reference_set(p);
    for (int i = 0; i < 2 * SAMPLES; i++) {
        const RolloutPrompt *prompt = &prompts[i / SAMPLES];
        const Completion *c = &completions[i];
        memcpy(ids, prompt->ids, (size_t)prompt->n * sizeof *ids);
        memcpy(ids + prompt->n, c->ids, (size_t)c->n * sizeof *ids);
        int at = batch_add(&b, ids, prompt->n + c->n, prompt->n);
        for (int k = 0; k < c->n; k++) {
            weight[at + k] = 0.05f;
            advantage[at + k] = i % SAMPLES ? -0.5f : 1.0f;
            old[at + k] = c->logprobs[k] - 0.1f;
        }
    }
    GrpoLoss g = {.config = {.clip_low = 0.2f,
                             .clip_high = 0.2f,
                             .beta = 0.1f,
                             .estimator = KL_EXACT,
                             .log_clamp = 10,
                             .entropy_bonus = 0.01f},
                  .weight = weight,
                  .advantage = advantage,
                  .old_lp = old,
                  .ratio = ratio,
                  .kl = kl,
                  .flags = flags};
    Loss loss = grpo_loss(&g);
    TrainStep s = {.batch = batch_view(&b),
                   .predict = batch_predictions(&b),
                   .inv_temperature = 1,
                   .loss = &loss,
                   .reference = &p->ref,
                   .reference_lp = ref_lp,
                   .entropy = true};
    KlLoss distilled = {weight};
    Loss forward = kl_loss(&distilled);
    for (int step = 0; step < 3; step++) {
        TrainOut out;
        if (step == 2)
            s.loss = &forward, s.forward_kl = true, s.entropy = false; /* distillation on the reference's logits */
        train_gradients(&p->engine, &p->w, &p->g, &s, &out);
        trace(t, out.rows.lp, (size_t)b.m * sizeof(float));
        if (s.entropy) trace(t, out.rows.entropy, (size_t)b.m * sizeof(float));
        trace(t, out.rows.kl, (size_t)b.m * sizeof(float));
        trace(t, ref_lp, (size_t)b.m * sizeof(float));
        update(p, &out, t);
    }
    batch_free(&b);
}

/* The same model as PPO's critic, on the tokens of the batch. */
static void critic(Policy *p, const BatchBuilder *b, Trace *t)
{
    enum { MOST = 512 };
    float old[MOST], returns[MOST], weight[MOST];
    Predictions predict = batch_predictions(b);
    assert_in_range(predict.M, 1, MOST);
    scalar_row_values(&p->engine, &p->w, batch_view(b), predict.rows, predict.M, old);
    trace(t, old, (size_t)predict.M * sizeof *old);
    for (int i = 0; i < predict.M; i++) returns[i] = (float)(i % 3) - 1, weight[i] = i % 4 ? 0.01f : 0;
    ValueStep s = {.batch = batch_view(b), .rows = predict.rows, .n = predict.M, .loss = {0.2f, weight, old, returns}};
    ScalarOut out;
    value_gradients(&p->engine, &p->w, &p->g, &s, &out);
    TrainOut as = {.loss = out.loss, .routing = out.routing};
    update(p, &as, t);
}

static void reward_model(const EngineOptions *o, ModelConfig c, Rng *rng, Trace *t)
{
    c.head = HEAD_SCALAR;
    Policy *p = policy_new(*o, &c, 9, NULL);
    BatchBuilder b = {0};
    float value[6];
    const float label[6] = {1, 0, 0, 1, 1, 0};
    policy_train_open(p);
    for (int pairs = 0; pairs < 2; pairs++) {
        sequences(&b, rng, 6, 40);
        ScalarStep s = {.batch = batch_view(&b), .label = pairs ? NULL : label};
        ScalarOut out;
        scalar_gradients(&p->engine, &p->w, &p->g, &s, &out);
        TrainOut as = {.loss = out.loss, .routing = out.routing};
        update(p, &as, t);
        scalar_values(&p->engine, &p->w, batch_view(&b), value);
        trace(t, value, sizeof value);
    }
    critic(p, &b, t);
    batch_free(&b);
    policy_free(p);
}

/* replays: how many decode steps were issued again as recorded. */
static Trace run(const Place *at, Arch arch, DType dtype, long *replays)
{
    const Ops *ops;
    Status st = {0};
    Backend *b = place_open(at, dtype, &ops);
    ModelConfig c = places_model(arch);
    if (!config_validate(&c, &st)) fail_msg("%s", st.text);
    /* One layer's interior is kept, the others are computed again. */
    EngineOptions o = {ops, b, dtype, 1024, 600 << 10};
    Policy *p = policy_new(o, &c, 7, NULL);
    Rng rng = rng_stream(3, RNG_DATA, 1, 0);
    int32_t prompts[PROMPTS][90];
    for (int i = 0; i < PROMPTS; i++)
        for (int j = 0; j < 90; j++) prompts[i][j] = 2 + (int32_t)rng_below(&rng, PLACES_VOCAB - 2);
    RolloutPrompt list[PROMPTS];
    Completion out[PROMPTS * SAMPLES];
    Trace t = {0};
    pretrain(p, &rng, &t);
    if (c.attention == ATTENTION_MLA) sample(p, CACHE_LATENT, 1, prompts, list, out, &t);
    sample(policy_that_samples(p, true), CACHE_EXACT, 1, prompts, list, out, &t);
    sample(p, CACHE_EXACT, 1, prompts, list, out, &t);
    sample(p, CACHE_EXACT, 0.7f, prompts, list, out, &t);
    grpo(p, list, out, &t);
    sample(p, CACHE_EXACT, 1, prompts, list, out, &t);
    *replays = at->plugin ? at->plugin->replays(b) : 0;
    reward_model(&o, c, &rng, &t);
    PolicyMoments host = policy_moments_open(p);
    float *weights = policy_values(p), *reference = policy_reference_values(p);
    size_t bytes = p->engine.table.total * sizeof(float);
    trace(&t, weights, bytes), trace(&t, host.m, bytes), trace(&t, host.v, bytes), trace(&t, reference, bytes);
    policy_moments_close(p, &host);
    memory_free(weights);
    memory_free(reference);
    policy_free(p);
    ops->close(b);
    return t;
}

static void same_bits(void **state)
{
    (void)state;
    static const struct {
        Arch arch;
        DType dtype;
        size_t slice_rows;
        const char *late;
    } cases[] = {{ARCH_DEEPSEEK_V3, DTYPE_F32, SIZE_MAX, "yes"},
                 {ARCH_DEEPSEEK_V2, DTYPE_F32, 2 * TOKEN_BLOCK, "no"},
                 {ARCH_QWEN3, DTYPE_F32, SIZE_MAX, "yes"},
                 {ARCH_DEEPSEEK_V3, DTYPE_BF16, 2 * TOKEN_BLOCK, "yes"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        long none;
        Place near = {0}, far = {.far = true, .slice_rows = cases[i].slice_rows, .late = cases[i].late};
        trace_check_equal(i, run(&near, cases[i].arch, cases[i].dtype, &none),
                          run(&far, cases[i].arch, cases[i].dtype, &none));
    }
}

/* Recorded steps one step late against the CPU's, and on tensor cores, which have bits of their own, against steps that are all
 * issued and waited for.
 * Rollouts of other sizes come between, after which memory and with it the recordings went; weights change between rollouts
 * of a size, and the temperature does. */
static void replayed(void **state)
{
    (void)state;
    Status st = {0};
    const GpuPlugin *plugin = plugin_load(DEVICE_EMULATED, &st);
    if (!plugin) skip();
    static const struct {
        Arch arch;
        DType dtype;
        const char *matmul, *streams, *late;
    } cases[] = {{ARCH_DEEPSEEK_V3, DTYPE_F32, "native", "random:3", NULL},
                 {ARCH_DEEPSEEK_V2, DTYPE_BF16, "mma", "lazy", NULL},
                 {ARCH_QWEN3, DTYPE_F32, "native", "eager", "no"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool own_bits = cases[i].dtype == DTYPE_BF16;
        Place recorded = {.plugin = plugin,
                          .matmul = cases[i].matmul,
                          .streams = cases[i].streams,
                          .late = cases[i].late},
              issued = own_bits ? recorded : (Place){0};
        if (own_bits) issued.late = "no";
        long replays, none;
        setenv("R1_REPLAY", "no", 1);
        Trace expected = run(&issued, cases[i].arch, cases[i].dtype, &none);
        unsetenv("R1_REPLAY");
        Trace seen = run(&recorded, cases[i].arch, cases[i].dtype, &replays);
        assert_int_equal(none, 0);
        assert_true(replays > 5);
        trace_check_equal(i, expected, seen);
    }
    assert_int_equal(plugin->reports(), 0);
}

/* A product of four rows with three experts whose matrices lie at these places of the device. */
typedef struct Product {
    const Ops *ops;
    Backend *b;
    float *w, *x, *y;
    int32_t *offsets;
} Product;

enum { EXPERTS = 3, GROUP_ROWS = 4, GROUP_IN = 8, GROUP_OUT = 5, MATRIX = GROUP_OUT * GROUP_IN };

static void multiply(const Product *p, const int at[EXPERTS])
{
    Mat w[EXPERTS];
    for (int e = 0; e < EXPERTS; e++) w[e] = mat_f32(p->w + at[e] * MATRIX, GROUP_OUT, GROUP_IN);
    p->ops->grouped_fwd(p->b, mat_f32(p->y, GROUP_ROWS, GROUP_OUT), mat_f32(p->x, GROUP_ROWS, GROUP_IN), w, p->offsets,
                        EXPERTS);
}

/* As a decode step is made (core/rollout/rollout.c): recorded calls that failed are made once more. Returns how often
 * they were made. */
static int step(const Product *p, uint64_t key, const int at[EXPERTS], float *y)
{
    const Device *d = &p->ops->device;
    int made = 0;
    p->ops->fill(p->b, p->y, GROUP_ROWS * GROUP_OUT, -1.0f);
    if (!d->replay(p->b, key)) do
            multiply(p, at), made++;
        while (!d->recorded(p->b));
    d->download(p->b, y, p->y, GROUP_ROWS * GROUP_OUT * sizeof *y);
    return made;
}

/* Addresses of experts that lie at uneven distances go to the device in a table, which a recording cannot hold: such a
 * step is made again, and never replayed. With even distances it is. */
static void uneven_experts(void **state)
{
    (void)state;
    static const int even[EXPERTS] = {0, 1, 2}, uneven[EXPERTS] = {0, 1, 3};
    static const int32_t offsets[EXPERTS + 1] = {0, 1, 1, GROUP_ROWS};
    Status st = {0};
    const GpuPlugin *plugin = plugin_load(DEVICE_EMULATED, &st);
    if (!plugin) skip();
    float values[4 * MATRIX], y[GROUP_ROWS * GROUP_OUT], want[2][GROUP_ROWS * GROUP_OUT] = {{0}};
    for (int i = 0; i < 4 * MATRIX; i++) values[i] = (float)(i % 7) - 3 + (float)(i / MATRIX);
    for (int k = 0; k < 2; k++)
        for (int n = 0; n < GROUP_ROWS; n++)
            for (int o = 0; o < GROUP_OUT; o++)
                for (int i = 0; i < GROUP_IN; i++)
                    want[k][n * GROUP_OUT + o] +=
                        values[n * GROUP_IN + i] * values[(k ? uneven : even)[n ? 2 : 0] * MATRIX + o * GROUP_IN + i];
    static const char *const streams[] = {"eager", "lazy", "random:5"};
    for (int s = 0; s < 3; s++) {
        Place at = {.plugin = plugin, .matmul = "native", .streams = streams[s]};
        Product p;
        p.b = place_open(&at, DTYPE_F32, &p.ops);
        const Device *d = &p.ops->device;
        p.w = d->alloc(p.b, sizeof values), p.x = d->alloc(p.b, sizeof values), p.y = d->alloc(p.b, sizeof y);
        p.offsets = d->alloc(p.b, sizeof offsets);
        d->upload(p.b, p.w, values, sizeof values), d->upload(p.b, p.x, values, sizeof values);
        d->upload(p.b, p.offsets, offsets, sizeof offsets);
        static const int made[2][4] = {{1, 1, 0, 0}, {1, 2, 1, 1}}; /* met, recorded (and made again), replayed */
        for (int k = 0; k < 2; k++)
            for (int i = 0; i < 4; i++) {
                assert_int_equal(step(&p, 17 + (uint64_t)k, k ? uneven : even, y), made[k][i]);
                assert_memory_equal(y, want[k], sizeof y);
            }
        assert_int_equal(plugin->replays(p.b), 2);
        if (!p.ops->fault(p.b, &st)) fail_msg("%s", st.text);
        d->free(p.b, p.w), d->free(p.b, p.x), d->free(p.b, p.y), d->free(p.b, p.offsets);
        p.ops->close(p.b);
    }
    assert_int_equal(plugin->reports(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_bits), cmocka_unit_test(replayed),
                                       cmocka_unit_test(uneven_experts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
