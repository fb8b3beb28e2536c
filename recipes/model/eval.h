/* Evaluation on held-out problems: pass@1 with standard error over problems, pass@k (unbiased), cons@k, format, language, length;
 * the hidden oracle and the safe share on general prompts. Problems and random numbers depend on the recipe's seed only, so two
 * checkpoints of a run are compared on the same draws (paired). */
#ifndef RECIPES_EVAL_H
#define RECIPES_EVAL_H

#include "data/corpus.h"
#include "core/policy.h"
#include "recipes/model/prompts.h"

enum { EVAL_TASKS = CORPUS_MAX_SOURCES };

typedef struct EvalSpec {
    const CorpusSpec *reasoning; /* every source is a family of its own: n problems each */
    const CorpusSpec *general;   /* helpful and refusal families, or NULL */
    const char *const *names;    /* of the reasoning sources */
    int n, k;                    /* problems a family, samples a problem */
    int general_n;               /* problems of each general family, one sample each */
    double temperature, top_p;
    int max_tokens;
    CacheKind cache;
    uint32_t seed;
    int slots;
} EvalSpec;

/* Shares in 0 .. 1. */
typedef struct TaskEval {
    char name[64];
    int n, k;
    double pass1, se, passk, consk, format, language, length, truncated;
    long reasons[REASON_COUNT];
} TaskEval;

typedef struct EvalResult {
    TaskEval tasks[EVAL_TASKS];
    int n_tasks;
    TaskEval all;       /* over all reasoning problems; name "all" */
    double zh_language; /* language share on Chinese prompts */
    bool has_helpful, has_safe;
    double helpful, helpful_se, safe, safe_se, over_refusal;
    long tokens;     /* sampled */
    float *problems; /* [all.n] share correct of each problem, in order: for paired comparisons; free() */
} EvalResult;

/* One sampled completion, for --dump and the report. */
typedef void (*EvalSample)(void *ctx, const Problem *p, int sample, const char *completion, Verdict v);

/* Fails only on interruption or lack of memory. on_sample may be NULL. */
bool evaluate(Policy *p, const Voice *v, const EvalSpec *s, EvalResult *out, EvalSample on_sample, void *ctx,
              const volatile int *cancel, Status *st);

/* {"TASK": {"pass@1", "se", "cons@K", "pass@K", "format", "language", "length"}, ..., "all": {..}, "helpful", "safe"} */
Json *eval_json(const EvalResult *r);

/* Mean difference b - a of the same problems and its standard error. */
double eval_paired(const EvalResult *a, const EvalResult *b, double *se);

#endif
