/* A machine that is not here: `r1 plan --as gpu=24:60TF,link=25,ram=64`. Nothing of it was measured, and every plan says so. */
#ifndef RECIPES_PLAN_AS_H
#define RECIPES_PLAN_AS_H

#include "recipes/plan/rates.h"

typedef struct PlanAs {
    bool gpu;                                 /* weights rest in RAM and pass over the link; else on disk */
    double gpu_bytes, ram, link, flops, disk; /* bytes, bytes/s, FLOP/s; 0: not said */
} PlanAs;

/* "gpu=24:60TF" (GB, TFLOP/s in the type of the plan), "link=25" (GB/s to it), "ram=64" (GB), "cpu=1200GF" (of all cores),
 * "disk=2" (GB/s), with commas between them. */
bool plan_as_parse(const char *text, PlanAs *out, Status *st);
/* The machine's budget and rates become those; what is not said stays this machine's budget and assumed rates. */
void plan_as_apply(const PlanAs *as, Machine *m, Rates *r);

/* The machine that o names. Where no card answers to --device gpu it is the emulated one, whose code counts the same
 * memory, without a budget but --memory; that is said on standard error. */
bool plan_machine(Machine *m, const RuntimeOptions *o, Status *st);

/* Sizes of the parts of a model that has no files: bf16 or f32 as in shards. It cannot be read from. */
typedef struct PaperSource {
    PartSource source;
    const ParamTable *table;
    Form form;
} PaperSource;
void paper_source(PaperSource *out, const ParamTable *t, Form form);

#endif
