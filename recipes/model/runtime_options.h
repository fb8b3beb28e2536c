/* The options that every computing command shares. They are no part of a recipe because they change time and memory, never
 * results (--precision does, and `r1 run` makes a recipe key of it). */
#ifndef RECIPES_RUNTIME_OPTIONS_H
#define RECIPES_RUNTIME_OPTIONS_H

#include "core/matrix.h"
#include "recipes/config/option.h"

typedef struct RuntimeOptions {
    int threads;               /* 0: all processors */
    int chunk;                 /* rows of a head chunk; 0: 4096 */
    const char *matmul;        /* NULL: the default provider */
    const char *device;        /* NULL: the CPU; else as device_parse says (recipes/model/plugin.h) */
    int dtype;                 /* DType of models: f32, or bf16 (core/engine.h). `r1 run` takes it from the recipe */
    bool dtype_given;          /* on the command line */
    double memory_gb;          /* budget of a run; 0: 70 % of what the machine has free */
    double checkpoint_seconds; /* of work between checkpoints */
    bool skip_bad;             /* JSONL: count and skip broken lines */
    bool verbose;
    const char *base; /* where the base of a checkpoint lies now; NULL: where it was (checkpoints/base.h) */
    const char
        *adapter; /* a PEFT folder on top of the model; NULL: none. An option of the commands that open one model */
    const char *state;  /* a folder for the optimizer's state; NULL: memory. An option of `r1 run` and `r1 plan` */
    bool other_machine; /* resume although the checkpoint was made by another machine kind */
} RuntimeOptions;

RuntimeOptions runtime_defaults(void);

enum { RUNTIME_OPTIONS = 11 };
typedef struct RuntimeTable {
    OptionChoice precision;
    Option rows[RUNTIME_OPTIONS];
} RuntimeTable;

/* The one table of them: rows that store into o. The parser, --help and the hints of a mistyped name read it. */
void runtime_options(RuntimeTable *t, RuntimeOptions *o);

#endif
