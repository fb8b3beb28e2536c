/* Stored rollouts scored again: what another reward would have paid, and whom it would have taught. */
#ifndef RECIPES_ABLATE_RESCORE_H
#define RECIPES_ABLATE_RESCORE_H

#include "checkpoints/rollouts/rollouts.h"
#include "data/json.h"
#include "data/reward/reward.h"
#include "recipes/config/recipe.h"

/* A sample under both rewards. truth: the task's verdict, or of general prompts the hidden oracle. */
typedef struct Rescored {
    const RolloutSample *sample;
    double truth, was, now;              /* rewards: as stored; by the other */
    double was_advantage, now_advantage; /* to the mean of the group, both */
    int group;
} Rescored;

typedef struct Rescore {
    RolloutTable table;
    Rescored *list; /* [n] */
    int n, groups;
    RecipeRewards rewards; /* the other */
    int64_t first_step, last_step;
    int unknown;          /* samples whose problem could not be made again: left out */
    long calls, failures; /* of programs */
} Rescore;

/* Rewards out of what a person types: "{accuracy: 1, format: 0.5}" as in a recipe, else a program. */
bool reward_text(const char *with, const char *recipe, const char *stage, RecipeRewards *out, Status *st);

/* Scores every rollout of RUN/stage with `with`. Reward models are not run again: their stored scores count. */
bool rescore(const char *run, const char *stage, const char *with, Rescore *out, Status *st);
void rescore_free(Rescore *r);

/* Agreement of two lists: Spearman's rank correlation, ties at their mean rank; NAN where one does not vary. */
double rank_correlation(const double *x, const double *y, int n);

typedef struct RescoreNumbers {
    double was_mean, was_sd, now_mean, now_sd;
    double was_quantiles[5], now_quantiles[5]; /* 0.05, 0.25, 0.5, 0.75, 0.95 */
    double was_truth, now_truth, was_now;      /* rank correlations */
    double was_flat, now_flat;                 /* share of groups without variance */
    int confusion[2][2][2];                    /* [was, now][right][advantage > 0] */
    int flipped;                               /* advantages that change sign */
} RescoreNumbers;
RescoreNumbers rescore_numbers(const Rescore *r);

Json *rescore_json(const Rescore *r, const RescoreNumbers *n);
char *rescore_page(const Rescore *r, const RescoreNumbers *n, const char *title);
void rescore_print(const Rescore *r, const RescoreNumbers *n);

#endif
