/* Views by place in the model. */
#include "core/weights.h"

#include <stdlib.h>

#include "core/base/check.h"

/* The view of LayerWeights that a parameter of this kind begins; those that join it and the experts' are no entries. */
typedef struct Member {
    bool matrix, vector;
    size_t at;
} Member;

#define MATRIX(kind, member) [kind] = {true, false, offsetof(LayerWeights, member)}
#define VECTOR(kind, member) [kind] = {false, true, offsetof(LayerWeights, member)}
static const Member members[PARAM_KINDS] = {
    VECTOR(PARAM_ATTN_NORM, attn_norm),
    VECTOR(PARAM_FFN_NORM, ffn_norm),
    VECTOR(PARAM_Q_A_NORM, q_a_norm),
    VECTOR(PARAM_KV_A_NORM, kv_a_norm),
    VECTOR(PARAM_Q_NORM, q_norm),
    VECTOR(PARAM_K_NORM, k_norm),
    VECTOR(PARAM_Q_BIAS, in_bias),
    VECTOR(PARAM_O_BIAS, o_bias),
    VECTOR(PARAM_GATE_BIAS, gate_up_bias),
    VECTOR(PARAM_DOWN_BIAS, down_bias),
    VECTOR(PARAM_ROUTER_BIAS, router_bias),
    VECTOR(PARAM_ENORM, enorm),
    VECTOR(PARAM_HNORM, hnorm),
    VECTOR(PARAM_MTP_NORM, mtp_norm),
    MATRIX(PARAM_EH_PROJ, eh_proj),
    MATRIX(PARAM_Q, in),
    MATRIX(PARAM_Q_A, in),
    MATRIX(PARAM_Q_B, q_b),
    MATRIX(PARAM_KV_B, kv_b),
    MATRIX(PARAM_O, o),
    MATRIX(PARAM_ROUTER, router),
    MATRIX(PARAM_GATE, gate_up),
    MATRIX(PARAM_DOWN, down),
    MATRIX(PARAM_SHARED_GATE, shared_gate_up),
    MATRIX(PARAM_SHARED_DOWN, shared_down),
};

size_t param_bytes(const Param *p, Form form)
{
    return p->count * (form == FORM_BF16 && p->split ? sizeof(uint16_t) : sizeof(float));
}

/* The matrix of rows of p at `at`. */
static Mat placed_as(const Param *p, Form form, void *at, size_t rows, bool passing)
{
    DType dtype = form == FORM_BF16 && p->split ? DTYPE_BF16 : DTYPE_F32;
    return (Mat){at, dtype, rows, p->cols, p->cols, passing && !p->apart};
}

static Mat *matrix_view(Weights *w, const Param *p)
{
    switch (p->kind) {
    case PARAM_EMBED: return &w->embed;
    case PARAM_HEAD: return &w->head;
    case PARAM_SCORE: return &w->score;
    case PARAM_EXPERT_GATE: return &w->layers[p->layer].expert_gate_up[p->expert];
    case PARAM_EXPERT_DOWN: return &w->layers[p->layer].expert_down[p->expert];
    default: return (Mat *)((char *)&w->layers[p->layer] + members[p->kind].at);
    }
}

static void place_vector(Weights *w, const Param *p, float *at)
{
    if (p->kind == PARAM_NORM) {
        w->norm = at;
        return;
    }
    CHECK(members[p->kind].vector);
    *(float **)((char *)&w->layers[p->layer] + members[p->kind].at) = at;
}

static void place_matrix(Weights *w, const ParamTable *t, int i, Form form, void *at, bool passing)
{
    const Param *p = &t->params[i];
    Mat *view = matrix_view(w, p);
    *view = placed_as(p, form, at, params_joined_rows(t, i), passing);
    if (p->kind == PARAM_EMBED && w->tied) w->head = *view;
}

/* The adapters of the product whose first matrix is p. */
static Lora *lora_view(Weights *w, const Param *p)
{
    LayerWeights *l = &w->layers[p->layer];
    switch (p->kind) {
    case PARAM_Q:
    case PARAM_Q_A: return &l->lora.in;
    case PARAM_Q_B: return &l->lora.q_b;
    case PARAM_KV_B: return &l->lora.kv_b;
    case PARAM_O: return &l->lora.o;
    case PARAM_GATE: return &l->lora.gate_up;
    case PARAM_DOWN: return &l->lora.down;
    case PARAM_SHARED_GATE: return &l->lora.shared_gate_up;
    case PARAM_SHARED_DOWN: return &l->lora.shared_down;
    case PARAM_EXPERT_GATE: return &l->lora.expert_gate_up[p->expert];
    default: CHECK(p->kind == PARAM_EXPERT_DOWN); return &l->lora.expert_down[p->expert];
    }
}

/* A or B of an adapter. The A's of one product lie one after the other: the first one's view holds the rows of all. */
static void place_adapter(Weights *w, const ParamTable *t, int i, Form form, void *at)
{
    const Param *p = &t->params[i];
    Mat m = placed_as(p, form, at, p->rows, false);
    int first = p->base, number = 0;
    size_t column = 0;
    while (param_joins(t->params[first].kind)) first--;
    for (int k = first; k < p->base; k++) {
        number += t->lora[k][0] >= 0;
        column += t->params[k].rows;
    }
    Lora *l = lora_view(w, &t->params[first]);
    if (p->kind == PARAM_LORA_B) {
        l->b[number] = m;
        l->at[number] = column;
    } else if (number == 0) {
        l->a = m;
        l->parts = 1;
    } else {
        l->a.rows += m.rows;
        l->parts = number + 1;
    }
}

void weights_place(Weights *w, const ParamTable *t, int part, Form form, void *const *at, bool passing)
{
    const Part *its = &t->parts[part];
    for (int i = 0; i < its->n; i++) {
        const Param *p = &t->params[its->first + i];
        if (p->base >= 0) {
            place_adapter(w, t, its->first + i, form, at[i]);
        } else if (param_joins(p->kind)) {
            const char *before = at[i - 1], *here = at[i];
            CHECK(here == (before ? before + param_bytes(p - 1, form) : NULL));
        } else if (p->ndim == 1) {
            place_vector(w, p, at[i]);
        } else {
            place_matrix(w, t, its->first + i, form, at[i], passing);
        }
    }
}

Weights weights_new(const ModelConfig *c, const ParamTable *t)
{
    Weights w = {.tied = c->tied, .L = t->L};
    w.last_part = params_part(t, t->L, -1);
    w.head_part = c->tied ? params_part(t, -1, -1) : w.last_part;
    w.layers = calloc((size_t)w.L, sizeof *w.layers);
    size_t experts = (size_t)c->E * (size_t)w.L;
    w.expert_views = calloc(2 * experts + 1, sizeof *w.expert_views);
    w.expert_loras = calloc(2 * experts + 1, sizeof *w.expert_loras);
    CHECK(w.layers && w.expert_views && w.expert_loras);
    for (int l = 0; l < w.L; l++) {
        w.layers[l].expert_gate_up = w.expert_views + (size_t)l * 2 * (size_t)c->E;
        w.layers[l].expert_down = w.layers[l].expert_gate_up + c->E;
        w.layers[l].lora.expert_gate_up = w.expert_loras + (size_t)l * 2 * (size_t)c->E;
        w.layers[l].lora.expert_down = w.layers[l].lora.expert_gate_up + c->E;
        w.layers[l].layer = l;
        w.layers[l].part = params_part(t, l, -1);
    }
    return w;
}

void weights_keep(Weights *w, Keeper *k)
{
    w->keeper = k;
    for (int l = 0; l < w->L; l++) w->layers[l].keeper = k;
}

/* Every part: what has a state in `states` (NULL: in block), the rest in block (NULL: nowhere). */
static Weights view(const ModelConfig *c, const ParamTable *t, const WeightBlock *block, const WeightBlock *states)
{
    Weights w = weights_new(c, t);
    Form form = (block ? block : states)->high ? FORM_BF16 : FORM_F32;
    void **at = calloc((size_t)t->n, sizeof *at);
    CHECK(at);
    for (int i = 0; i < t->n; i++) {
        const Param *p = &t->params[i];
        if (states && p->state != SIZE_MAX) at[i] = weight_at(states, p, p->state);
        else if (block) at[i] = weight_at(block, p, p->offset);
    }
    for (int p = 0; p < t->n_parts; p++) weights_place(&w, t, p, form, at + t->parts[p].first, false);
    free(at);
    return w;
}

Weights weights_view(const ModelConfig *c, const ParamTable *t, const WeightBlock *block)
{
    return view(c, t, block, NULL);
}

Weights weights_view_beside(const ModelConfig *c, const ParamTable *t, const WeightBlock *block,
                            const WeightBlock *states)
{
    return view(c, t, block, states);
}

Weights weights_view_gradients(const ModelConfig *c, const ParamTable *t, float *block)
{
    Weights w = view(c, t, NULL, &(WeightBlock){.plain = block});
    w.block = block;
    return w;
}

void weights_free(Weights *w)
{
    free(w->layers);
    free(w->expert_views);
    free(w->expert_loras);
    *w = (Weights){0};
}
