/* ModelConfig: everything that fixes a model's shape and maths. A family differs by data here, not by copied code.
 *
 * Letters as in the papers: C width, L layers, V vocabulary, H heads, D head dims (Dn nope, Dr rope, Dv value), Rq / Rkv
 * latent ranks, E routed experts, S shared, K experts per token, F FFN width. Semantics: DeepSeek-V2 (arXiv:2405.04434)
 * section 2, DeepSeek-V3 (arXiv:2412.19437) section 2. */
#ifndef CORE_CONFIG_H
#define CORE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/status.h"

/* ARCH_DEEPSEEK: DeepSeekMoE of before V2 (arXiv:2401.06066), V2's experts under plain heads; ARCH_GLM4_MOE: V3's experts under
 * plain heads, as GLM-4.5 has them. */
typedef enum {
    ARCH_DEEPSEEK_V2,
    ARCH_DEEPSEEK_V3,
    ARCH_QWEN2,
    ARCH_QWEN3,
    ARCH_LLAMA,
    ARCH_DEEPSEEK,
    ARCH_GLM4_MOE,
    ARCH_COUNT
} Arch;
typedef enum { ATTENTION_MLA, ATTENTION_GQA } AttentionKind;
typedef enum { TOPK_GREEDY, TOPK_GROUP_MAX, TOPK_NOAUX } TopkMethod;
typedef enum { SCORE_SOFTMAX, SCORE_SIGMOID } ScoreFunction;
typedef enum { HEAD_LM, HEAD_SCALAR } HeadKind; /* logits over V, or one value per token (reward models) */

enum { CONFIG_MAX_EXPERTS = 4096 }; /* routed, a layer */

/* How rotary frequencies are changed for contexts longer than the one of pre-training. Dynamic: not at all up to
 * max_positions, and longer sequences are refused (beyond it every length has frequencies of its own, which no cache
 * can hold). */
typedef enum { ROPE_PLAIN, ROPE_YARN, ROPE_LLAMA3, ROPE_LINEAR, ROPE_DYNAMIC } RopeScaling;
/* "default", "yarn", ... as config.json spells them; NULL after the last. */
const char *rope_scaling_name(int k);

typedef struct RopeConfig {
    float theta;
    bool interleaved; /* pairs (2i, 2i+1) as DeepSeek; false: (i, i + D/2) as Llama and Qwen */
    RopeScaling scaling;
    float factor;                                   /* of every scaling */
    int original_positions;                         /* YaRN, llama3 */
    float beta_fast, beta_slow;                     /* YaRN */
    float mscale, mscale_all_dim, attention_factor; /* YaRN; attention_factor 0: by the factor and mscale */
    bool has_mscale, has_mscale_all_dim;
    float low_freq_factor, high_freq_factor; /* llama3 */
} RopeConfig;

/* Which matrices have low-rank adapters, as config.json's modules are called: the members of attention, the dense and the shared
 * MLP, and all three matrices of every routed expert. */
typedef enum {
    LORA_Q_PROJ,
    LORA_Q_A_PROJ,
    LORA_Q_B_PROJ,
    LORA_KV_A_PROJ,
    LORA_KV_B_PROJ,
    LORA_K_PROJ,
    LORA_V_PROJ,
    LORA_O_PROJ,
    LORA_GATE_PROJ,
    LORA_UP_PROJ,
    LORA_DOWN_PROJ,
    LORA_EXPERTS,
    LORA_TARGETS
} LoraTarget;

/* Low-rank adapters (Hu et al., arXiv:2106.09685, section 4.1): y = x W^T + s (x A^T) B^T, A [rank, in], B [out, rank];
 * s = alpha / rank, or alpha / sqrt(rank) (rslora: Kalajdzievski, arXiv:2312.03732). */
typedef struct LoraConfig {
    int rank; /* 0: none */
    float alpha;
    bool rslora;
    unsigned targets; /* bits of LoraTarget */
} LoraConfig;

typedef struct ModelConfig {
    Arch arch;
    AttentionKind attention;
    HeadKind head;
    int V, C, L, H, Hkv; /* Hkv = H for MLA */
    int Rq, Rkv;         /* MLA ranks; Rq = 0: a plain q_proj */
    int Dn, Dr, Dv; /* MLA: nope, rope, value dims of a head. GQA: Dn = 0, Dr = Dv = head_dim (rope covers all of it) */
    bool qkv_bias, qk_norm; /* attention_bias, plain heads only; Qwen3's norms of queries and keys */
    bool mlp_bias;          /* Llama: of gate, up and down */
    int F;                  /* dense FFN width */
    int E, S, K, moe_F;     /* E = 0: all layers dense */
    int first_dense, moe_freq;
    TopkMethod topk;
    ScoreFunction score;
    int n_group, topk_group;
    bool norm_topk;     /* normalise the K weights */
    bool mask_zero;     /* V3 compatibility: rejected groups count as 0 instead of -inf */
    float routed_scale; /* routed_scaling_factor */
    float eps;          /* RMSNorm; the two latent norms of MLA always use 1e-6 */
    RopeConfig rope;
    int max_positions;
    bool tied;       /* lm_head = embed_tokens */
    float init_std;  /* initializer_range */
    int bos, eos;    /* -1: none */
    int mtp_layers;  /* num_nextn_predict_layers: modules of multi-token prediction (core/mtp.h) behind the layers */
    int mtp;         /* of them parameters here, all or none; else they are carried through import and export */
    LoraConfig lora; /* rank 0: the model has no adapters */
} ModelConfig;

/* "deepseek_v2", ...: the model_type of config.json. */
const char *arch_name(Arch arch);
/* Whether its attention is MLA (else grouped heads); whether it has routed experts; whether their router is DeepSeek-V3's. */
bool arch_is_latent(Arch arch);
bool arch_has_experts(Arch arch);
bool arch_routes_as_v3(Arch arch);
/* "greedy", ... and "softmax", "sigmoid", as config.json spells them; NULL after the last. */
const char *topk_method_name(int k);
const char *score_function_name(int k);

/* Q/K head width: Dn + Dr. */
static inline int config_qk_dim(const ModelConfig *c)
{
    return c->Dn + c->Dr;
}

/* "q_proj", ... "experts"; NULL after the last. */
const char *lora_target_name(int k);
/* s. */
float lora_scale(const LoraConfig *l);
/* The targets that a model of this config has; 0 for a config without sizes. */
unsigned lora_targets_of(const ModelConfig *c);

/* Whether attention_bias means the output projection's too: as transformers and the remote code of DeepSeek's first models have
 * it; Qwen2 and GLM-4.5 have none there. */
static inline bool config_o_bias(const ModelConfig *c)
{
    return c->qkv_bias && c->arch != ARCH_QWEN2 && c->arch != ARCH_GLM4_MOE;
}

/* Blocks with parameters: the layers, then the modules of multi-token prediction. */
static inline int config_blocks(const ModelConfig *c)
{
    return c->L + c->mtp;
}

/* Whether block l has routed experts; a module of multi-token prediction is as the last layer (V3 2.2). */
bool config_is_moe(const ModelConfig *c, int layer);

/* Fails on impossible sizes (K > E, heads not dividing, odd rope dims, ...) with one sentence naming the key as
 * config.json spells it. */
bool config_validate(const ModelConfig *c, Status *st);

/* Softmax scale: (Dn + Dr)^-1/2, times mu^2 under YaRN (mu = 1 + 0.1 mscale_all_dim ln(factor)). */
float config_attention_scale(const ModelConfig *c);

/* Makes the model's positions reach `factor` times as far by YaRN, with the constants of its family: DeepSeek's mscale (V2 0.707,
 * V3 1), for others the published default. Fails where the rotary frequencies are scaled already. */
bool config_extend(ModelConfig *c, double factor, Status *st);

/* inv_freq[Dr / 2] (f64) and the multiplier of cos and sin (1 without YaRN). YaRN as DeepSeek's remote code:
 * Peng et al., arXiv:2309.00071, with floor / ceil correction range. */
void config_rope_frequencies(const ModelConfig *c, double *inv_freq, double *multiplier);

#endif
