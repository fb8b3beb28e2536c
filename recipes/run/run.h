/* A run in progress, and its units: the structs. A stage of a recipe is one unit or several; a unit makes one model, or one file
 * of samples. Units come in order; each resumes at its last checkpoint and is skipped when its result is there. */
#ifndef RECIPES_RUN_H
#define RECIPES_RUN_H

#include "checkpoints/attachments.h"
#include "data/dataset.h"
#include "recipes/config/recipe.h"
#include "recipes/model/voice.h"
#include "recipes/plan/plan.h"

typedef struct Policy Policy;       /* core/policy.h */
typedef struct Progress Progress;   /* recipes/run/progress.h */
typedef struct Logger Logger;       /* recipes/run/logger.h */
typedef struct Reuse Reuse;         /* recipes/run/reuse.h */
typedef struct RunFolder RunFolder; /* recipes/run/run_folder.h */
typedef struct Warnings Warnings;   /* recipes/run/warnings.h */

enum { RUN_DATASETS = 32, UNIT_NAME = 96, UNITS_MAX = RECIPE_STAGES * (2 + RECIPE_LRS) };

/* Completions sampled at once: in RL and evaluations; in units that make samples, which take so many prompts at a time. */
enum { ROLLOUT_SLOTS = 256, SAMPLE_SLOTS = 128, SAMPLE_PROMPTS = 64 };

struct UnitRun;
typedef struct StateTier StateTier; /* recipes/run/state_tier.h */

/* What a kind of unit does. step: one step of work; adds its numbers to metrics; sets *done to end before `total`. */
typedef struct UnitKind {
    const char *verb; /* "train", "sample" */
    bool scalar_head; /* the unit's model is a reward model */
    bool makes_samples;
    bool (*open)(struct UnitRun *u, Status *st);
    bool (*step)(struct UnitRun *u, Json *metrics, bool *done, Status *st);
    bool (*save)(struct UnitRun *u, Status *st); /* what must be on disk before a checkpoint is; NULL: nothing */
    /* Tensors of the unit beside its policy (PPO's critic) that its checkpoints hold, borrowed until take_back; NULL: none. A
     * unit that resumes finds them in UnitRun.state. */
    void (*lend)(struct UnitRun *u, Attachments *out);
    void (*take_back)(struct UnitRun *u);
    void (*close)(struct UnitRun *u);
} UnitKind;

typedef struct Unit {
    const RecipeStage *stage;
    int stage_index;
    int variant;          /* reward models: 0 helpful, 1 safety; rivals: index of the learning rate */
    char name[UNIT_NAME]; /* of its checkpoint and in metrics */
    const UnitKind *kind;
} Unit;

typedef struct Run {
    const Recipe *recipe;
    char *recipe_text; /* resolved */
    RunFolder *folder;
    Machine machine;
    Tokenizer *tokenizer;
    Voice voice;           /* of the tokenizer: how prompts are put to the models */
    char *tokenizer_bytes; /* what checkpoints store */
    size_t tokenizer_length;
    Plan plans[RECIPE_STAGES]; /* of the stages' largest steps */
    Unit units[UNITS_MAX];     /* of all stages, in order */
    int n_units;
    Dataset *datasets[RUN_DATASETS];
    int n_datasets;
    Progress *progress;
    Warnings *warnings;
    Logger *logger; /* NULL: none */
    Reuse *reuse;   /* NULL: every unit is computed */
    const volatile int *cancel;
    double last_pass1; /* of the last evaluation, for the progress line; < 0: none */
    bool noted;        /* recipe_print_notes_of was asked */
    bool saved;        /* after an interruption: everything done is on disk */
} Run;

static inline const Plan *run_plan(const Run *r, const RecipeStage *s)
{
    return &r->plans[s - r->recipe->stages];
}

/* A unit in progress. */
typedef struct UnitRun {
    Run *run;
    const Unit *unit;
    StateTier *tier;     /* NULL: the optimizer's state is in memory */
    Policy *policy;      /* NULL in units that make samples (they open the policy that samples) */
    void *self;          /* the kind's own state */
    int64_t step, total; /* steps done, steps in all */
    int64_t cursor;      /* next index of the unit's data */
    int64_t tokens_trained, tokens_sampled;
    int told_evaluations; /* what they judge was noted: 1 the full one, 2 the quick one */
    bool told_off_plan;   /* a step that took far more or less than planned was noted */
    double seconds;       /* of work before this process took over, and since */
    double flops;         /* of sampling and training, 2 and 6 per active parameter and token */
    Json *extra;          /* the kind's state that a checkpoint must hold (an object) */
    Attachments state;    /* what it lent to the checkpoint it resumes from */
} UnitRun;

#endif
