/* What became of a stage's data: rows in the files, used, left out and why, how often each is met. One line when the stage
 * starts, "data" of its entry in the summary. */
#ifndef RECIPES_COUNTS_H
#define RECIPES_COUNTS_H

#include "data/corpus.h"
#include "recipes/model/eval.h"
#include "recipes/run/run.h"

/* Of one source; a built-in task has no rows, its documents or problems are made. */
typedef struct SourceCount {
    int documents;     /* that are trained on or sampled from: rows, or made ones; -1: as many as the steps take */
    int rows;          /* different rows among them */
    int too_long;      /* left out: longer than max_length */
    int without_reply; /* left out: nothing to train on */
    double times;      /* each is met; 0: not known before the stage ends */
    bool needs_gold;   /* rows without a gold answer are told of */
} SourceCount;

/* One source of the unit: adds it to what counts_say will tell. */
void counts_add(UnitRun *u, const Source *s, const SourceCount *c);
/* Of a file of samples that an earlier unit wrote. */
void counts_add_samples(UnitRun *u, const char *file, const SourceCount *c);
/* A source of which `draws` problems or documents are taken; 0: as many as the steps take. */
void counts_add_draws(UnitRun *u, const Source *s, double draws, bool needs_gold);
/* The sources of a mix of which `draws` are taken in all. */
void counts_add_mix(UnitRun *u, const CorpusSpec *c, double draws, bool needs_gold);
/* Samples whose reward could not be had, of one more step: their sum is "reward_failures" of the summary's entry. */
void counts_failures(UnitRun *u, int failures);
/* Notes the line. */
void counts_say(UnitRun *u);
/* Notes what an evaluation with this spec judges, the first time in a process. */
void counts_say_evaluation(UnitRun *u, const EvalSpec *s);

/* Rows of a file's split that have no gold answer. */
int counts_without_gold(const Dataset *d, Split split);

#endif
