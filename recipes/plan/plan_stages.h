/* The plans of a run's stages: what each stage's keys mean in sequences, tokens and models. */
#ifndef RECIPES_PLAN_STAGES_H
#define RECIPES_PLAN_STAGES_H

#include "recipes/run/run.h"

/* Every stage of a run whose tokenizer is open: fills r->plans, prints a line each (print), fails when one
 * does not fit. Lengths are those of a stage's first 256 problems. */
bool plan_run(Run *r, bool print, Status *st);

#endif
