/* What the runs of an ablation measured: evaluations problem by problem, means, comparisons, ablate.json and CSV. */
#ifndef RECIPES_ABLATE_RESULTS_H
#define RECIPES_ABLATE_RESULTS_H

#include <stdio.h>

#include "data/json.h"
#include "recipes/ablate/arms.h"

enum { METRICS = 9 };
/* Those of evals/UNIT.jsonl, in the order that they are shown. percent: a share. up: 1 more is better, -1 less, 0
 * neither. */
typedef struct MetricKind {
    const char *name;
    bool percent;
    int up;
} MetricKind;
extern const MetricKind ablate_metrics[METRICS];
int metric_index(const char *name); /* -1 */

/* One run's evaluation of `until`; rows NULL: it is not there. */
typedef struct RunResult {
    Json *rows;    /* array of evals/UNIT.jsonl */
    Json *summary; /* of the run */
} RunResult;

typedef struct MetricResult {
    double per_seed[STATS_SEEDS]; /* NAN: not measured */
    double mean, se;              /* over the seeds that are there; se over seeds, with one seed over problems */
} MetricResult;

typedef struct Results {
    const Ablation *ablation;
    RunResult runs[ARMS][STATS_SEEDS];
    MetricResult metrics[ARMS][METRICS];
    Compared compared[ARMS][METRICS]; /* with arm 0, over the seeds that both have; seeds 0: none */
    int finished;                     /* runs that have an evaluation */
} Results;

/* Reads what there is. Free with results_free. */
Results *results_read(const Ablation *a);
void results_free(Results *r);

/* ablate.json as an object: {"recipe", "until", "metric", "seeds", "arms": [{"name", "settings", "runs": [{"seed",
 * "folder", "weights_sha256", "computed", "reused"}], "metrics": {NAME: {"mean", "se", "per_seed"}}}],
 * "comparisons": [{"metric", "a", "b", "difference", "ci95", "p", "p_adjusted", "verdict", "needs"}], "units":
 * {"computed", "reused"}} */
Json *results_json(const Results *r);
/* arm,seed,metric,value */
char *results_csv(const Results *r);
/* The table of verdicts on a metric, for a terminal. */
void results_print(const Results *r, FILE *out);
/* "higher", "lower", "not resolved (about 4 more seeds would)"; out has 96 bytes. */
const char *results_verdict(const Compared *c, char out[96]);

#endif
