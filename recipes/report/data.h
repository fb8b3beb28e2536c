/* What a report reads of runs, and how stages are called on paper. */
#ifndef RECIPES_REPORT_DATA_H
#define RECIPES_REPORT_DATA_H

#include "data/json.h"

enum { RUN_STAGES = 64 };

typedef struct ReportRun {
    const char *folder, *label; /* label: last part of the path */
    Json *summary, *metrics, *samples;
    char *recipe;                   /* recipe.yaml, NULL when missing */
    const char *stages[RUN_STAGES]; /* names in metrics and summary, in the order they came */
    int n_stages;
} ReportRun;

bool report_run_read(ReportRun *r, const char *folder, Status *st);
void report_run_free(ReportRun *r);

/* The summary's entry of a stage; NULL. */
const Json *report_entry(const ReportRun *r, const char *stage);
/* A number of a stage's evaluation: task "all", "add2", .. or NULL for the top ("helpful"); NAN when absent. A key that ends in
 * '@' ("cons@", "pass@") takes the first key that starts so with the largest k. */
double report_eval(const ReportRun *r, const char *stage, const char *task, const char *key);

/* A column of the stage table. */
typedef struct Column {
    const char *stage; /* name in the summary */
    char title[32];    /* "Zero", "Dev1", "R1", "Student", ... */
    char note[40];     /* "cold start", "by RL, best of 3" */
    bool student;
} Column;
/* Evaluated stages in order; of the rivals only the best. Returns their number. */
int report_columns(const ReportRun *r, Column *out, int max);
/* "Zero" for zero, ...; the name itself for others. */
const char *report_title(const char *stage);

/* Points (step, value) of a stage; key may be nested with '/' ("reward_parts/format"); eval: of evaluation lines instead of
 * steps. Caller frees x and y. */
typedef struct Points {
    double *x, *y;
    int n;
} Points;
Points report_points(const ReportRun *r, const char *stage, const char *key, bool eval);
void report_points_free(Points *p);
/* Whether the stage's metrics have `key` anywhere. */
bool report_has(const ReportRun *r, const char *stage, const char *key);

#endif
