/* Views of a block by place in the model. */
#include "core/weights.h"

#include <stdlib.h>

#include "core/base/check.h"

typedef struct Viewer {
    const ParamTable *table;
    float *block;
    DType dtype;
    bool states; /* a block of gradients or moments */
} Viewer;

static float *place_of(Viewer v, const Param *p)
{
    return v.block + (v.states ? p->state : p->offset);
}

static Mat matrix_of(Viewer v, ParamKind kind, int layer, int expert)
{
    int i = params_find(v.table, kind, layer, expert);
    if (i < 0) return (Mat){0};
    const Param *p = &v.table->params[i];
    if (v.states && p->state == SIZE_MAX) return (Mat){0};
    if (v.dtype == DTYPE_F32 || !p->split) return mat_f32(place_of(v, p), p->rows, p->cols);
    return (Mat){place_of(v, p), DTYPE_BF16, p->rows, p->cols, 2 * p->cols};
}

static float *vector_of(Viewer v, ParamKind kind, int layer)
{
    int i = params_find(v.table, kind, layer, -1);
    return i < 0 ? NULL : place_of(v, &v.table->params[i]);
}

/* A matrix and those that join it. */
static Mat joined(Viewer v, ParamKind first, int layer, int expert)
{
    Mat m = matrix_of(v, first, layer, expert);
    if (m.p) m.rows = params_joined_rows(v.table, params_find(v.table, first, layer, expert));
    return m;
}

static void view_layer(Viewer v, const ModelConfig *c, int l, LayerWeights *w)
{
    w->attn_norm = vector_of(v, PARAM_ATTN_NORM, l);
    w->ffn_norm = vector_of(v, PARAM_FFN_NORM, l);
    w->q_a_norm = vector_of(v, PARAM_Q_A_NORM, l);
    w->kv_a_norm = vector_of(v, PARAM_KV_A_NORM, l);
    w->q_norm = vector_of(v, PARAM_Q_NORM, l);
    w->k_norm = vector_of(v, PARAM_K_NORM, l);
    w->in_bias = vector_of(v, PARAM_Q_BIAS, l);
    w->router_bias = vector_of(v, PARAM_ROUTER_BIAS, l);
    w->in = joined(v, c->Rq ? PARAM_Q_A : PARAM_Q, l, -1);
    w->q_b = matrix_of(v, PARAM_Q_B, l, -1);
    w->kv_b = matrix_of(v, PARAM_KV_B, l, -1);
    w->o = matrix_of(v, PARAM_O, l, -1);
    w->router = matrix_of(v, PARAM_ROUTER, l, -1);
    w->gate_up = joined(v, PARAM_GATE, l, -1);
    w->down = matrix_of(v, PARAM_DOWN, l, -1);
    w->shared_gate_up = joined(v, PARAM_SHARED_GATE, l, -1);
    w->shared_down = matrix_of(v, PARAM_SHARED_DOWN, l, -1);
    w->enorm = vector_of(v, PARAM_ENORM, l);
    w->hnorm = vector_of(v, PARAM_HNORM, l);
    w->mtp_norm = vector_of(v, PARAM_MTP_NORM, l);
    w->eh_proj = matrix_of(v, PARAM_EH_PROJ, l, -1);
    for (int e = 0; e < c->E && w->router.p; e++) {
        w->expert_gate_up[e] = joined(v, PARAM_EXPERT_GATE, l, e);
        w->expert_down[e] = matrix_of(v, PARAM_EXPERT_DOWN, l, e);
    }
}

static Weights view(const ModelConfig *c, Viewer v)
{
    Weights w = {.block = v.block};
    w.embed = matrix_of(v, PARAM_EMBED, -1, -1);
    w.norm = vector_of(v, PARAM_NORM, -1);
    w.score = matrix_of(v, PARAM_SCORE, -1, -1);
    w.head = c->tied ? w.embed : matrix_of(v, PARAM_HEAD, -1, -1);
    w.layers = calloc((size_t)config_blocks(c), sizeof *w.layers);
    size_t experts = (size_t)c->E * (size_t)config_blocks(c);
    w.expert_views = calloc(2 * experts + 1, sizeof *w.expert_views);
    CHECK(w.layers && w.expert_views);
    for (int l = 0; l < config_blocks(c); l++) {
        w.layers[l].expert_gate_up = w.expert_views + (size_t)l * 2 * (size_t)c->E;
        w.layers[l].expert_down = w.layers[l].expert_gate_up + c->E;
        view_layer(v, c, l, &w.layers[l]);
    }
    return w;
}

Weights weights_view(const ModelConfig *c, const ParamTable *t, float *block, DType dtype)
{
    return view(c, (Viewer){t, block, dtype, false});
}

Weights weights_view_gradients(const ModelConfig *c, const ParamTable *t, float *block)
{
    return view(c, (Viewer){t, block, DTYPE_F32, true});
}

void weights_free(Weights *w)
{
    free(w->layers);
    free(w->expert_views);
    *w = (Weights){0};
}
