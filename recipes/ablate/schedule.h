/* The runs of an ablation: from nothing or where they stopped, to evaluations of every arm and seed. */
#ifndef RECIPES_ABLATE_SCHEDULE_H
#define RECIPES_ABLATE_SCHEDULE_H

#include "recipes/ablate/arms.h"

/* How runs share the machine. */
typedef struct Sharing {
    int jobs, threads; /* runs at once, threads of each */
    double beside,
        after;  /* seconds a run, measured: side by side with one thread, one after the other with all; 0: not */
    bool begun; /* runs were started */
} Sharing;

typedef struct ScheduleOptions {
    int jobs;           /* 0: measured */
    bool quiet;         /* no live table */
    const char *reuse;  /* another folder of runs whose units may be linked; NULL: none */
    const char *only;   /* "A,B": stages whose results are wanted; NULL: `until` */
    const char *logger; /* passed on to `r1 run --log`; NULL: none */
} ScheduleOptions;

/* Runs everything that is not there yet. Fails when an arm's folder holds another recipe, when a run fails (what is
 * finished stays), and with "interrupted" after *cancel. */
bool schedule_run(const Ablation *a, const ScheduleOptions *o, Sharing *sharing, const volatile int *cancel,
                  Status *st);

/* How runs of this recipe share the machine: a few steps of its first stage, both ways. With one processor or one
 * run there is nothing to measure. */
bool schedule_measure(const Ablation *a, int runs, Sharing *out, const volatile int *cancel, Status *st);

#endif
