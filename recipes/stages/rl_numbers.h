/* What an RL step reports about its samples. */
#ifndef RECIPES_RL_NUMBERS_H
#define RECIPES_RL_NUMBERS_H

#include "recipes/stages/groups.h"

/* Numbers of one step: means over its samples (those of the first draw, before any refill), and of its updates means
 * over their tokens (loss, grad_norm: over the updates), so that settings with other mini_batches and inner_epochs can
 * be compared. */
typedef struct RlNumbers {
    int samples, groups, zero_groups, refills;
    int failures; /* samples whose reward could not be had; not in the means of rewards */
    double reward, parts[REWARD_MAX], pass1, format, language, thinks, truncated;
    double length, length_correct, length_wrong; /* tokens; NAN when there is none */
    double helpful, oracle; /* helpful prompts: reward model's score and hidden oracle; NAN: none */
    double
        surprise; /* mean -log-prob of the sampled tokens: estimates the entropy in every step, also without an update */
    double entropy, clip_low, clip_high, loss, grad_norm, lr;
    double kl,
        kl_exact; /* to the reference: the estimator of the loss, the exact one; kl_exact NAN without a reference */
    double gap;   /* largest difference of a log-prob between sampler and trainer, before the first update */
    double checks, slips, revisions, corrected; /* a sample of a built-in reasoning family (data/reflection.h) */
    int reflecting;                             /* such samples */
    long reasons[REASON_COUNT], kl_clamps;
    long tokens, updates; /* of the updates */
    bool updated;         /* false: no group had a signal */
    double routing_gap; /* share of the sampler's choices of experts that the trainer did not make; NAN: not measured */
    double value_loss, value_norm,
        value_clip;                     /* of the critic: means over its updates; share of values that moved too far */
    double value, explained;            /* its mean value, the share of the returns' variance that it foretells */
    int value_updates;                  /* 0: no critic */
    double kl_penalty;                  /* mean of the estimates that were taken off the rewards; NAN: none */
    double corrected_share, correction; /* importance weights: share that was cut or masked, mean; NAN: none */
} RlNumbers;

/* One update: means over its tokens. */
typedef struct RlUpdate {
    int tokens;
    double loss, grad_norm, entropy, kl, kl_exact, clip_low, clip_high;
    long kl_clamps;
} RlUpdate;

void rl_numbers_add(RlNumbers *n, const RlUpdate *u);
/* One update of the critic: its loss, gradient norm, share of values that moved too far. */
void rl_numbers_add_value(RlNumbers *n, double loss, double norm, double clip);

/* Means over the samples of groups [n]. */
RlNumbers rl_numbers(const Group *groups, int n, int G, const RecipeRewards *rewards);
/* The numbers as metrics of the step. */
void rl_numbers_json(const RlNumbers *r, const RecipeRewards *rewards, Json *metrics);

#endif
