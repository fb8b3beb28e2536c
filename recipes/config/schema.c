/* The key table: one row a key. */
#include "recipes/config/schema.h"

#include <string.h>

#include "core/rollout/draft.h"
#include "recipes/config/recipe.h"
#include "recipes/model/shots.h"

/* ---- Names of enum values; the others are exported by the header that declares the enum ---- */

static const char *name_arch(int i)
{
    return i < ARCH_COUNT ? arch_name((Arch)i) : NULL;
}
static const char *name_reward(int i)
{
    return i < REWARD_KINDS ? reward_kind_name((RewardKind)i) : NULL;
}

static const char *name_precision(int i)
{
    return i <= DTYPE_BF16 ? dtype_name((DType)i) : NULL;
}

static const char *name_tokenizer(int i)
{
    static const char *const names[] = {"char", "bpe", "file", NULL};
    return names[i];
}

static const char *name_heads(int i)
{
    static const char *const names[] = {"mla", "mha", "gqa", "mqa", NULL};
    return names[i];
}

static const char *name_block_of(int i) /* which model block a stage trains */
{
    static const char *const names[] = {"model", "student", NULL};
    return names[i];
}

/* ---- Rows ---- */

#define COUNT(rows) (int)(sizeof(rows) / sizeof *(rows))
#define AT(field)   offsetof(OWNER, field)
#define INT(k, f, init, lo, hi, o, h)                                                                                  \
    {                                                                                                                  \
        .key = k, .type = FIELD_INT, .offset = AT(f), .count = FIELD_NONE, .initial = init, .low = lo, .high = hi,     \
        .only = o, .help = h                                                                                           \
    }
#define REAL(k, f, init, lo, hi, o, h)                                                                                 \
    {                                                                                                                  \
        .key = k, .type = FIELD_REAL, .offset = AT(f), .count = FIELD_NONE, .initial = init, .low = lo, .high = hi,    \
        .only = o, .help = h                                                                                           \
    }
#define FLOAT(k, f, init, lo, hi, o, h)                                                                                \
    {                                                                                                                  \
        .key = k, .type = FIELD_FLOAT, .offset = AT(f), .count = FIELD_NONE, .initial = init, .low = lo, .high = hi,   \
        .only = o, .help = h                                                                                           \
    }
#define BOOL(k, f, init, o, h)                                                                                         \
    {                                                                                                                  \
        .key = k, .type = FIELD_BOOL, .offset = AT(f), .count = FIELD_NONE, .initial = init, .only = o, .help = h      \
    }
#define TEXT(k, f, init, o, h)                                                                                         \
    {                                                                                                                  \
        .key = k, .type = FIELD_TEXT, .offset = AT(f), .count = FIELD_NONE, .size = (int)sizeof(((OWNER *)0)->f),      \
        .initial = init, .only = o, .help = h                                                                          \
    }
#define PATH(k, f, kind, init, o, h)                                                                                   \
    {                                                                                                                  \
        .key = k, .type = FIELD_TEXT, .offset = AT(f), .count = FIELD_NONE, .size = (int)sizeof(((OWNER *)0)->f),      \
        .path = kind, .initial = init, .only = o, .help = h                                                            \
    }
#define ENUM(k, f, init, names, o, h)                                                                                  \
    {                                                                                                                  \
        .key = k, .type = FIELD_ENUM, .offset = AT(f), .count = FIELD_NONE, .initial = init, .name = names, .only = o, \
        .help = h                                                                                                      \
    }
#define SET(k, f, init, names, o, h)                                                                                   \
    {                                                                                                                  \
        .key = k, .type = FIELD_SET, .offset = AT(f), .count = FIELD_NONE, .initial = init, .name = names, .only = o,  \
        .help = h                                                                                                      \
    }
#define REALS(k, f, cnt, sz, init, lo, hi, o, h)                                                                       \
    {                                                                                                                  \
        .key = k, .type = FIELD_REALS, .offset = AT(f), .count = cnt, .size = sz, .initial = init, .low = lo,          \
        .high = hi, .only = o, .help = h                                                                               \
    }
#define TEXTS(k, f, init, o, h)                                                                                        \
    {                                                                                                                  \
        .key = k, .type = FIELD_TEXTS, .offset = AT(f), .count = FIELD_NONE, .size = RECIPE_NAMES, .initial = init,    \
        .only = o, .help = h                                                                                           \
    }
#define SECTION(k, f, cnt, b, o, h)                                                                                    \
    {                                                                                                                  \
        .key = k, .type = FIELD_SECTION, .offset = AT(f), .count = cnt, .initial = "{}", .section = b, .only = o,      \
        .help = h                                                                                                      \
    }
#define LIST(k, f, b, o, h)                                                                                            \
    {                                                                                                                  \
        .key = k, .type = FIELD_LIST, .offset = AT(f.list), .count = AT(f.n), .size = COUNT(((OWNER *)0)->f.list),     \
        .initial = "[]", .section = b, .only = o, .help = h                                                            \
    }

enum { BIG = 1000000000, WIDE = 1 << 20 };

/* model:, student: */
#define OWNER RecipeModel
enum {
    V2 = 1 << ARCH_DEEPSEEK_V2,
    V3 = 1 << ARCH_DEEPSEEK_V3,
    V1 = 1 << ARCH_DEEPSEEK,
    G4 = 1 << ARCH_GLM4_MOE,
    Q2 = 1 << ARCH_QWEN2,
    Q3 = 1 << ARCH_QWEN3,
    LL = 1 << ARCH_LLAMA,
    MLA = V2 | V3,
    GQA = V1 | G4 | Q2 | Q3 | LL,
    MOE = V1 | V2 | V3 | G4, /* routed experts, */
    SOFTMAX = V1 | V2,       /* with V2's router */
    SIGMOID = V3 | G4        /* with V3's */
};
static const Field model_fields[] = {
    ENUM("architecture", config.arch, "deepseek_v2", name_arch, 0,
         "deepseek_v2, deepseek_v3: MLA and DeepSeekMoE; deepseek, glm4_moe: the experts of these two under plain "
         "heads; "
         "the others: dense, plain heads"),
    ENUM("attention", heads, "mla", name_heads, MLA,
         "mla; mha, gqa and mqa make deepseek_v2 a deepseek and deepseek_v3 a glm4_moe, without MLA's keys"),
    ENUM("attention", heads, "gqa", name_heads, GQA,
         "mha: keys and values of every head; gqa: num_key_value_heads of them; mqa: one for all"),
    PATH("from", from, PATH_MODEL, "", 0,
         "start from this model (checkpoint, RUN/stage, HF folder); then no other key may be given"),
    INT("hidden_size", config.C, "96", 1, WIDE, 0, "model width"),
    INT("num_hidden_layers", config.L, "3", 1, 4096, 0, "blocks"),
    INT("num_attention_heads", config.H, "4", 1, 4096, 0, "query heads"),
    INT("num_key_value_heads", config.Hkv, "4", 1, 4096, GQA, "key and value heads"),
    INT("head_dim", config.Dr, "24", 1, 4096, GQA, "width of a head, all of it rotated"),
    BOOL("attention_bias", config.qkv_bias, "true", Q2, "bias of the q, k and v projections"),
    BOOL("attention_bias", config.qkv_bias, "false", V1 | G4 | Q3 | LL,
         "bias of the q, k and v projections, and of o (glm4_moe: not)"),
    BOOL("mlp_bias", config.mlp_bias, "false", LL, "bias of gate, up and down"),
    INT("q_lora_rank", config.Rq, "0", 0, WIDE, MLA, "latent rank of queries; 0: one plain projection"),
    INT("kv_lora_rank", config.Rkv, "48", 1, WIDE, MLA, "latent rank of keys and values, what the latent cache keeps"),
    INT("qk_nope_head_dim", config.Dn, "24", 1, 4096, MLA, "part of a head without position"),
    INT("qk_rope_head_dim", config.Dr, "16", 2, 4096, MLA, "part of a head that is rotated, one key for all heads"),
    INT("v_head_dim", config.Dv, "24", 1, 4096, MLA, "value width of a head"),
    INT("intermediate_size", config.F, "256", 1, WIDE, 0, "width of a dense SwiGLU block"),
    INT("n_routed_experts", config.E, "8", 0, 4096, MOE, "routed experts of a layer; 0: every layer is dense"),
    INT("n_shared_experts", config.S, "1", 0, 64, MOE, "experts every token meets"),
    INT("num_experts_per_tok", config.K, "2", 1, 4096, MOE, "routed experts a token meets"),
    INT("moe_intermediate_size", config.moe_F, "64", 1, WIDE, MOE, "width of an expert"),
    INT("first_k_dense_replace", config.first_dense, "1", 0, 4096, MOE, "first layers that are dense"),
    INT("moe_layer_freq", config.moe_freq, "1", 1, 4096, V1 | V2 | V3, "every so many layers has experts"),
    ENUM("topk_method", config.topk, "greedy", topk_method_name, V2, "how a token's experts are chosen"),
    ENUM("topk_method", config.topk, "noaux_tc", topk_method_name, SIGMOID, "how a token's experts are chosen"),
    ENUM("scoring_func", config.score, "softmax", score_function_name, SOFTMAX, "router scores"),
    ENUM("scoring_func", config.score, "sigmoid", score_function_name, SIGMOID, "router scores"),
    INT("n_group", config.n_group, "1", 1, 4096, MLA | G4, "groups of experts (group-limited routing)"),
    INT("topk_group", config.topk_group, "1", 1, 4096, MLA | G4, "groups a token may reach"),
    BOOL("norm_topk_prob", config.norm_topk, "false", SOFTMAX, "scale the chosen experts' weights to a sum of 1"),
    BOOL("norm_topk_prob", config.norm_topk, "true", SIGMOID, "scale the chosen experts' weights to a sum of 1"),
    FLOAT("routed_scaling_factor", config.routed_scale, "1", 0, 1000, MLA | G4, "multiplies the routed experts' sum"),
    FLOAT("rms_norm_eps", config.eps, "1e-6", 0, 1, 0, "RMSNorm epsilon"),
    FLOAT("rope_theta", config.rope.theta, "1000", 1, 1e9, 0, "base of the rotary frequencies"),
    INT("max_position_embeddings", config.max_positions, "1024", 1, 1 << 24, 0, "longest sequence"),
    INT("num_nextn_predict_layers", config.mtp_layers, "0", 0, 16, SIGMOID,
        "modules of multi-token prediction, trained by the stages' `mtp`"),
    BOOL("tie_word_embeddings", config.tied, "false", 0, "the output head is the embedding"),
    FLOAT("initializer_range", config.init_std, "0.02", 0, 10, 0, "standard deviation of initial matrices"),
};
#undef OWNER
static const Section model_section = {"model", sizeof(RecipeModel), model_fields, COUNT(model_fields), NULL,
                                      NULL,    "architecture",      "from"};

#define OWNER RecipeLora
static const Field lora_fields[] = {
    PATH("from", from, PATH_MODEL, "", 0, "begin with the adapter in this PEFT folder; then no other key may be given"),
    INT("rank", rank, "16", 1, 4096, 0, "r, rows of A and columns of B"),
    FLOAT("alpha", alpha, "32", 1e-6, 1e6, 0, "the adapters' sum is multiplied by alpha / rank"),
    BOOL("rslora", rslora, "false", 0, "multiply by alpha / sqrt(rank) instead"),
    SET("targets", targets, "[attention]", recipe_lora_target_name, 0,
        "matrices with adapters, by config.json's modules; attention, mlp: all of them; experts: of routed experts"),
};
#undef OWNER
static const Section lora_section = {"lora", sizeof(RecipeLora), lora_fields, COUNT(lora_fields), NULL, NULL, NULL,
                                     "from"};

#define OWNER RecipeTokenizer
enum { T_BPE = 1 << TOKENIZER_BPE, T_FILE = 1 << TOKENIZER_FILE };
static const Field tokenizer_fields[] = {
    ENUM("kind", kind, "char", name_tokenizer, 0,
         "char: one id a character; bpe: trained on the corpus; file: tokenizer.json"),
    INT("vocab", vocab, "512", 300, WIDE, T_BPE, "ids to train"),
    INT("documents", documents, "2000", 1, BIG, T_BPE, "corpus documents to train on"),
    PATH("path", path, PATH_FILE, NULL, T_FILE, "tokenizer.json or the folder that holds it"),
    TEXT("template", template_name, "", 0,
         "a chat template by name (`r1 template --help`); default: the tokenizer's own"),
};
#undef OWNER
static const Section tokenizer_section = {
    "tokenizer", sizeof(RecipeTokenizer), tokenizer_fields, COUNT(tokenizer_fields), NULL, NULL, "kind", NULL};

#define OWNER RecipeTask
static const Field task_fields[] = {
    TEXT("name", name, "", 0, "how logs and evaluations call it; default: the task's or the file's name"),
    TEXT("task", task, "", 0, "a built-in task (`r1 data --list`); default: the name"),
    PATH("file", file, PATH_FILE, "", 0, "instead of a task: a JSONL file of yours"),
    {.key = "levels",
     .type = FIELD_LEVELS,
     .offset = AT(levels),
     .count = FIELD_NONE,
     .initial = "[1, 1]",
     .low = 1,
     .high = 100,
     .help = "first and last level drawn, or one number"},
    REAL("weight", weight, "1", 0, 1e6, 0, "share of the mix, relative to the others"),
    REAL("heldout", heldout, "0.1", 0, 0.5, 0, "file: share of rows kept for validation"),
};
#undef OWNER
static const Section task_section = {"task", sizeof(RecipeTask), task_fields, COUNT(task_fields),
                                     "name", "weight",           NULL,        NULL};

#define OWNER RewardSpec
enum {
    R_OVERLONG = 1 << REWARD_OVERLONG,
    R_EXTERNAL = 1 << REWARD_EXTERNAL,
    R_RULE = 1 << REWARD_ACCURACY,
    R_HELPFUL = 1 << REWARD_HELPFUL_RM,
    R_SAFETY = 1 << REWARD_SAFETY_RM,
    R_OTHER = ((1 << REWARD_KINDS) - 1) & ~(R_RULE | R_HELPFUL | R_SAFETY)
};
static const Field reward_fields[] = {
    TEXT("name", name, "", 0, "shown in logs; default: the kind"),
    ENUM("kind", kind, "accuracy", name_reward, 0, "what is measured; default: the name"),
    FLOAT("weight", weight, "1", -1e6, 1e6, 0, "factor in the sum"),
    SET("applies_to", kinds, "[reasoning]", prompt_kind_name, R_RULE, "kinds of prompts it is for"),
    SET("applies_to", kinds, "[helpful]", prompt_kind_name, R_HELPFUL, "kinds of prompts it is for"),
    {.key = "applies_to",
     .type = FIELD_SET,
     .offset = AT(kinds),
     .count = FIELD_NONE,
     .initial = "[safety]",
     .before = "[helpful, safety]",
     .name = prompt_kind_name,
     .only = R_SAFETY,
     .help = "kinds of prompts it is for; the model is trained on those of refusal families alone"},
    SET("applies_to", kinds, "[reasoning, helpful, safety]", prompt_kind_name, R_OTHER, "kinds of prompts it is for"),
    INT("buffer", buffer, "8", 1, BIG, R_OVERLONG, "last tokens over which the penalty falls to -1"),
    PATH("command", command, PATH_COMMAND, NULL, R_EXTERNAL,
         "program run by /bin/sh -c: JSON lines in, JSON lines out"),
    REAL("timeout", timeout, "10", 0.001, 86400, R_EXTERNAL, "seconds a batch may take"),
    REAL("startup", startup, "300", 0.001, 86400, R_EXTERNAL, "seconds until a started program's first reply"),
};
#undef OWNER
const Section reward_section = {"reward", sizeof(RewardSpec), reward_fields, COUNT(reward_fields),
                                "name",   "weight",           "kind",        NULL};

#define OWNER RecipeStage
enum {
    PRE = 1 << STAGE_PRETRAIN,
    SFT = 1 << STAGE_SFT,
    RL = 1 << STAGE_RL,
    REJ = 1 << STAGE_REJECTION,
    RM = 1 << STAGE_REWARD_MODEL,
    DIS = 1 << STAGE_DISTILL,
    DPO = 1 << STAGE_DPO,
    TEACH = SFT | REJ | RM | DIS | DPO,
    ROLL = RL | DIS
};
static const Field style_fields[] = {
    REAL("clean", styles[STYLE_CLEAN], "0.15", 0, 1e6, 0, "tags, correct trace"),
    REAL("direct", styles[STYLE_DIRECT], "0.4", 0, 1e6, 0, "the answer without tags"),
    REAL("untagged", styles[STYLE_UNTAGGED], "0.15", 0, 1e6, 0, "correct trace and answer without tags"),
    REAL("empty", styles[STYLE_EMPTY], "0.1", 0, 1e6, 0, "tags, nothing in the think part"),
    REAL("corrupt", styles[STYLE_CORRUPT], "0.12", 0, 1e6, 0, "tags, a slip, usually the wrong answer"),
    REAL("half", styles[STYLE_HALF], "0.08", 0, 1e6, 0, "tags, first half of the steps missing"),
};
static const Section style_section = {
    "styles", sizeof(RecipeStage), style_fields, COUNT(style_fields), NULL, NULL, NULL, NULL};

static const Field critic_fields[] = {
    REAL("lr", rl.critic.lr, "1e-3", 0, 10, 0, "peak learning rate, which falls as the policy's does"),
    REAL("gamma", rl.critic.gamma, "1", 0, 1, 0, "discount of a token's later rewards"),
    REAL("lambda", rl.critic.lambda, "0.95", 0, 1, 0, "of the advantages: 1 trusts returns alone, 0 the next value"),
    REAL("clip", rl.critic.clip, "0.2", 0, 1e6, 0, "how far a step's updates may move a value; 0: no limit"),
    INT("warmup", rl.critic.warmup, "0", 0, BIG, 0, "first steps, in which the critic alone is trained"),
};
static const Section critic_section = {
    "critic", sizeof(RecipeStage), critic_fields, COUNT(critic_fields), NULL, NULL, NULL, NULL};

static const Field mtp_fields[] = {
    REAL("weight", mtp_weight, "0.3", 0, 100, 0, "lambda; 0: the modules stay as they are"),
    REAL("later", mtp_later, "0.1", 0, 100, 0, "lambda after `after`"),
    REAL("after", mtp_after, "1", 0, 1, 0, "share of the steps with the first (DeepSeek-V3: 0.68)"),
};
static const Field drop_fields[] = {
    REAL("capacity", drop_capacity, "0", 0, 1000, 0,
         "pairs a device computes, of its mean load (DeepSeek-V2: 1); 0: all"),
    REAL("kept", drop_kept, "0.1", 0, 1, 0, "share of the sequences whose tokens are never dropped"),
};
static const Section drop_section = {"drop", sizeof(RecipeStage), drop_fields, COUNT(drop_fields), NULL, NULL, NULL,
                                     NULL};

static const Section mtp_section = {"mtp", sizeof(RecipeStage), mtp_fields, COUNT(mtp_fields), NULL, NULL, NULL, NULL};

static const Field stage_fields[] = {
    TEXT("name", name, NULL, 0, "letters, digits, - and _; built-in names have their kind"),
    ENUM("kind", kind, NULL, stage_kind_name, 0, "what the stage does"),
    ENUM("model", model, "model", name_block_of, PRE, "which model block is trained from initial weights"),
    PATH("from", from, PATH_STAGE, "", 0,
         "weights to start from: an earlier stage, RUN/stage, a checkpoint or model; empty: initial weights"),
    PATH("sample_from", sample_from, PATH_STAGE, "", SFT | REJ | DIS,
         "the policy that samples (rejection), teaches (distill), seeds traces (sft)"),
    PATH("reward_models", reward_models, PATH_STAGE, "", RL,
         "stage or RUN/stage of the reward models; needed by helpful_rm and safety_rm"),

    PATH("critic_from", critic_from, PATH_STAGE, "", ROLL,
         "ppo: what the critic starts as: a reward model (STAGE.helpful), or a policy under a fresh head; empty: the "
         "stage's start"),

    INT("steps", steps, "1000", 1, BIG, PRE, "updates"),
    INT("steps", steps, "150", 1, BIG, RL, "rollouts, each followed by inner_epochs x mini_batches updates"),
    INT("steps", steps, "0", 0, BIG, TEACH, "updates; 0: as many as `epochs` takes"),
    REAL("epochs", epochs, "3", 0, 10000, SFT | REJ | DIS, "passes over the traces"),
    REAL("epochs", epochs, "1", 0, 10000, RM | DPO, "passes over the pairs"),
    {.key = "batch",
     .type = FIELD_RAMP,
     .offset = AT(batch),
     .count = FIELD_NONE,
     .initial = "32",
     .low = 1,
     .high = 1 << 20,
     .only = PRE | TEACH,
     .help = "sequences (pairs) an update; {from, to, over} grows in so many steps"},
    INT("max_length", max_length, "256", 2, 1 << 24, PRE | TEACH,
        "tokens of a sequence; longer ones are dropped and counted"),
    REAL("extend", extend, "1", 1, 1024, PRE | SFT,
         "YaRN: positions reach so many times as far as the starting model's (with max_length, and steps, to match)"),
    {.key = "drop",
     .type = FIELD_SECTION,
     .offset = 0,
     .count = FIELD_NONE,
     .initial = "{}",
     .section = &drop_section,
     .only = PRE | SFT | REJ | DIS | RL,
     .help = "token dropping on balance.devices devices, in training by sequences; never in evaluations"},
    {.key = "mtp",
     .type = FIELD_SECTION,
     .offset = 0,
     .count = FIELD_NONE,
     .initial = "{}",
     .section = &mtp_section,
     .only = PRE | SFT | REJ | DIS,
     .help = "loss of multi-token prediction, of models that have num_nextn_predict_layers"},
    ENUM("train_turns", train_turns, "all", turns_name, SFT,
         "turns of the assistant that are trained: all with a text, the last, calls: also bare tool calls"),

    REAL("lr", optim.lr, "2e-3", 0, 10, PRE, "peak learning rate"),
    REAL("lr", optim.lr, "5e-4", 0, 10, SFT | RM, "peak learning rate"),
    REAL("lr", optim.lr, "3e-4", 0, 10, RL, "peak learning rate"),
    REAL("lr", optim.lr, "1e-3", 0, 10, REJ | DIS, "peak learning rate"),
    REAL("lr", optim.lr, "1e-4", 0, 10, DPO, "peak learning rate"),
    ENUM("schedule", optim.schedule, "cosine", schedule_kind_name, PRE | TEACH,
         "how the learning rate falls after the warm-up"),
    ENUM("schedule", optim.schedule, "linear", schedule_kind_name, RL, "how the learning rate falls after the warm-up"),
    REAL("lr_final", optim.lr_final, "0.2", 0, 1, PRE | TEACH,
         "last learning rate as a share of lr (step: factor of a drop)"),
    REAL("lr_final", optim.lr_final, "0.3", 0, 1, RL, "last learning rate as a share of lr (step: factor of a drop)"),
    REALS("milestones", optim.milestones, FIELD_NONE, 2, "[0.6, 0.9]", 0, 1, 0,
          "step schedule: shares of the steps after which the learning rate is multiplied by lr_final"),
    INT("warmup", optim.warmup, "20", 0, BIG, PRE, "steps of linear warm-up"),
    INT("warmup", optim.warmup, "10", 0, BIG, TEACH | RL, "steps of linear warm-up"),
    REAL("weight_decay", optim.weight_decay, "0.01", 0, 10, PRE | TEACH, "decoupled, matrices only"),
    REAL("weight_decay", optim.weight_decay, "0", 0, 10, RL, "decoupled, matrices only"),
    REALS("betas", optim.betas, FIELD_NONE, 2, "[0.9, 0.95]", 0, 0.9999999, 0, "AdamW's"),
    REAL("clip", optim.clip, "1", 0, 1e9, 0, "largest global gradient norm; 0: none"),

    LIST("tasks", tasks, &task_section, 0, "replaces the recipe's tasks in this stage; empty: the recipe's"),
    REAL("general_share", general_share, "0", 0, 1, PRE | SFT | RL,
         "share of documents (prompts) from the general families"),
    {.key = "styles",
     .type = FIELD_SECTION,
     .offset = 0,
     .count = FIELD_NONE,
     .initial = "{}",
     .section = &style_section,
     .only = PRE,
     .help = "weights of the styles of reasoning documents"},
    REAL("swap_en", swap_en, "0.05", 0, 1, PRE, "share of English prompts whose trace is in Chinese"),
    REAL("swap_zh", swap_zh, "0.3", 0, 1, PRE, "share of Chinese prompts whose trace is in English"),
    REAL("swap_en", swap_en, "0", 0, 1, SFT, "share of English prompts whose trace is in Chinese"),
    REAL("swap_zh", swap_zh, "0", 0, 1, SFT, "share of Chinese prompts whose trace is in English"),
    INT("traces", traces, "0", 0, BIG, SFT,
        "documents to train on; 0: every row of the files (in their weights), 400 traces of built-in tasks"),
    REAL("seed_share", seed_share, "0", 0, 1, SFT, "share of traces that are filtered samples of sample_from"),
    REALS("stop_at_pass1", stop_at_pass1, FIELD_NONE, 2, "[0, 1]", 0, 1, SFT,
          "stop when a quick eval's pass@1 reaches the first number (0: never); above the second is warned of"),

    INT("prompts", rl.prompts, "16", 1, 1 << 20, ROLL, "prompts a step"),
    INT("group", rl.group, "16", 1, 4096, ROLL, "samples a prompt (G); 1 with ppo alone"),
    INT("max_tokens", rl.max_tokens, "96", 1, 1 << 24, ROLL | REJ, "longest completion"),
    REAL("temperature", rl.temperature, "1", 0.01, 10, ROLL, "of the rollouts, in rollout, training and reference"),
    ENUM("loss", rl.loss, "dr_grpo", grpo_kind_name, ROLL,
         "grpo: DeepSeekMath's token form; dr_grpo: no length or std division; dapo: mean over all tokens; "
         "grpo_sequence: "
         "R1's ratio of an output; gspo, cispo, rloo, reinforce_pp: core/losses/grpo.h; ppo: advantages of a critic"),
    {.key = "critic",
     .type = FIELD_SECTION,
     .offset = 0,
     .count = FIELD_NONE,
     .initial = "{}",
     .section = &critic_section,
     .only = ROLL,
     .help = "ppo: a second model that foretells a token's later rewards"},
    BOOL("std_normalise", rl.std_normalise, "false", ROLL,
         "divide advantages by the group's std (ppo: by the batch's, mean 0); default: as the loss's paper (not "
         "dr_grpo, rloo, "
         "reinforce_pp)"),
    REAL("clip_low", rl.clip_low, "0.2", 0, 1e6, ROLL, "lower clip of the ratio"),
    REAL("clip_high", rl.clip_high, "0.28", 0, 1e6, ROLL, "upper clip of the ratio"),
    REAL("beta", rl.beta, "0", 0, 1000, ROLL, "weight of the KL term; 0: no reference model"),
    ENUM("kl", rl.kl, "k3", kl_estimator_name, ROLL,
         "estimator in the loss (not weighted by the ratio of later updates); the exact KL is logged beside it; k1 has "
         "no\n"
         "gradient on average and is refused with beta > 0"),
    BOOL("kl_in_reward", rl.kl_in_reward, "false", ROLL,
         "ppo: the KL estimate times beta is taken off every token's reward (InstructGPT), in place of a term of the "
         "loss"),
    REAL("kl_clamp", rl.kl_clamp, "20", 0.001, 80, ROLL, "largest |log ratio| in the estimator; clamps are counted"),
    REAL("entropy_bonus", rl.entropy_bonus, "0", 0, 100, ROLL, "weight of the entropy in the objective"),
    INT("inner_epochs", rl.inner_epochs, "1", 1, 100, ROLL, "passes over a rollout"),
    INT("mini_batches", rl.mini_batches, "1", 1, 4096, ROLL, "updates a pass"),
    INT("refill", rl.refill, "0", 0, 100, ROLL, "times a group without variance is replaced by a new prompt; 0: none"),
    BOOL("mask_truncated", rl.mask_truncated, "false", ROLL, "leave truncated completions out of the loss"),
    INT("reference_reset", rl.reference_reset, "100", 0, BIG, ROLL,
        "steps after which the reference becomes the policy; 0: never"),
    REAL("preference_last", rl.preference_last, "0.25", 0, 1, RL,
         "share of the steps, the last, in which the reward models act"),
    ENUM("cache", rl.cache, "exact", cache_kind_name, ROLL,
         "exact: sampler and trainer agree bit for bit; latent: MLA's small cache"),
    INT("draft", rl.draft, "0", 0, DRAFT_MOST, RL,
        "tokens that the module of multi-token prediction guesses a step; samples are the same, in fewer steps"),
    BOOL("rollout_bf16", rl.rollout_bf16, "false", RL,
         "an f32 policy samples from a bf16 copy of itself: half the bytes to read a token; the gaps of log-probs and "
         "of the "
         "experts chosen are logged"),
    ENUM(
        "correction", rl.correction, "none", correction_name, RL,
        "where sampler and trainer differ on purpose (cache: latent, rollout_bf16): every token's gradient is weighted "
        "by\n"
        "trainer / sampler probability, truncated: at most correction_cap, masked: 0 outside of [1 / cap, cap]; the "
        "ratio "
        "of\n"
        "later updates is then to the trainer's own log-probs (one more forward a step)"),
    BOOL("replay_routing", rl.replay_routing, "false", RL,
         "where sampler and trainer differ on purpose: tokens go to the experts that the sampler chose, kept with the "
         "rollout,\n"
         "weighed by the trainer's own scores; routing_gap logs how many choices that changes (one more forward a "
         "step)"),
    REAL("correction_cap", rl.correction_cap, "2", 1, 1e6, RL, "largest importance weight; what is cut is logged"),
    LIST("rewards", rl.rewards, &reward_section, ROLL,
         "replaces the recipe's rewards in this stage; empty: the recipe's"),
    INT("rollout_block", rollout_block, "25", 1, BIG, RL, "steps in one shard of rollouts.h5"),

    INT("sample_prompts", sample_prompts, "1536", 1, BIG, REJ | DIS, "training prompts to sample"),
    INT("samples", samples, "8", 1, 4096, REJ, "samples a prompt"),
    INT("samples", samples, "2", 1, 4096, DIS, "samples a prompt"),
    ENUM("objective", objective, "text", objective_name, DIS,
         "text: the teacher's words; forward_kl, reverse_kl: its whole distribution on its words, KL(teacher || "
         "student) "
         "or\n"
         "KL(student || teacher); on_policy: KL(student || teacher) on the student's own samples, `batch` of them a "
         "step "
         "(epochs\n"
         "x sample_prompts prompts in all; keep has no meaning)"),
    INT("keep", keep, "2", 1, 4096, REJ | DIS, "kept a prompt, at most"),
    REAL("sample_temperature", sample_temperature, "1", 0, 10, REJ | DIS | SFT, "of these samples"),
    REAL("general_ratio", general_ratio, "0.3333333333333333", 0, 100, REJ,
         "general documents for each kept sample (R1: 1 to 3)"),
    REAL("general_clean", general_clean, "1", 0, 1, REJ,
         "share of general documents of the best quality; the others have flaws, as data written by people has"),

    INT("pairs", pairs, "2000", 1, BIG, RM, "training pairs of the helpful model"),
    INT("pairs", pairs, "0", 0, BIG, DPO, "pairs to train on; 0: every row of the files, 400 of helpful families"),
    LIST("preferences", preferences, &task_section, DPO,
         "files of pairs, in the columns of TRL: prompt, chosen, rejected; empty: pairs of the helpful families"),
    REAL("beta", rl.beta, "0.1", 1e-6, 1000, DPO, "how strongly the policy is held to the one it began as"),
    REAL("label_smoothing", label_smoothing, "0", 0, 0.49, DPO, "share of labels that are taken to be wrong"),
    INT("safety_examples", safety_examples, "2000", 1, BIG, RM, "training examples of the safety model"),
    INT("heldout_pairs", heldout_pairs, "200", 1, BIG, RM | DPO,
        "held-out pairs and examples for the reported accuracy"),
    REAL("noise", noise, "0.05", 0, 0.5, RM | DPO, "share of flipped labels (not of files)"),

    REALS("rival_lrs", rival_lrs, AT(n_rival_lrs), RECIPE_LRS, "[]", 0, 10, DIS,
          "learning rates of the rival, the same student by RL at equal FLOPs; empty: no rival"),

    INT("eval_every", eval_every, "0", 0, BIG, 0, "steps between quick evaluations; 0: none"),
    BOOL("eval_after", eval_after, "true", PRE | SFT | RL | REJ | DIS | DPO,
         "the full evaluation when the stage is over"),
};
#undef OWNER
const Section stage_section = {"stage", sizeof(RecipeStage), stage_fields, COUNT(stage_fields), "name", NULL, "kind",
                               NULL};

#define OWNER RecipeBalance
static const Field balance_fields[] = {
    REAL("expert", expert, "0.01", 0, 100, 0, "deepseek_v2: alpha 1, expert-level"),
    REAL("device", device, "0", 0, 100, 0, "deepseek_v2: alpha 2, device-level"),
    REAL("communication", communication, "0", 0, 100, 0, "deepseek_v2: alpha 3, communication"),
    INT("devices", devices, "1", 1, 4096, 0, "D, groups of experts the last two count"),
    INT("limit", limit, "1", 1, 4096, 0, "M, devices a token may reach"),
    REAL("sequence", sequence, "1e-4", 0, 100, 0, "deepseek_v3: alpha of the sequence-wise loss"),
    REAL("bias_speed", bias_speed, "1e-3", 0, 10, 0,
         "deepseek_v3: step of the selection bias after an update; 0: it stays"),
};
#undef OWNER
const Section balance_section = {
    "balance", sizeof(RecipeBalance), balance_fields, COUNT(balance_fields), NULL, NULL, NULL, NULL};

#define OWNER RecipeEval
static const Field eval_fields[] = {
    INT("n", n, "200", 1, BIG, 0, "held-out problems after a stage, over all families"),
    INT("k", k, "16", 1, 4096, 0, "samples a problem (pass@1, pass@k, cons@k)"),
    INT("quick_n", quick_n, "64", 1, BIG, 0, "problems of an evaluation during a stage"),
    INT("quick_k", quick_k, "4", 1, 4096, 0, "samples a problem during a stage"),
    REAL("temperature", temperature, "0.6", 0, 10, 0, "0: greedy"),
    REAL("top_p", top_p, "0.95", 0.01, 1, 0, "1: off"),
    INT("max_tokens", max_tokens, "96", 1, 1 << 24, 0, "longest completion"),
    INT("general_n", general_n, "64", 0, BIG, 0, "held-out prompts of each general family"),
    INT("shots", shots, "0", 0, SHOTS_MAX, 0, "worked examples of the training split before each question"),
    TEXT("effort", effort, "", 0,
         "budget of a thought: low, medium, high, TOKENS or +TOKENS (`r1 eval --help`); default: as long as it likes"),
};
#undef OWNER
static const Section eval_section = {"eval", sizeof(RecipeEval), eval_fields, COUNT(eval_fields), NULL, NULL, NULL,
                                     NULL};

#define OWNER Recipe
static const Field optim_fields[] = {
    ENUM("moments", moments, "f32", moment_form_name, 0,
         "how AdamW's two moments of a matrix are stored: f32, 8 bytes a weight; bf16, 4; 8bit, 2.03 (blocks of 256 "
         "with a "
         "scale)"),
};
static const Section optim_section = {"optim", sizeof(Recipe), optim_fields, COUNT(optim_fields),
                                      NULL,    NULL,           NULL,         NULL};

static const Field recipe_fields[] = {
    TEXT("title", title, "", 0, "a line for the report"),
    {.key = "seed",
     .type = FIELD_SEED,
     .offset = AT(seed),
     .count = FIELD_NONE,
     .initial = "0",
     .low = 0,
     .high = 4294967295.0,
     .help = "everything random follows from it"},
    ENUM("precision", precision, "f32", name_precision, 0,
         "f32, or bf16: weights and activations in bf16; sums, norms, router, softmax and master weights in f32"),
    SECTION("model", model, FIELD_NONE, &model_section, 0, "the model, in config.json's words"),
    SECTION("student", student, AT(student.used), &model_section, 0, "the student that distillation trains"),
    SECTION("lora", lora, AT(lora.used), &lora_section, 0,
            "low-rank adapters: every stage trains them and the model's own weights stay as they are"),
    SECTION("tokenizer", tokenizer, FIELD_NONE, &tokenizer_section, 0, "text to ids"),
    TEXTS("train", train, "[all]", 0,
          "tensors that every stage trains, by names or globs between dots: self_attn, layers.2[4-6], experts.7.*; the "
          "others are frozen; all: everything"),
    {.key = "optim",
     .type = FIELD_SECTION,
     .offset = 0,
     .count = FIELD_NONE,
     .initial = "{}",
     .section = &optim_section,
     .help = "the optimizer of every stage (rates, betas and decay are the stages' own)"},
    REAL("zh_share", zh_share, "0", 0, 1, 0, "share of prompts in Chinese"),
    LIST("tasks", tasks, &task_section, 0, "reasoning families"),
    LIST("general", general, &task_section, 0, "helpful and refusal families"),
    LIST("rewards", rewards, &reward_section, 0, "rewards of the stages that name none"),
    SECTION("balance", balance, FIELD_NONE, &balance_section, 0,
            "balance of experts: losses, and the bias of deepseek_v3"),
    SECTION("eval", eval, FIELD_NONE, &eval_section, 0, "evaluation on held-out problems"),
    {.key = "stages",
     .type = FIELD_LIST,
     .offset = AT(stages),
     .count = AT(n_stages),
     .size = RECIPE_STAGES,
     .initial = "[]",
     .section = &stage_section,
     .help = "what is done, in this order"},
};
#undef OWNER
const Section recipe_section = {"recipe", sizeof(Recipe), recipe_fields, COUNT(recipe_fields), NULL, NULL, NULL, NULL};

const Field *section_any_field(const Section *b, const char *key)
{
    for (int i = 0; i < b->n; i++)
        if (!strcmp(b->fields[i].key, key)) return &b->fields[i];
    return NULL;
}

const Field *section_field(const Section *b, const char *key, int variant)
{
    for (int i = 0; i < b->n; i++) {
        const Field *f = &b->fields[i];
        if (!strcmp(f->key, key) && (!f->only || (variant >= 0 && f->only >> variant & 1))) return f;
    }
    return NULL;
}

int section_variant(const Section *b, const void *in)
{
    return b->variant ? *(const int *)(const void *)((const char *)in + section_field(b, b->variant, -1)->offset) : -1;
}
