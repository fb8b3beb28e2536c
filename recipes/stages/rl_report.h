/* What an RL step makes known beside its metrics: warnings and rollouts. */
#ifndef RECIPES_RL_REPORT_H
#define RECIPES_RL_REPORT_H

#include "checkpoints/rollouts/rollouts.h"
#include "recipes/stages/rl_numbers.h"

/* Feeds the warnings' detectors; those that fire are noted and written to the metrics. reference_age: in steps. */
bool rl_warn(UnitRun *u, const RlNumbers *n, double reference_age, Status *st);

/* Rollouts of a unit in the run folder, cut back to the unit's step, and the groups of a step added to them. */
RolloutWriter *rl_rollouts_open(UnitRun *u, const RecipeRewards *rewards, Status *st);
bool rl_rollouts_write(UnitRun *u, RolloutWriter *w, const Group *groups, const RecipeRewards *rewards, Status *st);

#endif
