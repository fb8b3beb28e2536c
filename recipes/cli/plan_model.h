/* r1 plan MODEL: what a step, a pass and a token of one model take. */
#ifndef RECIPES_PLAN_MODEL_H
#define RECIPES_PLAN_MODEL_H

#include "recipes/model/runtime_options.h"

typedef struct PlanOptions {
    int sequences, length, samples, tokens;
    bool reference, latent;
    const char *lora, *train; /* lists with commas; NULL: all is trained */
    int rank;                 /* of lora */
    const char *moments;      /* as of the key optim.moments; NULL: f32 */
    const char *as;           /* a machine that is not here (plan_as.h) */
    bool json, measure, simulate;
} PlanOptions;

/* Prints the plan of a model by its name on the command line. Fails with what would fit. */
bool plan_model(const char *name, const PlanOptions *o, const RuntimeOptions *runtime, Status *st);

#endif
