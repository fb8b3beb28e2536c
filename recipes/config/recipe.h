/* A recipe: what a run is, read from YAML. schema.c holds the one table of keys that gives types, defaults, ranges,
 * help and the resolved recipe; this struct is where its values land. */
#ifndef RECIPES_RECIPE_H
#define RECIPES_RECIPE_H

#include "core/losses/balance.h"
#include "core/config.h"
#include "core/losses/correction.h"
#include "core/rollout/kv_cache.h"
#include "core/matrix.h"
#include "core/moments.h"
#include "core/schedule.h"
#include "data/conversation.h"
#include "data/corpus.h"
#include "data/reward/reward.h"

enum { RECIPE_NAME = 64, RECIPE_PATH = 512, RECIPE_STAGES = 24, RECIPE_TASKS = CORPUS_MAX_SOURCES, RECIPE_LRS = 8 };
enum { RECIPE_COMPLETIONS = 1 << 24 }; /* sampled in one step, or one evaluation, at most */

typedef enum {
    STAGE_PRETRAIN,     /* next-token loss on every token of the corpus */
    STAGE_SFT,          /* loss on completions only */
    STAGE_RL,           /* GRPO */
    STAGE_REJECTION,    /* sample, filter, SFT */
    STAGE_REWARD_MODEL, /* helpful (pairwise) and safety (pointwise) */
    STAGE_DISTILL,      /* SFT of the student on a teacher's samples; the same student by RL beside it */
    STAGE_DPO,          /* direct preference optimisation on pairs */
    STAGE_KINDS
} StageKind;

typedef enum { TOKENIZER_CHAR, TOKENIZER_BPE, TOKENIZER_FILE } TokenizerKind;
typedef enum { BLOCK_MODEL, BLOCK_STUDENT } ModelBlock;
/* How heads share keys and values: one latent; each its own; in groups; one for all. */
typedef enum { HEADS_MLA, HEADS_MHA, HEADS_GQA, HEADS_MQA } HeadSharing;
/* What a student learns of its teacher: its words; its distribution on its words, either way round; on the student's own. */
typedef enum { OBJECTIVE_TEXT, OBJECTIVE_FORWARD_KL, OBJECTIVE_REVERSE_KL, OBJECTIVE_ON_POLICY } Objective;
const char *objective_name(int k);  /* "text", ...; NULL after the last */
const char *stage_kind_name(int k); /* "pretrain", ...; NULL after the last */

/* model:, student:. config lacks what the tokenizer knows (V, bos, eos): recipe_model_config adds it.
 * from != "": weights and config come from that model (checkpoint, RUN/stage, HF folder) and config is zero. */
typedef struct RecipeModel {
    bool used; /* student: absent in many recipes */
    char from[RECIPE_PATH];
    HeadSharing heads;
    ModelConfig config;
} RecipeModel;

/* lora: adapters that the stages train in place of the model's own weights. targets: bits of recipe_lora_target_name. */
typedef struct RecipeLora {
    bool used;
    char from[RECIPE_PATH]; /* a PEFT folder whose adapters are the first ones, and whose kind they are; "": new ones */
    int rank;
    float alpha;
    bool rslora;
    unsigned targets;
} RecipeLora;

typedef struct RecipeTokenizer {
    TokenizerKind kind;
    char path[RECIPE_PATH];          /* file: a folder or tokenizer.json */
    char template_name[RECIPE_NAME]; /* of a chat template; "": the tokenizer's own */
    int vocab;                       /* bpe: ids to train */
    int documents;                   /* bpe: corpus documents it is trained on */
} RecipeTokenizer;

/* Names or globs. */
enum { RECIPE_NAMES = 16, RECIPE_GLOB = 96 };
typedef struct RecipeNames {
    char list[RECIPE_NAMES][RECIPE_GLOB];
    int n;
} RecipeNames;

/* One source of problems: a built-in task or a user's JSONL file; exactly one of task, file is set. */
typedef struct RecipeTask {
    char name[RECIPE_NAME]; /* how logs and evals call it: the task's or file's name unless set */
    char task[RECIPE_NAME];
    char file[RECIPE_PATH];
    int levels[2]; /* inclusive */
    double weight;
    double heldout; /* file: share of rows for validation */
} RecipeTask;

typedef struct RecipeTasks {
    RecipeTask list[RECIPE_TASKS];
    int n;
} RecipeTasks;

typedef struct RecipeRewards {
    RewardSpec list[REWARD_MAX];
    int n;
} RecipeRewards;

/* DeepSeek-V2's balance losses (arXiv:2405.04434, section 2.2.3): alpha 1 .. 3, D devices, M devices a token; and what
 * DeepSeek-V3 has instead (arXiv:2412.19437, section 2.1.2): the sequence-wise loss and the speed of the bias. */
typedef struct RecipeBalance {
    double expert, device, communication;
    int devices, limit;
    double sequence, bias_speed;
} RecipeBalance;

/* Evaluation after every stage (n, k) and during one (quick_n, quick_k). */
typedef struct RecipeEval {
    int n, k;
    int quick_n, quick_k;
    double temperature, top_p;
    int max_tokens;
    int general_n;   /* prompts of each general family, one sample each */
    int shots;       /* worked examples before each question */
    char effort[16]; /* budget of a thought (recipes/model/effort.h); "": none */
} RecipeEval;

typedef struct RecipeOptim {
    double lr;
    double lr_final; /* last rate as a share of lr (cosine, linear); step: factor at each milestone */
    ScheduleKind schedule;
    double milestones[2]; /* step: shares of the steps */
    int warmup;           /* steps, linear from 0 */
    double weight_decay;
    double betas[2];
    double clip; /* global gradient norm; 0: none */
} RecipeOptim;

/* PPO's critic (core/losses/ppo.h). */
typedef struct RecipeCritic {
    double lr;
    double gamma, lambda;
    double clip; /* of a value's move from the one before the step's updates; 0: none */
    int warmup;  /* first steps, in which it alone is trained */
} RecipeCritic;

typedef struct RecipeRl {
    int prompts, group; /* prompts a step, samples a prompt */
    int max_tokens;     /* of a completion */
    double temperature;
    GrpoKind loss;
    bool std_normalise; /* divide advantages by the group's standard deviation */
    double clip_low, clip_high;
    double beta; /* 0: no reference model is kept */
    KlEstimator kl;
    double kl_clamp; /* largest |log ratio| inside the estimator */
    double entropy_bonus;
    int inner_epochs, mini_batches;
    int refill; /* times a zero-variance group may be replaced by a new prompt; 0: none */
    bool mask_truncated;
    int reference_reset;    /* steps; 0: never */
    double preference_last; /* share of the steps, at the end, in which helpful and safety rewards act */
    CacheKind cache;
    int draft;             /* tokens guessed a step by the module of multi-token prediction */
    bool rollout_bf16;     /* rollouts of an f32 policy by a bf16 copy; the gap is measured */
    Correction correction; /* of what such samplers make different */
    double correction_cap;
    bool replay_routing; /* such samplers' choices of experts are kept and trained with */
    RecipeCritic critic; /* of loss ppo */
    bool kl_in_reward;   /* ppo: the KL term is a penalty on every token's reward, in place of one in the loss */
    RecipeRewards rewards;
} RecipeRl;

/* One stage. Only the keys of its kind are read, checked and written; the others are zero. */
typedef struct RecipeStage {
    char name[RECIPE_NAME];
    StageKind kind;
    ModelBlock model;                /* whose initial weights when from = "": distill always the student's */
    char from[RECIPE_PATH];          /* "" (initial weights of the model block), an earlier stage, RUN/stage, a model */
    char sample_from[RECIPE_PATH];   /* rejection: policy that samples; distill: teacher; sft: seeds traces ("" none) */
    char reward_models[RECIPE_PATH]; /* rl: the reward_model stage, RUN/stage; "" none */
    char critic_from
        [RECIPE_PATH]; /* ppo: a reward model or a policy whose trunk the critic starts as; "": the stage's own start */

    int steps;       /* 0 in sft-like kinds: epochs decide */
    BatchRamp batch; /* sequences a step */
    double drop_capacity,
        drop_kept; /* of a device's mean load, 0: nothing is dropped; share of sequences never dropped */
    double extend; /* pretrain, sft: positions reach so many times as far as those of `from`, by YaRN; 1: as they are */
    double mtp_weight, mtp_later, mtp_after; /* lambda of multi-token prediction; after a share of the steps another */
    int max_length;                          /* tokens of a training sequence; longer ones are dropped and counted */
    Turns train_turns;                       /* sft: which turns of a conversation are trained */
    double epochs;
    RecipeOptim optim;

    RecipeTasks tasks;          /* replaces the recipe's when n > 0 */
    double general_share;       /* pretrain, sft: share of documents; rl: share of prompts */
    double styles[STYLE_COUNT]; /* pretrain: weights of document styles */
    double swap_en, swap_zh;    /* share of traces written in the other language than their prompt */
    int traces;                 /* sft: clean traces */
    double seed_share;          /* sft: share of traces that are filtered samples of sample_from */
    double stop_at_pass1[2];    /* sft: stop as soon as the quick eval is at or above [0]; more than [1] is warned of */

    RecipeRl rl; /* rl; distill: the rival; dpo: beta */

    int sample_prompts, samples, keep; /* rejection, distill: prompts, samples a prompt, kept a prompt at most */
    double sample_temperature;
    Objective objective;  /* distill */
    double general_ratio; /* rejection: general documents per reasoning sample */
    double general_clean; /* rejection: share of general documents without flaws */

    int pairs, safety_examples; /* reward_model, dpo: pairs */
    double noise;               /* reward_model, dpo: share of flipped labels */
    int heldout_pairs;
    RecipeTasks preferences; /* dpo: files of pairs; none: those of the helpful families */
    double label_smoothing;  /* dpo */

    double rival_lrs[RECIPE_LRS]; /* distill: learning rates tried for the same student by RL; none: no rival */
    int n_rival_lrs;

    int eval_every;    /* steps between quick evals; 0: none */
    int rollout_block; /* rl: steps of one rollout shard */
    bool eval_after;   /* the full evaluation when the stage is over */
} RecipeStage;

typedef struct Recipe {
    uint32_t seed;
    DType precision; /* of every model of the run */
    char title[128];
    RecipeModel model, student;
    RecipeLora lora;
    RecipeTokenizer tokenizer;
    RecipeNames train;  /* which tensors are trained (core/params_select.h) */
    MomentForm moments; /* how AdamW's moments are stored, of every stage */
    double zh_share;
    RecipeTasks tasks, general; /* reasoning families; helpful and refusal families */
    RecipeRewards rewards;      /* of rl and distill stages that name none */
    RecipeBalance balance;
    RecipeEval eval;
    RecipeStage stages[RECIPE_STAGES];
    int n_stages;
} Recipe;

/* LoraTarget's names, and behind them names of several: "attention", "mlp". NULL after the last. */
const char *recipe_lora_target_name(int k);
/* Gives c the adapters that the recipe's `lora:` says, of those matrices that c has; c as it is where there is no such key. */
bool recipe_lora(const Recipe *r, ModelConfig *c, Status *st);

const RecipeStage *recipe_stage(const Recipe *r, const char *name); /* NULL when there is none */
int recipe_stage_index(const Recipe *r, const char *name);          /* -1 */
/* "accuracy 1, format 0.5": the rewards of a stage with their weights, those of weight 0 too ("" where it has none). Whether
 * the stage samples for a reward: rl, and distill with rivals. */
void recipe_rewards_text(const RecipeStage *s, char *out, size_t size);
bool recipe_stage_rolls(const RecipeStage *s);
/* Of a unit that makes samples (rejection, distill, the seeds of sft): samples a prompt, and the longest completion. */
int recipe_samples(const RecipeStage *s);
int recipe_sample_tokens(const Recipe *r, const RecipeStage *s);
/* The sources a stage draws from: its own tasks or the recipe's. */
const RecipeTasks *recipe_tasks(const Recipe *r, const RecipeStage *s);

/* The balance losses of a model: DeepSeek-V2's, or with a selection bias DeepSeek-V3's. */
BalanceConfig recipe_balance(const Recipe *r, const ModelConfig *c);
/* The stage that a name in from, sample_from, reward_models means: "distill", or a part of it, "distill.rival1". NULL: none
 * of this recipe (a path). */
const RecipeStage *recipe_stage_of(const Recipe *r, const char *from);

/* The block's config with the tokenizer's sizes in it, validated. The block must have no `from`. */
bool recipe_model_config(const RecipeModel *m, int vocab, int bos, int eos, ModelConfig *out, Status *st);

#endif
