/* What an evaluation measured, problem by problem: evals/UNIT.jsonl, for comparisons that are paired by problem. A
 * line:
 *   {"task", "kind", "index", "prompt", "answer", "k", "pass@1", "pass@k", "cons@k", "format", "language", "length",
 *   "truncated",
 *    "completion", "reason"}   reasoning; shares over the k samples; completion and reason are the first sample's
 *   {"task", "kind", "index", "prompt", "helpful" or "safe", "completion", "reason"}   general families
 * and of a reasoning problem, where they were asked for, "best" (the chosen of several samples) and "refined@R" (share
 * correct after R second looks). */
#ifndef RECIPES_EVAL_ROWS_H
#define RECIPES_EVAL_ROWS_H

#include "recipes/model/eval.h"
#include "recipes/run/run.h"

typedef struct EvalRows EvalRows;
/* k: samples of a reasoning problem. */
EvalRows *eval_rows_new(const Tokenizer *t, int k);
void eval_rows_free(EvalRows *e);
/* A sample as evaluate() tells of it: those of a problem in a row, their number from 0. */
void eval_rows_add(EvalRows *e, const Problem *p, int sample, const char *completion, Verdict v);
/* All lines, once evaluate() has returned r; free(). */
char *eval_rows_text(EvalRows *e, const EvalResult *r);
/* Writes them as the run's evals/UNIT.jsonl; fails when the disk is full. */
bool eval_rows_write(EvalRows *e, const EvalResult *r, const Run *run, const char *unit, Status *st);

#endif
