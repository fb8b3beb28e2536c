/* rl: GRPO, its relatives and PPO. A step draws prompts, samples a group of completions of each, scores them, turns rewards into
 * advantages and makes inner_epochs x mini_batches updates (DeepSeekMath, arXiv:2402.03300, section 4.1; DeepSeek-R1,
 * arXiv:2501.12948, section 2.2).
 * The file reads from the top: the step first, then its parts in the order in which they run. */
#include "recipes/stages/rl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/base/clock.h"
#include "recipes/run/counts.h"
#include "recipes/run/sources.h"
#include "recipes/stages/rl_critic.h"
#include "recipes/stages/rl_numbers.h"
#include "recipes/stages/rl_rate.h"
#include "recipes/stages/rl_report.h"
#include "recipes/stages/rl_routing.h"
#include "recipes/stages/rl_state.h"
#include "recipes/stages/stage_list.h"
#include "recipes/stages/step.h"

/* What one step gathers on its way. */
typedef struct RlStep {
    RolloutStats rollout;
    RlNumbers numbers;
    double started, sampled, trained; /* clock */
    double flops;                     /* of the unit before this step */
} RlStep;

static bool draw_all(UnitRun *u, RlStep *s, Status *st);
static bool refill(UnitRun *u, RlStep *s, Status *st);
static bool baseline(UnitRun *u);
static bool update_all(UnitRun *u, RlStep *s, Status *st);
static bool check_gap(const UnitRun *u, const RlNumbers *n, Status *st);
static bool report(UnitRun *u, RlStep *s, Json *metrics, Status *st);

bool rl_step(UnitRun *u, Json *metrics, bool *done, Status *st)
{
    Rl *r = u->self;
    const RecipeRl *rl = &u->unit->stage->rl;
    RlStep s = {.started = clock_seconds(), .flops = u->flops};
    bool ok = draw_all(u, &s, st) && refill(u, &s, st) && baseline(u) && update_all(u, &s, st) &&
              check_gap(u, &s.numbers, st) && report(u, &s, metrics, st);
    groups_free(r->groups, rl->prompts, rl->group);
    groups_free(r->fresh, rl->prompts, rl->group);
    if (!ok) return false;
    rl_reset_reference(u);
    *done = rl_budget_spent(u, u->flops - s.flops);
    return true;
}

/* Groups of the next n prompts: drawn, sampled from the policy as it is now, scored; advantages from a group's rewards. */
static bool draw(UnitRun *u, Group *out, int n, RolloutStats *stats, Status *st)
{
    Rl *r = u->self;
    const RecipeRl *rl = &u->unit->stage->rl;
    GroupDraw what = {.step = u->step, .first = u->cursor, .n = n};
    if (!groups_sample(out, &r->source, u->policy, &what, stats, st)) return false;
    u->cursor += n;
    u->tokens_sampled += stats->tokens;
    u->flops += forward_flops(u->policy, stats->tokens + stats->prefill_tokens);
    if (!groups_score(out, n, &r->source, st))
        return fail_prefix(st, "step %lld of %s", (long long)u->step + 1, u->unit->name);
    groups_advantages(out, n, rl->group, rl->std_normalise);
    return true;
}

bool rl_preferences_act(const RecipeRl *rl, int64_t step, int64_t total)
{
    return (double)step >= (1 - rl->preference_last) * (double)total;
}

static bool draw_all(UnitRun *u, RlStep *s, Status *st)
{
    Rl *r = u->self;
    const RecipeRl *rl = &u->unit->stage->rl;
    r->source.mix = rl_preferences_act(rl, u->step, u->total) ? &r->corpus_all : &r->corpus_rules;
    if (!draw(u, r->groups, rl->prompts, &s->rollout, st)) return false;
    s->numbers = rl_numbers(r->groups, rl->prompts, rl->group, &r->rewards);
    return true;
}

/* Groups whose rewards are all equal teach nothing: replaced by new prompts that have a signal, a few times (DAPO's dynamic
 * sampling, arXiv:2503.14476, section 3.2, with an end). */
static bool refill(UnitRun *u, RlStep *s, Status *st)
{
    Rl *r = u->self;
    const RecipeRl *rl = &u->unit->stage->rl;
    for (int round = 0; round < rl->refill; round++) {
        int empty = 0;
        for (int g = 0; g < rl->prompts; g++) empty += !r->groups[g].signal;
        if (empty == 0) return true;
        RolloutStats more;
        if (!draw(u, r->fresh, empty, &more, st)) return false;
        s->numbers.refills += groups_replace(r->groups, r->fresh, rl->prompts, rl->group);
    }
    return true;
}

/* rloo and reinforce_pp have a baseline of their own. */
static bool baseline(UnitRun *u)
{
    Rl *r = u->self;
    const RecipeRl *rl = &u->unit->stage->rl;
    if (r->critic) rl_critic_signal(r->groups, rl->prompts, rl->group);
    else groups_batch_advantages(r->groups, rl->prompts, rl->group, rl->loss);
    return true;
}

static bool update(UnitRun *u, RlStep *s, const RlPicked *picked, const RlPart *part, Status *st);
static void correct(UnitRun *u, RlStep *s, const RlPicked *picked, int parts);

/* inner_epochs passes over the completions with a signal, in mini_batches updates each. */
static bool update_all(UnitRun *u, RlStep *s, Status *st)
{
    Rl *r = u->self;
    const RecipeRl *rl = &u->unit->stage->rl;
    s->sampled = clock_seconds();
    RlPicked picked = rl_pick(r->groups, rl->prompts, rl);
    int parts = rl_part_count(&picked, rl), *order = malloc(((size_t)picked.n + 1) * sizeof *order);
    CHECK(order != NULL);
    if (picked.n) s->numbers.lr = (double)rl_rate(u, r->lr);
    correct(u, s, &picked, parts);
    if (r->critic && picked.n) rl_critic_judge(u, &picked, &s->numbers);
    bool ok = true;
    for (int epoch = 0; epoch < rl->inner_epochs && ok; epoch++) {
        rl_order(order, &picked, parts, run_seed(u->run, u->unit), (uint32_t)(u->step * rl->inner_epochs + epoch));
        for (int k = 0; k < parts && ok; k++) {
            RlPart part = rl_part(order, picked.n, k, parts);
            ok = update(u, s, &picked, &part, st);
        }
    }
    free(order);
    rl_picked_free(&picked);
    s->trained = clock_seconds();
    return ok;
}

static GrpoLoss loss_of(const UnitRun *u, RlBatch *b);
static TrainOut gradients(UnitRun *u, const RlBatch *b, GrpoLoss *grpo, const RoutingGiven *kept);
static void measure_replay(UnitRun *u, RlStep *s, const RoutingGiven *kept);
static void measure_routing(UnitRun *u, RlStep *s, const TrainOut *out, const RoutingGiven *kept);
static RlUpdate count(UnitRun *u, RlStep *s, const RlPart *part, const GrpoLoss *grpo, const TrainOut *out);

/* One update (DeepSeekMath eq. 3; variants in core/losses/grpo.h): completions and token weights -> loss -> gradient -> AdamW. */
static bool update(UnitRun *u, RlStep *s, const RlPicked *picked, const RlPart *part, Status *st)
{
    Rl *r = u->self;
    rl_batch_fill(&r->batch, r->groups, u->unit->stage->rl.group, picked, part);
    if (r->critic && !rl_critic_update(u, &s->numbers, st))
        return fail_prefix(st, "step %lld of %s", (long long)u->step + 1, u->unit->name);
    if (r->critic && u->step < u->unit->stage->rl.critic.warmup) return true; /* the critic alone */
    GrpoLoss grpo = loss_of(u, &r->batch);
    const RoutingGiven *kept =
        rl_batch_routes(&r->batch, &u->policy->config, r->groups, u->unit->stage->rl.group, part);
    if (!s->numbers.updated) measure_replay(u, s, kept);
    TrainOut out = gradients(u, &r->batch, &grpo, kept);
    if (!s->numbers.updated) measure_routing(u, s, &out, kept);
    if (!isfinite(out.loss))
        return fail(st, "the loss became %g in step %lld of %s: try a lower lr (%g now)", out.loss,
                    (long long)u->step + 1, u->unit->name, s->numbers.lr);
    RlUpdate done = count(u, s, part, &grpo, &out);
    float lr = (float)s->numbers.lr;
    if (!run_update(u->run, u->policy, u->unit->stage, out.routing, lr, &done.grad_norm, st))
        return fail_prefix(st, "step %lld of %s", (long long)u->step + 1, u->unit->name);
    rl_numbers_add(&s->numbers, &done);
    return true;
}

static bool has_reference(const RecipeRl *rl)
{
    return rl->beta > 0;
}

static float inv_temperature(const UnitRun *u)
{
    return (float)(1.0 / u->unit->stage->rl.temperature);
}

static GrpoLoss loss_of(const UnitRun *u, RlBatch *b)
{
    const RecipeRl *rl = &u->unit->stage->rl;
    return (GrpoLoss){.config = rl_grpo_config(rl),
                      .weight = b->weight,
                      .advantage = b->advantage,
                      .old_lp = b->old_lp,
                      .ref_lp = has_reference(rl) ? b->ref_lp : NULL,
                      .output = b->output,
                      .outputs = b->outputs,
                      .n_outputs = b->n_outputs,
                      .correction = rl->correction != CORRECTION_NONE ? b->correction : NULL,
                      .ratio = b->ratio,
                      .kl = b->kl,
                      .flags = b->flags};
}

/* kept: the sampler's choices of experts, NULL: none. */
static TrainOut gradients(UnitRun *u, const RlBatch *b, GrpoLoss *grpo, const RoutingGiven *kept)
{
    Policy *p = u->policy;
    const RecipeRl *rl = &u->unit->stage->rl;
    Loss loss = grpo_loss(grpo);
    BalanceConfig balance = recipe_balance(u->run->recipe, &p->config);
    TrainStep step = {.batch = batch_view(&b->tokens),
                      .predict = batch_predictions(&b->tokens),
                      .inv_temperature = inv_temperature(u),
                      .loss = &loss,
                      .entropy = true,
                      .given = rl->replay_routing ? kept : NULL,
                      .balance = p->config.E ? &balance : NULL,
                      .reference = has_reference(rl) ? &p->ref : NULL,
                      .reference_lp = has_reference(rl) ? b->ref_lp : NULL};
    TrainOut out;
    train_gradients(&p->engine, &p->w, &p->g, &step, &out);
    u->tokens_trained += b->tokens.n;
    u->flops += train_flops(p, b->tokens.n, false) + (has_reference(rl) ? forward_flops(p, b->tokens.n) : 0);
    return out;
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

static float *copy_floats(const float *from, int n)
{
    float *out = malloc((size_t)n * sizeof *out);
    CHECK(out != NULL);
    return memcpy(out, from, (size_t)n * sizeof *out);
}

void rl_keep_rows(Group *groups, int G, const RlPart *part, const float *entropy, const float *ref_lp)
{
    for (int i = 0, at = 0; i < part->n; i++) {
        Sample *s = &groups[part->list[i] / G].samples[part->list[i] % G];
        if (!s->entropy) {
            s->entropy = copy_floats(entropy + at, s->n);
            s->ref_logprobs = ref_lp ? copy_floats(ref_lp + at, s->n) : NULL;
        }
        at += s->n;
    }
}

/* The mean of x over rows with a weight. */
static double mean_of(const float *x, const float *weight, int M)
{
    double sum = 0;
    int n = 0;
    for (int i = 0; i < M; i++) {
        if (weight[i] == 0.0f) continue;
        sum += (double)x[i];
        n++;
    }
    return n ? sum / n : 0;
}

/* Of the batch's completions: the trainer's log-probs before the first update, their importance weights, the gap. */
static void correct_part(UnitRun *u, RlStep *s, const RlPart *part)
{
    Rl *r = u->self;
    const RecipeRl *rl = &u->unit->stage->rl;
    Policy *p = u->policy;
    RlNumbers *n = &s->numbers;
    Predictions predict = batch_predictions(&r->batch.tokens);
    float *lp = r->batch.ratio; /* free until the loss is evaluated */
    if (rl->replay_routing) p->engine.given = rl_batch_routes(&r->batch, &p->config, r->groups, rl->group, part);
    train_log_probs(&p->engine, &p->w, batch_view(&r->batch.tokens), &predict, inv_temperature(u), lp, NULL);
    p->engine.given = NULL;
    u->flops += forward_flops(p, r->batch.tokens.n);
    double gap = largest_gap(r->batch.old_lp, lp, predict.M);
    if (!(n->gap > gap)) n->gap = gap;
    for (int i = 0, at = 0; i < part->n; i++) {
        Sample *q = &r->groups[part->list[i] / rl->group].samples[part->list[i] % rl->group];
        q->trainer_logprobs = copy_floats(lp + at, q->n);
        q->correction = copy_floats(lp + at, q->n);
        n->corrected_share += correction_weights(q->correction, lp + at, q->logprobs, q->n, rl->loss, rl->correction,
                                                 (float)rl->correction_cap);
        for (int k = 0; k < q->n; k++) n->correction += (double)q->correction[k];
        at += q->n;
    }
}

/* All completions that will be trained on, in as many parts as an update takes. */
static void correct(UnitRun *u, RlStep *s, const RlPicked *picked, int parts)
{
    Rl *r = u->self;
    const RecipeRl *rl = &u->unit->stage->rl;
    if (rl->correction == CORRECTION_NONE || !picked->n) return;
    double tokens = 0;
    s->numbers.correction = 0;
    for (int k = 0; k < parts; k++) {
        RlPart part = rl_part(picked->list, picked->n, k, parts);
        rl_batch_fill(&r->batch, r->groups, rl->group, picked, &part);
        correct_part(u, s, &part);
        tokens += r->batch.tokens.m;
    }
    s->numbers.correction /= tokens;
    s->numbers.corrected_share /= tokens;
}

/* Before the first update: the choices that replaying will change. */
static void measure_replay(UnitRun *u, RlStep *s, const RoutingGiven *kept)
{
    if (!kept || !u->unit->stage->rl.replay_routing) return;
    const BatchBuilder *batch = &((Rl *)u->self)->batch.tokens;
    s->numbers.routing_gap = routing_gap_own(u->policy, batch, kept);
    u->flops += forward_flops(u->policy, batch->n);
}

/* After the first gradients: of kept choices, or of a bf16 copy with the exact cache. With the exact cache alone the sampler is
 * the trainer and the gap is 0. */
static void measure_routing(UnitRun *u, RlStep *s, const TrainOut *out, const RoutingGiven *kept)
{
    const RecipeRl *rl = &u->unit->stage->rl;
    const BatchBuilder *batch = &((Rl *)u->self)->batch.tokens;
    Policy *p = u->policy, *sampler = policy_that_samples(p, rl->rollout_bf16);
    if (rl->replay_routing) return;
    if (kept) s->numbers.routing_gap = routing_gap_kept(batch, &p->engine, out->routing, kept);
    if (sampler == p || rl->cache != CACHE_EXACT || !p->config.E) return;
    s->numbers.routing_gap = routing_gap(sampler, batch, &p->engine, out->routing);
    u->flops += forward_flops(p, batch->n);
}

static RlUpdate count(UnitRun *u, RlStep *s, const RlPart *part, const GrpoLoss *grpo, const TrainOut *out)
{
    Rl *r = u->self;
    const RecipeRl *rl = &u->unit->stage->rl;
    int M = r->batch.tokens.m;
    GrpoStats stats = grpo_stats(grpo, M);
    if (!s->numbers.updated && rl->correction == CORRECTION_NONE)
        s->numbers.gap = largest_gap(grpo->old_lp, out->rows.lp, M);
    rl_keep_rows(r->groups, rl->group, part, out->rows.entropy, grpo->ref_lp);
    return (RlUpdate){.tokens = M,
                      .loss = out->loss,
                      .entropy = sum_in_blocks(out->rows.entropy, M) / M,
                      .kl = has_reference(rl) ? stats.kl_mean : 0,
                      .kl_exact = has_reference(rl) ? mean_of(out->rows.kl, grpo->weight, M) : (double)NAN,
                      .clip_low = stats.clip_low,
                      .clip_high = stats.clip_high,
                      .kl_clamps = stats.kl_clamps};
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

/* Rollouts, warnings, metrics. */
static bool report(UnitRun *u, RlStep *s, Json *metrics, Status *st)
{
    Rl *r = u->self;
    if (!rl_rollouts_write(u, r->rollouts, r->groups, &r->rewards, st)) return false;
    if (!rl_warn(u, &s->numbers, (double)r->since_reset, st)) return false;
    rl_numbers_json(&s->numbers, &r->rewards, metrics);
    counts_failures(u, s->numbers.failures);
    Json *time = json_new_object();
    json_set(time, "sample", json_new_number(s->sampled - s->started));
    json_set(time, "train", json_new_number(s->trained - s->sampled));
    json_set(metrics, "time", time);
    json_set(metrics, "lr", json_new_number(s->numbers.lr));
    json_set(metrics, "occupancy", json_new_number(s->rollout.occupancy));
    if (s->rollout.discarded) json_set(metrics, "discarded_tokens", json_new_number((double)s->rollout.discarded));
    if (s->rollout.drafted)
        json_set(metrics, "draft_accepted", json_new_number((double)s->rollout.accepted / (double)s->rollout.drafted));
    return true;
}

static bool open_stage(UnitRun *u, Status *st)
{
    u->total = u->unit->stage->steps;
    return rl_open(u, u->unit->stage->optim.lr, 0, st);
}

const UnitKind unit_rl = {.verb = "train",
                          .open = open_stage,
                          .step = rl_step,
                          .save = rl_save,
                          .lend = rl_lend,
                          .take_back = rl_take_back,
                          .close = rl_close};
