/* The named warnings over a run that is over, or still going: what its metrics say, stage by stage. */
#ifndef RECIPES_ABLATE_DOCTOR_H
#define RECIPES_ABLATE_DOCTOR_H

#include "data/json.h"
#include "recipes/run/warnings.h"

enum { DOCTOR_FINDINGS = 512 };

typedef struct Finding {
    char stage[96];
    Warning warning;
    bool told; /* the run said so itself, at the same step */
} Finding;

typedef struct Diagnosis {
    Finding list[DOCTOR_FINDINGS];
    int n, stages, steps; /* RL stages, and their steps, that were looked at */
    double age;           /* seconds since the last line of the metrics */
} Diagnosis;

/* Reads RUN/metrics.jsonl and recipe.yaml. Fails when it is no run, or has no step of an RL stage. */
bool diagnose(const char *run, Diagnosis *out, Status *st);
Json *diagnosis_json(const Diagnosis *d);
void diagnosis_print(const Diagnosis *d);

#endif
