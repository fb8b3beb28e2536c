/* Reinforcement learning by GRPO, shared by the rl stages and by distillation's rival: the state of a unit between its files
 * rl.c (the step), rl_state.c, rl_rate.c, rl_batch.c, rl_critic.c, rl_numbers.c, rl_report.c. */
#ifndef RECIPES_STAGE_RL_H
#define RECIPES_STAGE_RL_H

#include "checkpoints/rollouts/rollouts.h"
#include "recipes/stages/groups.h"
#include "recipes/stages/rl_batch.h"

typedef struct Rl {
    CorpusSpec corpus_rules, corpus_all; /* prompts before and after the reward models act */
    RecipeRewards rewards;
    RewardSet *open_rewards;
    RewardModel *helpful, *safety; /* NULL: not needed */
    GroupSource source;
    Group *groups, *fresh; /* [prompts]; fresh: of a refill */
    RlBatch batch;
    struct RlCritic *critic; /* of ppo (rl_critic.h); NULL: none */
    RolloutWriter *rollouts;
    char *replies;       /* file of the external programs' replies */
    double lr;           /* the policy's peak learning rate */
    double flops;        /* budget at which the unit is done; 0: `total` steps */
    int64_t since_reset; /* steps since the reference was set */
} Rl;

/* UnitKind's step: one step of GRPO. */
bool rl_step(UnitRun *u, Json *metrics, bool *done, Status *st);

/* Whether the reward models act in a step (0-based) of a stage of `total`: only in its last part (DeepSeek-R1: the last 400 of
 * 1,700). */
bool rl_preferences_act(const RecipeRl *rl, int64_t step, int64_t total);

/* Gives the samples of an update the trainer's numbers of their tokens, those of the first update of the step that sees them;
 * ref_lp NULL: there is no reference. */
void rl_keep_rows(Group *groups, int G, const RlPart *part, const float *entropy, const float *ref_lp);

#endif
