/* The one list of tensors: names, shapes, places, initial values. */
#include "core/params_select.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/base/philox.h"

/* The table while it grows; layer and expert of the next entries. */
typedef struct Builder {
    ParamTable t;
    int capacity, layer, expert;
    bool follows; /* the next one begins where the one before it ends */
} Builder;

static void write_name(Param *p, const char *name)
{
    int length;
    if (p->expert >= 0)
        length = snprintf(p->name, sizeof p->name, "model.layers.%d.mlp.experts.%d.%s", p->layer, p->expert, name);
    else if (p->layer >= 0) length = snprintf(p->name, sizeof p->name, "model.layers.%d.%s", p->layer, name);
    else length = snprintf(p->name, sizeof p->name, "%s", name);
    CHECK(length > 0 && (size_t)length < sizeof p->name);
}

static void add(Builder *b, ParamKind kind, const char *name, int ndim, size_t rows, size_t cols, ParamInit init)
{
    ParamTable *t = &b->t;
    if (t->n == b->capacity) {
        b->capacity = b->capacity ? 2 * b->capacity : 64;
        t->params = realloc(t->params, (size_t)b->capacity * sizeof *t->params);
        CHECK(t->params);
    }
    bool inside_slab =
        b->follows || param_joins(kind) || kind == PARAM_DOWN || kind == PARAM_EXPERT_DOWN || kind == PARAM_SHARED_DOWN;
    bool split = ndim == 2 && kind != PARAM_ROUTER && kind != PARAM_SCORE;
    if (!inside_slab) t->total = (t->total + PARAM_ALIGNMENT - 1) / PARAM_ALIGNMENT * PARAM_ALIGNMENT;
    /* Neighbours that are not split lie to each other as they do in a block. */
    if (!inside_slab) t->plain_total = (t->plain_total + PARAM_ALIGNMENT - 1) / PARAM_ALIGNMENT * PARAM_ALIGNMENT;
    Param *p = &t->params[t->n++];
    *p = (Param){.kind = kind,
                 .layer = b->layer,
                 .expert = b->expert,
                 .base = -1,
                 .ndim = ndim,
                 .rows = rows,
                 .cols = cols,
                 .count = rows * cols,
                 .offset = t->total,
                 .init = init,
                 .decay = ndim == 2,
                 .split = split,
                 .plain = t->plain_total};
    write_name(p, name);
    t->total += p->count;
    if (!split) t->plain_total += p->count;
    t->count += p->count;
}

static void matrix(Builder *b, ParamKind kind, const char *name, int rows, int cols)
{
    add(b, kind, name, 2, (size_t)rows, (size_t)cols, INIT_NORMAL);
}

static void vector(Builder *b, ParamKind kind, const char *name, int rows, ParamInit init)
{
    add(b, kind, name, 1, (size_t)rows, 1, init);
}

static void latent_attention(Builder *b, const ModelConfig *c)
{
    int qk = config_qk_dim(c);
    if (c->Rq == 0) matrix(b, PARAM_Q, "self_attn.q_proj.weight", c->H * qk, c->C);
    else matrix(b, PARAM_Q_A, "self_attn.q_a_proj.weight", c->Rq, c->C);
    matrix(b, PARAM_KV_A, "self_attn.kv_a_proj_with_mqa.weight", c->Rkv + c->Dr, c->C);
    if (c->Rq) {
        vector(b, PARAM_Q_A_NORM, "self_attn.q_a_layernorm.weight", c->Rq, INIT_ONES);
        matrix(b, PARAM_Q_B, "self_attn.q_b_proj.weight", c->H * qk, c->Rq);
    }
    vector(b, PARAM_KV_A_NORM, "self_attn.kv_a_layernorm.weight", c->Rkv, INIT_ONES);
    matrix(b, PARAM_KV_B, "self_attn.kv_b_proj.weight", c->H * (c->Dn + c->Dv), c->Rkv);
}

static void grouped_attention(Builder *b, const ModelConfig *c)
{
    int q = c->H * c->Dr, kv = c->Hkv * c->Dr;
    matrix(b, PARAM_Q, "self_attn.q_proj.weight", q, c->C);
    matrix(b, PARAM_K, "self_attn.k_proj.weight", kv, c->C);
    matrix(b, PARAM_V, "self_attn.v_proj.weight", kv, c->C);
    if (c->qkv_bias) {
        vector(b, PARAM_Q_BIAS, "self_attn.q_proj.bias", q, INIT_ZEROS);
        vector(b, PARAM_K_BIAS, "self_attn.k_proj.bias", kv, INIT_ZEROS);
        vector(b, PARAM_V_BIAS, "self_attn.v_proj.bias", kv, INIT_ZEROS);
    }
    if (c->qk_norm) {
        vector(b, PARAM_Q_NORM, "self_attn.q_norm.weight", c->Dr, INIT_ONES);
        vector(b, PARAM_K_NORM, "self_attn.k_norm.weight", c->Dr, INIT_ONES);
    }
}

static void dense_ffn(Builder *b, const ModelConfig *c)
{
    matrix(b, PARAM_GATE, "mlp.gate_proj.weight", c->F, c->C);
    matrix(b, PARAM_UP, "mlp.up_proj.weight", c->F, c->C);
    matrix(b, PARAM_DOWN, "mlp.down_proj.weight", c->C, c->F);
    if (!c->mlp_bias) return;
    vector(b, PARAM_GATE_BIAS, "mlp.gate_proj.bias", c->F, INIT_ZEROS);
    vector(b, PARAM_UP_BIAS, "mlp.up_proj.bias", c->F, INIT_ZEROS);
    vector(b, PARAM_DOWN_BIAS, "mlp.down_proj.bias", c->C, INIT_ZEROS);
}

/* The experts come last in their layer: params_find counts back from its end. */
static void expert_ffn(Builder *b, const ModelConfig *c)
{
    matrix(b, PARAM_ROUTER, "mlp.gate.weight", c->E, c->C);
    if (c->topk == TOPK_NOAUX) vector(b, PARAM_ROUTER_BIAS, "mlp.gate.e_score_correction_bias", c->E, INIT_ZEROS);
    if (c->S > 0) {
        int width = c->S * c->moe_F;
        matrix(b, PARAM_SHARED_GATE, "mlp.shared_experts.gate_proj.weight", width, c->C);
        matrix(b, PARAM_SHARED_UP, "mlp.shared_experts.up_proj.weight", width, c->C);
        matrix(b, PARAM_SHARED_DOWN, "mlp.shared_experts.down_proj.weight", c->C, width);
    }
    for (b->expert = 0; b->expert < c->E; b->expert++) {
        matrix(b, PARAM_EXPERT_GATE, "gate_proj.weight", c->moe_F, c->C);
        matrix(b, PARAM_EXPERT_UP, "up_proj.weight", c->moe_F, c->C);
        matrix(b, PARAM_EXPERT_DOWN, "down_proj.weight", c->C, c->moe_F);
    }
    b->expert = -1;
}

static void layer(Builder *b, const ModelConfig *c)
{
    if (b->layer >= c->L) {
        vector(b, PARAM_ENORM, "enorm.weight", c->C, INIT_ONES);
        vector(b, PARAM_HNORM, "hnorm.weight", c->C, INIT_ONES);
        matrix(b, PARAM_EH_PROJ, "eh_proj.weight", c->C, 2 * c->C);
        vector(b, PARAM_MTP_NORM, "shared_head.norm.weight", c->C, INIT_ONES);
    }
    vector(b, PARAM_ATTN_NORM, "input_layernorm.weight", c->C, INIT_ONES);
    if (c->attention == ATTENTION_MLA) latent_attention(b, c);
    else grouped_attention(b, c);
    matrix(b, PARAM_O, "self_attn.o_proj.weight", c->C, c->H * c->Dv);
    if (config_o_bias(c)) vector(b, PARAM_O_BIAS, "self_attn.o_proj.bias", c->C, INIT_ZEROS);
    vector(b, PARAM_FFN_NORM, "post_attention_layernorm.weight", c->C, INIT_ONES);
    if (config_is_moe(c, b->layer)) expert_ffn(b, c);
    else dense_ffn(b, c);
}

/* Cuts the finished list into parts: where layer or expert changes; all adapters are one, behind the others. */
static void cut_parts(ParamTable *t)
{
    int most = 2;
    for (int i = 1; i < t->n; i++)
        most += i <= t->adapters &&
                (t->params[i].layer != t->params[i - 1].layer || t->params[i].expert != t->params[i - 1].expert);
    t->parts = calloc((size_t)most, sizeof *t->parts);
    t->layer_part = calloc((size_t)t->L + 1, sizeof *t->layer_part);
    CHECK(t->parts && t->layer_part);
    for (int i = 0; i < t->n; i++) {
        const Param *p = &t->params[i];
        int layer = i >= t->adapters ? t->L + 1 : i >= t->layer_first[t->L] ? t->L : p->layer;
        int expert = i >= t->adapters ? -1 : p->expert;
        Part *last = t->n_parts ? &t->parts[t->n_parts - 1] : NULL;
        if (!last || last->layer != layer || last->expert != expert) {
            last = &t->parts[t->n_parts++];
            *last = (Part){.layer = layer, .expert = expert, .first = i, .offset = p->offset};
            if (layer >= 0 && layer <= t->L && expert < 0) t->layer_part[layer] = t->n_parts - 1;
        }
        last->n++;
        last->count = p->offset + p->count - last->offset;
    }
}

int params_part(const ParamTable *t, int layer, int expert)
{
    if (layer < 0) return 0;
    CHECK(layer <= t->L);
    return t->layer_part[layer] + 1 + expert;
}

int param_bias_of(ParamKind kind)
{
    switch (kind) {
    case PARAM_Q:
    case PARAM_K:
    case PARAM_V: return PARAM_Q_BIAS;
    case PARAM_O: return PARAM_O_BIAS;
    case PARAM_GATE:
    case PARAM_UP: return PARAM_GATE_BIAS;
    case PARAM_DOWN: return PARAM_DOWN_BIAS;
    default: return -1;
    }
}

int param_lora_target(ParamKind kind)
{
    switch (kind) {
    case PARAM_Q: return LORA_Q_PROJ;
    case PARAM_Q_A: return LORA_Q_A_PROJ;
    case PARAM_Q_B: return LORA_Q_B_PROJ;
    case PARAM_KV_A: return LORA_KV_A_PROJ;
    case PARAM_KV_B: return LORA_KV_B_PROJ;
    case PARAM_K: return LORA_K_PROJ;
    case PARAM_V: return LORA_V_PROJ;
    case PARAM_O: return LORA_O_PROJ;
    case PARAM_GATE:
    case PARAM_SHARED_GATE: return LORA_GATE_PROJ;
    case PARAM_UP:
    case PARAM_SHARED_UP: return LORA_UP_PROJ;
    case PARAM_DOWN:
    case PARAM_SHARED_DOWN: return LORA_DOWN_PROJ;
    case PARAM_EXPERT_GATE:
    case PARAM_EXPERT_UP:
    case PARAM_EXPERT_DOWN: return LORA_EXPERTS;
    default: return -1;
    }
}

/* A or B of parameter `base`. */
static void adapter(Builder *b, ParamKind kind, int base, size_t rows, size_t cols)
{
    const Param of = b->t.params[base];
    add(b, kind, "adapter", 2, rows, cols, kind == PARAM_LORA_A ? INIT_UNIFORM : INIT_ZEROS);
    Param *p = &b->t.params[b->t.n - 1];
    int module = (int)(strlen(of.name) - strlen(".weight"));
    int length =
        snprintf(p->name, sizeof p->name, "%.*s.lora_%c.weight", module, of.name, kind == PARAM_LORA_A ? 'A' : 'B');
    CHECK(length > 0 && (size_t)length < sizeof p->name);
    p->layer = of.layer;
    p->expert = of.expert;
    p->base = base;
    b->t.lora[base][kind == PARAM_LORA_B] = b->t.n - 1;
}

/* The adapters of the targets, in the order of the matrices; modules of multi-token prediction have none. Where matrices are one
 * product, so are their A's: these lie one after the other, the B's behind them. */
static void adapters(Builder *b, const ModelConfig *c)
{
    const LoraConfig *l = &c->lora;
    size_t rank = (size_t)l->rank;
    int n = b->t.n;
    b->t.lora = malloc((size_t)n * sizeof *b->t.lora);
    CHECK(b->t.lora);
    memset(b->t.lora, -1, (size_t)n * sizeof *b->t.lora);
    for (int first = 0, end; first < n; first = end) {
        for (end = first + 1; end < n && param_joins(b->t.params[end].kind);) end++;
        for (int part = 0; part < 2; part++) {
            b->follows = false;
            for (int i = first; i < end; i++) {
                int target = param_lora_target(b->t.params[i].kind);
                if (target < 0 || !(l->targets >> target & 1) || b->t.params[i].layer >= c->L) continue;
                if (part == 0) adapter(b, PARAM_LORA_A, i, rank, b->t.params[i].cols);
                else adapter(b, PARAM_LORA_B, i, b->t.params[i].rows, rank);
                b->follows = part == 0;
            }
        }
    }
    b->follows = false;
}

static int compare_names(const void *a, const void *b, void *params)
{
    return strcmp(((const Param *)params)[*(const int *)a].name, ((const Param *)params)[*(const int *)b].name);
}

ParamTable params_build(const ModelConfig *c)
{
    Builder b = {.layer = -1, .expert = -1};
    b.t.L = config_blocks(c);
    b.t.modules = c->mtp;
    b.t.layer_first = malloc(((size_t)b.t.L + 1) * sizeof *b.t.layer_first);
    CHECK(b.t.layer_first);
    size_t idle = 0, main = 0; /* experts that a token does not use; parameters before the modules */
    matrix(&b, PARAM_EMBED, "model.embed_tokens.weight", c->V, c->C);
    size_t idle_moe = c->E ? (size_t)(c->E - c->K) * 3 * (size_t)c->moe_F * (size_t)c->C : 0;
    for (b.layer = 0; b.layer < b.t.L; b.layer++) {
        b.t.layer_first[b.layer] = b.t.n;
        if (b.layer == c->L) main = b.t.count;
        layer(&b, c);
        if (b.layer < c->L && config_is_moe(c, b.layer)) idle += idle_moe;
    }
    b.t.layer_first[b.t.L] = b.t.n;
    size_t modules = c->mtp ? b.t.count - main : 0;
    b.t.mtp_active = modules - (config_is_moe(c, c->L) ? (size_t)c->mtp * idle_moe : 0);
    b.layer = -1;
    vector(&b, PARAM_NORM, "model.norm.weight", c->C, INIT_ONES);
    if (c->head == HEAD_SCALAR) matrix(&b, PARAM_SCORE, "score.weight", 1, c->C);
    else if (!c->tied) matrix(&b, PARAM_HEAD, "lm_head.weight", c->V, c->C);
    b.t.adapters = b.t.n;
    if (c->lora.rank) adapters(&b, c);
    for (int i = b.t.adapters; i < b.t.n; i++)
        if (b.t.params[i].expert >= c->K) idle += b.t.params[i].count;
    b.t.total = (b.t.total + PARAM_ALIGNMENT - 1) / PARAM_ALIGNMENT * PARAM_ALIGNMENT;
    b.t.plain_total = (b.t.plain_total + PARAM_ALIGNMENT - 1) / PARAM_ALIGNMENT * PARAM_ALIGNMENT;
    b.t.active = b.t.count - modules - idle;

    b.t.by_name = malloc((size_t)b.t.n * sizeof *b.t.by_name);
    CHECK(b.t.by_name);
    for (int i = 0; i < b.t.n; i++) b.t.by_name[i] = i;
    qsort_r(b.t.by_name, (size_t)b.t.n, sizeof *b.t.by_name, compare_names, b.t.params);
    params_select(&b.t, c->lora.rank ? (const char *[]){"lora_A", "lora_B"} : (const char *[]){"all"},
                  c->lora.rank ? 2 : 1);
    cut_parts(&b.t);
    return b.t;
}

void params_free(ParamTable *t)
{
    free(t->params);
    free(t->layer_first);
    free(t->by_name);
    free(t->parts);
    free(t->layer_part);
    free(t->lora);
    *t = (ParamTable){0};
}

static int scan(const ParamTable *t, ParamKind kind, int from, int to)
{
    for (int i = from; i < to; i++)
        if (t->params[i].kind == kind) return i;
    return -1;
}

int params_find(const ParamTable *t, ParamKind kind, int layer, int expert)
{
    if (kind == PARAM_EMBED) return 0;
    if (layer < 0) return scan(t, kind, t->layer_first[t->L], t->adapters);
    CHECK(layer < t->L);
    int first = t->layer_first[layer], end = t->layer_first[layer + 1];
    int experts = t->params[end - 1].expert + 1; /* 0: a dense layer */
    if (expert < 0) return scan(t, kind, first, end - 3 * experts);
    if (kind < PARAM_EXPERT_GATE || kind > PARAM_EXPERT_DOWN || expert >= experts) return -1;
    return end - 3 * (experts - expert) + (int)(kind - PARAM_EXPERT_GATE);
}

size_t params_joined_rows(const ParamTable *t, int i)
{
    if (param_joins(t->params[i].kind)) return 0;
    const Param *first = &t->params[i], *end = t->params + t->n;
    size_t rows = first->rows;
    for (const Param *p = first + 1; p < end && param_joins(p->kind); p++) {
        CHECK(p->cols == first->cols && p->offset == first->offset + rows * first->cols);
        rows += p->rows;
    }
    return rows;
}

int params_find_name(const ParamTable *t, const char *name)
{
    int low = 0, high = t->n;
    while (low < high) {
        int middle = low + (high - low) / 2, order = strcmp(name, t->params[t->by_name[middle]].name);
        if (order == 0) return t->by_name[middle];
        if (order < 0) high = middle;
        else low = middle + 1;
    }
    return -1;
}

size_t params_adapters(const ParamTable *t, size_t *first)
{
    *first = t->adapters < t->n ? t->params[t->adapters].offset : t->total;
    return t->total - *first;
}

void params_init_adapters(const ParamTable *t, float *adapters, uint32_t seed)
{
    size_t first, n = params_adapters(t, &first);
    memset(adapters, 0, n * sizeof *adapters);
    for (int i = t->adapters; i < t->n; i++) {
        const Param *p = &t->params[i];
        if (p->init == INIT_UNIFORM)
            rng_fill_uniform(adapters + (p->offset - first), p->count, 1.0f / sqrtf((float)p->cols), seed, p->name);
    }
}

void params_init(const ParamTable *t, const ModelConfig *c, float *block, uint32_t seed)
{
    size_t first;
    memset(block, 0, t->total * sizeof *block);
    if (params_adapters(t, &first)) params_init_adapters(t, block + first, seed);
    for (int i = 0; i < t->adapters; i++) {
        const Param *p = &t->params[i];
        float *w = block + p->offset;
        if (p->init == INIT_NORMAL) rng_fill_normal(w, p->count, c->init_std, seed, p->name);
        if (p->init == INIT_ONES)
            for (size_t k = 0; k < p->count; k++) w[k] = 1.0f;
    }
}

bool params_fill(const ParamTable *t, float *block, bool (*read)(void *from, const Param *p, float *w, Status *st),
                 void *from, Status *st)
{
    size_t end = 0;
    for (int i = 0; i < t->n; i++) {
        const Param *p = &t->params[i];
        memset(block + end, 0, (p->offset - end) * sizeof *block);
        if (!read(from, p, block + p->offset, st)) return false;
        end = p->offset + p->count;
    }
    memset(block + end, 0, (t->total - end) * sizeof *block);
    return true;
}

int *params_name_order(const ParamTable *t)
{
    int *order = malloc((size_t)t->n * sizeof *order);
    CHECK(order);
    memcpy(order, t->by_name, (size_t)t->n * sizeof *order);
    return order;
}
