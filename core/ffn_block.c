/* The FFN half of a block: dense SwiGLU, or DeepSeekMoE with routed and shared experts (DeepSeek-V2 section 2.2). */
#include "core/block.h"
#include "core/check.h"

/* Sorts the (token, choice) pairs by expert, tokens in order within an expert. */
static void sort_by_expert(Routing *r, int E, int K, size_t n)
{
    for (int e = 0; e <= E; e++) r->offsets[e] = 0;
    for (size_t i = 0; i < n * (size_t)K; i++) r->offsets[r->idx[i] + 1]++;
    for (int e = 0; e < E; e++) r->offsets[e + 1] += r->offsets[e];
    for (size_t i = 0; i < n * (size_t)K; i++) {
        int32_t at = r->offsets[r->idx[i]]++;
        r->slot[i] = at;
        r->rows[at] = (int32_t)(i / (size_t)K);
    }
    for (int e = E; e > 0; e--) r->offsets[e] = r->offsets[e - 1];
    r->offsets[0] = 0;
}

static void route(Engine *e, const LayerWeights *w, Mat xn, Routing *r)
{
    const ModelConfig *c = e->config;
    size_t n = xn.rows, E = (size_t)c->E, K = (size_t)c->K;
    Mat logits = mat_f32(r->logits, n, E);
    ArenaMark mark = arena_mark(&e->arena);
    e->ops->linear_fwd(e->backend, logits, engine_as(e, DTYPE_F32, xn), w->router, NULL, false);
    arena_release(&e->arena, mark);
    e->ops->router_fwd(e->backend, e->router, mat_f32(r->scores, n, E), r->idx, mat_f32(r->weights, n, K), logits,
                       w->router_bias);
    sort_by_expert(r, c->E, c->K, n);
}

static void dense_fwd(Engine *e, Mat gate_up, Mat down, void *gu, void *act, Mat y, Mat xn, bool add)
{
    Mat gu_m = act_mat(e, gu, xn.rows, gate_up.rows), act_m = act_mat(e, act, xn.rows, down.cols);
    e->ops->linear_fwd(e->backend, gu_m, xn, gate_up, NULL, false);
    e->ops->swiglu_fwd(e->backend, act_m, gu_m);
    e->ops->linear_fwd(e->backend, y, act_m, down, NULL, add);
}

static void experts_fwd(Engine *e, const LayerWeights *w, FfnActs *a, const Routing *r, Mat y, Mat xn)
{
    const ModelConfig *c = e->config;
    const Ops *ops = e->ops;
    Backend *b = e->backend;
    size_t pairs = xn.rows * (size_t)c->K, C = (size_t)c->C, F = (size_t)c->moe_F;
    Mat xs = act_mat(e, a->xs, pairs, C), gu = act_mat(e, a->egu, pairs, 2 * F), act = act_mat(e, a->eact, pairs, F);
    Mat ey = act_mat(e, a->ey, pairs, C), shared = {0};
    ops->gather_rows(b, xs, xn, r->rows);
    ops->grouped_fwd(b, gu, xs, w->expert_gate_up, r->offsets, c->E);
    ops->swiglu_fwd(b, act, gu);
    ops->grouped_fwd(b, ey, act, w->expert_down, r->offsets, c->E);
    if (w->shared_down.p) {
        shared = act_mat(e, a->sy, xn.rows, C);
        dense_fwd(e, w->shared_gate_up, w->shared_down, a->sgu, a->sact, shared, xn, false);
    }
    ops->combine_fwd(b, y, ey, r->slot, mat_f32(r->weights, xn.rows, (size_t)c->K), shared);
}

void ffn_block_fwd(Engine *e, const LayerWeights *w, FfnActs *a, Routing *r, bool decided, float *y, const float *h,
                   size_t n)
{
    const ModelConfig *c = e->config;
    size_t C = (size_t)c->C;
    Mat in = mat_f32((float *)h, n, C), out = mat_f32(y, n, C), xn = act_mat(e, a->xn, n, C);
    e->ops->rmsnorm_fwd(e->backend, xn, a->rstd, in, w->ffn_norm, c->eps);
    e->ops->copy(e->backend, out, in);
    if (!r) {
        dense_fwd(e, w->gate_up, w->down, a->gu, a->act, out, xn, true);
        return;
    }
    if (!decided) route(e, w, xn, r);
    experts_fwd(e, w, a, r, out, xn);
}

/* dxn (+)= the gradient through one SwiGLU MLP on rows xn. */
static void dense_bwd(Engine *e, Mat gate_up, Mat down, Mat d_gate_up, Mat d_down, void *gu, void *act,
                      Mat dxn, Mat dy, Mat xn, bool add)
{
    size_t n = xn.rows, F = down.cols;
    Mat dact = mat_f32(arena_floats(&e->arena, n * F), n, F),
        dgu = mat_f32(arena_floats(&e->arena, n * 2 * F), n, 2 * F);
    e->ops->linear_bwd_w(e->backend, d_down, NULL, dy, act_mat(e, act, n, F));
    e->ops->linear_bwd_x(e->backend, dact, dy, down, false);
    e->ops->swiglu_bwd(e->backend, dgu, dact, act_mat(e, gu, n, 2 * F));
    e->ops->linear_bwd_w(e->backend, d_gate_up, NULL, dgu, xn);
    e->ops->linear_bwd_x(e->backend, dxn, dgu, gate_up, add);
}

/* Router: dxn += through the gate, from the gradient of the combination weights and of the balance losses. */
static void router_bwd(Engine *e, const LayerWeights *w, const LayerWeights *g, const Routing *r, const float *dscores,
                       Mat dweights, Mat dxn, Mat xn)
{
    size_t n = xn.rows, E = (size_t)e->config->E;
    Mat dlogits = mat_f32(arena_floats(&e->arena, n * E), n, E), ds = mat_f32((float *)dscores, n, E);
    e->ops->router_bwd(e->backend, e->router, dlogits, dweights, dscores ? &ds : NULL, mat_f32(r->scores, n, E),
                       r->idx);
    e->ops->linear_bwd_w(e->backend, g->router, NULL, dlogits, engine_as(e, DTYPE_F32, xn));
    e->ops->linear_bwd_x(e->backend, dxn, dlogits, w->router, true);
}

static void experts_bwd(Engine *e, const LayerWeights *w, const LayerWeights *g, const FfnActs *a, const Routing *r,
                        const float *dscores, Mat dxn, Mat dy, Mat xn)
{
    const ModelConfig *c = e->config;
    const Ops *ops = e->ops;
    Backend *b = e->backend;
    Arena *arena = &e->arena;
    size_t n = xn.rows, K = (size_t)c->K, pairs = n * K, C = (size_t)c->C, F = (size_t)c->moe_F;
    Mat dey = mat_f32(arena_floats(arena, pairs * C), pairs, C), dweights = mat_f32(arena_floats(arena, pairs), n, K);
    Mat dact = mat_f32(arena_floats(arena, pairs * F), pairs, F),
        dgu = mat_f32(arena_floats(arena, pairs * 2 * F), pairs, 2 * F);
    ops->combine_bwd(b, dey, dweights, dy, act_mat(e, a->ey, pairs, C), r->slot, mat_f32(r->weights, n, K));
    ops->grouped_bwd_w(b, g->expert_down, dey, act_mat(e, a->eact, pairs, F), r->offsets, c->E);
    ops->grouped_bwd_x(b, dact, dey, w->expert_down, r->offsets, c->E);
    ops->swiglu_bwd(b, dgu, dact, act_mat(e, a->egu, pairs, 2 * F));
    ops->grouped_bwd_w(b, g->expert_gate_up, dgu, act_mat(e, a->xs, pairs, C), r->offsets, c->E);
    Mat dxs = dey; /* its last reader is done */
    ops->grouped_bwd_x(b, dxs, dgu, w->expert_gate_up, r->offsets, c->E);
    ops->fill(b, dxn.p, n * C, 0.0f);
    ops->scatter_add_rows(b, dxn, dxs, r->slot, c->K);
    router_bwd(e, w, g, r, dscores, dweights, dxn, xn);
    if (w->shared_down.p)
        dense_bwd(e, w->shared_gate_up, w->shared_down, g->shared_gate_up, g->shared_down, a->sgu, a->sact, dxn, dy, xn,
                  true);
}

void ffn_block_bwd(Engine *e, const LayerWeights *w, const LayerWeights *g, const FfnActs *a, const Routing *r,
                   const float *dscores, float *dx, const float *h, size_t n)
{
    const ModelConfig *c = e->config;
    size_t C = (size_t)c->C;
    ArenaMark mark = arena_mark(&e->arena);
    Mat dy = mat_f32(dx, n, C), xn = act_mat(e, a->xn, n, C), dxn = mat_f32(arena_floats(&e->arena, n * C), n, C);
    if (r) experts_bwd(e, w, g, a, r, dscores, dxn, dy, xn);
    else dense_bwd(e, w->gate_up, w->down, g->gate_up, g->down, a->gu, a->act, dxn, dy, xn, false);
    e->ops->rmsnorm_bwd(e->backend, dy, g->ffn_norm, dxn, mat_f32((float *)h, n, C), w->ffn_norm, a->rstd, true);
    arena_release(&e->arena, mark);
}
