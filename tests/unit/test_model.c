/* The whole model: what must not change its gradients, sampling against training to the bit, and that it learns; in f32, and
 * in bf16 what holds there too. */
#include <malloc.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <string.h>

#include "core/base/check.h"
#include "core/batches.h"
#include "core/base/memory.h"
#include "core/policy.h"
#include "recipes/model/machine.h"
#include "tests/tolerances.h"
#include "tests/unit/unit.h"

enum { VOCAB = 61 };

/* MLA with experts and query LoRA. */
static ModelConfig mla_moe(void)
{
    ModelConfig c = {.arch = ARCH_DEEPSEEK_V2,
                     .attention = ATTENTION_MLA,
                     .V = VOCAB,
                     .C = 48,
                     .L = 3,
                     .H = 3,
                     .Hkv = 3,
                     .Rq = 20,
                     .Rkv = 24,
                     .Dn = 12,
                     .Dr = 8,
                     .Dv = 14,
                     .F = 72,
                     .E = 6,
                     .S = 1,
                     .K = 2,
                     .moe_F = 20,
                     .first_dense = 1,
                     .moe_freq = 1,
                     .topk = TOPK_GREEDY,
                     .score = SCORE_SOFTMAX,
                     .n_group = 1,
                     .topk_group = 1,
                     .routed_scale = 1.0f,
                     .eps = 1e-6f,
                     .rope = {.theta = 10000.0f, .interleaved = true},
                     .max_positions = 512,
                     .init_std = 0.15f,
                     .bos = 0,
                     .eos = 1};
    return c;
}

static ModelConfig gqa(void)
{
    ModelConfig c = {.arch = ARCH_QWEN2,
                     .attention = ATTENTION_GQA,
                     .V = VOCAB,
                     .C = 40,
                     .L = 2,
                     .H = 4,
                     .Hkv = 2,
                     .Dr = 10,
                     .Dv = 10,
                     .qkv_bias = true,
                     .F = 56,
                     .eps = 1e-6f,
                     .rope = {.theta = 10000.0f},
                     .max_positions = 512,
                     .tied = true,
                     .init_std = 0.15f,
                     .bos = 0,
                     .eos = 1};
    return c;
}

/* Experts as GShard's (few, wide, the two best, none shared) under plain heads that share one key and value head. */
static ModelConfig mqa_moe(void)
{
    ModelConfig c = mla_moe();
    c.arch = ARCH_DEEPSEEK, c.attention = ATTENTION_GQA, c.H = 4, c.Hkv = 1, c.Dn = 0, c.Dr = c.Dv = 12,
    c.Rq = c.Rkv = 0;
    c.E = 3, c.S = 0, c.K = 2, c.moe_F = 72, c.norm_topk = true, c.rope.interleaved = false;
    return c;
}

static DType precision;

/* Setup of a group of tests. */
static int in_f32(void **state)
{
    (void)state;
    precision = DTYPE_F32;
    return 0;
}

static int in_bf16(void **state)
{
    (void)state;
    precision = DTYPE_BF16;
    return 0;
}

typedef struct Setup {
    Machine machine;
    Policy *policy;
} Setup;

static Setup open_with(ModelConfig config, int threads, int chunk, size_t keep)
{
    Setup s;
    Status st = {0};
    RuntimeOptions o = runtime_defaults();
    o.threads = threads;
    o.chunk = chunk;
    o.dtype = precision;
    if (!config_validate(&config, &st) || !machine_open(&s.machine, &o, &st)) fail_msg("%s", st.text);
    s.policy = policy_new(machine_engine(&s.machine), &config, 7, NULL);
    s.policy->engine.keep_bytes = keep;
    return s;
}

static Setup setup(ModelConfig config)
{
    return open_with(config, 1, 4096, (size_t)1 << 30);
}

static void close_setup(Setup *s)
{
    policy_free(s->policy);
    machine_close(&s->machine);
}

/* n sequences of random ids with lengths around `length`. */
static void random_batch(BatchBuilder *b, int n, int length, uint64_t which)
{
    int32_t ids[512];
    Rng r = rng_stream(3, RNG_DATA, 1, which);
    batch_reset(b);
    for (int s = 0; s < n; s++) {
        int T = length / 2 + (int)rng_below(&r, (uint32_t)length);
        for (int i = 0; i < T; i++) ids[i] = (int32_t)rng_below(&r, VOCAB);
        batch_add(b, ids, T, 1);
    }
}

static TrainOut gradients(Setup *s, const BatchBuilder *b, const BalanceConfig *balance)
{
    float *weight = malloc((size_t)b->m * sizeof *weight);
    assert_non_null(weight);
    nll_weights_mean(weight, b->targets, b->m);
    NllLoss nll = {weight};
    Loss loss = nll_loss(&nll);
    TrainStep task = {.batch = batch_view(b),
                      .predict = batch_predictions(b),
                      .inv_temperature = 1.0f,
                      .loss = &loss,
                      .balance = balance};
    TrainOut out;
    policy_train_open(s->policy);
    train_gradients(&s->policy->engine, &s->policy->w, &s->policy->g, &task, &out);
    free(weight);
    return out;
}

/* Gradients of a batch of that many sequences (64: more than 4,096 predictions) under one set of circumstances. */
static float *gradients_under(ModelConfig config, int sequences, int threads, int chunk, size_t keep, long *chunks,
                              int *kept, double *loss)
{
    const BalanceConfig balance = {.expert = 0.01f, .devices = 1, .limit = 1};
    BatchBuilder b = {0};
    Setup s = open_with(config, threads, chunk, keep);
    random_batch(&b, sequences, 76, 1);
    assert_true(b.m > 64 * sequences);
    TrainOut out = gradients(&s, &b, config.E ? &balance : NULL);
    *loss = out.loss + out.aux;
    *chunks = s.policy->engine.chunks_run;
    *kept = s.policy->engine.layers_kept;
    size_t bytes = s.policy->engine.table.total * sizeof(float);
    float *copy = malloc(bytes);
    assert_non_null(copy);
    memcpy(copy, s.policy->grads, bytes);
    batch_free(&b);
    close_setup(&s);
    return copy;
}

static void expect_same(const char *what, ModelConfig config, const float *a, const float *b)
{
    ParamTable t = params_build(&config);
    for (int i = 0; i < t.n; i++)
        if (memcmp(a + t.params[i].offset, b + t.params[i].offset, t.params[i].count * sizeof(float)))
            fail_msg("%s: the gradient of %s differs", what, t.params[i].name);
    params_free(&t);
}

static void invariance_of(ModelConfig config)
{
    const struct {
        const char *what;
        int threads, chunk;
        size_t keep;
    } others[] = {
        {"one thread", 1, 4096, (size_t)1 << 30},
        {"head chunks of 1,024", 2, 1024, (size_t)1 << 30},
        {"every layer recomputed", 2, 4096, 0},
    };
    long chunks, other_chunks;
    int kept, other_kept;
    double loss, other_loss;
    float *want = gradients_under(config, 64, 2, 4096, (size_t)1 << 30, &chunks, &kept, &loss);
    assert_int_equal(kept, config.L);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        float *got = gradients_under(config, 64, others[i].threads, others[i].chunk, others[i].keep, &other_chunks,
                                     &other_kept, &other_loss);
        expect_same(others[i].what, config, got, want);
        assert_true(other_loss == loss);
        assert_true((others[i].chunk == 1024) == (other_chunks > chunks));
        assert_int_equal(other_kept, others[i].keep ? config.L : 0);
        free(got);
    }
    free(want);
}

static void invariance(void **state)
{
    (void)state;
    invariance_of(mla_moe());
    invariance_of(gqa());
}

/* All circumstances at once, and fewer tokens: it takes long. */
static void invariance_bf16(void **state)
{
    (void)state;
    ModelConfig configs[] = {mla_moe(), gqa()};
    for (int k = 0; k < 2; k++) {
        long chunks, other_chunks;
        int kept, other_kept;
        double loss, other_loss;
        float *want = gradients_under(configs[k], 28, 2, 4096, (size_t)1 << 30, &chunks, &kept, &loss);
        float *got = gradients_under(configs[k], 28, 1, 1024, 0, &other_chunks, &other_kept, &other_loss);
        expect_same("one thread, small chunks, recomputed", configs[k], got, want);
        assert_true(other_loss == loss && chunks == 1 && other_chunks == 2 && kept == configs[k].L && other_kept == 0);
        free(want), free(got);
    }
}

/* A sequence's log-probs do not depend on its neighbours in the batch. */
static void batch_invariance(void **state)
{
    (void)state;
    ModelConfig configs[] = {mla_moe(), gqa()};
    for (int k = 0; k < 2; k++) {
        Setup s = setup(configs[k]);
        BatchBuilder all = {0}, one = {0};
        random_batch(&all, 9, 90, 2);
        float *lp = malloc((size_t)all.m * sizeof *lp), *alone = malloc((size_t)all.m * sizeof *lp);
        Predictions p = batch_predictions(&all);
        train_log_probs(&s.policy->engine, &s.policy->w, batch_view(&all), &p, 1.0f, lp, NULL);
        for (int i = 0, from = 0; i < all.nseq; i++) {
            int T = all.offsets[i + 1] - all.offsets[i];
            batch_reset(&one);
            batch_add(&one, all.ids + all.offsets[i], T, 1);
            p = batch_predictions(&one);
            train_log_probs(&s.policy->engine, &s.policy->w, batch_view(&one), &p, 1.0f, alone, NULL);
            assert_memory_equal(alone, lp + from, (size_t)(T - 1) * sizeof *lp);
            from += T - 1;
        }
        free(lp), free(alone);
        batch_free(&all), batch_free(&one);
        close_setup(&s);
    }
}

enum { PROMPTS = 5, SAMPLES = 4, MAX_TOKENS = 70 };

typedef struct Prompts {
    int32_t ids[PROMPTS][150];
    RolloutPrompt list[PROMPTS];
} Prompts;

/* Lengths before, at and after the borders of cache pages. */
static void make_prompts(Prompts *p)
{
    const int lengths[PROMPTS] = {3, 64, 65, 1, 130};
    for (int i = 0; i < PROMPTS; i++) {
        Rng r = rng_stream(5, RNG_DATA, 2, (uint64_t)i);
        for (int j = 0; j < lengths[i]; j++) p->ids[i][j] = (int32_t)rng_below(&r, VOCAB);
        p->list[i] = (RolloutPrompt){p->ids[i], lengths[i], (uint32_t)(100 + i)};
    }
}

static RolloutSpec spec_of(int slots, float temperature, CacheKind cache)
{
    static const int32_t stop = 1;
    return (RolloutSpec){.slots = slots,
                         .samples = SAMPLES,
                         .max_tokens = MAX_TOKENS,
                         .cache = cache,
                         .sampling = {.temperature = temperature, .top_p = 1.0f},
                         .stops = &stop,
                         .n_stops = 1,
                         .seed = 11,
                         .stage = 2,
                         .step = 3,
                         .purpose = RNG_ROLLOUT};
}

static RolloutStats sample(Setup *s, const RolloutSpec *spec, const RolloutPrompt *prompts, int n, Completion *out)
{
    Status st = {0};
    RolloutStats stats;
    if (!rollout_run(s->policy->sampler, &s->policy->w, spec, prompts, n, out, &stats, &st)) fail_msg("%s", st.text);
    return stats;
}

/* Sampler's log-probs against the trainer's, which sees the completions as one batch. */
typedef struct Gap {
    double most, rms;
} Gap;

static Gap gap_of(Setup *s, const RolloutPrompt *prompts, const Completion *c, float temperature)
{
    BatchBuilder b = {0};
    int32_t ids[150 + MAX_TOKENS];
    for (int i = 0; i < PROMPTS * SAMPLES; i++) {
        const RolloutPrompt *p = &prompts[i / SAMPLES];
        memcpy(ids, p->ids, (size_t)p->n * sizeof *ids);
        memcpy(ids + p->n, c[i].ids, (size_t)c[i].n * sizeof *ids);
        batch_add(&b, ids, p->n + c[i].n, p->n);
    }
    float *lp = malloc((size_t)b.m * sizeof *lp);
    Predictions predict = batch_predictions(&b);
    train_log_probs(&s->policy->engine, &s->policy->w, batch_view(&b), &predict, 1.0f / temperature, lp, NULL);
    Gap gap = {0, 0};
    int at = 0;
    for (int i = 0; i < PROMPTS * SAMPLES; i++)
        for (int t = 0; t < c[i].n; t++, at++) {
            double d = fabs((double)lp[at] - c[i].logprobs[t]);
            gap.most = fmax(gap.most, d);
            gap.rms += d * d;
        }
    gap.rms = sqrt(gap.rms / at);
    free(lp);
    batch_free(&b);
    return gap;
}

/* Prompts that the model has no row or no position for, and log-probs that are no numbers, are sentences; a completion ends at
 * the last position. */
static void rollout_gate(void **state)
{
    (void)state;
    Setup s = setup(gqa());
    RolloutSpec spec = spec_of(3, 1.0f, CACHE_EXACT);
    spec.samples = 1;
    static int32_t ids[600];
    Completion out;
    Status st = {0};
    const struct {
        int n;
        int32_t last;
        const char *said;
    } bad[] = {{5, VOCAB, "id 61"}, {5, -1, "id -1"}, {512, 3, "has 512 tokens"}, {0, 0, "empty"}};
    for (int i = 0; i < 4; i++) {
        if (bad[i].n) ids[bad[i].n - 1] = bad[i].last;
        RolloutPrompt prompt = {ids, bad[i].n, 0};
        status_clear(&st);
        assert_false(rollout_run(s.policy->sampler, &s.policy->w, &spec, &prompt, 1, &out, NULL, &st));
        assert_non_null(strstr(st.text, bad[i].said));
        if (bad[i].n) ids[bad[i].n - 1] = 3;
    }
    status_clear(&st);
    spec.n_stops = 0;
    RolloutPrompt prompt = {ids, 500, 0};
    assert_true(rollout_run(s.policy->sampler, &s.policy->w, &spec, &prompt, 1, &out, NULL, &st));
    assert_true(out.n == 12 && out.truncated);
    ModelConfig c = gqa();
    ParamTable t = params_build(&c);
    float *block = memory_block(t.total * sizeof *block);
    params_init(&t, &c, block, 7);
    const Param *norm = &t.params[params_find(&t, PARAM_NORM, -1, -1)];
    for (size_t i = 0; i < norm->count; i++) block[norm->offset + i] = NAN;
    params_free(&t);
    policy_free(s.policy);
    s.policy = policy_new(machine_engine(&s.machine), &c, 7, block);
    assert_false(rollout_run(s.policy->sampler, &s.policy->w, &spec, &prompt, 1, &out, NULL, &st));
    assert_non_null(strstr(st.text, "not finite"));
    close_setup(&s);
}

static void rollout_gap(void **state)
{
    (void)state;
    ModelConfig configs[] = {mla_moe(), gqa(), mqa_moe()};
    const int slots[] = {1, 3, 20};
    const float temperatures[] = {1.0f, 0.7f, 1.3f};
    Prompts p;
    make_prompts(&p);
    for (int k = 0; k < 3; k++) {
        Setup s = setup(configs[k]);
        for (int i = 0; i < 3; i++) {
            Completion out[PROMPTS * SAMPLES];
            RolloutSpec spec = spec_of(slots[i], temperatures[i], CACHE_EXACT);
            RolloutStats stats = sample(&s, &spec, p.list, PROMPTS, out);
            assert_true(gap_of(&s, p.list, out, temperatures[i]).most == 0.0);
            assert_true(stats.occupancy > 0.9);
        }
        close_setup(&s);
    }
}

/* The samples of a prompt are the same whatever the slots and the other prompts. */
static void rollout_neighbours(void **state)
{
    (void)state;
    const int slots[] = {1, 2, 7, 20};
    Prompts p;
    make_prompts(&p);
    Setup s = setup(mla_moe()), alone = open_with(mla_moe(), 2, 1024, 0);
    Completion all[PROMPTS * SAMPLES], one[SAMPLES];
    RolloutSpec spec = spec_of(20, 1.0f, CACHE_EXACT);
    sample(&s, &spec, p.list, PROMPTS, all);
    int stopped = 0;
    for (int i = 0; i < PROMPTS; i++) {
        spec = spec_of(slots[i % 4], 1.0f, CACHE_EXACT);
        sample(&alone, &spec, &p.list[i], 1, one);
        for (int g = 0; g < SAMPLES; g++) {
            const Completion *want = &all[i * SAMPLES + g];
            assert_int_equal(one[g].n, want->n);
            assert_int_equal(one[g].truncated, want->truncated);
            assert_memory_equal(one[g].ids, want->ids, (size_t)want->n * sizeof *want->ids);
            assert_memory_equal(one[g].logprobs, want->logprobs, (size_t)want->n * sizeof *want->logprobs);
            assert_true(want->truncated ? want->n == MAX_TOKENS : want->ids[want->n - 1] == 1);
            stopped += !want->truncated;
        }
    }
    assert_true(stopped > 0 && stopped < PROMPTS * SAMPLES);
    close_setup(&s);
    close_setup(&alone);
}

/* The latent cache computes the same model in another order: the trainer's log-probs of its samples agree within
 * rounding. */
static void latent_gap(void **state)
{
    (void)state;
    Prompts p;
    make_prompts(&p);
    Setup s = setup(mla_moe());
    Completion out[PROMPTS * SAMPLES];
    RolloutSpec spec = spec_of(6, 1.0f, CACHE_LATENT);
    RolloutStats latent = sample(&s, &spec, p.list, PROMPTS, out);
    Gap gap = gap_of(&s, p.list, out, 1.0f);
    double allowed = precision == DTYPE_BF16 ? TOL_LATENT_BF16_RMS : TOL_LATENT_LOGPROBS;
    double is = precision == DTYPE_BF16 ? gap.rms : gap.most;
    if (!(is > 0 && is < allowed)) fail_msg("gap %.3g", is);
    spec.cache = CACHE_EXACT;
    RolloutStats exact = sample(&s, &spec, p.list, PROMPTS, out);
    assert_true(latent.cache_bytes * 2 < exact.cache_bytes);
    close_setup(&s);
}

static void overfit(void **state)
{
    (void)state;
    ModelConfig configs[] = {mla_moe(), gqa()};
    const OptimizerConfig adam = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .max_norm = 1.0f};
    for (int k = 0; k < 2; k++) {
        Setup s = setup(configs[k]);
        BatchBuilder b = {0};
        random_batch(&b, 4, 24, 3);
        double first = 0, last = 0;
        for (int step = 0; step < 120; step++) {
            Status st = {0};
            double norm;
            last = gradients(&s, &b, NULL).loss;
            if (step == 0) first = last;
            assert_true(policy_update(s.policy, &adam, 1e-2f, &norm, &st));
        }
        if (!(first > 3.5 && last < 0.1)) fail_msg("%s: %.3f -> %.3f", arch_name(configs[k].arch), first, last);
        batch_free(&b);
        close_setup(&s);
    }
}

/* Central differences: a step in one weight of each kind of tensor, the routing kept as it is by a small step. */
static void differences(void **state)
{
    (void)state;
    ModelConfig configs[] = {mla_moe(), gqa(), mqa_moe()};
    const BalanceConfig balance = {.expert = 0.5f, .devices = 1, .limit = 1};
    for (int k = 0; k < 3; k++) {
        Setup s = setup(configs[k]);
        const ParamTable *t = &s.policy->engine.table;
        const BalanceConfig *b = configs[k].E ? &balance : NULL;
        BatchBuilder batch = {0};
        random_batch(&batch, 5, 40, 4);
        float *g = malloc(t->total * sizeof *g);
        gradients(&s, &batch, b);
        memcpy(g, s.policy->grads, t->total * sizeof *g);
        for (int i = 0; i < t->n; i++) {
            const Param *p = &t->params[i];
            if (p->layer > 1 || p->expert > 1) continue;
            size_t at = p->offset; /* the coordinate with the largest gradient is measured best */
            for (size_t j = 0; j < p->count; j++)
                if (fabsf(g[p->offset + j]) > fabsf(g[at])) at = p->offset + j;
            float *w = &s.policy->weights.plain[at], before = *w, h = 2e-3f * fmaxf(fabsf(before), 0.3f);
            double value[2];
            for (int side = 0; side < 2; side++) {
                *w = side ? before + h : before - h;
                policy_weights_changed(s.policy);
                TrainOut out = gradients(&s, &batch, b);
                value[side] = out.loss + out.aux;
            }
            float width = (before + h) - (before - h);
            *w = before;
            double slope = (value[1] - value[0]) / width;
            if (!(fabs(slope - g[at]) <= TOL_DIFFERENCES * fmax(fabs(g[at]), 1e-3)))
                fail_msg("%s[%zu]: gradient %.6g, differences %.6g", p->name, at - p->offset, g[at], slope);
        }
        free(g);
        batch_free(&batch);
        close_setup(&s);
    }
}

/* Once the largest step was seen, a step asks the system for nothing. */
static void no_allocation(void **state)
{
    (void)state;
    Prompts p;
    make_prompts(&p);
    Setup s = setup(mla_moe());
    BatchBuilder large = {0}, small = {0};
    random_batch(&large, 12, 80, 5);
    random_batch(&small, 5, 60, 6);
    const OptimizerConfig adam = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .max_norm = 1.0f};
    Completion out[PROMPTS * SAMPLES];
    RolloutSpec spec = spec_of(6, 1.0f, CACHE_EXACT);
    size_t peak = 0;
    size_t held = 0;
    for (int step = 0; step < 15; step++) {
        Status st = {0};
        double norm;
        if (step == 3) {
            peak = s.policy->engine.arena.peak + s.policy->engine.host.peak;
            held = mallinfo2().uordblks + mallinfo2().hblkhd;
        }
        sample(&s, &spec, p.list, step == 0 ? PROMPTS : PROMPTS - 1, out);
        gradients(&s, step % 2 ? &small : &large, NULL);
        assert_true(policy_update(s.policy, &adam, 1e-3f, &norm, &st));
    }
    assert_int_equal(s.policy->engine.arena.peak + s.policy->engine.host.peak, peak);
    size_t now = mallinfo2().uordblks + mallinfo2().hblkhd;
    if (now != held) fail_msg("%zu bytes held before the last steps, %zu after", held, now);
    batch_free(&large);
    batch_free(&small);
    close_setup(&s);
}

/* What lies in the allocator's thread caches counts as held: pieces that the OpenMP runtime's aligned blocks leave over come and
 * go there. They are switched off, which only the environment of a new program can. */
static void count_exactly(char **argv)
{
    if (!getenv("GLIBC_TUNABLES") && !setenv("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0", 1))
        execv("/proc/self/exe", argv);
}

int main(int argc, char **argv)
{
    (void)argc;
    count_exactly(argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(invariance),         cmocka_unit_test(batch_invariance), cmocka_unit_test(rollout_gap),
        cmocka_unit_test(rollout_neighbours), cmocka_unit_test(latent_gap),       cmocka_unit_test(overfit),
        cmocka_unit_test(differences),        cmocka_unit_test(no_allocation),    cmocka_unit_test(rollout_gate),
    };
    const struct CMUnitTest bf16[] = {
        cmocka_unit_test(invariance_bf16),    cmocka_unit_test(batch_invariance), cmocka_unit_test(rollout_gap),
        cmocka_unit_test(rollout_neighbours), cmocka_unit_test(latent_gap),       cmocka_unit_test(overfit),
        cmocka_unit_test(no_allocation),
    };
    int failed = cmocka_run_group_tests(tests, in_f32, NULL);
    return failed + cmocka_run_group_tests(bf16, in_bf16, NULL);
}
