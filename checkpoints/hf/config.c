/* config.json of a model folder <-> ModelConfig. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/hf/hf.h"

enum { MAX_TENSORS = 1 << 20 };

/* Reading the keys of one object; after the first wrong type all further reads give the default. */
typedef struct Reader {
    const Json *object;
    Status *st;
    bool ok;
} Reader;

static int read_int(Reader *r, const char *key, int otherwise)
{
    int64_t v = otherwise;
    if (r->ok && !json_get_int(r->object, key, otherwise, &v, r->st)) r->ok = false;
    if (r->ok && (v < INT_MIN || v > INT_MAX)) r->ok = fail(r->st, "config.json: %s is too large", key);
    return r->ok ? (int)v : otherwise;
}

static int require_int(Reader *r, const char *key)
{
    const Json *v = json_get(r->object, key);
    if (r->ok && (!v || json_is_null_value(v)))
        r->ok = fail(r->st, "config.json has no %s: it does not describe a model that can be built", key);
    return read_int(r, key, 0);
}

static float read_float(Reader *r, const char *key, double otherwise)
{
    double v = otherwise;
    if (r->ok && !json_get_double(r->object, key, otherwise, &v, r->st)) r->ok = false;
    return (float)(r->ok ? v : otherwise);
}

static bool read_bool(Reader *r, const char *key, bool otherwise)
{
    bool v = otherwise;
    if (r->ok && !json_get_bool(r->object, key, otherwise, &v, r->st)) r->ok = false;
    return r->ok ? v : otherwise;
}

/* What would change the maths and is not there must not pass in silence. */
static void refuse_true(Reader *r, const char *key)
{
    if (read_bool(r, key, false))
        r->ok = fail(r->st, "config.json sets %s, which is not supported: only models without it can be loaded", key);
}

/* Mistral is Llama with a sliding window. */
static bool is_mistral(const Reader *r)
{
    return !strcmp(json_get_string(r->object, "model_type", ""), "mistral");
}

static void read_arch(Reader *r, ModelConfig *c)
{
    const char *type = json_get_string(r->object, "model_type", NULL);
    int arch = 0;
    if (is_mistral(r)) type = "llama";
    while (arch < ARCH_COUNT && (!type || strcmp(type, arch_name((Arch)arch)))) arch++;
    if (arch == ARCH_COUNT) {
        r->ok =
            fail(r->st,
                 "config.json: model_type %.60s is unknown; known are deepseek_v2, deepseek_v3, qwen2, qwen3, llama, "
                 "mistral, deepseek, glm4_moe",
                 type ? type : "(absent)");
        return;
    }
    c->arch = (Arch)arch;
    const char *name = json_string(json_at(json_get(r->object, "architectures"), 0), NULL);
    c->head = name && strstr(name, "ForSequenceClassification") ? HEAD_SCALAR : HEAD_LM;
    if (c->head == HEAD_SCALAR && read_int(r, "num_labels", 1) != 1)
        r->ok = fail(r->st, "config.json: num_labels must be 1: a scalar head gives one value");
}

static void read_sizes(Reader *r, ModelConfig *c)
{
    c->V = require_int(r, "vocab_size");
    c->C = require_int(r, "hidden_size");
    c->L = require_int(r, "num_hidden_layers");
    c->H = require_int(r, "num_attention_heads");
    c->F = require_int(r, "intermediate_size");
    c->Hkv = read_int(r, "num_key_value_heads", c->H);
    c->eps = read_float(r, "rms_norm_eps", c->arch == ARCH_GLM4_MOE ? 1e-5 : 1e-6);
    c->init_std = read_float(r, "initializer_range", 0.02);
    c->max_positions = read_int(r, "max_position_embeddings", 2048);
    c->tied = read_bool(r, "tie_word_embeddings", false);
    c->bos = read_int(r, "bos_token_id", -1);
    const Json *eos = json_get(r->object, "eos_token_id");
    if (json_is_array(eos) && json_is_integer_value(json_at(eos, 0))) c->eos = (int)json_integer(json_at(eos, 0));
    else c->eos = read_int(r, "eos_token_id", -1);
    const char *act = json_get_string(r->object, "hidden_act", "silu");
    if (r->ok && strcmp(act, "silu"))
        r->ok = fail(r->st, "config.json: hidden_act %.60s is not supported, only silu", act);
    if (c->arch == ARCH_LLAMA && !is_mistral(r)) c->mlp_bias = read_bool(r, "mlp_bias", false);
    else refuse_true(r, "mlp_bias");
}

/* There, but null: the model has no such part. */
static bool is_null(const Reader *r, const char *key)
{
    const Json *value = json_get(r->object, key);
    return value && json_is_null_value(value);
}

static void read_latent_attention(Reader *r, ModelConfig *c)
{
    c->attention = ATTENTION_MLA;
    refuse_true(r, "attention_bias");
    c->Hkv = c->H;
    c->Rq = is_null(r, "q_lora_rank") ? 0 : read_int(r, "q_lora_rank", 1536);
    c->Rkv = read_int(r, "kv_lora_rank", 512);
    c->Dn = read_int(r, "qk_nope_head_dim", 128);
    c->Dr = read_int(r, "qk_rope_head_dim", 64);
    c->Dv = read_int(r, "v_head_dim", 128);
}

/* topk_method and scoring_func belong to the architecture; another pair has other maths. */
static void read_routing(Reader *r, ModelConfig *c)
{
    bool v3 = arch_routes_as_v3(c->arch);
    const char *method = json_get_string(r->object, "topk_method", v3 ? "noaux_tc" : "greedy");
    const char *score = json_get_string(r->object, "scoring_func", v3 ? "sigmoid" : "softmax");
    c->score = v3 ? SCORE_SIGMOID : SCORE_SOFTMAX;
    c->topk = v3 ? TOPK_NOAUX : !strcmp(method, "group_limited_greedy") ? TOPK_GROUP_MAX : TOPK_GREEDY;
    bool known = v3 ? !strcmp(method, "noaux_tc")
                    : c->topk == TOPK_GROUP_MAX || !strcmp(method, "greedy") || !strcmp(method, "gready");
    if (r->ok && (!known || strcmp(score, v3 ? "sigmoid" : "softmax")))
        r->ok = fail(r->st, "config.json: topk_method %.40s with scoring_func %.40s is not known for %s", method, score,
                     arch_name(c->arch));
}

/* What transformers takes for keys that are not there (V2 and its forerunner: DeepSeek's own code). */
typedef struct ExpertDefaults {
    int E, S, first_dense, n_group, topk_group;
    bool norm_topk;
    double routed_scale;
} ExpertDefaults;

static const ExpertDefaults expert_defaults[ARCH_COUNT] = {
    [ARCH_DEEPSEEK_V2] = {0, 0, 0, 1, 1, false, 1.0},
    [ARCH_DEEPSEEK_V3] = {256, 1, 3, 8, 4, true, 2.5},
    [ARCH_DEEPSEEK] = {0, 0, 0, 1, 1, false, 1.0},
    [ARCH_GLM4_MOE] = {128, 1, 1, 1, 1, true, 1.0},
};

static void read_experts(Reader *r, ModelConfig *c)
{
    const ExpertDefaults d = expert_defaults[c->arch];
    c->mtp_layers = read_int(r, "num_nextn_predict_layers", 0);
    c->mtp = read_bool(r, "mtp_parameters", false) ? c->mtp_layers : 0;
    c->mask_zero = read_bool(r, "mask_rejected_groups_with_zero", false);
    read_routing(r, c);
    c->E = is_null(r, "n_routed_experts") ? 0 : read_int(r, "n_routed_experts", d.E);
    if (c->E == 0) return;
    c->S = read_int(r, "n_shared_experts", d.S);
    c->K = require_int(r, "num_experts_per_tok");
    c->moe_F = require_int(r, "moe_intermediate_size");
    c->first_dense = read_int(r, "first_k_dense_replace", d.first_dense);
    c->moe_freq = read_int(r, "moe_layer_freq", 1);
    c->n_group = read_int(r, "n_group", d.n_group);
    c->topk_group = read_int(r, "topk_group", d.topk_group);
    c->norm_topk = read_bool(r, "norm_topk_prob", d.norm_topk);
    c->routed_scale = read_float(r, "routed_scaling_factor", d.routed_scale);
    if (r->ok && c->arch == ARCH_DEEPSEEK && (c->routed_scale != 1.0f || c->topk != TOPK_GREEDY))
        r->ok =
            fail(r->st, "config.json: a deepseek model's router has topk_method greedy and no routed_scaling_factor");
}

/* A window w lets position i see i - w + 1 to i: up to w positions it hides nothing, and longer sequences are refused like those
 * beyond the embedded positions. */
static void read_window(Reader *r, ModelConfig *c)
{
    static const int MISTRAL_WINDOW = 4096; /* transformers' default */
    bool always = is_mistral(r), used = always || read_bool(r, "use_sliding_window", false);
    if (!used || is_null(r, "sliding_window")) return;
    int window = always ? read_int(r, "sliding_window", MISTRAL_WINDOW) : require_int(r, "sliding_window");
    if (r->ok && window < 1) r->ok = fail(r->st, "config.json: sliding_window is %d, it must be at least 1", window);
    else if (r->ok && window < c->max_positions) c->max_positions = window;
}

static void read_grouped_attention(Reader *r, ModelConfig *c)
{
    c->attention = ATTENTION_GQA;
    int head = c->H > 0 ? c->C / c->H : 0;
    c->Dr = c->Dv = read_int(r, "head_dim", c->arch == ARCH_QWEN3 ? 128 : head);
    const Json *explicit_head = json_get(r->object, "head_dim");
    if (r->ok && c->H > 0 && c->C % c->H && (!explicit_head || json_is_null_value(explicit_head)) &&
        c->arch != ARCH_QWEN3)
        r->ok =
            fail(r->st, "config.json: num_attention_heads is %d, which does not divide hidden_size, %d", c->H, c->C);
    if (is_mistral(r)) refuse_true(r, "attention_bias"); /* transformers' Mistral has no such key */
    c->qkv_bias = c->arch == ARCH_QWEN2 || read_bool(r, "attention_bias", false);
    c->qk_norm = c->arch == ARCH_QWEN3;
    read_window(r, c);
    if (c->arch == ARCH_GLM4_MOE) refuse_true(r, "use_qk_norm");
    /* transformers' default for GLM-4.5 is its released models'. */
    if (r->ok && read_float(r, "partial_rotary_factor", c->arch == ARCH_GLM4_MOE ? 0.5 : 1.0) != 1.0f)
        r->ok = fail(r->st, "config.json: partial_rotary_factor other than 1 is not supported");
}

static void read_yarn(Reader *scaling, ModelConfig *c)
{
    RopeConfig *rope = &c->rope;
    rope->beta_fast = read_float(scaling, "beta_fast", 32.0);
    rope->beta_slow = read_float(scaling, "beta_slow", 1.0);
    rope->mscale = read_float(scaling, "mscale", 1.0);
    rope->mscale_all_dim = read_float(scaling, "mscale_all_dim", 0.0);
    rope->has_mscale = json_is_number(json_get(scaling->object, "mscale"));
    rope->has_mscale_all_dim = json_is_number(json_get(scaling->object, "mscale_all_dim"));
    rope->attention_factor = read_float(scaling, "attention_factor", 0.0);
    rope->original_positions =
        read_int(scaling, "original_max_position_embeddings", c->attention == ATTENTION_MLA ? 4096 : c->max_positions);
    if (scaling->ok && rope->attention_factor != 0 && c->attention == ATTENTION_MLA)
        scaling->ok = fail(scaling->st, "config.json: attention_factor is not DeepSeek's YaRN: remove it");
    if (scaling->ok && !read_bool(scaling, "truncate", true))
        scaling->ok = fail(scaling->st, "config.json: rope_scaling with truncate false is not supported");
}

static void read_llama3(Reader *scaling, ModelConfig *c)
{
    RopeConfig *rope = &c->rope;
    rope->low_freq_factor = read_float(scaling, "low_freq_factor", 0.0);
    rope->high_freq_factor = read_float(scaling, "high_freq_factor", 0.0);
    rope->original_positions = require_int(scaling, "original_max_position_embeddings");
}

/* A key that the scaling does not know would change the maths in silence. */
static void refuse_unknown(Reader *scaling, RopeScaling kind)
{
    static const char *const known[][12] = {
        [ROPE_PLAIN] = {NULL},
        [ROPE_YARN] = {"factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "attention_factor", "truncate",
                       "original_max_position_embeddings"},
        [ROPE_LLAMA3] = {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"},
        [ROPE_LINEAR] = {"factor"},
        [ROPE_DYNAMIC] = {"factor", "original_max_position_embeddings"},
    };
    static const char *const always[] = {"type", "rope_type", "rope_theta", "partial_rotary_factor"};
    const Json *value;
    const char *key;
    for (void *cursor = NULL; scaling->ok && (key = json_next(scaling->object, &cursor, &value));) {
        bool used = json_is_null_value(value);
        for (size_t i = 0; i < sizeof always / sizeof *always; i++) used = used || !strcmp(key, always[i]);
        for (int i = 0; known[kind][i]; i++) used = used || !strcmp(key, known[kind][i]);
        if (!used)
            scaling->ok = fail(scaling->st, "config.json: %.60s in rope_scaling of type %s is not known", key,
                               rope_scaling_name(kind));
    }
    if (scaling->ok && read_float(scaling, "partial_rotary_factor", 1.0) != 1.0f)
        scaling->ok = fail(scaling->st, "config.json: partial_rotary_factor other than 1 is not supported");
}

static void read_scaling(Reader *inner, ModelConfig *c)
{
    const char *type = json_get_string(inner->object, "rope_type", json_get_string(inner->object, "type", "default"));
    int kind = 0;
    while (rope_scaling_name(kind) && strcmp(rope_scaling_name(kind), type)) kind++;
    bool known = rope_scaling_name(kind) && (c->attention == ATTENTION_GQA || kind <= ROPE_YARN);
    if (!known) {
        inner->ok =
            fail(inner->st, "config.json: rope_scaling of type %.40s is not supported for %s, only %s", type,
                 arch_name(c->arch), c->attention == ATTENTION_GQA ? "yarn, llama3, linear and dynamic" : "yarn");
        return;
    }
    c->rope.scaling = (RopeScaling)kind;
    refuse_unknown(inner, c->rope.scaling);
    if (kind != ROPE_PLAIN) c->rope.factor = read_float(inner, "factor", 0.0);
    if (kind == ROPE_YARN) read_yarn(inner, c);
    if (kind == ROPE_LLAMA3) read_llama3(inner, c);
}

/* rope_scaling + rope_theta, or rope_parameters with both inside (transformers 5). */
static void read_rope(Reader *r, ModelConfig *c)
{
    const Json *scaling = json_get(r->object, "rope_parameters");
    if (!json_is_object(scaling)) scaling = json_get(r->object, "rope_scaling");
    c->rope.theta = read_float(r, "rope_theta", 10000.0);
    c->rope.interleaved = c->arch == ARCH_DEEPSEEK_V2;
    if (c->arch == ARCH_DEEPSEEK_V3) c->rope.interleaved = read_bool(r, "rope_interleave", true);
    if (!r->ok || !json_is_object(scaling)) return;
    Reader inner = {scaling, r->st, true};
    c->rope.theta = read_float(&inner, "rope_theta", (double)c->rope.theta);
    if (inner.ok) read_scaling(&inner, c);
    r->ok = inner.ok;
}

bool config_loadable(const ModelConfig *c, Status *st)
{
    if (!config_validate(c, st)) return false;
    if ((long long)config_blocks(c) * (3LL * c->E + 20) > MAX_TENSORS)
        return fail(st, "num_hidden_layers %d with n_routed_experts %d makes more tensors than can be handled", c->L,
                    c->E);
    return true;
}

bool hf_config_parse(const Json *object, ModelConfig *out, Status *st)
{
    if (!json_is_object(object)) return fail(st, "config.json is no JSON object");
    ModelConfig c = {.moe_freq = 1, .n_group = 1, .topk_group = 1, .routed_scale = 1.0f};
    Reader r = {object, st, true};
    read_arch(&r, &c);
    if (r.ok) read_sizes(&r, &c);
    bool latent = arch_is_latent(c.arch);
    if (r.ok && latent) read_latent_attention(&r, &c);
    if (r.ok && arch_has_experts(c.arch)) read_experts(&r, &c);
    if (r.ok && !latent) read_grouped_attention(&r, &c);
    if (r.ok) read_rope(&r, &c);
    if (!r.ok || !config_loadable(&c, st)) return false;
    *out = c;
    return true;
}

/* ---- The other way ---- */

/* The shortest decimal that is this f32, so that 1e-6f is written 1e-06. */
static Json *number(float x)
{
    char text[32];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)x);
        if (strtof(text, NULL) == x) break;
    }
    return json_new_number(strtod(text, NULL));
}

static void set_int(Json *o, const char *key, int v)
{
    json_set(o, key, json_new_int(v));
}

static Json *rope_scaling(const ModelConfig *c)
{
    const RopeConfig *r = &c->rope;
    if (r->scaling == ROPE_PLAIN) return json_new_null();
    Json *o = json_new_object();
    json_set(o, c->attention == ATTENTION_MLA ? "type" : "rope_type", json_new_text(rope_scaling_name(r->scaling)));
    json_set(o, "factor", number(r->factor));
    if (r->scaling == ROPE_YARN || r->scaling == ROPE_LLAMA3)
        set_int(o, "original_max_position_embeddings", r->original_positions);
    if (r->scaling == ROPE_LLAMA3) {
        json_set(o, "low_freq_factor", number(r->low_freq_factor));
        json_set(o, "high_freq_factor", number(r->high_freq_factor));
    }
    if (r->scaling != ROPE_YARN) return o;
    json_set(o, "beta_fast", number(r->beta_fast));
    json_set(o, "beta_slow", number(r->beta_slow));
    if (r->has_mscale) json_set(o, "mscale", number(r->mscale));
    if (r->has_mscale_all_dim) json_set(o, "mscale_all_dim", number(r->mscale_all_dim));
    if (r->attention_factor > 0) json_set(o, "attention_factor", number(r->attention_factor));
    return o;
}

static void write_experts(Json *o, const ModelConfig *c)
{
    json_set(o, "n_routed_experts", c->E ? json_new_int(c->E) : json_new_null());
    if (c->E) {
        set_int(o, "n_shared_experts", c->S);
        set_int(o, "num_experts_per_tok", c->K);
        set_int(o, "moe_intermediate_size", c->moe_F);
        set_int(o, "first_k_dense_replace", c->first_dense);
        set_int(o, "moe_layer_freq", c->moe_freq);
        set_int(o, "n_group", c->n_group);
        set_int(o, "topk_group", c->topk_group);
        json_set(o, "norm_topk_prob", json_new_bool(c->norm_topk));
        json_set(o, "routed_scaling_factor", number(c->routed_scale));
    }
    json_set(o, "topk_method", json_new_text(topk_method_name(c->topk)));
    json_set(o, "scoring_func", json_new_text(score_function_name(c->score)));
    json_set(o, "aux_loss_alpha", json_new_number(0.001));
    json_set(o, "seq_aux", json_new_bool(true));
    if (c->mask_zero) json_set(o, "mask_rejected_groups_with_zero", json_new_bool(true));
    if (arch_routes_as_v3(c->arch)) set_int(o, "num_nextn_predict_layers", c->mtp_layers);
    if (c->mtp) json_set(o, "mtp_parameters", json_new_bool(true)); /* not carried along: ours, others pass it over */
    if (c->arch == ARCH_DEEPSEEK_V3) json_set(o, "rope_interleave", json_new_bool(c->rope.interleaved));
}

static void write_latent_attention(Json *o, const ModelConfig *c)
{
    json_set(o, "q_lora_rank", c->Rq ? json_new_int(c->Rq) : json_new_null());
    set_int(o, "kv_lora_rank", c->Rkv);
    set_int(o, "qk_nope_head_dim", c->Dn);
    set_int(o, "qk_rope_head_dim", c->Dr);
    set_int(o, "v_head_dim", c->Dv);
}

static void write_names(Json *o, const ModelConfig *c)
{
    static const char *const classes[ARCH_COUNT] = {"DeepseekV2", "DeepseekV3", "Qwen2",  "Qwen3",
                                                    "Llama",      "Deepseek",   "Glm4Moe"};
    char name[64];
    snprintf(name, sizeof name, "%sFor%s", classes[c->arch],
             c->head == HEAD_SCALAR ? "SequenceClassification" : "CausalLM");
    Json *list = json_new_array();
    json_append(list, json_new_text(name));
    json_set(o, "architectures", list);
    json_set(o, "model_type", json_new_text(arch_name(c->arch)));
    if (c->head == HEAD_SCALAR) set_int(o, "num_labels", 1);
}

Json *hf_config_json(const ModelConfig *c)
{
    bool mla = c->attention == ATTENTION_MLA;
    Json *o = json_new_object();
    write_names(o, c);
    set_int(o, "vocab_size", c->V);
    set_int(o, "hidden_size", c->C);
    set_int(o, "intermediate_size", c->F);
    set_int(o, "num_hidden_layers", c->L);
    set_int(o, "num_attention_heads", c->H);
    set_int(o, "num_key_value_heads", c->Hkv);
    if (mla) write_latent_attention(o, c);
    else set_int(o, "head_dim", c->Dr);
    if (c->arch == ARCH_GLM4_MOE) json_set(o, "partial_rotary_factor", json_new_number(1.0));
    if (c->arch == ARCH_GLM4_MOE) json_set(o, "use_qk_norm", json_new_bool(false));
    if (arch_has_experts(c->arch)) write_experts(o, c);
    json_set(o, "hidden_act", json_new_text("silu"));
    json_set(o, "rms_norm_eps", number(c->eps));
    json_set(o, "rope_theta", number(c->rope.theta));
    json_set(o, "rope_scaling", rope_scaling(c));
    set_int(o, "max_position_embeddings", c->max_positions);
    if (c->arch != ARCH_QWEN2) json_set(o, "attention_bias", json_new_bool(c->qkv_bias));
    if (c->arch == ARCH_LLAMA) json_set(o, "mlp_bias", json_new_bool(c->mlp_bias));
    if (c->arch == ARCH_QWEN2 || c->arch == ARCH_QWEN3) json_set(o, "use_sliding_window", json_new_bool(false));
    json_set(o, "attention_dropout", json_new_number(0.0));
    json_set(o, "tie_word_embeddings", json_new_bool(c->tied));
    json_set(o, "initializer_range", number(c->init_std));
    json_set(o, "bos_token_id", c->bos < 0 ? json_new_null() : json_new_int(c->bos));
    json_set(o, "eos_token_id", c->eos < 0 ? json_new_null() : json_new_int(c->eos));
    json_set(o, "use_cache", json_new_bool(true));
    return o;
}

bool hf_config_read(const char *folder, ModelConfig *out, Status *st)
{
    char path[8192];
    snprintf(path, sizeof path, "%s/config.json", folder);
    Json *object = json_read(path, st);
    if (!object) return false;
    bool ok = hf_config_parse(object, out, st);
    if (!ok) fail_prefix(st, "%s", folder);
    json_free(object);
    return ok;
}
