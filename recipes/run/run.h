/* A run in progress, and its units. A stage of a recipe is one unit or several: a unit makes one model, or one file of samples.
 * Units come in order; each resumes at its last checkpoint and is skipped when its result is there. */
#ifndef RECIPES_RUN_H
#define RECIPES_RUN_H

#include "checkpoints/checkpoint.h"
#include "data/corpus.h"
#include "data/tokenizer/tokenizer.h"
#include "recipes/model/eval.h"
#include "recipes/plan/plan.h"
#include "recipes/model/policy.h"
#include "recipes/run/progress.h"
#include "recipes/config/recipe.h"
#include "recipes/run/run_folder.h"
#include "recipes/run/warnings.h"

enum { RUN_DATASETS = 32, UNIT_NAME = 96, UNITS_MAX = 96 };

struct UnitRun;

/* What a kind of unit does. step: one step of work; adds its numbers to metrics; sets *done to end before `total`. */
typedef struct UnitKind {
    const char *verb; /* "train", "sample" */
    bool scalar_head; /* the unit's model is a reward model */
    bool makes_samples;
    bool (*open)(struct UnitRun *u, Status *st);
    bool (*step)(struct UnitRun *u, Json *metrics, bool *done, Status *st);
    bool (*save)(struct UnitRun *u, Status *st); /* what must be on disk before a checkpoint is; NULL: nothing */
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
    const volatile int *cancel;
    double last_pass1; /* of the last evaluation, for the progress line; < 0: none */
} Run;

/* A unit in progress. */
typedef struct UnitRun {
    Run *run;
    const Unit *unit;
    Policy *policy;      /* NULL in units that make samples (they open the policy that samples) */
    void *self;          /* the kind's own state */
    int64_t step, total; /* steps done, steps in all */
    int64_t cursor;      /* next index of the unit's data */
    int64_t tokens_trained, tokens_sampled;
    double seconds; /* of work before this process took over, and since */
    double flops;   /* of sampling and training, 2 and 6 per active parameter and token */
    Json *extra;    /* the kind's state that a checkpoint must hold (an object) */
} UnitRun;

/* The units of a stage, in order; returns their number (at most `max`). */
int run_units(const Run *r, int stage_index, Unit *out, int max);

/* Runs a unit to its end, resuming it where it stopped. Fails with "interrupted" after Ctrl-C (state saved). */
bool unit_execute(Run *r, const Unit *u, Status *st);

/* Completions sampled at once: in RL and evaluations; in units that make samples, which take so many prompts at a time. */
enum { ROLLOUT_SLOTS = 256, SAMPLE_SLOTS = 128, SAMPLE_PROMPTS = 64 };

/* The kinds, one C file each. */
extern const UnitKind unit_pretrain, unit_sft, unit_rl, unit_samples, unit_sft_samples, unit_reward_model;

/* Problems of a stage: its own tasks or the recipe's; the general families; a mix with `general_share` of the latter. */
bool run_reasoning(Run *r, const RecipeStage *s, CorpusSpec *out, Status *st);
bool run_general(Run *r, CorpusSpec *out, Status *st);
bool run_mix(Run *r, const RecipeStage *s, double general_share, CorpusSpec *out, Status *st);
/* A seed for a unit's data, different for every unit of a run. */
uint32_t run_seed(const Run *r, const Unit *u);
/* The RNG's stage number: of the unit's name, so that a stage draws the same whatever recipe it stands in. */
uint32_t unit_rng_stage(const Unit *u);

/* The model that a name in a recipe stands for: an earlier stage of this run, RUN/stage, a checkpoint, a model folder.
 * scalar: its trunk with a fresh scalar head. */
Policy *run_policy(Run *r, const char *from, bool scalar, Status *st);
/* And the state its stage left in the checkpoint (JSON text, free(); NULL: none). */
Policy *run_policy_extra(Run *r, const char *from, bool scalar, char **extra, Status *st);
/* The same, or initial weights of the stage's model block when `from` is empty. */
Policy *run_initial_policy(Run *r, const RecipeStage *s, bool scalar, Status *st);

/* Whether a checkpoint that stands in the run folder was made by this run's recipe. */
bool run_owns(const Run *r, const CheckpointMeta *meta, const char *path, Status *st);

/* FLOPs that a finished unit took, from the run's summary; 0 when it is not there. */
double unit_flops(const Run *r, const char *name);

/* Path of a file of the run folder; free(). */
char *run_path(const Run *r, const char *folder, const char *name, const char *suffix);

/* Evaluation of a policy on the stage's (NULL: the recipe's) tasks. quick: the short one. */
bool run_evaluate(Run *r, Policy *p, const RecipeStage *s, bool quick, EvalResult *out, EvalSample on_sample, void *ctx,
                  Status *st);

/* Learning rate of step (1-based) of `total`, and the optimizer of a stage. */
float stage_rate(const RecipeStage *s, double lr, int64_t step, int64_t total);
OptimizerConfig stage_optimizer(const RecipeStage *s);
/* The balance losses of a model: DeepSeek-V2's, or with a selection bias DeepSeek-V3's. */
BalanceConfig run_balance(const Run *r, const ModelConfig *c);
/* An AdamW update from the policy's gradients, then the selection bias by the routing [L] of the batch (NULL: dense). */
bool run_update(Run *r, Policy *p, const RecipeStage *s, const Routing *routing, float lr, double *norm, Status *st);

/* 2 FLOPs per active matmul parameter and token (a forward); attention apart. */
double forward_flops(const Policy *p, int64_t tokens);

#endif
