/* Multiple choice by likelihood: of the options of a row the one that the model finds likeliest as the answer. */
#ifndef RECIPES_EVAL_CHOICE_H
#define RECIPES_EVAL_CHOICE_H

#include "core/policy.h"
#include "data/corpus.h"
#include "recipes/model/prompts.h"

/* Shares of right choices in 0 .. 1, and their errors over problems. With l the log-prob of an option's tokens behind
 * the question (what ends the turn left out): raw = argmax l, normalised = argmax l / bytes of the option, the lowest
 * index of equal ones (lm-evaluation-harness: acc and acc_norm). */
typedef struct ChoiceEval {
    char name[64];
    int n, distinct;
    double raw, raw_se, normalised, normalised_se;
    double chance;   /* mean of 1 / number of options */
    bool no_holdout; /* rows of a file that holds none out */
} ChoiceEval;

/* A problem's options as the model sees them: l[0 .. n), by the trainer's forward. `shots`: as shots_add. */
bool choice_log_likelihoods(Policy *p, const Voice *v, const Problem *problem, const Source *source, uint32_t seed,
                            int shots, double *l, Status *st);
/* The first n rows of the test split of a file of choices. */
bool choice_evaluate(Policy *p, const Voice *v, const Source *source, uint32_t seed, int shots, int n,
                     const volatile int *cancel, ChoiceEval *out, Status *st);

#endif
