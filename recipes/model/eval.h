/* Evaluation on held-out problems: pass@1 with its standard error over problems, pass@k (unbiased), cons@k, format,
 * language, length; the hidden oracle and the safe share on general prompts. Problems and random numbers depend on the
 * recipe's seed only, so two checkpoints of a run are compared on the same draws (paired). */
#ifndef RECIPES_EVAL_H
#define RECIPES_EVAL_H

#include "data/corpus.h"
#include "core/policy.h"
#include "recipes/model/effort.h"
#include "recipes/model/eval_choice.h"
#include "recipes/model/eval_curve.h"
#include "recipes/model/eval_refine.h"
#include "recipes/model/prompts.h"

enum { EVAL_TASKS = CORPUS_MAX_SOURCES, EVAL_NAME = 64 };

/* One sampled completion, for --dump and the report. */
typedef void (*EvalSample)(void *ctx, int sample, const JudgedText *judged);

/* What chooses one of several samples: the highest reward model's score, verdict, or mean log-prob; of equal ones the
 * first. */
typedef enum { BY_HELPFUL_RM, BY_VERIFIER, BY_LIKELIHOOD, BY_KINDS } BestBy;
const char *best_by_name(int k); /* "helpful_rm", ..; NULL after the last */
/* A reward model's scores of the k completions of each problem of a set: score[n k]. */
typedef bool (*EvalRate)(void *ctx, const PromptSet *set, const Completion *c, int k, float *score, Status *st);

typedef struct EvalSpec {
    const CorpusSpec *reasoning;      /* every source is a family of its own: n problems each */
    const CorpusSpec *general;        /* helpful and refusal families, or NULL */
    const char *const *names;         /* of the reasoning sources */
    const char *const *general_names; /* of the general ones */
    int n, k;                         /* problems a family, samples a problem */
    int file_n;                       /* rows of a file, none twice; 0: all that the split has */
    int general_n;                    /* problems of each general family, one sample each */
    double temperature, top_p;
    int max_tokens;
    CacheKind cache;
    uint32_t seed;
    int slots;
    bool curve; /* of pass, votes and best-of over k too */
    int shots;  /* worked examples before each question */
    Effort effort;
    int best_of; /* samples of which one is chosen; 0: none is; at most k. General prompts then have as many samples, too */
    BestBy by;
    EvalRate rate; /* of BY_HELPFUL_RM */
    void *rate_ctx;
    int refine; /* rounds */
    Feedback feedback;
    EvalSample on_sample; /* NULL: none */
    void *on_sample_ctx;
    const volatile int *cancel; /* NULL: none */
} EvalSpec;

/* Shares in 0 .. 1. se: of pass1, over problems (those with the same prompt are one). */
typedef struct TaskEval {
    char name[EVAL_NAME];
    int n, k, distinct; /* problems, samples of each, different problems */
    bool no_holdout;    /* rows of a file that holds none out */
    double pass1, se, passk, consk, format, language, length, truncated;
    long reasons[REASON_COUNT];
    Curve curve;
    double best, best_se; /* score of the chosen sample, over the k / best_of groups of samples */
    bool reflects;        /* of a built-in family: the next four, a sample */
    double checks, slips, revisions, corrected;
    double closed, continued; /* thoughts closed at the budget; ends taken away, a sample */
    Refinement refine[REFINE_ROUNDS];
    int rounds;
} TaskEval;

/* A general family: the mean oracle of a helpful one, the share of safe answers of a safety one, a file's mean
 * verdict. */
typedef struct GeneralEval {
    char name[EVAL_NAME];
    PromptKind kind; /* of a built-in family; a file is KIND_REASONING */
    int n, distinct;
    double score, se;
    double over_refusal;  /* safety: share of the harmless prompts that were refused */
    double best, best_se; /* of the chosen of best_of samples */
} GeneralEval;

typedef struct EvalResult {
    TaskEval tasks[EVAL_TASKS];
    int n_tasks;
    TaskEval all;       /* over all reasoning problems; name "all" */
    double zh_language; /* language share on Chinese prompts */
    GeneralEval general[EVAL_TASKS];
    int n_general;
    ChoiceEval choices[EVAL_TASKS]; /* files of multiple choice: by likelihood, not sampled, and not in `all` */
    int n_choices;
    long tokens; /* sampled */
    int best_of;
    BestBy by;
    Feedback feedback;
    bool forced; /* thoughts had a budget */
    /* [all.n] of each problem, in order, for paired comparisons: share correct, score of the chosen sample (best_of),
     * share correct after each round (refine). eval_result_free. */
    float *problems, *chosen, (*refined)[REFINE_ROUNDS];
} EvalResult;

/* Problems that a source gives: n, or of a file file_n of its held-out rows (of all, where it holds none out), or as
 * many as there are. */
int eval_problems(const Source *s, int n, int file_n);

/* Fails only on interruption or lack of memory. */
bool evaluate(Policy *p, const Voice *v, const EvalSpec *s, EvalResult *out, Status *st);
void eval_result_free(EvalResult *r);

#endif
