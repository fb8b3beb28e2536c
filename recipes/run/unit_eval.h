/* Evaluations of a unit's policy, during its steps and after them. */
#ifndef RECIPES_UNIT_EVAL_H
#define RECIPES_UNIT_EVAL_H

#include "recipes/run/run.h"

/* The quick evaluation, as a line of the metrics; *stop when an SFT stage has reached what its recipe asks for. */
bool unit_evaluate_during(UnitRun *u, bool *stop, Status *st);
/* The full one: metrics, samples.jsonl, and "eval" of the unit's entry in the summary. */
bool unit_evaluate_after(UnitRun *u, Json *entry, Status *st);

#endif
