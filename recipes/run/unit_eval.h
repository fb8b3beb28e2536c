/* Evaluations of a unit's policy, during its steps and after them. */
#ifndef RECIPES_UNIT_EVAL_H
#define RECIPES_UNIT_EVAL_H

#include "recipes/model/eval.h"
#include "recipes/run/run.h"

/* What an evaluation of these mixes does, by the recipe's keys of `eval`: its n problems are shared out among the
 * families, rounded up. quick: the short one, of reasoning alone. */
EvalSpec unit_eval_spec(const Run *r, bool quick, const CorpusSpec *reasoning, const CorpusSpec *general);
/* Whether an SFT stage has reached the lower end of stop_at_pass1. */
bool unit_reached(const RecipeStage *s, double pass1);

/* The quick evaluation, as a line of the metrics; *stop when an SFT stage has reached what its recipe asks for. */
bool unit_evaluate_during(UnitRun *u, bool *stop, Status *st);
/* The full one: metrics, samples.jsonl, and "eval" of the unit's entry in the summary. */
bool unit_evaluate_after(UnitRun *u, Json *entry, Status *st);

#endif
