/* The memory a stage will take at its peak, predicted before anything is allocated: blocks of parameters from the
 * table, caches from their layout, activations by running the step's own code on a backend that computes nothing. */
#ifndef RECIPES_PLAN_H
#define RECIPES_PLAN_H

#include "core/losses/balance.h"
#include "core/engine.h"
#include "core/ops/ops_clocked.h"
#include "core/rollout/kv_cache.h"
#include "data/json.h"
#include "recipes/config/recipe.h"
#include "recipes/model/machine.h"

/* One kind of sampling: `tokens` is of a completion at most. */
typedef struct PlanRollout {
    int prompts, prompt_length, samples, tokens, slots;
    CacheKind cache;
    int draft; /* guesses a step and sequence */
    bool each; /* of every training step; else of evaluations, and of units that only sample */
} PlanRollout;

/* Terabytes that a consumer's drive of 1 TB is sold to bear: the unit in which wear is said. */
enum { PLAN_TBW = 600 };
enum { PLAN_ROLLOUTS = 4, PLAN_TOKENS = 1 << 26 }; /* tokens of an update at most: indices of tokens are ints */

/* Models beside the policy that only compute forward, n of a config: a teacher, reward models. */
typedef struct PlanFrozen {
    ModelConfig config;
    int n; /* 0: none */
} PlanFrozen;

/* Who listens to a step on a backend that computes nothing: its keeper is asked for the policy's parts; its ops so far, and the
 * table, are there as soon as core speaks. */
typedef struct PlanWatch {
    Keeper keeper;
    const OpTimes *times;
    const ParamTable *table;
} PlanWatch;

/* The largest step of a stage. Counts of 0: no such part. */
typedef struct PlanWork {
    const ModelConfig *config;
    bool trains;                         /* gradients, moments, and a training step */
    const RecipeNames *train;            /* what of it (train_select.h); NULL: all */
    MomentForm moments;                  /* how they are stored */
    bool reference;                      /* a second policy's weights */
    bool exact_kl;                       /* its states and logits beside the policy's in training */
    bool entropy;                        /* entropies are kept */
    const BalanceConfig *balance;        /* NULL: none */
    float mtp;                           /* lambda of multi-token prediction */
    int sequences, length;               /* of a training batch: tokens of each */
    int predicted;                       /* tokens of a sequence that are predicted, at its end */
    PlanRollout rollouts[PLAN_ROLLOUTS]; /* one at a time: the largest cache counts */
    int n_rollouts;
    ModelConfig critic;        /* PPO: a second model that is trained on the same batch; V 0: none */
    PlanFrozen frozen;         /* beside the policy */
    size_t beside;             /* bytes of anything else: copies of the policy, what frozen models compute in */
    int margins;               /* of it, in hundredths of the budget: what the frozen models leave free */
    bool rests;                /* frozen weights may stay in the model's file as far as they must (placement.h) */
    const char *why_not;       /* they cannot, as the end of a sentence; NULL: nothing is said of it */
    size_t resident;           /* of the trained weights and gradients, which rest in the folder of --state; 0: all */
    PlanWatch *watch;          /* NULL: nobody */
    const struct Rates *rates; /* of this machine (rates.h); NULL: none, and no seconds */
} PlanWork;

/* Bytes. total = the sum of all but `budget` and state_*. */
typedef struct Plan {
    size_t process;      /* resident now: program, libraries, data already read */
    size_t weights, low; /* the parameters; in bf16 what products read, and the lower halves beside it */
    size_t gradients, optimizer, reference; /* blocks of what is trained */
    size_t packed;                          /* the backend's copies of weights and its scratch */
    size_t boundaries;                      /* N x C x (L + 1) */
    size_t kept, workspace;                 /* layer interiors kept for backward; everything else of a step */
    size_t cache;                           /* keys and values, and the sampled tokens */
    size_t cache_token;                     /* of these, a token of the largest cache (not in the total) */
    size_t critic; /* PPO's second model: weights, gradients, moments, and what its own step takes */
    size_t beside;
    size_t state_memory;                /* what the optimizer would take with --state (0: it has it) */
    size_t state_8bit;                  /* and with moments of 8 bits, where it has others */
    uint64_t state_disk, state_written; /* and on disk; of that an update writes */
    size_t total, budget;               /* budget SIZE_MAX: there is none */
    int lowest;                         /* layer where backward ends */
    int layers, layers_kept;            /* that backward visits: those below the lowest trained one it does not */
    size_t keep_bytes;                  /* what Engine.keep_bytes should be */
    size_t trained, count;              /* parameters of the model: trained, all */
    double step_seconds, step_tokens;   /* of a forward and its backward by rates; 0: there are none */
    bool at_peaks, emulated;            /* what these seconds are (Rates) */
    double flops;                       /* of the training step, attention included, recomputed layers too */
    size_t least;                       /* the budget with which it would fit; 0: it fits */
    bool placed;                        /* frozen experts rest in the model's file, as placement.h decided: */
    int experts, experts_stay, ring;    /* of them in memory; slots for the others */
    int chunk;                          /* rows of a head chunk; 0: the engine's own */
    size_t placed_work;                 /* of the total: all but frozen weights, ring and margin */
    double step_compute;                /* of step_seconds on the processor, if the disk were free */
    double step_bytes;                  /* read from the disk meanwhile */
    double sample_seconds;            /* of the completions of a step at most; 0: it has none, or there are no rates */
    double sample_step, sample_slots; /* of it a decode step's processor time, and the sequences in it */
    bool assumed;                     /* seconds by rates that were not measured */
    bool sampler_placed;              /* the same of a stage's unit that samples from a model of its own */
    bool frozen_placed;               /* the same of its frozen models, */
    size_t frozen_share;              /* each of which may take so much memory */
    size_t sampler_work;
    size_t resident; /* of the trained weights and their gradients, which rest in the folder of --state; 0: all */
} Plan;

/* Plans work on m within m->memory. keep_bytes: of the engine; SIZE_MAX: as much as the budget leaves. Fills *out (total 0:
 * the step is too large to plan); fails, with what would fit, when the total is above the budget. `what` names the stage in
 * the sentence. */
bool plan_make(Plan *out, const Machine *m, const PlanWork *work, size_t keep_bytes, const char *what, Status *st);

struct LoadedModel;
/* The same with the work's frozen models in memory, or else, before the policy's own weights do, in their files:
 * out->frozen_placed and frozen_share, which is all that is left where the policy is in memory and the least where it rests on
 * disk too. file: of the policy's frozen weights where they may rest (placement_file); NULL: they may not. */
bool plan_make_beside(Plan *out, const Machine *m, const PlanWork *work, const struct LoadedModel *file,
                      const char *what, Status *st);

/* Makes the engine keep what was planned, and take its head chunk. */
void plan_apply(const Plan *p, Engine *e);

/* Bytes of the blocks a model takes by its weights alone: the block, and its packed copy where completions are drawn from it. */
size_t plan_model_bytes(const Machine *m, const ModelConfig *c, bool sampled);

/* The ops of a work's step (of its forward, where it does not train), as a backend that computes nothing counted them. */
typedef struct PlanOps {
    OpTime list[OP_TIMES];
    int n;
} PlanOps;

/* What a step takes beside the frozen weights of the model. Bytes. */
typedef struct Beside {
    size_t process, arena, scratch, cache;
    size_t state;    /* of what is trained: weights, gradients, moments, the reference's */
    size_t others;   /* other models, a critic */
    size_t resident; /* of the state, where the rest of the trained weights and gradients is on disk; 0: all */
    int layers_kept, lowest;
    size_t trained, count; /* parameters: trained, all */
    double flops;
} Beside;
bool plan_beside(Beside *out, const Machine *m, const PlanWork *work, size_t keep_bytes, PlanOps *ops, Status *st);

/* What computing `work` takes beside the weights, in place of packed copies of which there are none: the process, activations,
 * caches and scratch. 0, with the sentence: more than can be planned. */
size_t plan_beside_weights(const Machine *m, const PlanWork *work, Status *st);

/* Of a placed one: what stays, the ring, kept layers and the head chunk, as a run of it says them too. Returns out. */
const char *plan_placed_text(const Plan *p, char *out, size_t size);
/* A line that says it ("peak 412 MB of 11.9 GB: ..."). */
void plan_describe(const Plan *p, char *out, size_t size);
/* The same as a table, a row a part; and as an object. */
void plan_print(const Plan *p, const char *what);
Json *plan_json(const Plan *p, const char *what);

#endif
