/* Learning rate and end of an RL unit: by steps, or by the FLOPs that distillation's rival may take. */
#ifndef RECIPES_RL_RATE_H
#define RECIPES_RL_RATE_H

#include "recipes/stages/rl.h"

/* Of the coming step, falling from `peak`: over the stage's steps, or over the unit's budget of FLOPs. */
float rl_rate(const UnitRun *u, double peak);
/* Whether the budget ends here: another step like the last, of so many FLOPs, would come further from it. */
bool rl_budget_spent(const UnitRun *u, double step_flops);

#endif
