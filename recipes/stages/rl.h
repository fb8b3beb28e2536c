/* Reinforcement learning by GRPO, shared by the rl stages and by distillation's rival. */
#ifndef RECIPES_STAGE_RL_H
#define RECIPES_STAGE_RL_H

#include "checkpoints/rollouts/rollouts.h"
#include "recipes/stages/groups.h"

/* Numbers of one step: means over its samples (those of the first draw, before any refill). */
typedef struct RlNumbers {
    int samples, groups, zero_groups, refills;
    double reward, parts[REWARD_MAX], pass1, format, language, thinks, truncated;
    double length, length_correct, length_wrong; /* tokens; NAN when there is none */
    double helpful, oracle; /* helpful prompts: reward model's score and hidden oracle; NAN: none */
    double entropy, kl, kl_exact, clip_low, clip_high, gap, loss, grad_norm, lr;
    long reasons[REASON_COUNT], kl_clamps;
    bool updated; /* false: no group had a signal */
} RlNumbers;

/* Opens and closes the state of an RL unit; step as UnitKind's. lr: peak learning rate; flops: budget at which the unit is
 * done (0: `total` steps). */
bool rl_open(UnitRun *u, double lr, double flops, Status *st);
bool rl_step(UnitRun *u, Json *metrics, bool *done, Status *st);
bool rl_save(UnitRun *u, Status *st);
void rl_close(UnitRun *u);

/* Feeds the warnings' detectors; those that fire are noted and written to the metrics. */
bool unit_warn_rl(UnitRun *u, const RlNumbers *n, double reference_age, Status *st);

/* Rollouts of a unit in the run folder, cut back to the unit's step, and the groups of a step added to them. */
RolloutWriter *unit_open_rollouts(UnitRun *u, const RecipeRewards *rewards, Status *st);
bool unit_write_rollouts(UnitRun *u, RolloutWriter *w, const Group *groups, const RecipeRewards *rewards, Status *st);

/* The numbers as metrics of the step. */
void rl_numbers_json(const RlNumbers *r, const RecipeRewards *rewards, Json *metrics);
/* Means over the samples of groups [n]. */
RlNumbers rl_numbers(const Group *groups, int n, int G, const RecipeRewards *rewards);

#endif
