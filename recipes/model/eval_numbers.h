/* The numbers of an evaluation: votes, standard errors, JSON. */
#ifndef RECIPES_EVAL_NUMBERS_H
#define RECIPES_EVAL_NUMBERS_H

#include "recipes/model/eval.h"

/* The standard error of the mean of x[n], where values of the same key (a problem that was drawn more than once) are
 * not independent: sqrt(C / (C - 1) sum over keys (sum of (x - mean))^2) / n for C keys; with n keys the usual s /
 * sqrt(n). *distinct (may be NULL): C. 0 when C < 2. */
double eval_error(const float *x, const uint64_t *key, int n, int *distinct);

/* Mean difference b - a of the same problems and its standard error. */
double eval_paired(const EvalResult *a, const EvalResult *b, double *se);

/* {"TASK": {"pass@1", "se", "cons@K", "pass@K", "format", "language", "length", "n", "k", "distinct"}, ..., "all":
 * {..}, of built-in families "checks", "slips", "revisions", "corrected" a sample (data/reflection.h), with curves
 * also "curve": [{"k", "pass", "pass_se", "vote", .., "weighted", .., "best", ..}], with best_of "best_of": {"n",
 * "by", "score", "se"}, with refinement "refine": [{"round", "feedback", "pass@1", "se", "asked", "fixed", "broken"}],
 * with an effort "closed" and "continued" thoughts a sample, "helpful", "helpful_se": mean of the helpful families;
 * "safe", "safe_se", "over_refusal": of the safety families; "general": {"FAMILY": {"score", "se", "n", "distinct"}}
 * where there are several of a kind, files, or a best_of, "choice": {"FILE": {"raw", "raw_se", "normalised",
 * "normalised_se", "chance", "n", "distinct"}} of multiple choice} */
Json *eval_json(const EvalResult *r);
/* The mean score of the built-in families of a kind, its error and the mean over-refusal; false: there is none. */
bool eval_general_mean(const EvalResult *r, PromptKind kind, GeneralEval *out);

#endif
