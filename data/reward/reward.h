/* Rewards: named, weighted components. Reward models run elsewhere (recipes/); their values come in as numbers. */
#ifndef DATA_REWARD_H
#define DATA_REWARD_H

#include "data/task.h"

typedef enum {
    REWARD_ACCURACY,   /* the task's verdict, 0 .. 1 */
    REWARD_FORMAT,     /* 1 when the tags are right and the think part is not empty */
    REWARD_LANGUAGE,   /* share of prompt-language words in the reasoning (R1 paper, 2.3.2); 0 without reasoning */
    REWARD_LENGTH,     /* 1 - tokens / max_tokens */
    REWARD_OVERLONG,   /* DAPO's soft punishment (arXiv:2503.14476, eq. 13): 0, linear in the last `buffer`, -1 */
    REWARD_REPETITION, /* minus the share of repeated n-grams (4 words, numbers, characters of CJK, other signs) */
    REWARD_HELPFUL_RM, /* pairwise reward model on the final answer only; does not apply when it did not run */
    REWARD_SAFETY_RM,  /* pointwise reward model on everything; the same */
    REWARD_EXTERNAL,   /* a program */
    REWARD_KINDS
} RewardKind;
const char *reward_kind_name(RewardKind k); /* "accuracy", "format", "language", "length", "overlong", "repetition",
                                               "helpful_rm", "safety_rm", "external" */

enum { REWARD_MAX = 12 };

typedef struct RewardSpec {
    RewardKind kind;
    char name[32]; /* shown in logs; the kind's name unless set */
    float weight;
    unsigned kinds;    /* bit set of PromptKind (1 << KIND_...) it applies to; 0: reward_default_kinds */
    int buffer;        /* overlong */
    char command[512]; /* external: run by /bin/sh -c, JSON lines in and out (data/reward/external.h) */
    double timeout;    /* external: seconds a batch may take; 0: REWARD_TIMEOUT */
    double startup;    /* external: seconds until a started program's first reply; 0: REWARD_STARTUP */
} RewardSpec;
enum { REWARD_TIMEOUT = 30, REWARD_STARTUP = 300 };

/* accuracy: reasoning; helpful_rm: helpful; safety_rm: safety, what it was trained on; the others: all. */
unsigned reward_default_kinds(RewardKind k);

typedef struct RewardInput {
    const Problem *problem;
    const char *completion; /* text with tags, without end token */
    int tokens, max_tokens;
    bool truncated;
    float helpful, safe; /* reward models' scores, NAN when they did not run */
} RewardInput;

typedef struct RewardOutput {
    float total;             /* sum of weight * part over the components of the prompt's kind */
    float parts[REWARD_MAX]; /* unweighted; 0 where a component does not apply */
    bool applies[REWARD_MAX];
    bool failed;              /* an external component that applies could not be had: the sample has no reward */
    Verdict verdict;          /* the task's, whether or not accuracy is a component */
    char external_reason[96]; /* "" or what the program said; "timeout", "crashed", "bad reply: .." for its failures */
} RewardOutput;

/* Share of the n-grams (n = 4 words, or characters of CJK) of a text that occurred before in it, 0 .. 1. */
float repetition_share(const char *text, size_t length);

typedef struct RewardSet RewardSet; /* specs + the external programs' processes and reply cache */
RewardSet *reward_open(const RewardSpec *specs, int n, Status *st);
void reward_close(RewardSet *r);
/* Scores n completions. External components run as one batch a program; a sample that a program fails to score has .failed.
 * Fails, in the program's own words, when a program has never scored anything and fails at the whole of a batch. */
bool reward_score(RewardSet *r, const RewardInput *in, RewardOutput *out, int n, Status *st);
/* What is to be told about the programs since the last call: a program's first failure, a line that was skipped.
 * NULL: nothing. Caller frees. */
char *reward_notice(RewardSet *r);
/* Failures of component i since open. */
long reward_failures(const RewardSet *r, int component);
/* External calls, cache hits (equal completions of one batch among them), failures since open. */
void reward_counts(const RewardSet *r, long *calls, long *hits, long *failures);
/* The reply cache as JSON lines, for a run folder, so that a resumed run repeats its replies. Failures are not in it. A
 * missing file loads as an empty cache. */
bool reward_cache_save(const RewardSet *r, const char *path, Status *st);
bool reward_cache_load(RewardSet *r, const char *path, Status *st);

#endif
