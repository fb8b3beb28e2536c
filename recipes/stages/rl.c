/* rl: GRPO. A step draws prompts, samples a group of completions of each, scores them, turns rewards into advantages and makes
 * inner_epochs x mini_batches updates (DeepSeekMath, arXiv:2402.03300, section 4.1; DeepSeek-R1, section 2.2). */
#include "recipes/stages/rl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/grpo.h"
#include "recipes/stages/documents.h"
#include "recipes/model/batches.h"
#include "recipes/run/sources.h"
#include "recipes/run/run_folder.h"
#include "recipes/stages/step.h"
#include "recipes/stages/stage_list.h"

/* One update's worth of the batch: predictions with their GRPO data, [m]. */
typedef struct RlBatch {
    BatchBuilder tokens;
    float *weight, *advantage, *old_lp, *ref_lp, *ratio, *kl;
    uint8_t *flags;
    int capacity;
} RlBatch;

typedef struct Rl {
    CorpusSpec rules, all; /* before and after the reward models act */
    RecipeRewards rewards;
    RewardSet *open_rewards;
    RewardModel *helpful, *safety;
    GroupSource source;
    Group *groups, *fresh; /* [prompts] */
    int *lengths, *picked; /* [prompts * G] */
    RlBatch batch;
    RolloutWriter *rollouts;
    char *replies; /* file of the external programs' replies */
    double lr, flops;
    int64_t since_reset;
} Rl;

static bool needs(const RecipeRewards *r, RewardKind kind)
{
    for (int i = 0; i < r->n; i++)
        if (r->list[i].kind == kind) return true;
    return false;
}

static bool open_rewards(UnitRun *u, Rl *r, Status *st)
{
    const RecipeStage *s = u->unit->stage;
    r->rewards = s->rl.rewards.n ? s->rl.rewards : u->run->recipe->rewards;
    r->open_rewards = reward_open(r->rewards.list, r->rewards.n, st);
    if (!r->open_rewards) return false;
    bool helpful = needs(&r->rewards, REWARD_HELPFUL_RM), safety = needs(&r->rewards, REWARD_SAFETY_RM);
    if ((helpful || safety) && !s->reward_models[0])
        return fail(st, "stage %s rewards with helpful_rm or safety_rm but names no reward_models stage", s->name);
    if (helpful && !(r->helpful = reward_model_load(u->run, s->reward_models, true, st))) return false;
    if (safety && !(r->safety = reward_model_load(u->run, s->reward_models, false, st))) return false;
    return true;
}

bool rl_open(UnitRun *u, double lr, double flops, Status *st)
{
    const RecipeStage *s = u->unit->stage;
    Rl *r = calloc(1, sizeof *r);
    CHECK(r != NULL);
    u->self = r;
    r->lr = lr;
    r->flops = flops;
    if (!run_mix(u->run, s, 0, &r->rules, st) || !run_mix(u->run, s, s->general_share, &r->all, st)) return false;
    if (!open_rewards(u, r, st)) return false;
    size_t n = (size_t)s->rl.prompts, G = (size_t)s->rl.group;
    r->groups = calloc(n, sizeof *r->groups);
    r->fresh = calloc(n, sizeof *r->fresh);
    r->lengths = calloc(n * G, sizeof *r->lengths);
    r->picked = calloc(n * G, sizeof *r->picked);
    CHECK(r->groups && r->fresh && r->lengths && r->picked);
    int slots = s->rl.prompts * s->rl.group;
    r->source = (GroupSource){.run = u->run,
                              .stage = s,
                              .rl = &s->rl,
                              .rewards = r->open_rewards,
                              .helpful = r->helpful,
                              .safety = r->safety,
                              .data_seed = run_seed(u->run, u->unit),
                              .rng_stage = unit_rng_stage(u->unit),
                              .slots = slots < ROLLOUT_SLOTS ? slots : ROLLOUT_SLOTS};
    if (s->rl.beta > 0 && !u->policy->reference) policy_reference_set(u->policy);
    r->since_reset = json_integer(json_get(u->extra, "since_reset"));
    r->rollouts = unit_open_rollouts(u, &r->rewards, st);
    r->replies = run_folder_file(u->run->folder, "rollouts", u->unit->name, ".replies.jsonl");
    return r->rollouts && (!needs(&r->rewards, REWARD_EXTERNAL) || reward_cache_load(r->open_rewards, r->replies, st));
}

bool rl_save(UnitRun *u, Status *st)
{
    Rl *r = u->self;
    return rollouts_flush(r->rollouts, st) &&
           (!needs(&r->rewards, REWARD_EXTERNAL) || reward_cache_save(r->open_rewards, r->replies, st));
}

static void batch_room(RlBatch *b, int m)
{
    if (m <= b->capacity) return;
    b->capacity = m + m / 2;
    size_t n = (size_t)b->capacity;
    float **lists[] = {&b->weight, &b->advantage, &b->old_lp, &b->ref_lp, &b->ratio, &b->kl};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        *lists[i] = realloc(*lists[i], n * sizeof(float));
        CHECK(*lists[i] != NULL);
    }
    b->flags = realloc(b->flags, n);
    CHECK(b->flags != NULL);
}

static void add_completion(RlBatch *b, const Group *g, const Sample *s, float weight)
{
    Ids ids = {0};
    for (int i = 0; i < g->prompt.n; i++) ids_push(&ids, g->prompt.ids[i]);
    for (int i = 0; i < s->n; i++) ids_push(&ids, s->ids[i]);
    int at = batch_add(&b->tokens, ids.ids, ids.n, g->prompt.n);
    free(ids.ids);
    batch_room(b, b->tokens.m);
    for (int i = 0; i < s->n; i++) {
        b->weight[at + i] = weight;
        b->advantage[at + i] = s->advantage;
        b->old_lp[at + i] = s->logprobs[i];
    }
}

/* Lists the completions with a signal; returns their number. Others have advantage 0 and, with KL off for them, no gradient. */
static int pick_completions(Rl *r, int n, int G)
{
    int count = 0;
    for (int g = 0; g < n; g++)
        for (int i = 0; i < G && r->groups[g].signal; i++) r->picked[count++] = g * G + i;
    return count;
}

static GrpoConfig grpo_config(const RecipeRl *rl)
{
    return (GrpoConfig){.kind = rl->loss,
                        .clip_low = (float)rl->clip_low,
                        .clip_high = (float)rl->clip_high,
                        .beta = (float)rl->beta,
                        .estimator = rl->kl,
                        .log_clamp = (float)rl->kl_clamp,
                        .entropy_bonus = (float)rl->entropy_bonus,
                        .max_length = rl->max_tokens};
}

/* The largest difference between the sampler's and the trainer's log-probs. */
static double largest_gap(const float *sampled, const float *trained, int m)
{
    double gap = 0;
    for (int i = 0; i < m; i++) {
        double d = fabs((double)sampled[i] - (double)trained[i]);
        if (d > gap) gap = d;
    }
    return gap;
}

/* Gives samples the trainer's numbers of their tokens, those of the first update that sees them. */
static void keep_rows(Group *groups, int G, const int *picked, int n, const float *entropy, const float *ref_lp)
{
    int at = 0;
    for (int i = 0; i < n; i++) {
        Sample *s = &groups[picked[i] / G].samples[picked[i] % G];
        size_t bytes = (size_t)s->n * sizeof(float);
        if (!s->entropy) {
            s->entropy = malloc(bytes);
            s->ref_logprobs = ref_lp ? malloc(bytes) : NULL;
            CHECK(s->entropy && (s->ref_logprobs || !ref_lp));
            memcpy(s->entropy, entropy + at, bytes);
            if (ref_lp) memcpy(s->ref_logprobs, ref_lp + at, bytes);
        }
        at += s->n;
    }
}

/* One update on the completions picked[from .. to). first: before any update of this step, so that the gap is defined. */
static bool update(UnitRun *u, Rl *r, const int *picked, int n, float scale, float lr, bool first, RlNumbers *numbers,
                   Status *st)
{
    const RecipeRl *rl = &u->unit->stage->rl;
    Policy *p = u->policy;
    RlBatch *b = &r->batch;
    GrpoConfig config = grpo_config(rl);
    int all = rl->prompts * rl->group;
    float *weights = malloc((size_t)all * sizeof *weights);
    CHECK(weights != NULL);
    grpo_token_weights(weights, &config, r->lengths, all);
    batch_reset(&b->tokens);
    for (int i = 0; i < n; i++)
        add_completion(b, &r->groups[picked[i] / rl->group],
                       &r->groups[picked[i] / rl->group].samples[picked[i] % rl->group], weights[picked[i]] * scale);
    free(weights);
    Predictions predict = batch_predictions(&b->tokens);
    Batch batch = batch_view(&b->tokens);
    float inv_temperature = (float)(1.0 / rl->temperature);
    bool exact = rl->beta > 0 && rl->kl == KL_EXACT;
    if (rl->beta > 0 && !exact) {
        train_log_probs(&p->engine, &p->ref, batch, &predict, inv_temperature, b->ref_lp, NULL);
        u->flops += forward_flops(p, batch.N);
    }
    GrpoLoss grpo = {.config = config,
                     .weight = b->weight,
                     .advantage = b->advantage,
                     .old_lp = b->old_lp,
                     .ref_lp = rl->beta > 0 && !exact ? b->ref_lp : NULL,
                     .ratio = b->ratio,
                     .kl = b->kl,
                     .flags = b->flags};
    Loss loss = grpo_loss(&grpo);
    BalanceConfig balance = run_balance(u->run, &p->config);
    TrainStep task = {.batch = batch,
                      .predict = predict,
                      .inv_temperature = inv_temperature,
                      .loss = &loss,
                      .entropy = true,
                      .balance = p->config.E ? &balance : NULL,
                      .reference = exact ? &p->ref : NULL};
    TrainOut out;
    train_gradients(&p->engine, &p->w, &p->g, &task, &out);
    u->tokens_trained += batch.N;
    u->flops += 3 * forward_flops(p, batch.N);
    if (!isfinite(out.loss))
        return fail(st, "the loss became %g in step %lld of %s: try a lower lr (%g now)", out.loss,
                    (long long)u->step + 1, u->unit->name, (double)lr);
    GrpoStats stats = grpo_stats(&grpo, predict.M);
    if (first) {
        numbers->gap = largest_gap(b->old_lp, out.rows.lp, predict.M);
        numbers->entropy = sum_in_blocks(out.rows.entropy, predict.M) / predict.M;
    }
    keep_rows(r->groups, rl->group, picked, n, out.rows.entropy, grpo.ref_lp);
    numbers->loss += out.loss;
    numbers->clip_low = stats.clip_low;
    numbers->clip_high = stats.clip_high;
    numbers->kl = rl->beta > 0 ? stats.kl_mean : 0;
    if (exact) numbers->kl_exact = stats.kl_mean;
    numbers->kl_clamps += stats.kl_clamps;
    return run_update(u->run, p, u->unit->stage, out.routing, lr, &numbers->grad_norm, st) ||
           fail_prefix(st, "step %lld of %s", (long long)u->step + 1, u->unit->name);
}

/* Over the stage's steps, or over its budget of FLOPs. */
static float rl_rate(const UnitRun *u, const Rl *r)
{
    enum { PARTS = 1000 };
    if (r->flops <= 0) return stage_rate(u->unit->stage, r->lr, u->step + 1, u->total);
    int64_t part = (int64_t)(PARTS * (u->flops / r->flops)) + 1;
    return stage_rate(u->unit->stage, r->lr, part < PARTS ? part : PARTS, PARTS);
}

/* inner_epochs passes over the picked completions in mini_batches updates each. */
static bool update_all(UnitRun *u, Rl *r, RlNumbers *numbers, Status *st)
{
    const RecipeRl *rl = &u->unit->stage->rl;
    int n = pick_completions(r, rl->prompts, rl->group);
    for (int i = 0; i < rl->prompts * rl->group; i++) {
        const Sample *s = &r->groups[i / rl->group].samples[i % rl->group];
        r->lengths[i] = rl->mask_truncated && s->truncated ? 0 : s->n;
    }
    if (n == 0) return true;
    numbers->updated = true;
    float lr = rl_rate(u, r);
    numbers->lr = (double)lr;
    int parts = rl->mini_batches < n ? rl->mini_batches : n;
    int *order = malloc((size_t)n * sizeof *order);
    CHECK(order != NULL);
    bool ok = true, first = true;
    for (int epoch = 0; epoch < rl->inner_epochs && ok; epoch++) {
        for (int i = 0; i < n; i++) {
            int at = parts > 1
                         ? keyed_order(i, n, run_seed(u->run, u->unit), (uint32_t)(u->step * rl->inner_epochs + epoch))
                         : i;
            order[i] = r->picked[at];
        }
        for (int k = 0; k < parts && ok; k++, first = false) {
            int from = (int)((int64_t)n * k / parts), to = (int)((int64_t)n * (k + 1) / parts);
            ok = update(u, r, order + from, to - from, (float)parts, lr, first, numbers, st);
        }
    }
    free(order);
    return ok;
}

/* Replaces groups without a signal by new prompts that have one, a few times. */
static bool refill(UnitRun *u, Rl *r, RolloutStats *stats, RlNumbers *numbers, Status *st)
{
    const RecipeRl *rl = &u->unit->stage->rl;
    bool by_std = rl->std_normalise;
    for (int round = 0; round < rl->refill; round++) {
        int empty = 0, next = 0;
        for (int g = 0; g < rl->prompts; g++) empty += !r->groups[g].signal;
        if (empty == 0) break;
        RolloutStats more;
        if (!groups_sample(r->fresh, &r->source, u->policy, u->step, u->cursor, empty, by_std, &more, st)) return false;
        u->cursor += empty;
        stats->tokens += more.tokens;
        stats->prefill_tokens += more.prefill_tokens;
        for (int g = 0; g < rl->prompts; g++) {
            if (r->groups[g].signal) continue;
            Group *fresh = &r->fresh[next++];
            if (!fresh->signal) {
                group_free(fresh, rl->group);
                continue;
            }
            group_free(&r->groups[g], rl->group);
            r->groups[g] = *fresh;
            *fresh = (Group){0};
            numbers->refills++;
        }
    }
    return true;
}

/* Whether the reward models act in this step: only in the last part of the stage (DeepSeek-R1: the last 400 of 1,700). */
static bool preferences_act(const UnitRun *u)
{
    const RecipeStage *s = u->unit->stage;
    return (double)u->step >= (1 - s->rl.preference_last) * (double)u->total;
}

/* The gap must be 0 when sampler and trainer share the exact cache on a backend that keeps the promise. */
static bool check_gap(const UnitRun *u, const RlNumbers *n, Status *st)
{
    const RecipeRl *rl = &u->unit->stage->rl;
    bool another = rl->cache != CACHE_EXACT || (rl->rollout_bf16 && u->policy->engine.dtype == DTYPE_F32);
    if (another || !n->updated || !(n->gap > 0)) return true;
    if (!u->policy->engine.ops->rows_independent(u->policy->engine.backend)) return true;
    return fail(
        st,
        "step %lld of %s: sampler and trainer differ by %g in a log-prob though the cache is exact; this is a fault of "
        "r1, please report it with the recipe and seed",
        (long long)u->step + 1, u->unit->name, n->gap);
}

bool rl_step(UnitRun *u, Json *metrics, bool *done, Status *st)
{
    Rl *r = u->self;
    const RecipeRl *rl = &u->unit->stage->rl;
    double start = machine_seconds(), flops_before = u->flops;
    bool preferences = preferences_act(u);
    r->source.mix = preferences ? &r->all : &r->rules;
    RolloutStats stats;
    if (!groups_sample(r->groups, &r->source, u->policy, u->step, u->cursor, rl->prompts, rl->std_normalise, &stats,
                       st))
        return false;
    u->cursor += rl->prompts;
    RlNumbers numbers = rl_numbers(r->groups, rl->prompts, rl->group, &r->rewards);
    bool ok = refill(u, r, &stats, &numbers, st);
    u->tokens_sampled += stats.tokens;
    u->flops += forward_flops(u->policy, stats.tokens + stats.prefill_tokens);
    double sampled = machine_seconds();
    ok = ok && update_all(u, r, &numbers, st) && check_gap(u, &numbers, st);
    double trained = machine_seconds();
    ok = ok && unit_write_rollouts(u, r->rollouts, r->groups, &r->rewards, st) &&
         unit_warn_rl(u, &numbers, (double)r->since_reset, st);
    if (ok) {
        rl_numbers_json(&numbers, &r->rewards, metrics);
        Json *time = json_new_object();
        json_set(time, "sample", json_new_number(sampled - start));
        json_set(time, "train", json_new_number(trained - sampled));
        json_set(metrics, "time", time);
        json_set(metrics, "lr", json_new_number(numbers.lr));
        json_set(metrics, "occupancy", json_new_number(stats.occupancy));
    }
    for (int g = 0; g < rl->prompts; g++) group_free(&r->groups[g], rl->group);
    if (!ok) return false;
    r->since_reset++;
    if (rl->reference_reset && u->policy->reference && r->since_reset >= rl->reference_reset) {
        policy_reference_set(u->policy);
        r->since_reset = 0;
    }
    json_set(u->extra, "since_reset", json_new_int(r->since_reset));
    *done = r->flops > 0 && u->flops + (u->flops - flops_before) / 2 >= r->flops; /* the nearest step */
    return true;
}

void rl_close(UnitRun *u)
{
    Rl *r = u->self;
    if (!r) return;
    if (r->rollouts) rollouts_close(r->rollouts);
    if (r->open_rewards) reward_close(r->open_rewards);
    free(r->replies);
    reward_model_free(r->helpful);
    reward_model_free(r->safety);
    batch_free(&r->batch.tokens);
    free(r->batch.weight);
    free(r->batch.advantage);
    free(r->batch.old_lp);
    free(r->batch.ref_lp);
    free(r->batch.ratio);
    free(r->batch.kl);
    free(r->batch.flags);
    free(r->groups);
    free(r->fresh);
    free(r->lengths);
    free(r->picked);
    free(r);
}

static bool open_stage(UnitRun *u, Status *st)
{
    u->total = u->unit->stage->steps;
    return rl_open(u, u->unit->stage->optim.lr, 0, st);
}

const UnitKind unit_rl = {.verb = "train", .open = open_stage, .step = rl_step, .save = rl_save, .close = rl_close};
