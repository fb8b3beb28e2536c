/* What an RL step makes known beside its metrics: warnings and rollouts. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "recipes/stages/rl_report.h"
#include "recipes/run/progress.h"
#include "recipes/run/run_folder.h"
#include "recipes/run/warnings.h"

enum { RIVAL_BLOCK = 25 }; /* steps of a shard where the recipe has no rollout_block: distillation's rivals */

static bool write_warning(UnitRun *u, const Warning *w, Status *st)
{
    progress_note(u->run->progress, "warning %s (%s step %lld): %s. %s %s", warning_name(w->kind), u->unit->name,
                  (long long)u->step + 1, w->evidence, warning_what(w->kind), warning_try(w->kind));
    Json *line = json_new_object();
    json_set(line, "warning", warning_json(w));
    return run_metrics_append(u->run->folder, u->unit->name, u->step + 1, line, st);
}

bool rl_warn(UnitRun *u, const RlNumbers *n, double reference_age, Status *st)
{
    double beta = u->unit->stage->rl.beta;
    StepStats s = {.step = u->step + 1,
                   .zero_groups =
                       n->value_updates ? 0 : (double)n->zero_groups / n->groups, /* a critic learns from them */
                   .truncated = n->truncated,
                   .entropy = n->updated ? n->entropy : n->surprise,
                   .accuracy = n->pass1,
                   .format = n->format,
                   .language = n->language,
                   .think = n->thinks,
                   .rm = n->helpful,
                   .oracle = n->oracle,
                   .kl = beta > 0 && n->updated ? n->kl_exact : (double)NAN,
                   .beta = beta,
                   .reference_age = reference_age};
    Warning fired[WARN_KINDS];
    int count = warnings_step(u->run->warnings, &s, fired);
    for (int i = 0; i < count; i++)
        if (!write_warning(u, &fired[i], st)) return false;
    return true;
}

RolloutWriter *rl_rollouts_open(UnitRun *u, const RecipeRewards *rewards, Status *st)
{
    const char *names[REWARD_MAX];
    int block = u->unit->stage->rollout_block;
    for (int i = 0; i < rewards->n; i++) names[i] = rewards->list[i].name;
    return rollouts_open(run_folder_path(u->run->folder), u->unit->name, names, rewards->n,
                         block > 0 ? block : RIVAL_BLOCK, u->step, st);
}

static void add_rollout(RolloutWriter *w, const Group *g, int sample, int64_t step, int n_rewards)
{
    const Sample *s = &g->samples[sample];
    const char *verdict = reason_name(s->reward.verdict.reason);
    char reason[160];
    snprintf(reason, sizeof reason, "%s%s%s", verdict, s->reward.external_reason[0] ? "; external: " : "",
             s->reward.external_reason);
    RolloutSample row = {.step = step,
                         .prompt = g->index,
                         .sample = sample,
                         .prompt_text = g->problem.prompt,
                         .completion = s->text,
                         .answer = g->problem.answer ? g->problem.answer : "",
                         .reason = reason,
                         .ids = s->ids,
                         .logprobs = s->logprobs,
                         .entropy = s->entropy,
                         .ref_logprobs = s->ref_logprobs,
                         .n = s->n,
                         .total = s->reward.total,
                         .advantage = s->advantage,
                         .truncated = s->truncated};
    for (int k = 0; k < n_rewards; k++) row.parts[k] = s->reward.applies[k] ? s->reward.parts[k] : NAN;
    rollouts_add(w, &row);
}

bool rl_rollouts_write(UnitRun *u, RolloutWriter *w, const Group *groups, const RecipeRewards *rewards, Status *st)
{
    const RecipeRl *rl = &u->unit->stage->rl;
    for (int g = 0; g < rl->prompts; g++)
        for (int i = 0; i < rl->group; i++) add_rollout(w, &groups[g], i, u->step + 1, rewards->n);
    return !rollouts_block_ends(w, u->step + 1) || rollouts_flush(w, st);
}
