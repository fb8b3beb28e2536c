/* Opening, saving and closing an RL unit: rewards and their models, prompts, the reference, rollouts and replies on disk. */
#ifndef RECIPES_RL_STATE_H
#define RECIPES_RL_STATE_H

#include "recipes/stages/rl.h"

/* UnitKind's open with the unit's peak learning rate and its budget of FLOPs (0: the stage's steps), save, lend and
 * take_back, close. */
bool rl_open(UnitRun *u, double lr, double flops, Status *st);
bool rl_save(UnitRun *u, Status *st);
void rl_lend(UnitRun *u, Attachments *out);
void rl_take_back(UnitRun *u);
void rl_close(UnitRun *u);

/* A step is over: the reference becomes the policy every `reference_reset` steps. */
void rl_reset_reference(UnitRun *u);

#endif
