/* Peak memory of a step: blocks by the parameter table, the rest by a run that computes nothing. */
#include "recipes/plan/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "checkpoints/part_state.h"
#include "core/base/check.h"
#include "core/ops/ops_clocked.h"
#include "core/ops/ops_dry.h"
#include "core/optimizer.h"
#include "core/params_select.h"
#include "core/rollout/rollout_need.h"
#include "core/scalar_head.h"
#include "core/train.h"
#include "cpu/memory_need.h"
#include "core/batches.h"
#include "recipes/model/placing.h"
#include "recipes/model/train_select.h"
#include "recipes/plan/rates.h"

/* A model on a backend that computes nothing. Its weights are addresses without memory. */
typedef struct Dry {
    OpTimes *times; /* NULL: a device's, which counts its memory */
    Engine engine;
    char *block;
    size_t block_bytes;
    WeightBlock weights; /* in it */
    Weights w, g;
} Dry;

static bool table_select(ParamTable *t, const PlanWork *w, Status *st)
{
    params_moments(t, w->moments);
    return !w->train || train_select(t, w->train, st);
}

static bool dry_open(Dry *d, const Machine *m, const PlanWork *w, size_t keep_bytes, bool counts, Status *st)
{
    const ModelConfig *c = w->config;
    const Ops *ops;
    Backend *b = counts ? machine_counts(m, &ops, st) : ops_dry_open(&ops, &m->ops->device);
    if (!b) return false;
    d->times = counts ? NULL : ops_clocked_open(&ops, &b);
    int chunk = m->options.chunk ? m->options.chunk : 4096;
    engine_open(&d->engine, c, &(EngineOptions){ops, b, m->options.dtype, chunk, keep_bytes});
    size_t total = d->engine.table.total;
    WeightBytes bytes = weight_bytes(&d->engine.table, total, m->options.dtype);
    d->block_bytes = weight_bytes_sum(bytes) > total * sizeof(float) ? weight_bytes_sum(bytes) : total * sizeof(float);
    d->block = mmap(NULL, d->block_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (d->block == MAP_FAILED || !table_select(&d->engine.table, w, st)) {
        if (d->block != MAP_FAILED) munmap(d->block, d->block_bytes);
        engine_close(&d->engine);
        ops->close(b);
        if (!st->failed)
            fail(st, "a model of %.1f GB is more than this machine can address", (double)d->block_bytes / 1e9);
        return false;
    }
    d->weights = (WeightBlock){.plain = (float *)d->block};
    if (bytes.high) d->weights.high = (uint16_t *)(d->block + bytes.plain);
    if (bytes.low) d->weights.low = (uint16_t *)(d->block + bytes.plain + bytes.high);
    d->w = weights_view(c, &d->engine.table, &d->weights);
    d->g = weights_view_gradients(c, &d->engine.table, (float *)d->block);
    return true;
}

static void dry_close(Dry *d)
{
    weights_free(&d->w);
    weights_free(&d->g);
    munmap(d->block, d->block_bytes);
    const Ops *ops = d->engine.ops;
    Backend *b = d->engine.backend;
    engine_close(&d->engine);
    ops->close(b);
}

static void no_loss(void *ctx, const LossRows *in, const LossGrads *out)
{
    (void)ctx;
    memset(out->loss, 0, (size_t)in->n * sizeof *out->loss);
}

static void batch_of(BatchBuilder *b, const PlanWork *w)
{
    int32_t *ids = calloc((size_t)w->length, sizeof *ids);
    CHECK(ids != NULL);
    for (int i = 0; i < w->sequences; i++) batch_add(b, ids, w->length, w->length - w->predicted);
    free(ids);
}

static RolloutSize size_of(const PlanRollout *r)
{
    return (RolloutSize){.prompts = r->prompts,
                         .longest = r->prompt_length,
                         .samples = r->samples,
                         .slots = r->slots,
                         .max_tokens = r->tokens,
                         .draft = r->draft};
}

static void dry_rollout(Dry *d, const ModelConfig *c, const PlanRollout *r)
{
    KvCache cache = {.kind = r->cache, .config = c, .layers = c->L, .dtype = d->engine.dtype, .pages = d->block};
    RolloutSize size = size_of(r);
    rollout_dry(&d->engine, &d->w, &size, &cache);
}

/* The ops of a step, its FLOPs and, by rates, its seconds. out: NULL: not wanted. */
static void note_times(Plan *p, const PlanWork *w, const OpTimes *t, PlanOps *out)
{
    PlanOps *ops = out ? out : malloc(sizeof *ops);
    CHECK(ops);
    const OpTime *list = ops_clocked_list(t, &ops->n);
    memcpy(ops->list, list, (size_t)ops->n * sizeof *list);
    p->flops = 0;
    for (int i = 0; i < ops->n; i++) p->flops += list[i].flops;
    if (w->rates && w->trains) {
        p->step_tokens = (double)w->sequences * w->length;
        p->step_seconds = rates_seconds(w->rates, ops, w->config, p->step_tokens);
        p->at_peaks = w->rates->at_peaks;
        p->emulated = w->rates->emulated;
    }
    if (!out) free(ops);
}

/* The two moments of what is trained, and what an update widens them in. */
static size_t moments_bytes(const ParamTable *t)
{
    return 2 * t->moment_total + optimizer_scratch(t);
}

/* The most that a dry engine took: of its arenas; on a device all but the model's blocks. */
static size_t most_of(const Dry *d)
{
    const Engine *e = &d->engine;
    return d->times ? e->arena.peak + e->host.peak : e->ops->bytes(e->backend);
}

/* What a device's update takes beside the blocks. */
static void dry_update(Dry *d, Status *st)
{
    ParamBlocks blocks = {.w = d->weights, .m = d->block, .v = d->block, .g = (float *)d->block};
    OptimizerConfig o = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .max_norm = 1};
    optimizer_step(&d->engine, &blocks, &o, (AdamWStep){1, 0}, NULL, st);
}

static size_t dry_on(Plan *p, const Machine *m, const PlanWork *w, size_t keep_bytes, PlanOps *ops, bool counts,
                     Status *st)
{
    Dry d;
    if (!dry_open(&d, m, w, keep_bytes, counts, st)) return 0;
    Engine *e = &d.engine;
    BatchBuilder b = {0};
    if (w->watch) {
        w->watch->times = d.times;
        w->watch->table = &e->table;
        weights_keep(&d.w, &w->watch->keeper);
    }
    for (int i = 0; i < w->n_rollouts; i++) dry_rollout(&d, w->config, &w->rollouts[i]);
    if (w->sequences) {
        batch_of(&b, w);
        Predictions predict = batch_predictions(&b);
        Loss loss = {.eval = no_loss};
        TrainStep task = {.batch = batch_view(&b),
                          .predict = predict,
                          .inv_temperature = 1,
                          .loss = &loss,
                          .balance = w->balance,
                          .reference = w->exact_kl ? &d.w : NULL,
                          .entropy = w->entropy,
                          .mtp = w->mtp};
        TrainOut out;
        float *lp = malloc((size_t)predict.M * sizeof *lp);
        CHECK(lp != NULL);
        if (d.times) ops_clocked_reset(d.times);
        if (!w->trains || (w->reference && !w->exact_kl))
            train_log_probs(e, &d.w, task.batch, &predict, 1.0f, lp, NULL);
        free(lp);
        if (w->trains) {
            if (d.times) ops_clocked_reset(d.times);
            train_gradients(e, &d.w, &d.g, &task, &out);
            if (!d.times && !m->options.state) dry_update(&d, st);
        }
        p->layers_kept = e->layers_kept;
        if (d.times) note_times(p, w, d.times, ops);
    }
    size_t most = most_of(&d);
    batch_free(&b);
    dry_close(&d);
    return most;
}

/* Everything a stage's step takes from the engine's arena, in the order of the stage; returns its largest size. A device's memory
 * is counted by its own code. */
static size_t dry_step(Plan *p, const Machine *m, const PlanWork *w, size_t keep_bytes, PlanOps *ops, Status *st)
{
    size_t most = dry_on(p, m, w, keep_bytes, ops, false, st);
    return m->cpu || st->failed ? most : dry_on(p, m, w, keep_bytes, NULL, true, st);
}

/* Packed copies of every matrix that a forward multiplies with. sampled: completions are drawn from the model. */
static size_t packed_bytes(const Backend *b, DType dtype, const ModelConfig *c, const ParamTable *t, bool sampled,
                           bool latent)
{
    size_t bytes = 0;
    for (int i = 0; i < t->n && b; i++) { /* b NULL: a device, which packs nothing */
        const Param *q = &t->params[i];
        size_t rows = params_joined_rows(t, i);
        if (q->ndim != 2 || (q->kind == PARAM_EMBED && !c->tied)) continue;
        if (rows) bytes += cpu_packed_bytes(b, q->split ? dtype : DTYPE_F32, rows, q->cols, sampled);
        if (latent && q->kind == PARAM_KV_B)
            bytes += (size_t)c->H * cpu_packed_bytes(b, dtype, (size_t)c->Dv, (size_t)c->Rkv, true);
    }
    return bytes;
}

size_t plan_model_bytes(const Machine *m, const ModelConfig *c, bool sampled)
{
    ParamTable t = params_build(c);
    size_t bytes = weight_bytes_sum(weight_bytes(&t, t.total, m->options.dtype)) +
                   packed_bytes(m->cpu, m->options.dtype, c, &t, sampled, false);
    params_free(&t);
    return bytes;
}

/* What a block takes: a device gives whole pieces of 512 bytes. */
static size_t block_bytes(const Machine *m, size_t bytes)
{
    enum { PIECE = 512 };
    return m->cpu ? bytes : (bytes + PIECE - 1) / PIECE * PIECE;
}

/* The same of the arrays of a block of weights. */
static WeightBytes weight_blocks(const Machine *m, const ParamTable *t, size_t total)
{
    WeightBytes n = weight_bytes(t, total, m->options.dtype);
    return (WeightBytes){block_bytes(m, n.high), block_bytes(m, n.low), block_bytes(m, n.plain)};
}

/* Pages, and the ids and log-probs of all completions, which are the process's. *kind: of the largest cache. */
static size_t cache_bytes(const Machine *m, const PlanWork *w, CacheKind *kind)
{
    size_t pages = 0, storage = 0;
    *kind = CACHE_EXACT;
    for (int i = 0; i < w->n_rollouts; i++) {
        RolloutSize size = size_of(&w->rollouts[i]);
        RolloutNeed need = rollout_need(&size);
        size_t page = kv_cache_page_bytes(w->config, w->rollouts[i].cache, m->options.dtype);
        if (w->rollouts[i].draft) page += page / (size_t)w->config->L; /* of the module that drafts */
        size_t logits = (size_t)need.started * (size_t)w->config->V * sizeof(float);
        bool late = m->ops->device.late && !w->rollouts[i].draft;
        size_t bytes = block_bytes(m, (size_t)need.pages * page) + block_bytes(m, logits) +
                       (late ? block_bytes(m, rollout_late_bytes(need.slots)) : 0),
               tokens = m->cpu ? need.tokens * (sizeof(int32_t) + sizeof(float)) : 0;
        if (bytes > pages) {
            pages = bytes;
            *kind = w->rollouts[i].cache;
        }
        if (tokens > storage) storage = tokens;
    }
    return pages + storage;
}

static bool samples_latent(const PlanWork *w)
{
    for (int i = 0; i < w->n_rollouts; i++)
        if (w->rollouts[i].cache == CACHE_LATENT) return true;
    return false;
}

/* What the backend's threads work in. */
static size_t scratch_bytes(const Machine *m, const PlanWork *w, const ParamTable *t)
{
    const ModelConfig *c = w->config;
    if (!m->cpu) return 0; /* a device keeps what one op leaves to its next launch: less than the head's chunk */
    ScratchWork work = {.attention = {.H = c->H, .Hkv = c->Hkv, .Dn = c->Dn, .Dr = c->Dr, .Dv = c->Dv},
                        .dtype = m->options.dtype,
                        .vocab = w->trains ? (size_t)c->V : 0,
                        .tokens = (size_t)w->sequences * (size_t)w->length,
                        .longest = (size_t)w->length,
                        .predicted = (size_t)w->sequences * (size_t)w->predicted};
    for (int i = 0; i < t->n; i++) {
        const Param *p = &t->params[i];
        bool multiplied = p->ndim == 2 && p->kind != PARAM_EMBED && p->kind != PARAM_HEAD;
        size_t rows = multiplied && w->trains ? params_joined_rows(t, i) : 0;
        if (p->cols > work.widest) work.widest = p->cols;
        if (rows > work.widest) work.widest = rows;
    }
    return cpu_scratch_bytes(m->cpu, &work);
}

static bool add_blocks(Plan *p, const Machine *m, const PlanWork *w, Status *st)
{
    ParamTable t = params_build(w->config);
    bool ok = table_select(&t, w, st);
    size_t states = block_bytes(m, t.state_total * sizeof(float));
    p->lowest = t.lowest_trained > 0 ? t.lowest_trained : 0;
    p->layers = w->config->L - p->lowest;
    p->trained = t.trained_count;
    p->count = t.count;
    bool apart = w->trains || (t.lora && w->rests);
    if (p->placed && apart) params_set_apart(&t);
    WeightBytes all = weight_blocks(m, &t, p->placed ? t.state_total : t.total);
    if (p->resident > 2 * states) p->resident = 2 * states;
    /* Of a placed model what lies apart, or the share of it that stays in memory. */
    if ((p->placed && !apart) || p->resident) all = (WeightBytes){.plain = p->resident};
    p->weights = all.high + all.plain;
    p->low = all.low;
    p->gradients = w->trains && !p->resident ? states : 0;
    size_t scratch = m->cpu ? optimizer_scratch(&t) : 0; /* a device's is counted with its arena */
    size_t moments = block_bytes(m, t.moment_total);
    if (w->trains) p->optimizer = scratch + (m->options.state ? part_state_memory(&t) : 2 * moments);
    if (w->trains && !m->options.state) {
        p->state_memory = part_state_memory(&t) + scratch;
        p->state_disk = part_state_disk(&t, w->reference, &p->state_written);
        params_moments(&t, MOMENTS_8BIT);
        p->state_8bit = w->moments == MOMENTS_8BIT ? 0 : moments_bytes(&t);
    }
    p->reference = w->reference ? weight_bytes_sum(weight_blocks(m, &t, t.state_total)) : 0;
    /* Weights that are placed are multiplied with as they lie. */
    p->packed =
        p->placed ? 0 : packed_bytes(m->cpu, m->options.dtype, w->config, &t, w->n_rollouts > 0, samples_latent(w));
    p->packed += scratch_bytes(m, w, &t);
    /* What is not trained is one for both. */
    if (w->reference && params_all_chosen(&t) && !p->placed)
        p->packed += packed_bytes(m->cpu, m->options.dtype, w->config, &t, false, false);
    params_free(&t);
    return ok;
}

/* Interiors of the first `layers` layers that backward visits. */
static size_t interior_bytes(const Plan *p, const PlanWork *w, DType dtype, int layers)
{
    size_t bytes = 0, n = (size_t)w->sequences * (size_t)w->length;
    for (int l = p->lowest; l < p->lowest + layers; l++) bytes += layer_acts_bytes(w->config, l, n, dtype);
    return bytes;
}

static void add_step(Plan *p, const PlanWork *w, DType dtype, size_t arena)
{
    const ModelConfig *c = w->config;
    size_t N = (size_t)w->sequences * (size_t)w->length;
    size_t below = p->lowest < 2 ? (size_t)p->lowest : 2; /* two take turns */
    p->boundaries = w->trains ? N * (size_t)c->C * ((size_t)p->layers + below + 1) * sizeof(float) : 0;
    p->kept = interior_bytes(p, w, dtype, p->layers_kept);
    p->workspace = arena > p->boundaries + p->kept ? arena - p->boundaries - p->kept : 0;
    p->total = p->process + p->weights + p->low + p->gradients + p->optimizer + p->reference + p->packed +
               p->boundaries + p->kept + p->workspace + p->cache + p->critic + p->beside;
}

/* What a step of the critic takes from its own engine's arenas. */
static size_t critic_step(const Machine *m, const PlanWork *w, size_t keep_bytes, Status *st)
{
    Dry d;
    if (!dry_open(&d, m, w, keep_bytes, !m->cpu, st)) return 0;
    BatchBuilder b = {0};
    batch_of(&b, w);
    Predictions predict = batch_predictions(&b);
    float *zeros = calloc((size_t)predict.M, sizeof *zeros);
    CHECK(zeros != NULL);
    ValueStep step = {.batch = batch_view(&b),
                      .rows = predict.rows,
                      .n = predict.M,
                      .loss = {0, zeros, zeros, zeros},
                      .balance = w->config->E ? w->balance : NULL};
    ScalarOut out;
    value_gradients(&d.engine, &d.w, &d.g, &step, &out);
    free(zeros);
    size_t most = most_of(&d);
    batch_free(&b);
    dry_close(&d);
    return most;
}

static size_t critic_bytes(const Machine *m, const PlanWork *w, size_t keep_bytes, Status *st)
{
    if (!w->critic.V) return 0;
    PlanWork of = {.config = &w->critic,
                   .trains = true,
                   .train = w->train,
                   .moments = w->moments,
                   .balance = w->balance,
                   .sequences = w->sequences,
                   .length = w->length,
                   .predicted = w->predicted};
    Plan blocks = {0};
    if (!add_blocks(&blocks, m, &of, st)) return 0;
    /* In bf16 a checkpoint of it is written by way of a copy in f32. */
    size_t copy = m->options.dtype == DTYPE_BF16 ? blocks.count * sizeof(float) : 0;
    return blocks.weights + blocks.low + blocks.gradients + blocks.optimizer + blocks.packed + copy +
           critic_step(m, &of, keep_bytes, st);
}

static void plan_with(Plan *p, const Machine *m, const PlanWork *w, size_t keep_bytes, Status *st)
{
    p->keep_bytes = keep_bytes;
    p->critic = critic_bytes(m, w, keep_bytes, st);
    add_step(p, w, m->options.dtype, dry_step(p, m, w, keep_bytes, NULL, st));
}

/* As many layers as fit, by halving. */
static void keep_most(Plan *p, const Machine *m, const PlanWork *w, Status *st)
{
    int low = 0, high = p->layers;
    plan_with(p, m, w, interior_bytes(p, w, m->options.dtype, high), st);
    if (p->total <= p->budget) return;
    while (low + 1 < high) {
        int middle = (low + high) / 2;
        plan_with(p, m, w, interior_bytes(p, w, m->options.dtype, middle), st);
        if (p->total <= p->budget) low = middle;
        else high = middle;
    }
    plan_with(p, m, w, interior_bytes(p, w, m->options.dtype, low), st);
}

/* With all weights in memory. */
static bool size_up(Plan *out, const Machine *m, const PlanWork *w, size_t keep_bytes, Status *st)
{
    CacheKind kind;
    Plan p = {.process = m->cpu ? machine_own_memory() : 0,
              .beside = w->beside,
              .cache = cache_bytes(m, w, &kind),
              .budget = m->memory};
    p.cache_token = kv_cache_token_bytes(w->config, kind, m->options.dtype);
    if (!add_blocks(&p, m, w, st)) return false;
    if (keep_bytes == SIZE_MAX) keep_most(&p, m, w, st);
    else plan_with(&p, m, w, keep_bytes, st);
    enum { NOISE = 1 << 18 }; /* of two calls, pages of the program included */
    if (p.total > p.budget)
        p.least = placing_least(p.total + NOISE - (size_t)w->margins * placing_margin(p.budget), w->margins);
    *out = p;
    return !st->failed;
}

/* The weights alone, with gradients and moments, are above the budget: what would fit. */
static bool fail_fixed(const Plan *p, size_t fixed, const char *why_not, const char *what, Status *st)
{
    char state[300] = "", coded[100] = "";
    if (p->state_8bit && fixed - p->optimizer + p->state_8bit <= p->budget)
        snprintf(coded, sizeof coded, "; or store the moments in 8 bits with optim.moments 8bit: %.3g GB in all",
                 (double)(fixed - p->optimizer + p->state_8bit) / 1e9);
    if (p->state_disk && fixed - p->optimizer + p->state_memory <= p->budget)
        snprintf(state, sizeof state,
                 "; or keep the moments on disk with --state DIR: %.3g GB there, of which an update writes %.3g GB (a "
                 "drive of %d TBW bears %.3g updates)",
                 (double)p->state_disk / 1e9, (double)p->state_written / 1e9, PLAN_TBW,
                 PLAN_TBW * 1e12 / (double)p->state_written);
    char least[32];
    return fail(st,
                "%s needs %.2f GB for its weights and optimizer alone, the budget is %.2f GB: raise --memory or "
                "take a smaller model%s%s%s%s; --memory %s is the least",
                what, (double)fixed / 1e9, (double)p->budget / 1e9, coded, state,
                why_not ? "; its weights cannot rest on disk, since " : "", why_not ? why_not : "",
                placing_gb(least, p->least));
}

bool plan_make(Plan *out, const Machine *m, const PlanWork *w, size_t keep_bytes, const char *what, Status *st)
{
    *out = (Plan){0};
    if ((double)w->sequences * w->length > PLAN_TOKENS)
        return fail(st, "%s: %d sequences of %d tokens are more than the %d tokens that a step may have", what,
                    w->sequences, w->length, PLAN_TOKENS);
    Plan p = {0};
    if (!size_up(&p, m, w, keep_bytes, st)) return fail_prefix(st, "%s", what);
    *out = p;
    if (p.total <= p.budget) return true;
    size_t fixed = p.total - p.boundaries - p.kept - p.workspace - p.cache;
    if (fixed > p.budget) return fail_fixed(&p, fixed, w->why_not, what, st);
    double room = (double)(p.budget - fixed) / (double)(p.total - fixed);
    char least[32];
    return fail(st,
                "%s needs %.2f GB, the budget is %.2f GB: raise --memory, or take about %d %% of the batch; "
                "--memory %s is the least",
                what, (double)p.total / 1e9, (double)p.budget / 1e9, (int)(100 * room), placing_gb(least, p.least));
}

size_t plan_beside_weights(const Machine *m, const PlanWork *w, Status *st)
{
    Beside b;
    return plan_beside(&b, m, w, 0, NULL, st) ? b.process + b.arena + b.scratch + b.cache : 0;
}

bool plan_beside(Beside *out, const Machine *m, const PlanWork *w, size_t keep_bytes, PlanOps *ops, Status *st)
{
    CacheKind kind;
    Plan p = {.placed = true, .resident = w->resident};
    if (ops) ops->n = 0;
    if ((double)w->sequences * w->length > PLAN_TOKENS)
        return fail(st, "%d sequences of %d tokens are more than the %d tokens that a batch may have", w->sequences,
                    w->length, PLAN_TOKENS);
    if (!add_blocks(&p, m, w, st)) return false;
    size_t arena = dry_step(&p, m, w, keep_bytes, ops, st);
    *out = (Beside){.process = machine_own_memory_in_steps(0),
                    .arena = arena,
                    .scratch = p.packed,
                    .cache = cache_bytes(m, w, &kind),
                    .state = p.weights + p.low + p.gradients + p.optimizer + p.reference,
                    .resident = p.resident,
                    .others = w->beside + critic_bytes(m, w, keep_bytes, st),
                    .layers_kept = p.layers_kept,
                    .lowest = p.lowest,
                    .trained = p.trained,
                    .count = p.count,
                    .flops = p.flops};
    return !st->failed;
}

void plan_apply(const Plan *p, Engine *e)
{
    e->keep_bytes = p->keep_bytes;
    if (p->placed && p->chunk) e->chunk = p->chunk;
}

static void amount(char *out, size_t size, size_t bytes)
{
    if (bytes < 10000000000u) snprintf(out, size, "%.0f MB", (double)bytes / 1e6);
    else snprintf(out, size, "%.1f GB", (double)bytes / 1e9);
}

void plan_describe(const Plan *p, char *out, size_t size)
{
    char total[32], budget[32], fixed[32], step[32], cache[32];
    amount(total, sizeof total, p->total);
    if (p->budget == SIZE_MAX) snprintf(budget, sizeof budget, "any budget");
    else amount(budget, sizeof budget, p->budget);
    amount(fixed, sizeof fixed, p->weights + p->low + p->gradients + p->optimizer + p->reference + p->packed);
    amount(step, sizeof step, p->boundaries + p->kept + p->workspace);
    amount(cache, sizeof cache, p->cache);
    int n = snprintf(out, size,
                     "peak %s of %s: parameters and optimizer %s, a step %s (%d of %d layers kept), cache %s"
                     " (%zu bytes a token)",
                     total, budget, fixed, step, p->layers_kept, p->layers, cache, p->cache_token);
    bool placed = p->placed || p->sampler_placed;
    if (placed && n < (int)size) n += snprintf(out + n, size - (size_t)n, "; ");
    if (placed && n < (int)size) n += (int)strlen(plan_placed_text(p, out + n, size - (size_t)n));
    if (p->frozen_placed && n < (int)size)
        n += snprintf(out + n, size - (size_t)n, "; the teacher or the reward models rest on disk");
    if (p->step_seconds > 0 && n < (int)size)
        n += snprintf(out + n, size - (size_t)n, "; forward and backward of %.0f tokens %s%.3g s%s", p->step_tokens,
                      p->at_peaks ? "at least " : "", p->step_seconds, p->emulated ? " (emulated: means nothing)" : "");
    if (p->step_bytes > 0 && n < (int)size)
        n += snprintf(out + n, size - (size_t)n, ", %.3g GB read", p->step_bytes / 1e9);
    if (p->sample_seconds > 0 && n < (int)size)
        n += snprintf(out + n, size - (size_t)n, ", sampling before it %.3g s at most", p->sample_seconds);
    if (p->step_seconds > 0 && p->assumed && n < (int)size)
        snprintf(out + n, size - (size_t)n, " (modelled: no rates were measured, see --measure)");
}

const char *plan_placed_text(const Plan *p, char *out, size_t size)
{
    int n = snprintf(out, size, "experts on disk: %d of %d in memory, a ring of %d, %d of %d layers kept",
                     p->experts_stay, p->experts, p->ring, p->layers_kept, p->layers);
    if (p->chunk && n < (int)size) snprintf(out + n, size - (size_t)n, ", head chunks of %d rows", p->chunk);
    return out;
}

enum { PLAN_PARTS = 15 };
typedef struct PlanPart {
    const char *name;
    size_t bytes;
} PlanPart;

static void parts_of_plan(const Plan *p, PlanPart out[PLAN_PARTS])
{
    const PlanPart parts[PLAN_PARTS] = {{"process now", p->process},
                                        {"weights", p->weights},
                                        {"weights, low halves", p->low},
                                        {"gradients", p->gradients},
                                        {"optimizer", p->optimizer},
                                        {"reference", p->reference},
                                        {"packed weights", p->packed},
                                        {"boundary activations", p->boundaries},
                                        {"kept interiors", p->kept},
                                        {"workspace", p->workspace},
                                        {"key/value cache", p->cache},
                                        {"critic", p->critic},
                                        {"other models", p->beside},
                                        {"peak", p->total},
                                        {"budget", p->budget}};
    memcpy(out, parts, sizeof parts);
}

void plan_print(const Plan *p, const char *what)
{
    PlanPart parts[PLAN_PARTS];
    parts_of_plan(p, parts);
    printf("%s\n", what);
    for (int i = 0; i < PLAN_PARTS; i++)
        if (parts[i].bytes && parts[i].bytes != SIZE_MAX)
            printf("  %-22s %12.1f MB\n", parts[i].name, (double)parts[i].bytes / 1e6);
    printf("  key/value cache: %zu bytes a token\n", p->cache_token);
    if (p->boundaries)
        printf("  layers kept: %d of %d; a step: %.2f TFLOP\n", p->layers_kept, p->layers, p->flops / 1e12);
}

Json *plan_json(const Plan *p, const char *what)
{
    PlanPart parts[PLAN_PARTS];
    Json *o = json_new_object(), *bytes = json_new_object();
    parts_of_plan(p, parts);
    for (int i = 0; i < PLAN_PARTS; i++) json_set(bytes, parts[i].name, json_new_int((int64_t)parts[i].bytes));
    json_set(o, "plan_of", json_new_text(what));
    json_set(o, "bytes", bytes);
    json_set(o, "fits", json_new_bool(p->total <= p->budget));
    json_set(o, "cache_bytes_per_token", json_new_int((int64_t)p->cache_token));
    json_set(o, "layers", json_new_int(p->layers));
    json_set(o, "layers_kept", json_new_int(p->layers_kept));
    json_set(o, "flops", json_new_number(p->flops));
    if (p->step_seconds <= 0) return o;
    json_set(o, p->at_peaks ? "seconds_at_least" : "seconds", json_new_number(p->step_seconds));
    if (p->emulated) json_set(o, "emulated", json_new_text("times mean nothing"));
    return o;
}
