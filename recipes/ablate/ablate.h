/* An ablation from its arms to its page. */
#ifndef RECIPES_ABLATE_ABLATE_H
#define RECIPES_ABLATE_ABLATE_H

#include "recipes/ablate/arms.h"
#include "recipes/ablate/results.h"
#include "recipes/ablate/schedule.h"

typedef struct AblateOptions {
    ScheduleOptions schedule;
    double minutes;      /* 0: as many seeds and steps as are asked for */
    const char *command; /* for the page and the sentence that says how to go on */
    bool json;           /* print ablate.json, not the table */
} AblateOptions;

/* Takes the recipe of a name, a file or a run folder (its recipe.yaml). */
void ablate_source(Ablation *a, const char *recipe);

/* Makes a folder with its parents. */
bool ablate_folder(const char *path, Status *st);

/* Plans, runs, compares, writes DIR/ablate.json, ablate.csv, ablate.html and prints the verdict. After Ctrl-C and
 * after a failed run the files hold what is finished, and st says how to go on. */
bool ablate(Ablation *a, const AblateOptions *o, const volatile int *cancel, Status *st);

/* The files alone, of what is there; *results: what was read, or NULL when nobody asks. */
bool ablate_write(const Ablation *a, const Sharing *sharing, const char *command, Results **results, Status *st);

#endif
