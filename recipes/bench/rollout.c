/* Sampling rows: decoding by batch size and cache, prefill, and a whole GRPO step. Completions never end early. */
#include <stdlib.h>

#include "core/base/check.h"
#include "core/base/clock.h"
#include "core/losses/grpo.h"
#include "core/scalar_head.h"
#include "core/batches.h"
#include "recipes/bench/bench.h"

typedef struct Roll {
    Policy *policy;
    RolloutSpec spec;
    RolloutPrompt *prompts;
    int32_t *ids;
    Completion *out;
    int n, length; /* prompts, tokens of each */
    double active;
} Roll;

static void roll_close(Roll *r)
{
    policy_free(r->policy);
    free(r->prompts);
    free(r->ids);
    free(r->out);
}

static bool roll_open(Roll *r, Bench *b, const BenchCase *c, int blocks, Status *st)
{
    int total = c->sequences * c->samples;
    r->policy = bench_policy(b, c, blocks, (size_t)total * (size_t)(c->length + c->tokens) << 14, st);
    if (!r->policy) return false;
    r->n = c->sequences;
    r->length = c->length;
    r->active = bench_active(r->policy);
    r->ids = bench_tokens(&r->policy->config, (size_t)c->sequences * (size_t)c->length, 11);
    r->prompts = calloc((size_t)c->sequences, sizeof *r->prompts);
    r->out = calloc((size_t)total, sizeof *r->out);
    CHECK(r->prompts && r->out);
    for (int i = 0; i < c->sequences; i++)
        r->prompts[i] = (RolloutPrompt){r->ids + (size_t)i * (size_t)c->length, c->length, (uint32_t)i};
    r->spec = (RolloutSpec){.slots = total,
                            .samples = c->samples,
                            .max_tokens = c->tokens,
                            .cache = c->cache,
                            .sampling = {.temperature = 1.0f, .top_p = 1.0f},
                            .seed = 1,
                            .purpose = RNG_ROLLOUT};
    return true;
}

static bool roll_out(Roll *r, int tokens, Status *st)
{
    r->spec.max_tokens = tokens;
    r->spec.step++;
    return rollout_run(r->policy->sampler, &r->policy->w, &r->spec, r->prompts, r->n, r->out, NULL, st);
}

/* Forward FLOPs of tokens `from` to `to` of every completion, each attending to what comes before it. */
static double decode_flops(const Roll *r, int from, int to)
{
    const ModelConfig *c = &r->policy->config;
    double sequences = (double)r->n * r->spec.samples;
    return sequences * (2 * r->active * (to - from) + bench_attention_flops(c, 1, r->length + to) -
                        bench_attention_flops(c, 1, r->length + from));
}

/* ---- decode: the time of all steps behind the prefill and the first token */

typedef struct Decode {
    Roll roll;
    int tokens, seen;   /* tokens to time; of the run in progress, all that came */
    double first_token; /* when every sequence had its first */
} Decode;

static void decode_token(void *self, int item, int32_t id)
{
    (void)item, (void)id;
    Decode *d = self;
    if (++d->seen == d->roll.n * d->roll.spec.samples) d->first_token = clock_seconds();
}

static void *decode_open(Bench *b, const BenchCase *c, Status *st)
{
    Decode *d = calloc(1, sizeof *d);
    CHECK(d != NULL);
    d->tokens = b->quick && c->large ? c->tokens / 8 : c->tokens;
    if (roll_open(&d->roll, b, c, 1, st)) {
        d->roll.spec.on_token = decode_token;
        d->roll.spec.on_token_ctx = d;
        return d;
    }
    free(d);
    return NULL;
}

/* Short prompts: what is decoded behind them meets the memory that it will work in. */
static bool decode_warm(void *self, Status *st)
{
    enum { WARM_TOKENS = 8 };
    Decode *d = self;
    Roll *r = &d->roll;
    for (int i = 0; i < r->n; i++) r->prompts[i].n = r->length < WARM_TOKENS ? r->length : WARM_TOKENS;
    bool ok = roll_out(r, d->tokens + 1, st);
    for (int i = 0; i < r->n; i++) r->prompts[i].n = r->length;
    return ok;
}

static bool decode_run(void *self, BenchWork *out, Status *st)
{
    Decode *d = self;
    Roll *r = &d->roll;
    d->seen = 0;
    if (!roll_out(r, d->tokens + 1, st)) return false;
    double sequences = (double)r->n * r->spec.samples;
    *out = (BenchWork){.tokens = sequences * d->tokens,
                       .flops = decode_flops(r, 0, d->tokens),
                       .seconds = clock_seconds() - d->first_token};
    size_t cached = kv_cache_token_bytes(&r->policy->config, r->spec.cache, r->policy->engine.dtype);
    double rows = sequences * d->tokens * (r->length + d->tokens / 2.0);
    double weights = r->active * (double)dtype_size(r->policy->engine.dtype);
    out->bytes = d->tokens * weights + rows * (double)cached; /* weights once a step, each row's cache */
    return true;
}

static void decode_close(void *self)
{
    Decode *d = self;
    roll_close(&d->roll);
    free(d);
}

/* The bound is the larger one of the two times; bench_run decides. */
const BenchKind bench_decode = {decode_open, decode_warm, decode_run, decode_close, BOUND_READ, true};

/* ---- prefill: the prompts and one token each */

static double prefill_flops(const Roll *r)
{
    const ModelConfig *c = &r->policy->config;
    double head = (double)c->V * c->C;
    return 2 * (r->active - head) * r->length + 2 * head + bench_attention_flops(c, 1, r->length);
}

static void *prefill_open(Bench *b, const BenchCase *c, Status *st)
{
    enum { RUNS = 2 }; /* the first meets the memory */
    Decode *d = decode_open(b, c, st);
    if (d) d->roll.n = bench_sequences(b, c, prefill_flops(&d->roll), RUNS);
    return d;
}

static bool prefill_run(void *self, BenchWork *out, Status *st)
{
    Roll *r = &((Decode *)self)->roll;
    if (!roll_out(r, 1, st)) return false;
    *out = (BenchWork){.tokens = (double)r->n * r->length, .flops = r->n * prefill_flops(r)};
    return true;
}

const BenchKind bench_prefill = {prefill_open, NULL, prefill_run, decode_close, BOUND_FLOP, true};

/* ---- one GRPO step: rollout, rewards, the reference's log-probs, update */

typedef struct Grpo {
    Roll roll;
    GrpoConfig config;
    BatchBuilder batch;
    float *weight, *advantage, *old_lp, *ref_lp, *ratio, *kl, *scores;
    uint8_t *flags;
    int *lengths;
    Policy *critic; /* PPO's; NULL: GRPO */
    float *value, *returns;
} Grpo;

static void *grpo_open(Bench *b, const BenchCase *c, Status *st)
{
    Grpo *g = calloc(1, sizeof *g);
    CHECK(g != NULL);
    if (!roll_open(&g->roll, b, c, 5, st)) {
        free(g);
        return NULL;
    }
    policy_train_open(g->roll.policy);
    policy_reference_set(g->roll.policy);
    g->config = (GrpoConfig){.kind = GRPO_TOKEN,
                             .clip_low = 0.2f,
                             .clip_high = 0.2f,
                             .beta = 0.04f,
                             .estimator = KL_K3,
                             .log_clamp = 20.0f,
                             .max_length = c->tokens};
    size_t total = (size_t)c->sequences * (size_t)c->samples, m = total * (size_t)c->tokens;
    float **lists[] = {&g->weight, &g->advantage, &g->old_lp, &g->ref_lp, &g->ratio, &g->kl, &g->scores};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) CHECK((*lists[i] = calloc(m, sizeof(float))) != NULL);
    g->flags = calloc(m, 1);
    g->lengths = calloc(total, sizeof *g->lengths);
    CHECK(g->flags && g->lengths);
    return g;
}

/* The same step by PPO: a critic of the policy's size in place of the group. */
static void *ppo_open(Bench *b, const BenchCase *c, Status *st)
{
    Grpo *g = grpo_open(b, c, st);
    if (!g) return NULL;
    size_t m = (size_t)c->sequences * (size_t)c->samples * (size_t)c->tokens;
    ModelConfig config = g->roll.policy->config;
    config.head = HEAD_SCALAR;
    g->config.kind = GRPO_PPO;
    g->critic = policy_new(machine_engine(&b->machine), &config, 6, NULL);
    policy_train_open(g->critic);
    g->value = calloc(m, sizeof *g->value);
    g->returns = calloc(m, sizeof *g->returns);
    CHECK(g->value && g->returns);
    return g;
}

/* Advantages of tokens by the critic, and its update. */
static bool criticise(Grpo *g, Batch batch, const Predictions *predict, Status *st)
{
    Policy *c = g->critic;
    float *reward = calloc((size_t)predict->M, sizeof *reward);
    CHECK(reward != NULL);
    scalar_row_values(&c->engine, &c->w, batch, predict->rows, predict->M, g->value);
    for (int i = 0, at = 0; i < batch.nseq; at += g->lengths[i++]) {
        reward[at + g->lengths[i] - 1] = g->scores[i];
        ppo_gae(g->advantage + at, g->returns + at, reward + at, g->value + at, g->lengths[i], 1, 0.95);
    }
    ppo_whiten(g->advantage, g->weight, predict->M);
    free(reward);
    ValueStep step = {
        .batch = batch, .rows = predict->rows, .n = predict->M, .loss = {0.2f, g->weight, g->value, g->returns}};
    ScalarOut out;
    value_gradients(&c->engine, &c->w, &c->g, &step, &out);
    OptimizerConfig adamw = {.beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .max_norm = 1.0f};
    return policy_update(c, &adamw, 1e-5f, NULL, st);
}

/* The reward: the share of even ids. Any group then has a signal, and it costs nothing. */
static float reward_of(const Completion *c)
{
    int even = 0;
    for (int i = 0; i < c->n; i++) even += c->ids[i] % 2 == 0;
    return (float)even / (float)c->n;
}

static void fill_batch(Grpo *g)
{
    Roll *r = &g->roll;
    int G = r->spec.samples, total = r->n * G;
    int32_t *sequence = malloc((size_t)(r->length + r->spec.max_tokens) * sizeof *sequence);
    float *advantage = malloc((size_t)total * sizeof *advantage), *weight = malloc((size_t)total * sizeof *weight);
    CHECK(sequence && advantage && weight);
    for (int i = 0; i < total; i++) {
        g->scores[i] = reward_of(&r->out[i]);
        g->lengths[i] = r->out[i].n;
    }
    for (int p = 0; p < r->n; p++) grpo_advantages(advantage + p * G, g->scores + p * G, G, true);
    grpo_token_weights(weight, &g->config, g->lengths, total);
    batch_reset(&g->batch);
    for (int i = 0; i < total; i++) {
        const Completion *c = &r->out[i];
        for (int k = 0; k < r->length; k++) sequence[k] = r->prompts[i / G].ids[k];
        for (int k = 0; k < c->n; k++) sequence[r->length + k] = c->ids[k];
        int at = batch_add(&g->batch, sequence, r->length + c->n, r->length);
        for (int k = 0; k < c->n; k++) {
            g->weight[at + k] = weight[i];
            g->advantage[at + k] = advantage[i];
            g->old_lp[at + k] = c->logprobs[k];
        }
    }
    free(sequence);
    free(advantage);
    free(weight);
}

static bool grpo_run(void *self, BenchWork *out, Status *st)
{
    Grpo *g = self;
    Roll *r = &g->roll;
    Policy *p = r->policy;
    if (!roll_out(r, g->config.max_length, st)) return false;
    fill_batch(g);
    Batch batch = batch_view(&g->batch);
    Predictions predict = batch_predictions(&g->batch);
    if (g->critic && !criticise(g, batch, &predict, st)) return false;
    train_log_probs(&p->engine, &p->ref, batch, &predict, 1.0f, g->ref_lp, NULL);
    GrpoLoss ctx = {.config = g->config,
                    .weight = g->weight,
                    .advantage = g->advantage,
                    .old_lp = g->old_lp,
                    .ref_lp = g->ref_lp,
                    .ratio = g->ratio,
                    .kl = g->kl,
                    .flags = g->flags};
    Loss loss = grpo_loss(&ctx);
    TrainStep task = {.batch = batch, .predict = predict, .inv_temperature = 1, .loss = &loss};
    TrainOut result;
    train_gradients(&p->engine, &p->w, &p->g, &task, &result);
    OptimizerConfig adamw = {.beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .max_norm = 1.0f};
    if (!policy_update(p, &adamw, 1e-6f, NULL, st)) return false;
    int T = r->length + g->config.max_length;
    double forward = 2 * r->active * batch.N + bench_attention_flops(&p->config, batch.nseq, T);
    double prefill = 2 * r->active * r->n * r->length + bench_attention_flops(&p->config, r->n, r->length);
    *out = (BenchWork){.tokens = predict.M,
                       .flops = (g->critic ? 8 : 4) * forward + prefill + decode_flops(r, 0, g->config.max_length)};
    return true;
}

static void grpo_close(void *self)
{
    Grpo *g = self;
    policy_free(g->critic); /* before the machine's policy, as it was opened after it */
    roll_close(&g->roll);
    free(g->value);
    free(g->returns);
    batch_free(&g->batch);
    float *lists[] = {g->weight, g->advantage, g->old_lp, g->ref_lp, g->ratio, g->kl, g->scores};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) free(lists[i]);
    free(g->flags);
    free(g->lengths);
    free(g);
}

const BenchKind bench_ppo = {ppo_open, NULL, grpo_run, grpo_close, BOUND_FLOP, true};
const BenchKind bench_grpo = {grpo_open, NULL, grpo_run, grpo_close, BOUND_FLOP, true};
