/* The plans of a run's stages: what each stage's keys mean in sequences, tokens and models. */
#ifndef RECIPES_PLAN_STAGES_H
#define RECIPES_PLAN_STAGES_H

#include "recipes/run/run.h"

/* Whether every name of `train:` means a tensor of some model that the recipe trains, and leaves each of them something to train;
 * and whether these models can be. Before a run's folder is made. */
bool plan_check_trained(Run *r, Status *st);

/* Every stage of a run whose tokenizer is open: fills r->plans, prints a line each (print), fails when one
 * does not fit. Lengths are those of a stage's first 256 problems. */
bool plan_run(Run *r, bool print, Status *st);

#endif
