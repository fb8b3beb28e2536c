/* The FFN half of a block: dense SwiGLU, or DeepSeekMoE (DeepSeek-V2, arXiv:2405.04434, section 2.2):
 *   y = h + sum over shared experts of FFN(u) + sum over i of g_i FFN_i(u),  u = norm(h)        (20)
 *   g_i = s_i where i is among the K best, else 0                                              (21)
 *   s = softmax over experts of u . e_i                                                        (22)
 * V3's gate (arXiv:2412.19437) instead: s_i = sigmoid(u . e_i), the K best of s_i + b_i, g_i = s_i / their sum (12-16).
 * The shared experts are one MLP of their joined width; scores, choice and weights are the router op's (core/ops/ops.h). */
#include "core/lora.h"
#include "core/token_drop.h"
#include "core/base/check.h"

/* Rows [from, from + rows) of a matrix at p. */
static Mat rows_f32(float *p, size_t cols, size_t from, size_t rows)
{
    return mat_f32(p + from * cols, rows, cols);
}

/* Scores and choice of a slice of tokens. */
static void route(Engine *e, const LayerWeights *w, Mat xn, const Routing *r, size_t from)
{
    size_t n = xn.rows, E = (size_t)e->config->E, K = (size_t)e->config->K;
    Mat logits = rows_f32(r->logits, E, from, n);
    EngineMark mark = engine_mark(e);
    e->ops->linear_fwd(e->backend, logits, engine_as(e, DTYPE_F32, xn), w->router, NULL, false);
    engine_release(e, mark);
    RouterShape shape = e->router;
    shape.given = r->given;
    e->ops->router_fwd(e->backend, shape, rows_f32(r->scores, E, from, n), r->idx + from * K,
                       rows_f32(r->weights, K, from, n), logits, w->router_bias);
}

/* The SwiGLU MLP that every token goes through, a layer's only one or the shared expert, for n rows; down.p NULL: there is
 * none. */
typedef struct Mlp {
    Mat gate_up, down, gu, act;
    float *gate_up_bias, *down_bias;
    const Lora *lora_gate_up, *lora_down;
} Mlp;

static Mlp mlp_of(const Engine *e, const LayerWeights *w, const FfnActs *a, bool moe, size_t n)
{
    const ModelConfig *c = e->config;
    size_t F = moe ? (size_t)c->S * (size_t)c->moe_F : (size_t)c->F;
    Mat gu = act_mat(e, moe ? a->sgu : a->gu, n, 2 * F), act = act_mat(e, moe ? a->sact : a->act, n, F);
    if (!moe)
        return (Mlp){w->gate_up, w->down, gu, act, w->gate_up_bias, w->down_bias, &w->lora.gate_up, &w->lora.down};
    return (Mlp){w->shared_gate_up, w->shared_down, gu, act, NULL, NULL, &w->lora.shared_gate_up, &w->lora.shared_down};
}

static Mlp mlp_rows(Mlp m, size_t from, size_t rows)
{
    m.gu = mat_rows(m.gu, from, rows);
    m.act = mat_rows(m.act, from, rows);
    return m;
}

/* Whether gate | up and SwiGLU may be one op: nothing is added to the product in between. */
static bool gate_up_fused(const Engine *e, const Lora *adapter, const float *bias)
{
    return e->ops->gate_up_fwd && !adapter->parts && !bias;
}

static void mlp_fwd(Engine *e, Mlp m, Mat y, Mat xn, bool add)
{
    if (gate_up_fused(e, m.lora_gate_up, m.gate_up_bias)) {
        e->ops->gate_up_fwd(e->backend, m.act, m.gu, xn, NULL, &m.gate_up, NULL, 1);
    } else {
        e->ops->linear_fwd(e->backend, m.gu, xn, m.gate_up, m.gate_up_bias, false);
        lora_fwd(e, m.lora_gate_up, m.gu, xn);
        e->ops->swiglu_fwd(e->backend, m.act, m.gu);
    }
    e->ops->linear_fwd(e->backend, y, m.act, m.down, m.down_bias, add);
    lora_fwd(e, m.lora_down, y, m.act);
}

/* Some experts that follow each other, with about a slice of rows. */
typedef struct ExpertSlice {
    int first, count;
    size_t from, rows;
    const int32_t *offsets; /* [count + 1] on the device, the first 0 */
} ExpertSlice;

/* Whether expert i's gradients are wanted where expert k's are. */
static bool trained_alike(const LayerWeights *g, int i, int k)
{
    return !g->expert_down[i].p == !g->expert_down[k].p && !g->expert_gate_up[i].p == !g->expert_gate_up[k].p;
}

/* The first expert after `first` whose gradients are not wanted where first's are, or the other way round. g NULL: none. */
static int alike_end(const Engine *e, const LayerWeights *g, int first)
{
    int end = first + 1;
    while (end < e->config->E && (!g || trained_alike(g, first, end))) end++;
    return end;
}

/* Where the experts are cut or kept elsewhere, the host needs to know how many rows they have. */
static const int32_t *counted(Engine *e, const LayerWeights *w, const LayerWeights *g, const Routing *r)
{
    if (e->ops->device.slice_rows == SIZE_MAX && !w->keeper && alike_end(e, g, 0) == e->config->E) return NULL;
    return engine_download(e, r->offsets, ((size_t)e->config->E + 1) * sizeof *r->offsets);
}

/* The slice that begins with expert `first`, all of them where `all` (what counted gave) is NULL. */
static ExpertSlice expert_slice(Engine *e, const LayerWeights *w, const LayerWeights *g, const Routing *r,
                                const int32_t *all, int first, size_t pairs)
{
    if (!all) return (ExpertSlice){0, e->config->E, 0, pairs, r->offsets};
    const int32_t *offsets = all + first;
    size_t rows = e->ops->device.slice_rows;
    int most = alike_end(e, g, first) - first, count = 0, busy = 0;
    for (; count < most; count++) {
        if (offsets[count + 1] == offsets[count]) continue;
        if (busy && (size_t)(offsets[count + 1] - offsets[0]) > rows) break;
        if (w->keeper && busy == w->keeper->most) break;
        busy++;
    }
    int32_t *own = arena_ints(&e->host, (size_t)count + 1);
    for (int i = 0; i <= count; i++) own[i] = offsets[i] - offsets[0];
    return (ExpertSlice){first, count, (size_t)offsets[0], (size_t)own[count],
                         engine_upload_ints(e, own, (size_t)count + 1)};
}

/* A slice's rows of the experts' interior. xs: empty after a forward whose gate | up was fused. */
typedef struct ExpertRows {
    Mat xs, gu, act, y;
} ExpertRows;

static ExpertRows kept_rows(const Engine *e, const FfnActs *a, size_t pairs, const ExpertSlice *s)
{
    size_t C = (size_t)e->config->C, F = (size_t)e->config->moe_F;
    return (ExpertRows){mat_rows(act_mat(e, a->xs, pairs, C), s->from, s->rows),
                        mat_rows(act_mat(e, a->egu, pairs, 2 * F), s->from, s->rows),
                        mat_rows(act_mat(e, a->eact, pairs, F), s->from, s->rows),
                        mat_rows(act_mat(e, a->ey, pairs, C), s->from, s->rows)};
}

static Mat new_rows(Engine *e, size_t rows, size_t cols)
{
    return act_mat(e, arena_alloc(&e->arena, rows * cols * dtype_size(e->dtype)), rows, cols);
}

static void slice_fwd(Engine *e, const LayerWeights *w, const ExpertSlice *s, const ExpertRows *x, const Routing *r,
                      Mat xn)
{
    const Ops *ops = e->ops;
    Backend *b = e->backend;
    const Mat *gate_up = w->expert_gate_up + s->first;
    const Lora *adapters = w->lora.expert_gate_up + s->first;
    if (gate_up_fused(e, adapters, NULL)) {
        ops->gate_up_fwd(b, x->act, x->gu, xn, r->rows + s->from, gate_up, s->offsets, s->count);
    } else {
        ops->gather_rows(b, x->xs, xn, r->rows + s->from);
        ops->grouped_fwd(b, x->gu, x->xs, gate_up, s->offsets, s->count);
        lora_experts_fwd(e, adapters, x->gu, x->xs, s->offsets, s->count);
        ops->swiglu_fwd(b, x->act, x->gu);
    }
    ops->grouped_fwd(b, x->y, x->act, w->expert_down + s->first, s->offsets, s->count);
    lora_experts_fwd(e, w->lora.expert_down + s->first, x->y, x->act, s->offsets, s->count);
}

static void experts_fwd(Engine *e, const LayerWeights *w, FfnActs *a, const Routing *r, Mat xn)
{
    size_t pairs = xn.rows * (size_t)e->config->K;
    const int32_t *all = counted(e, w, NULL, r);
    keeper_routed(w->keeper, w->layer, all);
    EngineMark mark = engine_mark(e);
    for (int first = 0; first < e->config->E;) {
        ExpertSlice s = expert_slice(e, w, NULL, r, all, first, pairs);
        ExpertRows rows = kept_rows(e, a, pairs, &s);
        keeper_need(w->keeper, w->part + 1 + first, s.count);
        slice_fwd(e, w, &s, &rows, r, xn);
        keeper_done(w->keeper, w->part + 1 + first, s.count);
        first += s.count;
        engine_release(e, mark);
    }
}

void ffn_block_fwd(Engine *e, const LayerWeights *w, FfnActs *a, Routing *r, float *y, const float *h, size_t n)
{
    const ModelConfig *c = e->config;
    const Ops *ops = e->ops;
    Backend *b = e->backend;
    size_t C = (size_t)c->C, K = (size_t)c->K;
    Mat all_h = mat_f32((float *)h, n, C), all_y = mat_f32(y, n, C), all_xn = act_mat(e, a->xn, n, C);
    Mlp mlp = mlp_of(e, w, a, r != NULL, n);
    Mat shared = r && mlp.down.p ? act_mat(e, a->sy, n, C) : (Mat){0};
    EACH_SLICE(e, from, rows, n)
    {
        Mat in = mat_rows(all_h, from, rows), out = mat_rows(all_y, from, rows), xn = mat_rows(all_xn, from, rows);
        ops->rmsnorm_fwd(b, xn, a->rstd + from, in, w->ffn_norm, c->eps);
        ops->copy(b, out, in);
        if (r && !r->decided) route(e, w, xn, r, from);
        if (mlp.down.p) mlp_fwd(e, mlp_rows(mlp, from, rows), r ? mat_rows(shared, from, rows) : out, xn, !r);
    }
    if (!r) return;
    if (!r->decided && e->drop) token_drop(e, e->drop, r, n);
    if (!r->decided) ops->sort_experts(b, r->offsets, r->slot, r->rows, r->idx, (int)n, c->E, c->K);
    r->decided = true;
    if (a->later) return;
    experts_fwd(e, w, a, r, all_xn);
    ops->combine_fwd(b, all_y, act_mat(e, a->ey, n * K, C), r->slot, mat_f32(r->weights, n, K), shared);
}

/* dxn (+)= the gradient through the MLP; g: of its weights. */
static void mlp_bwd(Engine *e, Mlp m, Mlp g, Mat dxn, Mat dy, Mat xn, bool add)
{
    size_t n = xn.rows, F = m.down.cols;
    Mat dact = mat_f32(arena_floats(&e->arena, n * F), n, F),
        dgu = mat_f32(arena_floats(&e->arena, n * 2 * F), n, 2 * F);
    weight_grad(e, g.down, g.down_bias, dy, m.act);
    e->ops->linear_bwd_x(e->backend, dact, dy, m.down, false);
    lora_bwd(e, m.lora_down, g.lora_down, dact, dy, m.act);
    e->ops->swiglu_bwd(e->backend, dgu, dact, m.gu);
    weight_grad(e, g.gate_up, g.gate_up_bias, dgu, xn);
    e->ops->linear_bwd_x(e->backend, dxn, dgu, m.gate_up, add);
    lora_bwd(e, m.lora_gate_up, g.lora_gate_up, dxn, dgu, xn);
}

/* Router, a slice of tokens: dxn += through the gate, from the gradient of the combination weights and of the balance losses. */
static void router_bwd(Engine *e, const LayerWeights *w, const LayerWeights *g, const Routing *r, Mat dweights, Mat dxn,
                       Mat xn, size_t from)
{
    size_t n = xn.rows, E = (size_t)e->config->E, K = (size_t)e->config->K;
    Mat dlogits = mat_f32(arena_floats(&e->arena, n * E), n, E);
    Mat ds = r->dscores ? rows_f32(r->dscores, E, from, n) : (Mat){0};
    e->ops->router_bwd(e->backend, e->router, dlogits, dweights, r->dscores ? &ds : NULL,
                       rows_f32(r->scores, E, from, n), r->idx + from * K);
    weight_grad(e, g->router, NULL, dlogits, engine_as(e, DTYPE_F32, xn));
    e->ops->linear_bwd_x(e->backend, dxn, dlogits, w->router, true);
}

/* What a backward that makes the experts' interior itself needs beside: the layer's dy, and by sorted row the combination weight
 * and its gradient. */
typedef struct Again {
    Mat dy, weights, dweights; /* [n, C], [pairs, 1], [pairs, 1] */
} Again;

/* The interior of a slice; d = weight dy and dweights = dy . y of its rows, by combine_bwd with a pair for a token. */
static ExpertRows slice_again(Engine *e, const LayerWeights *w, const ExpertSlice *s, const Routing *r, Mat xn,
                              const Again *again, Mat d)
{
    size_t C = (size_t)e->config->C, F = (size_t)e->config->moe_F;
    ExpertRows x = {new_rows(e, s->rows, C), new_rows(e, s->rows, 2 * F), new_rows(e, s->rows, F),
                    new_rows(e, s->rows, C)};
    slice_fwd(e, w, s, &x, r, xn);
    EngineMark mark = engine_mark(e);
    Mat dy = mat_f32(arena_floats(&e->arena, s->rows * C), s->rows, C);
    int32_t *same = arena_ints(&e->host, s->rows);
    for (size_t i = 0; i < s->rows; i++) same[i] = (int32_t)i;
    e->ops->gather_rows(e->backend, dy, again->dy, r->rows + s->from);
    e->ops->combine_bwd(e->backend, d, mat_rows(again->dweights, s->from, s->rows), dy, x.y,
                        engine_upload_ints(e, same, s->rows), mat_rows(again->weights, s->from, s->rows));
    engine_release(e, mark);
    return x;
}

/* The gradient of a slice's gate | up, whose forward may have read rows of xn without gathering them. */
static void gate_up_grad(Engine *e, const LayerWeights *w, const LayerWeights *g, const ExpertSlice *s, Mat dgu, Mat xs,
                         Mat xn, const int32_t *rows)
{
    if (!g->expert_gate_up[s->first].p) return;
    if (gate_up_fused(e, w->lora.expert_gate_up + s->first, NULL)) e->ops->gather_rows(e->backend, xs, xn, rows);
    e->ops->grouped_bwd_w(e->backend, g->expert_gate_up + s->first, dgu, xs, s->offsets, s->count);
}

/* d holds the gradients of the experts' outputs on entry and of their inputs on return, both [pairs, C] in sorted order. again
 * (NULL: the interior is in a): d is empty on entry. */
static void experts_bwd(Engine *e, const LayerWeights *w, const LayerWeights *g, const FfnActs *a, const Routing *r,
                        Mat d, Mat xn, const Again *again)
{
    const ModelConfig *c = e->config;
    const Ops *ops = e->ops;
    Backend *b = e->backend;
    size_t pairs = d.rows, F = (size_t)c->moe_F;
    const int32_t *all = counted(e, w, g, r);
    keeper_routed(w->keeper, w->layer, all);
    EngineMark mark = engine_mark(e);
    for (int first = 0; first < c->E;) {
        ExpertSlice s = expert_slice(e, w, g, r, all, first, pairs);
        keeper_need(w->keeper, w->part + 1 + first, s.count);
        keeper_need(g->keeper, w->part + 1 + first, s.count);
        Mat dy = mat_rows(d, s.from, s.rows), dact = mat_f32(arena_floats(&e->arena, s.rows * F), s.rows, F),
            dgu = mat_f32(arena_floats(&e->arena, s.rows * 2 * F), s.rows, 2 * F);
        ExpertRows x = again ? slice_again(e, w, &s, r, xn, again, dy) : kept_rows(e, a, pairs, &s);
        if (g->expert_down[first].p) ops->grouped_bwd_w(b, g->expert_down + first, dy, x.act, s.offsets, s.count);
        ops->grouped_bwd_x(b, dact, dy, w->expert_down + first, s.offsets, s.count);
        lora_experts_bwd(e, w->lora.expert_down + first, g->lora.expert_down + first, dact, dy, x.act, s.offsets,
                         s.count);
        ops->swiglu_bwd(b, dgu, dact, x.gu);
        gate_up_grad(e, w, g, &s, dgu, x.xs, xn, r->rows + s.from);
        ops->grouped_bwd_x(b, dy, dgu, w->expert_gate_up + first, s.offsets, s.count);
        lora_experts_bwd(e, w->lora.expert_gate_up + first, g->lora.expert_gate_up + first, dy, dgu, x.xs, s.offsets,
                         s.count);
        keeper_done(w->keeper, w->part + 1 + first, s.count);
        keeper_done(g->keeper, w->part + 1 + first, s.count);
        first += s.count;
        engine_release(e, mark);
    }
}

/* The same where the interior is still to be made; dweights [n, K]. Scalars go to sorted rows by combine_bwd, whose dx there is
 * weight times a dy of 1, and come back by gather_rows. */
static void experts_bwd_again(Engine *e, const LayerWeights *w, const LayerWeights *g, const Routing *r, Mat d, Mat xn,
                              Again again, Mat dweights)
{
    const Ops *ops = e->ops;
    size_t n = dweights.rows, pairs = d.rows;
    Mat ones = mat_f32(arena_floats(&e->arena, pairs), pairs, 1);
    again.weights = mat_f32(arena_floats(&e->arena, pairs), pairs, 1);
    again.dweights = mat_f32(arena_floats(&e->arena, pairs), pairs, 1);
    ops->fill(e->backend, ones.p, pairs, 1.0f);
    ops->combine_bwd(e->backend, again.weights, dweights, mat_rows(ones, 0, n), ones, r->slot,
                     mat_f32(r->weights, n, dweights.cols));
    experts_bwd(e, w, g, NULL, r, d, xn, &again);
    ops->gather_rows(e->backend, mat_f32(dweights.p, pairs, 1), again.dweights, r->slot);
}

void ffn_block_bwd(Engine *e, const LayerWeights *w, const LayerWeights *g, const FfnActs *a, const Routing *r,
                   float *dx, const float *h, size_t n)
{
    const ModelConfig *c = e->config;
    const Ops *ops = e->ops;
    Backend *b = e->backend;
    Arena *arena = &e->arena;
    size_t C = (size_t)c->C, K = (size_t)c->K;
    EngineMark mark = engine_mark(e);
    Mat all_dy = mat_f32(dx, n, C), all_xn = act_mat(e, a->xn, n, C), all_h = mat_f32((float *)h, n, C), dweights = {0},
        d = {0};
    Mlp mlp = mlp_of(e, w, a, r != NULL, n), dmlp = mlp_of(e, g, a, r != NULL, n);
    if (r) {
        d = mat_f32(arena_floats(arena, n * K * C), n * K, C);
        dweights = mat_f32(arena_floats(arena, n * K), n, K);
        if (a->later) {
            experts_bwd_again(e, w, g, r, d, all_xn, (Again){.dy = all_dy}, dweights);
        } else {
            ops->combine_bwd(b, d, dweights, all_dy, act_mat(e, a->ey, n * K, C), r->slot, mat_f32(r->weights, n, K));
            experts_bwd(e, w, g, a, r, d, all_xn, NULL);
        }
        if (e->drop) token_drop_bwd(e, r, dweights);
    }
    EACH_SLICE(e, from, rows, n)
    {
        EngineMark slice = engine_mark(e);
        Mat dy = mat_rows(all_dy, from, rows), xn = mat_rows(all_xn, from, rows);
        Mat dxn = mat_f32(arena_floats(arena, rows * C), rows, C);
        if (r) {
            ops->fill(b, dxn.p, rows * C, 0.0f);
            ops->scatter_add_rows(b, dxn, d, r->slot + from * K, c->K);
            router_bwd(e, w, g, r, mat_rows(dweights, from, rows), dxn, xn, from);
        }
        if (mlp.down.p) mlp_bwd(e, mlp_rows(mlp, from, rows), dmlp, dxn, dy, xn, r != NULL);
        ops->rmsnorm_bwd(b, dy, g->ffn_norm, dxn, mat_rows(all_h, from, rows), w->ffn_norm, a->rstd + from, true);
        engine_release(e, slice);
    }
    engine_release(e, mark);
}
