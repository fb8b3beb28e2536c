/* Named warnings, while things happen. Each is a small detector over windows of step statistics; it fires once and again only
 * after it has cleared. "First" below is the mean of the stage's first 10 steps, "now" that of the last 10.
 *
 *   zero-gradient            groups with equal rewards: now >= 90 % (clears below 70 %)
 *   all-truncated            truncated completions: now >= 80 % (clears below 50 %)
 *   entropy-collapse         entropy (in steps without an update its estimate, -log-prob of what was sampled) now under
 *                            a tenth of first, or under 0.005 nats, at an accuracy under 90 %
 *   format-without-accuracy  format at least 0.2 above first, accuracy 1.5 standard errors below first
 *   rm-vs-oracle             the reward model's score above, the hidden oracle at least 0.1 below where the oracle was
 *                            best
 *   thinking-vanishes        non-empty think parts at half of first or less, accuracy not below first
 *   language-drifts          language consistency 0.15, and 4 standard errors of the difference, below its best
 *   stale-reference          KL to the reference above 0.2 nats a token with beta > 0 and a reference 20 steps old or
 *                            older
 *   training-flat            accuracy of the last 25 steps not half a standard error above that of the 25 before, and
 *                            below 70 %
 *
 * Standard errors come from how much neighbouring steps differ. */
#ifndef RECIPES_WARNINGS_H
#define RECIPES_WARNINGS_H

#include "data/json.h"

typedef enum {
    WARN_ZERO_GRADIENT,
    WARN_ALL_TRUNCATED,
    WARN_ENTROPY_COLLAPSE,
    WARN_FORMAT_WITHOUT_ACCURACY,
    WARN_RM_VS_ORACLE,
    WARN_THINKING_VANISHES,
    WARN_LANGUAGE_DRIFTS,
    WARN_STALE_REFERENCE,
    WARN_TRAINING_FLAT,
    WARN_KINDS
} WarningKind;

/* Of one RL step; NAN where it was not measured. Shares are 0 .. 1. */
typedef struct StepStats {
    int64_t step;
    double zero_groups; /* of the groups drawn, before refill */
    double truncated;
    double entropy; /* nats a token */
    double accuracy, format, language;
    double think;      /* share of completions with a non-empty think part */
    double rm, oracle; /* helpful prompts: mean score of the reward model and of the hidden oracle */
    double kl;         /* exact where known, nats a token; NAN without reference */
    double beta;
    double reference_age; /* steps since the reference was set */
} StepStats;

typedef struct Warning {
    WarningKind kind;
    int64_t step;
    char evidence[200]; /* the numbers */
} Warning;
const char *warning_name(WarningKind k); /* "zero-gradient" */
const char *warning_what(WarningKind k); /* one sentence: what it means */
const char *warning_try(WarningKind k);  /* one sentence: what to try */
Json *warning_json(const Warning *w);    /* {"name", "what", "evidence", "try"} for a metrics line */

typedef struct Warnings Warnings;
Warnings *warnings_new(void);
void warnings_free(Warnings *w);
/* A stage begins: all windows are emptied. */
void warnings_stage(Warnings *w);
/* Feeds one step; returns how many fired now (at most WARN_KINDS, written to fired). */
int warnings_step(Warnings *w, const StepStats *s, Warning *fired);
/* The windows as a JSON object for a checkpoint, so that a resumed run warns as one never stopped. */
Json *warnings_state(const Warnings *w);
bool warnings_restore(Warnings *w, const Json *state, Status *st);

#endif
