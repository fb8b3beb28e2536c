/* Names, rotary frequencies and checks of a model config. */
#include "core/config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/check.h"

const char *arch_name(Arch arch)
{
    static const char *const names[ARCH_COUNT] = {"deepseek_v2", "deepseek_v3", "qwen2",   "qwen3",
                                                  "llama",       "deepseek",    "glm4_moe"};
    CHECK((int)arch >= 0 && arch < ARCH_COUNT);
    return names[arch];
}

bool arch_is_latent(Arch arch)
{
    return arch == ARCH_DEEPSEEK_V2 || arch == ARCH_DEEPSEEK_V3;
}

bool arch_has_experts(Arch arch)
{
    return arch_is_latent(arch) || arch == ARCH_DEEPSEEK || arch == ARCH_GLM4_MOE;
}

bool arch_routes_as_v3(Arch arch)
{
    return arch == ARCH_DEEPSEEK_V3 || arch == ARCH_GLM4_MOE;
}

const char *topk_method_name(int k)
{
    static const char *const names[] = {"greedy", "group_limited_greedy", "noaux_tc"};
    return (size_t)k < sizeof names / sizeof *names ? names[k] : NULL;
}

const char *score_function_name(int k)
{
    static const char *const names[] = {"softmax", "sigmoid"};
    return (size_t)k < sizeof names / sizeof *names ? names[k] : NULL;
}

const char *rope_scaling_name(int k)
{
    static const char *const names[] = {"default", "yarn", "llama3", "linear", "dynamic"};
    return (size_t)k < sizeof names / sizeof *names ? names[k] : NULL;
}

const char *lora_target_name(int k)
{
    static const char *const names[LORA_TARGETS] = {"q_proj",    "q_a_proj", "q_b_proj",  "kv_a_proj_with_mqa",
                                                    "kv_b_proj", "k_proj",   "v_proj",    "o_proj",
                                                    "gate_proj", "up_proj",  "down_proj", "experts"};
    return k < LORA_TARGETS ? names[k] : NULL;
}

float lora_scale(const LoraConfig *l)
{
    return l->alpha / (l->rslora ? sqrtf((float)l->rank) : (float)l->rank);
}

unsigned lora_targets_of(const ModelConfig *c)
{
    bool mlp = c->S > 0;
    for (int l = 0; l < c->L; l++) mlp = mlp || !config_is_moe(c, l);
    unsigned targets = 1u << LORA_O_PROJ;
    if (c->attention == ATTENTION_GQA) targets |= 1u << LORA_Q_PROJ | 1u << LORA_K_PROJ | 1u << LORA_V_PROJ;
    else targets |= 1u << LORA_KV_A_PROJ | 1u << LORA_KV_B_PROJ;
    if (c->attention == ATTENTION_MLA) targets |= c->Rq ? 1u << LORA_Q_A_PROJ | 1u << LORA_Q_B_PROJ : 1u << LORA_Q_PROJ;
    if (mlp) targets |= 1u << LORA_GATE_PROJ | 1u << LORA_UP_PROJ | 1u << LORA_DOWN_PROJ;
    for (int l = 0; l < c->L; l++)
        if (config_is_moe(c, l)) targets |= 1u << LORA_EXPERTS;
    return targets;
}

bool config_is_moe(const ModelConfig *c, int layer)
{
    if (layer >= c->L) layer = c->L - 1;
    return c->E > 0 && layer >= c->first_dense && layer % c->moe_freq == 0;
}

/* 0.1 m ln(s) + 1: YaRN's attention temperature (Peng et al., arXiv:2309.00071, section 3.4), with DeepSeek's factor m. */
static double yarn_magnitude(double factor, double mscale)
{
    return factor <= 1.0 ? 1.0 : 1.0 + 0.1 * mscale * log(factor);
}

float config_attention_scale(const ModelConfig *c)
{
    double scale = 1.0 / sqrt((double)config_qk_dim(c));
    const RopeConfig *r = &c->rope;
    /* Only DeepSeek's attention has mu: generic YaRN (Qwen, Llama) puts its whole magnitude into cos and sin. */
    if (c->attention == ATTENTION_MLA && r->scaling == ROPE_YARN && r->has_mscale_all_dim &&
        r->mscale_all_dim != 0.0f) {
        double mu = yarn_magnitude(r->factor, r->mscale_all_dim);
        scale *= mu * mu;
    }
    return (float)scale;
}

bool config_extend(ModelConfig *c, double factor, Status *st)
{
    RopeConfig *r = &c->rope;
    if (r->scaling != ROPE_PLAIN)
        return fail(st, "its rotary positions are scaled already (rope_scaling %s): start from the model before that",
                    rope_scaling_name((int)r->scaling));
    double reach = factor * c->max_positions;
    if (reach > 1 << 28) return fail(st, "%g times its %d positions is too far", factor, c->max_positions);
    r->scaling = ROPE_YARN;
    r->factor = (float)factor;
    r->original_positions = c->max_positions;
    r->beta_fast = 32.0f, r->beta_slow = 1.0f;
    r->has_mscale = r->has_mscale_all_dim = c->attention == ATTENTION_MLA;
    r->mscale = r->mscale_all_dim =
        c->attention == ATTENTION_MLA ? (c->arch == ARCH_DEEPSEEK_V2 ? 0.707f : 1.0f) : 0.0f;
    r->attention_factor = 0.0f;
    c->max_positions = (int)reach;
    return config_validate(c, st);
}

/* YaRN (arXiv:2309.00071, section 3.2, NTK-by-parts): pairs that turn more than beta_fast times within the original context keep
 * their frequency theta_i, those that turn less than beta_slow times have it divided by the factor s, a ramp lies between:
 *   theta'_i = (1 - gamma_i) theta_i / s + gamma_i theta_i,  gamma_i = 1 - ramp(i).
 * This is the pair whose wave turns `turns` times. */
static double yarn_correction(const RopeConfig *r, int dims, double turns)
{
    return dims * log(r->original_positions / (2.0 * M_PI * turns)) / (2.0 * log(r->theta));
}

static void yarn_frequencies(const RopeConfig *r, int dims, double *inv_freq, double *multiplier)
{
    double low = fmax(floor(yarn_correction(r, dims, r->beta_fast)), 0.0);
    double high = fmin(ceil(yarn_correction(r, dims, r->beta_slow)), dims - 1.0);
    if (low == high) high += 0.001;
    for (int i = 0; i < dims / 2; i++) {
        double ramp = fmin(fmax((i - low) / (high - low), 0.0), 1.0);
        inv_freq[i] = inv_freq[i] / r->factor * ramp + inv_freq[i] * (1.0 - ramp);
    }
    double mscale = r->has_mscale ? r->mscale : 1.0, all_dim = r->has_mscale_all_dim ? r->mscale_all_dim : 0.0;
    *multiplier = r->attention_factor > 0 ? r->attention_factor
                                          : yarn_magnitude(r->factor, mscale) / yarn_magnitude(r->factor, all_dim);
}

/* Llama 3.1 (its released code, apply_scaling): waves longer than the original context O / low_freq_factor are stretched
 * by the factor s, those shorter than O / high_freq_factor stay, between them
 *   theta' = (1 - t) theta / s + t theta,  t = (O / wave - low) / (high - low). */
static double llama3_frequency(const RopeConfig *r, double frequency)
{
    double turns = r->original_positions * frequency / (2.0 * M_PI); /* O / wave */
    if (turns < r->low_freq_factor) return frequency / r->factor;
    if (turns > r->high_freq_factor) return frequency;
    double t = (turns - r->low_freq_factor) / ((double)r->high_freq_factor - r->low_freq_factor);
    return (1.0 - t) * frequency / r->factor + t * frequency;
}

void config_rope_frequencies(const ModelConfig *c, double *inv_freq, double *multiplier)
{
    const RopeConfig *r = &c->rope;
    int dims = c->Dr;
    for (int i = 0; i < dims / 2; i++) inv_freq[i] = pow(r->theta, -2.0 * i / dims);
    *multiplier = 1.0;
    if (r->scaling == ROPE_YARN) yarn_frequencies(r, dims, inv_freq, multiplier);
    for (int i = 0; i < dims / 2 && r->scaling == ROPE_LINEAR; i++) inv_freq[i] /= r->factor;
    for (int i = 0; i < dims / 2 && r->scaling == ROPE_LLAMA3; i++) inv_freq[i] = llama3_frequency(r, inv_freq[i]);
}

/* The keys of config.json with whole numbers and what they may be, whatever the others are. The upper bounds keep every
 * product of two sizes within an int and every parameter count within 64 bits. */
static bool check_ranges(const ModelConfig *c, Status *st)
{
    bool mla = c->attention == ATTENTION_MLA, moe = c->E > 0;
    const int width = 1 << 20, head = 1 << 12;
    const struct {
        const char *key;
        int value, min, max;
        bool used;
    } ranges[] = {
        {"vocab_size", c->V, 1, 1 << 24, true},
        {"hidden_size", c->C, 1, width, true},
        {"num_hidden_layers", c->L, 1, 4096, true},
        {"num_attention_heads", c->H, 1, 4096, true},
        {"num_key_value_heads", c->Hkv, 1, 4096, true},
        {"q_lora_rank", c->Rq, 0, width, mla},
        {"kv_lora_rank", c->Rkv, 1, width, mla},
        {"qk_nope_head_dim", c->Dn, 1, head, mla},
        {"qk_rope_head_dim", c->Dr, 2, head, mla},
        {"v_head_dim", c->Dv, 1, head, mla},
        {"head_dim", c->Dr, 2, head, !mla},
        {"intermediate_size", c->F, 1, width, true},
        {"n_routed_experts", c->E, 0, CONFIG_MAX_EXPERTS, true},
        {"n_shared_experts", c->S, 0, 1024, moe},
        {"num_experts_per_tok", c->K, 1, CONFIG_MAX_EXPERTS, moe},
        {"moe_intermediate_size", c->moe_F, 1, width, moe},
        {"first_k_dense_replace", c->first_dense, 0, 4096, moe},
        {"moe_layer_freq", c->moe_freq, 1, 4096, moe},
        {"n_group", c->n_group, 1, 4096, moe},
        {"topk_group", c->topk_group, 1, 4096, moe},
        {"max_position_embeddings", c->max_positions, 1, 1 << 28, true},
        {"bos_token_id", c->bos, -1, c->V - 1, true},
        {"eos_token_id", c->eos, -1, c->V - 1, true},
        {"num_nextn_predict_layers", c->mtp_layers, c->mtp, 64, true},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (ranges[i].used && (ranges[i].value < ranges[i].min || ranges[i].value > ranges[i].max))
            return fail(st, "%s is %d in the model's config, but it must lie between %d and %d", ranges[i].key,
                        ranges[i].value, ranges[i].min, ranges[i].max);
    return true;
}

static bool check_attention(const ModelConfig *c, Status *st)
{
    bool mla = arch_is_latent(c->arch);
    if (mla != (c->attention == ATTENTION_MLA))
        return fail(st,
                    "model_type %s does not go with this kind of attention: DeepSeek-V2 and V3 have latent attention, "
                    "the others grouped heads",
                    arch_name(c->arch));
    if (c->Dr % 2)
        return fail(st, "%s is %d in the model's config, but rotary positions turn pairs: make it even",
                    mla ? "qk_rope_head_dim" : "head_dim", c->Dr);
    if (mla && c->Hkv != c->H)
        return fail(st,
                    "num_key_value_heads is %d in the model's config, but latent attention needs it equal to "
                    "num_attention_heads, %d",
                    c->Hkv, c->H);
    if (mla && (c->qkv_bias || c->qk_norm))
        return fail(st, "attention_bias is set in the model's config, but latent attention has no biases here: set it "
                        "to false");
    if (c->arch == ARCH_QWEN2 && !c->qkv_bias)
        return fail(st, "attention_bias is false in the model's config, but a qwen2 always has biases: take a llama, "
                        "which is the same without them");
    if (c->mlp_bias && c->arch != ARCH_LLAMA)
        return fail(st, "mlp_bias is set in the model's config, but only a llama has such biases: set it to false");
    if (c->H % c->Hkv)
        return fail(st, "num_attention_heads is %d in the model's config, not a multiple of num_key_value_heads, %d",
                    c->H, c->Hkv);
    if (!mla && (c->Dn != 0 || c->Dv != c->Dr))
        return fail(st,
                    "head_dim is %d in the model's config, but values of %d and %d unrotated dimensions were given "
                    "with it: grouped attention has one head size",
                    c->Dr, c->Dv, c->Dn);
    return true;
}

static bool check_experts(const ModelConfig *c, Status *st)
{
    if (c->E == 0) return true;
    if (c->K > c->E)
        return fail(st, "num_experts_per_tok is %d in the model's config, but there are only n_routed_experts = %d",
                    c->K, c->E);
    if ((long long)c->S * c->moe_F > 1 << 20)
        return fail(st, "n_shared_experts is %d in the model's config, too many for moe_intermediate_size = %d", c->S,
                    c->moe_F);
    if (c->first_dense > c->L)
        return fail(st, "first_k_dense_replace is %d in the model's config, but there are only num_hidden_layers = %d",
                    c->first_dense, c->L);
    if (c->topk == TOPK_GREEDY) return true;
    if (c->E % c->n_group)
        return fail(st, "n_routed_experts is %d in the model's config, not a multiple of n_group, %d", c->E,
                    c->n_group);
    if (c->topk_group > c->n_group)
        return fail(st, "topk_group is %d in the model's config, but there are only n_group = %d", c->topk_group,
                    c->n_group);
    if (c->K > c->topk_group * (c->E / c->n_group))
        return fail(st,
                    "num_experts_per_tok is %d in the model's config, but topk_group = %d groups hold only %d "
                    "experts",
                    c->K, c->topk_group, c->topk_group * (c->E / c->n_group));
    if (c->topk == TOPK_NOAUX && c->n_group > 1 && c->E / c->n_group < 2)
        return fail(st,
                    "n_group is %d in the model's config, but topk_method noaux_tc rates a group by its two best "
                    "experts: use at most %d groups",
                    c->n_group, c->E / 2);
    return true;
}

static bool check_floats(const ModelConfig *c, Status *st)
{
    const RopeConfig *r = &c->rope;
    bool yarn = r->scaling == ROPE_YARN, llama3 = r->scaling == ROPE_LLAMA3;
    const struct {
        const char *key;
        float value, min;
        bool used;
    } floats[] = {
        {"rms_norm_eps", c->eps, 1e-12f, true},
        {"initializer_range", c->init_std, 0.0f, true},
        {"routed_scaling_factor", c->routed_scale, 0.0f, c->E > 0},
        {"rope_theta", r->theta, 2.0f, true},
        {"rope_scaling.original_max_position_embeddings", (float)r->original_positions, 1.0f, yarn || llama3},
        {"rope_scaling.beta_slow", r->beta_slow, 1e-3f, yarn},
        {"rope_scaling.beta_fast", r->beta_fast, r->beta_slow, yarn},
        {"rope_scaling.factor", r->factor, 1.0f, r->scaling != ROPE_PLAIN},
        {"rope_scaling.mscale", r->mscale, 0.0f, yarn && r->has_mscale},
        {"rope_scaling.mscale_all_dim", r->mscale_all_dim, 0.0f, yarn && r->has_mscale_all_dim},
        {"rope_scaling.attention_factor", r->attention_factor, 0.0f, yarn},
        {"rope_scaling.low_freq_factor", r->low_freq_factor, 1e-3f, llama3},
        {"rope_scaling.high_freq_factor", r->high_freq_factor, r->low_freq_factor * 1.0001f, llama3},
    };
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++)
        if (floats[i].used && !(isfinite(floats[i].value) && floats[i].value >= floats[i].min))
            return fail(st, "%s is %g in the model's config, but it must be a number of at least %g", floats[i].key,
                        (double)floats[i].value, (double)floats[i].min);
    return true;
}

static bool check_lora(const ModelConfig *c, Status *st)
{
    const LoraConfig *l = &c->lora;
    unsigned has = lora_targets_of(c);
    char list[200] = "";
    if (l->rank == 0) return true;
    if (l->rank < 1 || l->rank > 4096) return fail(st, "lora.rank is %d, but it must lie between 1 and 4096", l->rank);
    if (!(isfinite(l->alpha) && l->alpha > 0.0f))
        return fail(st, "lora.alpha is %g, but it must be a number above 0", (double)l->alpha);
    if (!l->targets) return fail(st, "lora.targets is empty: name at least one matrix, o_proj for example");
    for (int i = 0; i < LORA_TARGETS; i++)
        if (has >> i & 1)
            snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", *list ? ", " : "", lora_target_name(i));
    for (int i = 0; i < LORA_TARGETS; i++)
        if (l->targets >> i & 1 && !(has >> i & 1))
            return fail(st, "lora.targets has %s, but this %s model has no such matrices, only %s", lora_target_name(i),
                        arch_name(c->arch), list);
    return true;
}

bool config_validate(const ModelConfig *c, Status *st)
{
    if ((int)c->arch < 0 || c->arch >= ARCH_COUNT)
        return fail(
            st, "model_type of the model's config is none of deepseek_v2, deepseek_v3, qwen2, qwen3, llama, deepseek, "
                "glm4_moe");
    return check_ranges(c, st) && check_attention(c, st) && check_experts(c, st) && check_floats(c, st) &&
           check_lora(c, st);
}
