/* A model in GGUF: its config out of the keys, its parameters and its tokenizer. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/gguf/gguf.h"
#include "checkpoints/gguf/gguf_names.h"
#include "checkpoints/hf/hf.h"
#include "core/base/check.h"

enum { ROPE_HALF_MOST = 1024 }; /* frequencies of a head */

/* Reads the keys of one architecture ("llama.block_count"). */
typedef struct Keys {
    const GgufFile *f;
    const char *arch, *path;
    Status *st;
    bool ok;
} Keys;

static const char *full_key(const Keys *k, const char *key)
{
    static _Thread_local char full[128];
    snprintf(full, sizeof full, "%s.%s", k->arch, key);
    return full;
}

static bool has_int(const Keys *k, const char *key, int64_t *v)
{
    return gguf_int(k->f, full_key(k, key), v);
}

static int get_int(Keys *k, const char *key, int otherwise)
{
    int64_t v = otherwise;
    has_int(k, key, &v);
    if (k->ok && (v < INT_MIN || v > INT_MAX)) k->ok = fail(k->st, "%s: %s is too large", k->path, full_key(k, key));
    return k->ok ? (int)v : otherwise;
}

static int need_int(Keys *k, const char *key)
{
    int64_t v;
    if (k->ok && !has_int(k, key, &v))
        k->ok = fail(k->st, "%s has no whole number %s: it does not describe a model that can be built", k->path,
                     full_key(k, key));
    return get_int(k, key, 0);
}

static float get_float(const Keys *k, const char *key, float otherwise)
{
    double v = (double)otherwise;
    gguf_float(k->f, full_key(k, key), &v);
    return (float)v;
}

/* Dimension i of a tensor, 0 when there is no such tensor. */
static int dimension(const GgufFile *f, const char *name, int i)
{
    const GgufTensor *t = gguf_find(f, name);
    return t && t->ne[i] <= INT_MAX ? (int)t->ne[i] : 0;
}

static void read_arch(Keys *k, ModelConfig *c)
{
    int64_t gating = 1;
    if (!strcmp(k->arch, "deepseek2")) {
        has_int(k, "expert_gating_func", &gating);
        c->arch = gating == 2 ? ARCH_DEEPSEEK_V3 : ARCH_DEEPSEEK_V2;
        return;
    }
    for (int a = ARCH_QWEN2; a <= ARCH_LLAMA; a++)
        if (!strcmp(k->arch, arch_name((Arch)a))) {
            c->arch = (Arch)a;
            return;
        }
    k->ok =
        fail(k->st, "%s: architecture %.40s is not supported; llama, qwen2, qwen3 and deepseek2 are", k->path, k->arch);
}

static void read_sizes(Keys *k, ModelConfig *c)
{
    c->V = dimension(k->f, "token_embd.weight", 1);
    c->C = need_int(k, "embedding_length");
    c->L = need_int(k, "block_count");
    c->H = need_int(k, "attention.head_count");
    c->Hkv = get_int(k, "attention.head_count_kv", c->H);
    c->F = need_int(k, "feed_forward_length");
    c->max_positions = get_int(k, "context_length", 2048);
    c->eps = get_float(k, "attention.layer_norm_rms_epsilon", 1e-6f);
    c->rope.theta = get_float(k, "rope.freq_base", 10000.0f);
    c->tied = !gguf_find(k->f, "output.weight");
    c->init_std = 0.02f;
    int64_t id;
    c->bos = gguf_int(k->f, "tokenizer.ggml.bos_token_id", &id) && id < c->V ? (int)id : -1;
    c->eos = gguf_int(k->f, "tokenizer.ggml.eos_token_id", &id) && id < c->V ? (int)id : -1;
    if (k->ok && c->V == 0) k->ok = fail(k->st, "%s has no token_embd.weight: it holds no model", k->path);
}

/* A file holds Llama 3.1's scaling as the factor that each frequency is divided by. Its four numbers are found again: the largest
 * factor, and the original context among powers of two, with the bounds 1 and 4 that all of these models have. */
static bool find_llama3(const float *divisor, ModelConfig *c)
{
    double plain[ROPE_HALF_MOST], scaled[ROPE_HALF_MOST], multiplier;
    ModelConfig trial = *c;
    RopeConfig *r = &trial.rope;
    int half = c->Dr / 2;
    config_rope_frequencies(c, plain, &multiplier);
    *r = (RopeConfig){.theta = r->theta, .interleaved = r->interleaved, .scaling = ROPE_LLAMA3};
    r->low_freq_factor = 1.0f, r->high_freq_factor = 4.0f;
    for (int i = 0; i < half; i++) r->factor = fmaxf(r->factor, divisor[i]);
    for (r->original_positions = 16; r->original_positions <= 1 << 20; r->original_positions *= 2) {
        config_rope_frequencies(&trial, scaled, &multiplier);
        int same = 0;
        while (same < half && fabs(plain[same] / scaled[same] - (double)divisor[same]) <= 1e-4 * (double)divisor[same])
            same++;
        if (same < half) continue;
        c->rope = *r;
        return true;
    }
    return false;
}

static void read_frequencies(Keys *k, const GgufTensor *t, ModelConfig *c)
{
    float divisor[ROPE_HALF_MOST];
    if (c->Dr / 2 > ROPE_HALF_MOST || t->count != (uint64_t)c->Dr / 2)
        k->ok =
            fail(k->st, "%s: rope_freqs.weight does not have a factor for each of %d frequencies", k->path, c->Dr / 2);
    else if (!gguf_read_f32(t, 0, t->count, divisor, k->st)) k->ok = fail_prefix(k->st, "%s", k->path);
    else if (!find_llama3(divisor, c))
        k->ok =
            fail(k->st,
                 "%s scales its rotary frequencies one by one (rope_freqs.weight) in a way that is not Llama 3.1's: "
                 "not supported",
                 k->path);
}

static void read_scaling(Keys *k, ModelConfig *c)
{
    RopeConfig *r = &c->rope;
    const GgufTensor *frequencies = gguf_find(k->f, "rope_freqs.weight");
    const char *type = gguf_string(k->f, full_key(k, "rope.scaling.type"));
    bool plain = !type || !strcmp(type, "none"),
         linear = type && !strcmp(type, "linear") && c->attention == ATTENTION_GQA;
    if (frequencies && plain) read_frequencies(k, frequencies, c);
    if (plain) return;
    if (frequencies || (!linear && strcmp(type, "yarn"))) {
        k->ok = fail(k->st, "%s: rope.scaling.type %.40s%s is not supported", k->path, type,
                     frequencies ? " with rope_freqs.weight" : "");
        return;
    }
    r->scaling = linear ? ROPE_LINEAR : ROPE_YARN;
    r->factor = get_float(k, "rope.scaling.factor", 1.0f);
    if (linear) return;
    r->mscale = 1.0f;
    r->original_positions = get_int(k, "rope.scaling.original_context_length", c->max_positions);
    r->beta_fast = get_float(k, "rope.scaling.yarn_beta_fast", 32.0f);
    r->beta_slow = get_float(k, "rope.scaling.yarn_beta_slow", 1.0f);
    if (c->attention == ATTENTION_GQA) return;
    /* The key holds 0.1 * mscale_all_dim; six digits take the f32 of the division back to the config's number. */
    char digits[32];
    snprintf(digits, sizeof digits, "%.6g", 10.0 * (double)get_float(k, "rope.scaling.yarn_log_multiplier", 0.0f));
    r->has_mscale = r->has_mscale_all_dim = true;
    r->mscale = r->mscale_all_dim = strtof(digits, NULL);
}

static void read_grouped_attention(Keys *k, ModelConfig *c)
{
    c->attention = ATTENTION_GQA;
    c->Dr = c->Dv = get_int(k, "attention.key_length", c->H > 0 ? c->C / c->H : 0);
    /* Which biases a llama has is told by its tensors alone. */
    bool llama = c->arch == ARCH_LLAMA;
    c->qkv_bias = c->arch == ARCH_QWEN2 || (llama && gguf_find(k->f, "blk.0.attn_q.bias"));
    c->mlp_bias = llama && gguf_find(k->f, "blk.0.ffn_gate.bias");
    c->qk_norm = c->arch == ARCH_QWEN3;
    if (!k->ok) return;
    if (get_int(k, "rope.dimension_count", c->Dr) != c->Dr || get_int(k, "attention.value_length", c->Dv) != c->Dv)
        k->ok = fail(k->st, "%s rotates or keeps only a part of a head: not supported", k->path);
    else if (get_int(k, "expert_count", 0) > 0)
        k->ok = fail(k->st, "%s: experts are supported in deepseek2 only, not in %s", k->path, k->arch);
    else if (!c->qkv_bias && gguf_find(k->f, "blk.0.attn_q.bias"))
        k->ok = fail(k->st, "%s has biases in its attention, which is not supported for %s", k->path, k->arch);
    else read_scaling(k, c);
    /* Within the window it hides nothing; longer sequences are refused. */
    int window = get_int(k, "attention.sliding_window", 0);
    if (k->ok && window > 0 && window < c->max_positions) c->max_positions = window;
}

static void read_latent_attention(Keys *k, ModelConfig *c)
{
    c->attention = ATTENTION_MLA;
    c->rope.interleaved = true;
    c->Hkv = c->H;
    c->Rq = dimension(k->f, "blk.0.attn_q_a.weight", 1);
    c->Rkv = need_int(k, "attention.kv_lora_rank");
    c->Dr = need_int(k, "rope.dimension_count");
    /* Old files give the heads' sizes in the plain keys; newer ones use those for the latent form. */
    int64_t mla;
    bool latent = has_int(k, "attention.key_length_mla", &mla);
    c->Dn = need_int(k, latent ? "attention.key_length_mla" : "attention.key_length") - c->Dr;
    c->Dv = need_int(k, latent ? "attention.value_length_mla" : "attention.value_length");
    read_scaling(k, c);
}

static void read_experts(Keys *k, ModelConfig *c)
{
    bool v3 = c->arch == ARCH_DEEPSEEK_V3;
    c->E = get_int(k, "expert_count", 0);
    c->S = get_int(k, "expert_shared_count", 0);
    c->K = get_int(k, "expert_used_count", 0);
    c->moe_F = get_int(k, "expert_feed_forward_length", 0);
    c->first_dense = get_int(k, "leading_dense_block_count", 0);
    c->n_group = get_int(k, "expert_group_count", 1);
    c->topk_group = get_int(k, "expert_group_used_count", 1);
    c->routed_scale = get_float(k, "expert_weights_scale", 1.0f);
    gguf_bool(k->f, full_key(k, "expert_weights_norm"), &c->norm_topk);
    c->score = v3 ? SCORE_SIGMOID : SCORE_SOFTMAX;
    c->topk = v3 ? TOPK_NOAUX : c->n_group > 1 ? TOPK_GROUP_MAX : TOPK_GREEDY;
}

bool gguf_config(const GgufFile *f, const char *path, ModelConfig *out, Status *st)
{
    ModelConfig c = {.moe_freq = 1, .n_group = 1, .topk_group = 1, .routed_scale = 1.0f};
    const char *arch = gguf_string(f, "general.architecture");
    if (!arch) return fail(st, "%s has no general.architecture: it holds no model", path);
    Keys k = {f, arch, path, st, true};
    read_arch(&k, &c);
    if (k.ok) read_sizes(&k, &c);
    if (k.ok && !strcmp(arch, "deepseek2")) {
        read_latent_attention(&k, &c);
        read_experts(&k, &c);
    } else if (k.ok) {
        read_grouped_attention(&k, &c);
    }
    if (!k.ok) return false;
    if (!config_loadable(&c, st)) return fail_prefix(st, "%s", path);
    /* The tensors of the last layer are looked for before a table of that many layers is built. */
    char last[64];
    snprintf(last, sizeof last, "blk.%d.attn_norm.weight", c.L - 1);
    if (!gguf_find(f, last)) return fail(st, "%s announces %d layers, but %s is missing", path, c.L, last);
    *out = c;
    return true;
}

/* ---- Weights ---- */

static bool fail_shape(const GgufTensor *t, const char *path, Status *st)
{
    return fail(st, "%s: %s has dimensions %llu x %llu x %llu, which do not fit the file's own keys", path, t->name,
                (unsigned long long)t->ne[0], (unsigned long long)t->ne[1], (unsigned long long)t->ne[2]);
}

static const GgufTensor *find_shaped(const GgufFile *f, const char *path, const char *name, uint64_t ne0, uint64_t ne1,
                                     uint64_t ne2, Status *st)
{
    const GgufTensor *t = gguf_find(f, name);
    if (!t) fail(st, "%s: tensor %s is missing: the file is incomplete", path, name);
    else if (t->ne[0] != ne0 || t->ne[1] != ne1 || t->ne[2] != ne2 || t->ne[3] != 1) fail_shape(t, path, st);
    else return t;
    return NULL;
}

/* llama's Q and K and their biases: row r of ours is row gguf_permuted_row(r) of the file. */
static bool read_permuted(const GgufTensor *t, const Param *p, size_t D, float *w, Status *st)
{
    for (size_t row = 0; row < p->rows; row++)
        if (!gguf_read_f32(t, gguf_permuted_row(row, D) * p->cols, p->cols, w + row * p->cols, st)) return false;
    return true;
}

/* kv_b [H, Dn + Dv, Rkv] from k_b, each head's [Dn, Rkv] transposed, and v_b, each head's [Dv, Rkv] as it is. */
static bool read_kv_b(const GgufFile *f, const char *path, const ModelConfig *c, const Param *p, float *w, Status *st)
{
    char name[64];
    uint64_t R = (uint64_t)c->Rkv, Dn = (uint64_t)c->Dn, Dv = (uint64_t)c->Dv, H = (uint64_t)c->H;
    snprintf(name, sizeof name, "blk.%d.attn_k_b.weight", p->layer);
    const GgufTensor *k = find_shaped(f, path, name, Dn, R, H, st);
    snprintf(name, sizeof name, "blk.%d.attn_v_b.weight", p->layer);
    const GgufTensor *v = find_shaped(f, path, name, R, Dv, H, st);
    if (!k || !v || !w) return k && v;
    float *turned = malloc(R * Dn * sizeof *turned);
    CHECK(turned);
    bool ok = true;
    for (uint64_t h = 0; ok && h < H; h++) {
        float *head = w + h * (Dn + Dv) * R;
        ok =
            gguf_read_f32(k, h * R * Dn, R * Dn, turned, st) && gguf_read_f32(v, h * Dv * R, Dv * R, head + Dn * R, st);
        for (uint64_t r = 0; r < R; r++)
            for (uint64_t j = 0; j < Dn; j++) head[j * R + r] = turned[r * Dn + j];
    }
    free(turned);
    return ok;
}

bool gguf_param_read(const GgufFile *f, const char *path, const ModelConfig *c, const Param *p, float *w, Status *st)
{
    char name[96];
    if (!gguf_name(p, name, sizeof name)) return fail(st, "%s: GGUF has no place for %s", path, p->name);
    if (p->kind == PARAM_KV_B && !gguf_find(f, name)) return read_kv_b(f, path, c, p, w, st);
    uint64_t stack = p->expert >= 0 ? (uint64_t)c->E : 1, row = p->ndim == 1 ? p->rows : p->cols;
    const GgufTensor *t = find_shaped(f, path, name, row, p->ndim == 1 ? 1 : p->rows, stack, st);
    if (!t || !w) return t != NULL;
    bool permuted = gguf_permuted(c->arch, p->kind);
    uint64_t from = p->expert >= 0 ? (uint64_t)p->expert * p->count : 0;
    bool ok = permuted ? read_permuted(t, p, (size_t)c->Dr, w, st) : gguf_read_f32(t, from, p->count, w, st);
    gguf_forget(f, t, from, p->count);
    return ok || fail_prefix(st, "%s", path);
}

bool gguf_rows_read(const GgufFile *f, const ModelConfig *c, const Param *p, size_t row, size_t n, float *w, Status *st)
{
    char name[96];
    const GgufTensor *t = gguf_name(p, name, sizeof name) ? gguf_find(f, name) : NULL;
    if (!t || p->ndim == 1 || gguf_permuted(c->arch, p->kind)) return false;
    uint64_t from = (p->expert >= 0 ? (uint64_t)p->expert * p->count : 0) + row * p->cols;
    bool ok = gguf_read_f32(t, from, n * p->cols, w, st);
    gguf_forget(f, t, from, n * p->cols);
    return ok;
}

typedef struct Source {
    const GgufFile *f;
    const char *path;
    const ModelConfig *c;
} Source;

static bool read_param(void *from, const Param *p, float *w, Status *st)
{
    const Source *s = from;
    return gguf_param_read(s->f, s->path, s->c, p, w, st);
}

bool gguf_weights(const GgufFile *f, const char *path, const ModelConfig *c, const ParamTable *t, float *weights,
                  Status *st)
{
    for (int i = 0; i < t->n; i++)
        if (!gguf_param_read(f, path, c, &t->params[i], NULL, st)) return false;
    if (!weights) return true;
    Source source = {f, path, c};
    return params_fill(t, weights, read_param, &source, st);
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* The file's names of all that the table reads, and of what is read beside it. */
static char (*used_names(const ParamTable *t, size_t *n))[64]
{
    char(*names)[64] = calloc(3 * (size_t)t->n + 1, sizeof *names);
    CHECK(names);
    *n = 0;
    for (int i = 0; i < t->n; i++) {
        const Param *p = &t->params[i];
        gguf_name(p, names[(*n)++], sizeof *names);
        if (p->kind != PARAM_KV_B) continue;
        snprintf(names[(*n)++], sizeof *names, "blk.%d.attn_k_b.weight", p->layer);
        snprintf(names[(*n)++], sizeof *names, "blk.%d.attn_v_b.weight", p->layer);
    }
    snprintf(names[(*n)++], sizeof *names, "rope_freqs.weight");
    qsort(names, *n, sizeof *names, compare_texts);
    return names;
}

bool gguf_all_used(const GgufFile *f, const char *path, const ModelConfig *c, const ParamTable *t, Status *st)
{
    size_t n;
    char(*names)[64] = used_names(t, &n);
    const char *unused = NULL;
    for (size_t i = 0; !unused && i < gguf_count(f); i++)
        if (!bsearch(gguf_at(f, i)->name, names, n, sizeof *names, compare_texts)) unused = gguf_at(f, i)->name;
    free(names);
    return !unused ||
           fail(st,
                "%s: tensor %.64s is no part of a %s as the file's own keys describe it: the model would compute "
                "something else without it",
                path, unused, arch_name(c->arch));
}

/* ---- Tokenizer ---- */

static int token_id(const GgufFile *f, const char *key, size_t vocab)
{
    int64_t id;
    return gguf_int(f, key, &id) && id >= 0 && (uint64_t)id < vocab ? (int)id : -1;
}

/* Fills the arrays of v, which the caller frees; the merges may be missing where scores can stand for them. */
static bool read_vocabulary(const GgufFile *f, GgufVocabulary *v)
{
    size_t n = 0, types_n = 0, merges_n = 0, scores_n = 0;
    v->tokens = gguf_strings(f, "tokenizer.ggml.tokens", &n);
    v->merges = gguf_strings(f, "tokenizer.ggml.merges", &merges_n);
    v->types = gguf_ints(f, "tokenizer.ggml.token_type", &types_n);
    v->scores = v->sentencepiece ? gguf_floats(f, "tokenizer.ggml.scores", &scores_n) : NULL;
    v->bos = token_id(f, "tokenizer.ggml.bos_token_id", n);
    v->eos = token_id(f, "tokenizer.ggml.eos_token_id", n);
    v->unk = token_id(f, "tokenizer.ggml.unknown_token_id", n);
    gguf_bool(f, "tokenizer.ggml.add_space_prefix", &v->space_prefix);
    gguf_bool(f, "tokenizer.ggml.add_bos_token", &v->add_bos);
    v->n = (int)n;
    v->n_merges = (int)merges_n;
    return v->tokens && n <= INT_MAX && merges_n <= INT_MAX && (v->merges || v->sentencepiece) &&
           (!v->types || types_n == n) && (!v->scores || scores_n == n);
}

Tokenizer *gguf_tokenizer(const GgufFile *f, const char *path, Status *st)
{
    const char *model = gguf_string(f, "tokenizer.ggml.model"), *pre = gguf_string(f, "tokenizer.ggml.pre");
    const char *chat = gguf_string(f, "tokenizer.chat_template");
    bool sentencepiece = model && !strcmp(model, "llama");
    if (!model || (!sentencepiece && strcmp(model, "gpt2"))) {
        fail(st,
             "%s has a tokenizer of kind %.40s; only byte-level BPE (gpt2) and SentencePiece's BPE (llama) are read",
             path, model ? model : "(none)");
        return NULL;
    }
    GgufVocabulary v = {
        .pre = pre ? pre : "gpt-2", .sentencepiece = sentencepiece, .space_prefix = true, .add_bos = true};
    Tokenizer *t = NULL;
    if (read_vocabulary(f, &v)) t = tokenizer_from_gguf(&v, st);
    else fail(st, "%s: its tokenizer's tokens, merges, scores or token types are missing or do not fit together", path);
    if (t && chat) tokenizer_set_chat_template(t, chat);
    free(v.tokens);
    free(v.merges);
    free((void *)v.types);
    free((void *)v.scores);
    return t;
}
