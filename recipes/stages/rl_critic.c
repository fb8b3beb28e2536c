/* PPO's critic in an RL unit. */
#include "recipes/stages/rl_critic.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/base/memory.h"
#include "core/scalar_head.h"
#include "recipes/model/train_select.h"
#include "recipes/run/models.h"
#include "recipes/stages/rl_rate.h"
#include "recipes/stages/step.h"

/* ---- Opening and saving ---- */

static const char *const block_names[] = {"critic.weights", "critic.m", "critic.v", "critic.steps"};
enum { BLOCK_WEIGHTS, BLOCK_M, BLOCK_V, BLOCK_STEPS, BLOCKS };

static Policy *first_policy(UnitRun *u, Status *st)
{
    const char *from = u->unit->stage->critic_from;
    Policy *p = run_critic(u->run, u->unit->stage, u->policy, st);
    if (p && p->config.V != u->policy->config.V) {
        fail(st, "%s, the critic of %s, has an embedding of %d rows, but the policy has %d: their tokens differ", from,
             u->unit->name, p->config.V, u->policy->config.V);
        policy_free(p);
        return NULL;
    }
    return p;
}

static const AttachedTensor *stored(const UnitRun *u, int block)
{
    for (int i = 0; i < u->state.ntensors; i++)
        if (!strcmp(u->state.tensors[i].tensor.name, block_names[block])) return &u->state.tensors[i];
    return NULL;
}

/* Bytes as the checkpoint has them; NULL, and said so, where it has another number. */
static void *stored_block(const UnitRun *u, int block, size_t bytes, Status *st)
{
    const AttachedTensor *t = stored(u, block);
    if (!t || t->tensor.bytes != bytes) {
        fail(st, "the unfinished state of %s holds no %s of %zu bytes: take it away, and the stage starts again",
             u->unit->name, block_names[block], bytes);
        return NULL;
    }
    void *out = memory_block(bytes);
    if (!out) fail(st, "no memory for the %zu bytes of %s", bytes, block_names[block]);
    else memcpy(out, t->tensor.data, bytes);
    return out;
}

static int64_t stored_steps(const UnitRun *u)
{
    const AttachedTensor *t = stored(u, BLOCK_STEPS);
    int64_t steps = 0;
    if (t && t->tensor.bytes == sizeof steps) memcpy(&steps, t->tensor.data, sizeof steps);
    return steps;
}

/* The critic as it was left: p gives its shape. */
static Policy *resumed(UnitRun *u, Policy *p, Status *st)
{
    float *weights = stored_block(u, BLOCK_WEIGHTS, p->engine.table.total * sizeof(float), st);
    Policy *out = weights ? policy_new(machine_engine(&u->run->machine), &p->config, 0, weights) : NULL;
    policy_free(p);
    if (!out || !train_table(&out->engine.table, u->run->recipe, st)) return out;
    void *m = stored_block(u, BLOCK_M, out->engine.table.moment_total, st);
    void *v = m ? stored_block(u, BLOCK_V, out->engine.table.moment_total, st) : NULL;
    if (v) policy_resume(out, m, v, NULL);
    else memory_free(m);
    out->optimizer_step = stored_steps(u);
    return out;
}

RlCritic *rl_critic_open(UnitRun *u, Status *st)
{
    Policy *p = first_policy(u, st);
    if (p && u->step > 0) p = resumed(u, p, st);
    else if (p && train_table(&p->engine.table, u->run->recipe, st)) policy_train_open(p);
    if (!p || st->failed) {
        policy_free(p);
        return NULL;
    }
    plan_apply(&u->run->plans[u->unit->stage_index], &p->engine);
    attachments_free(&u->state);
    RlCritic *c = calloc(1, sizeof *c);
    CHECK(c != NULL);
    c->policy = p;
    return c;
}

void rl_critic_free(RlCritic *c)
{
    if (!c) return;
    policy_free(c->policy);
    free(c);
}

static void lend_block(Attachments *out, int block, StDtype dtype, const void *data, size_t n)
{
    size_t bytes = n * (size_t)st_dtype_size(dtype);
    StTensor t = {.name = block_names[block], .dtype = dtype, .ndim = 1, .shape = {n}, .count = n, .bytes = bytes};
    t.data = data;
    attach_tensor(out, &t, false);
}

static bool read_weights(void *policy, const Param *q, float *out, Status *st)
{
    (void)st;
    policy_weights_read(policy, q, 0, q->count, out);
    return true;
}

void rl_critic_lend(RlCritic *c, Attachments *out)
{
    const ParamTable *t = &c->policy->engine.table;
    Status never = {0};
    c->lent = policy_moments_open(c->policy);
    bool own = c->policy->engine.ops->device.host && !c->policy->weights.high;
    c->weights = own ? NULL : memory_block(t->total * sizeof *c->weights);
    CHECK(own || (c->weights && params_fill(t, c->weights, read_weights, c->policy, &never)));
    lend_block(out, BLOCK_WEIGHTS, ST_F32, own ? c->policy->weights.plain : c->weights, t->total);
    bool f32 = t->moments == MOMENTS_F32;
    size_t n = f32 ? t->state_total : t->moment_total;
    lend_block(out, BLOCK_M, f32 ? ST_F32 : ST_U8, c->lent.m, n);
    lend_block(out, BLOCK_V, f32 ? ST_F32 : ST_U8, c->lent.v, n);
    lend_block(out, BLOCK_STEPS, ST_I64, &c->policy->optimizer_step, 1);
}

void rl_critic_take_back(RlCritic *c)
{
    memory_free(c->weights);
    c->weights = NULL;
    policy_moments_close(c->policy, &c->lent);
}

/* ---- Advantages ---- */

void rl_critic_signal(Group *groups, int n, int G)
{
    for (int g = 0; g < n; g++) {
        groups[g].signal = false;
        for (int i = 0; i < G; i++) groups[g].signal = groups[g].signal || !groups[g].samples[i].reward.failed;
    }
}

static float *new_floats(int n)
{
    float *out = malloc((size_t)n * sizeof *out);
    CHECK(out != NULL);
    return out;
}

/* Values of the batch's rows, and with a penalty on rewards the reference's log-probs, which the step's updates do not change. */
static void measure(UnitRun *u, float *ref_lp)
{
    Rl *r = u->self;
    Policy *c = r->critic->policy, *p = u->policy;
    const BatchBuilder *b = &r->batch.tokens;
    Predictions predict = batch_predictions(b);
    scalar_row_values(&c->engine, &c->w, batch_view(b), predict.rows, predict.M, r->batch.value);
    u->flops += forward_flops(c, b->n);
    if (!ref_lp) return;
    train_log_probs(&p->engine, &p->ref, batch_view(b), &predict, (float)(1.0 / u->unit->stage->rl.temperature), ref_lp,
                    NULL);
    u->flops += forward_flops(p, b->n);
}

/* One completion, whose rows begin at `at`. Returns the sum of its KL estimates. */
static double judge_sample(const RecipeRl *rl, Sample *s, const RlBatch *b, int at, const float *ref_lp)
{
    float *reward = new_floats(s->n);
    s->values = new_floats(s->n);
    s->returns = new_floats(s->n);
    s->advantages = new_floats(s->n);
    memcpy(s->values, b->value + at, (size_t)s->n * sizeof *s->values);
    PpoPenalty penalty = {.beta = ref_lp ? rl->beta : 0,
                          .clamp = rl->kl_clamp,
                          .estimator = rl->kl == KL_K1   ? 1
                                       : rl->kl == KL_K2 ? 2
                                                         : 3,
                          .lp = b->old_lp + at,
                          .ref_lp = ref_lp ? ref_lp + at : NULL};
    double kl = ppo_rewards(reward, (double)s->reward.total, &penalty, s->n);
    ppo_gae(s->advantages, s->returns, reward, s->values, s->n, rl->critic.gamma, rl->critic.lambda);
    free(reward);
    return kl;
}

/* Rows of all picked completions, one after the other. */
typedef struct StepRows {
    float *advantage, *weight, *value, *returns;
    int n;
} StepRows;

static StepRows rows_of(const Rl *r, const RlPicked *picked, int G)
{
    StepRows rows = {0};
    for (int i = 0; i < picked->n; i++) rows.n += r->groups[picked->list[i] / G].samples[picked->list[i] % G].n;
    rows.advantage = new_floats(rows.n);
    rows.weight = new_floats(rows.n);
    rows.value = new_floats(rows.n);
    rows.returns = new_floats(rows.n);
    for (int i = 0, at = 0; i < picked->n; i++) {
        const Sample *s = &r->groups[picked->list[i] / G].samples[picked->list[i] % G];
        for (int t = 0; t < s->n; t++, at++) {
            rows.advantage[at] = s->advantages[t];
            rows.weight[at] = picked->weight[picked->list[i]];
            rows.value[at] = s->values[t];
            rows.returns[at] = s->returns[t];
        }
    }
    return rows;
}

static void rows_free(StepRows *r)
{
    free(r->advantage);
    free(r->weight);
    free(r->value);
    free(r->returns);
}

/* Advantages over the step's batch, and each sample's mean of them. */
static void settle(Rl *r, const RlPicked *picked, const RecipeRl *rl, RlNumbers *numbers)
{
    int G = rl->group;
    StepRows rows = rows_of(r, picked, G);
    numbers->explained = ppo_explained(rows.value, rows.returns, rows.n);
    numbers->value = sum_in_blocks(rows.value, rows.n) / rows.n;
    if (rl->std_normalise) ppo_whiten(rows.advantage, rows.weight, rows.n);
    for (int i = 0, at = 0; i < picked->n; i++) {
        Sample *s = &r->groups[picked->list[i] / G].samples[picked->list[i] % G];
        memcpy(s->advantages, rows.advantage + at, (size_t)s->n * sizeof *s->advantages);
        s->advantage = (float)(sum_in_blocks(s->advantages, s->n) / s->n);
        at += s->n;
    }
    rows_free(&rows);
}

void rl_critic_judge(UnitRun *u, const RlPicked *picked, RlNumbers *numbers)
{
    Rl *r = u->self;
    const RecipeRl *rl = &u->unit->stage->rl;
    int parts = rl_part_count(picked, rl), tokens = 0;
    double kl = 0;
    for (int k = 0; k < parts; k++) {
        RlPart part = rl_part(picked->list, picked->n, k, parts);
        rl_batch_fill(&r->batch, r->groups, rl->group, picked, &part);
        float *ref_lp = rl->kl_in_reward ? r->batch.ref_lp : NULL;
        measure(u, ref_lp);
        for (int i = 0, at = 0; i < part.n; i++) {
            Sample *s = &r->groups[part.list[i] / rl->group].samples[part.list[i] % rl->group];
            kl += judge_sample(rl, s, &r->batch, at, ref_lp);
            at += s->n;
        }
        tokens += r->batch.tokens.m;
    }
    if (rl->kl_in_reward) numbers->kl_penalty = kl / tokens;
    settle(r, picked, rl, numbers);
}

/* ---- Training ---- */

bool rl_critic_update(UnitRun *u, RlNumbers *numbers, Status *st)
{
    Rl *r = u->self;
    const RecipeStage *s = u->unit->stage;
    Policy *c = r->critic->policy;
    const RlBatch *b = &r->batch;
    Predictions predict = batch_predictions(&b->tokens);
    BalanceConfig balance = recipe_balance(u->run->recipe, &c->config);
    ValueStep step = {.batch = batch_view(&b->tokens),
                      .rows = predict.rows,
                      .n = predict.M,
                      .loss = {(float)s->rl.critic.clip, b->weight, b->value, b->returns},
                      .balance = c->config.E ? &balance : NULL};
    ScalarOut out;
    double norm = 0;
    value_gradients(&c->engine, &c->w, &c->g, &step, &out);
    u->flops += 3 * forward_flops(c, b->tokens.n);
    if (!isfinite(out.loss))
        return fail(st, "the critic's loss became %g: try a lower critic.lr (%g now)", out.loss, s->rl.critic.lr);
    if (!run_update(u->run, c, s, out.routing, rl_rate(u, s->rl.critic.lr), &norm, st))
        return fail_prefix(st, "the critic");
    rl_numbers_add_value(numbers, out.loss, norm, (double)out.cut / predict.M);
    return true;
}
