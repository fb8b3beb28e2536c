/* PPO's critic in an RL unit: a second model that foretells, at every token of a completion, the rewards that follow. It turns
 * a step's rewards into advantages of tokens (core/losses/ppo.h) and is trained on the same completions as the policy. */
#ifndef RECIPES_RL_CRITIC_H
#define RECIPES_RL_CRITIC_H

#include "core/policy.h"
#include "recipes/stages/rl.h"
#include "recipes/stages/rl_numbers.h"

typedef struct RlCritic {
    Policy *policy; /* with a scalar head */
    float *weights; /* while a checkpoint is written: all of them as f32, where they are not so themselves */
    PolicyMoments lent;
} RlCritic;

/* The critic of the unit's stage: as it starts (critic_from, or the policy's present weights under a fresh head), or as the
 * checkpoint of which the unit goes on has it. NULL sets st. */
RlCritic *rl_critic_open(UnitRun *u, Status *st);
void rl_critic_free(RlCritic *c);

/* Its weights and moments on the host, as a checkpoint's tensors, until take_back. */
void rl_critic_lend(RlCritic *c, Attachments *out);
void rl_critic_take_back(RlCritic *c);

/* Every group of G with a reward is learnt from: what its samples are compared with are the critic's values. */
void rl_critic_signal(Group *groups, int n, int G);

/* Values, returns and advantages of every token of the picked completions, before the step's first update. */
void rl_critic_judge(UnitRun *u, const RlPicked *picked, RlNumbers *numbers);

/* One AdamW update of the critic on the completions of r->batch. */
bool rl_critic_update(UnitRun *u, RlNumbers *numbers, Status *st);

#endif
