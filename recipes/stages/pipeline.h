/* The pipeline: a recipe's stages in order, in a run folder. */
#ifndef RECIPES_PIPELINE_H
#define RECIPES_PIPELINE_H

#include "recipes/run/run.h"

typedef struct PipelineOptions {
    const char *folder; /* of the run */
    const char *until;  /* last stage, NULL: all */
    const char
        *recipe_name; /* as the person typed it, for the command that resumes; NULL: the run folder's recipe.yaml */
    const char *only; /* "A,B": these stages and those that they depend on; NULL: every one */
    bool quiet;
    const char *logger; /* "wandb", "trackio"; NULL: none */
    const char *reuse;  /* folder of runs whose units are linked instead of computed again; NULL: none */
    RuntimeOptions runtime;
} PipelineOptions;

/* Runs or resumes; prints progress, warnings and the final table. Fails with "interrupted ..." after *cancel became non-zero,
 * state saved. */
bool pipeline_run(const Recipe *recipe, const PipelineOptions *o, const volatile int *cancel, Status *st);

/* r->tokenizer: that of the model the run starts from, when its recipe names one; else the recipe's own. */
bool pipeline_open_tokenizer(Run *r, Status *st);

#endif
