/* Opening, saving and closing an RL unit. */
#include "recipes/stages/rl_state.h"

#include <stdlib.h>

#include "core/base/check.h"
#include "recipes/run/counts.h"
#include "recipes/run/run_folder.h"
#include "recipes/run/sources.h"
#include "recipes/stages/rl_critic.h"
#include "recipes/stages/rl_report.h"

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
    if (helpful && !(r->helpful = reward_model_load(u->run, s, true, st))) return false;
    if (safety && !(r->safety = reward_model_load(u->run, s, false, st))) return false;
    return true;
}

static GroupSource group_source(const UnitRun *u, const Rl *r)
{
    const RecipeRl *rl = &u->unit->stage->rl;
    int all = rl->prompts * rl->group;
    return (GroupSource){.run = u->run,
                         .rl = rl,
                         .rewards = r->open_rewards,
                         .specs = &r->rewards,
                         .helpful = r->helpful,
                         .safety = r->safety,
                         .data_seed = run_seed(u->run, u->unit),
                         .rng_stage = unit_rng_stage(u->run, u->unit),
                         .slots = all < ROLLOUT_SLOTS ? all : ROLLOUT_SLOTS};
}

static bool open_rollouts(UnitRun *u, Rl *r, Status *st)
{
    r->rollouts = rl_rollouts_open(u, &r->rewards, st);
    r->replies = run_folder_file(u->run->folder, "rollouts", u->unit->name, ".replies.jsonl");
    return r->rollouts && (!needs(&r->rewards, REWARD_EXTERNAL) || reward_cache_load(r->open_rewards, r->replies, st));
}

/* Prompts of the whole stage by source (refills apart): those of the reward models come in its last part only. */
static void count_prompts(UnitRun *u, const Rl *r)
{
    const RecipeRl *rl = &u->unit->stage->rl;
    int64_t first = 0;
    while (r->flops <= 0 && first < u->total && !rl_preferences_act(rl, first, u->total)) first++;
    double rules = r->flops > 0 ? 0 : (double)(first * rl->prompts);
    double all = r->flops > 0 ? 0 : (double)((u->total - first) * rl->prompts);
    for (int i = 0; i < r->corpus_all.n_sources; i++) {
        double draws = all * corpus_share(&r->corpus_all, i);
        if (i < r->corpus_rules.n_sources) draws += rules * corpus_share(&r->corpus_rules, i);
        counts_add_draws(u, &r->corpus_all.sources[i], draws, needs(&r->rewards, REWARD_ACCURACY));
    }
}

bool rl_open(UnitRun *u, double lr, double flops, Status *st)
{
    const RecipeStage *s = u->unit->stage;
    Rl *r = calloc(1, sizeof *r);
    CHECK(r != NULL);
    u->self = r;
    r->lr = lr;
    r->flops = flops;
    if (!run_mix(u->run, s, 0, &r->corpus_rules, st) || !run_mix(u->run, s, s->general_share, &r->corpus_all, st))
        return false;
    if (!open_rewards(u, r, st)) return false;
    r->groups = calloc((size_t)s->rl.prompts, sizeof *r->groups);
    r->fresh = calloc((size_t)s->rl.prompts, sizeof *r->fresh);
    CHECK(r->groups && r->fresh);
    r->source = group_source(u, r);
    if (s->rl.beta > 0 && !u->policy->reference.plain) policy_reference_set(u->policy);
    if (s->rl.loss == GRPO_PPO && !(r->critic = rl_critic_open(u, st))) return false;
    r->since_reset = json_integer(json_get(u->extra, "since_reset"));
    count_prompts(u, r);
    return open_rollouts(u, r, st);
}

bool rl_save(UnitRun *u, Status *st)
{
    Rl *r = u->self;
    return rollouts_flush(r->rollouts, st) &&
           (!needs(&r->rewards, REWARD_EXTERNAL) || reward_cache_save(r->open_rewards, r->replies, st));
}

void rl_lend(UnitRun *u, Attachments *out)
{
    Rl *r = u->self;
    if (r->critic) rl_critic_lend(r->critic, out);
}

void rl_take_back(UnitRun *u)
{
    Rl *r = u->self;
    if (r->critic) rl_critic_take_back(r->critic);
}

void rl_reset_reference(UnitRun *u)
{
    Rl *r = u->self;
    int every = u->unit->stage->rl.reference_reset;
    r->since_reset++;
    if (every && u->policy->reference.plain && r->since_reset >= every) {
        policy_reference_set(u->policy);
        r->since_reset = 0;
    }
    json_set(u->extra, "since_reset", json_new_int(r->since_reset));
}

void rl_close(UnitRun *u)
{
    Rl *r = u->self;
    if (!r) return;
    if (r->rollouts) rollouts_close(r->rollouts);
    if (r->open_rewards) reward_close(r->open_rewards);
    free(r->replies);
    reward_model_free(u->run, r->helpful);
    reward_model_free(u->run, r->safety);
    rl_critic_free(r->critic);
    rl_batch_free(&r->batch);
    free(r->groups);
    free(r->fresh);
    free(r);
}
