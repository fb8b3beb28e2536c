/* What an RL step reports about its samples. */
#ifndef RECIPES_RL_NUMBERS_H
#define RECIPES_RL_NUMBERS_H

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

/* Means over the samples of groups [n]. */
RlNumbers rl_numbers(const Group *groups, int n, int G, const RecipeRewards *rewards);
/* The numbers as metrics of the step. */
void rl_numbers_json(const RlNumbers *r, const RecipeRewards *rewards, Json *metrics);

#endif
