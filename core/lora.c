/* Adapters forward and backward, through the ops that every product goes through. */
#include "core/lora.h"

#include <string.h>

#include "core/base/check.h"

/* [n, cols] of the engine's dtype, or f32. */
static Mat temporary(Engine *e, DType dtype, size_t n, size_t cols)
{
    return mat_of(arena_alloc(&e->arena, n * cols * dtype_size(dtype)), dtype, n, cols);
}

/* The columns of u that belong to part i. */
static Mat part_of(Mat u, const Lora *l, int i)
{
    return mat_cols(u, (size_t)i * l->b[i].cols, l->b[i].cols);
}

/* The columns of y that part i adds to. */
static Mat columns_of(Mat y, const Lora *l, int i)
{
    return mat_cols(y, l->at[i], l->b[i].rows);
}

/* u = s x A^T */
static Mat down_product(Engine *e, const Lora *l, Mat x)
{
    Mat u = temporary(e, e->dtype, x.rows, l->a.rows);
    e->ops->linear_fwd(e->backend, u, x, l->a, NULL, false);
    e->ops->scale(e->backend, u, lora_scale(&e->config->lora));
    return u;
}

void lora_fwd(Engine *e, const Lora *l, Mat y, Mat x)
{
    if (!l->parts) return;
    EngineMark mark = engine_mark(e);
    Mat u = down_product(e, l, x);
    for (int i = 0; i < l->parts; i++)
        e->ops->linear_fwd(e->backend, columns_of(y, l, i), part_of(u, l, i), l->b[i], NULL, true);
    engine_release(e, mark);
}

void lora_bwd(Engine *e, const Lora *l, const Lora *g, Mat dx, Mat dy, Mat x)
{
    if (!l->parts) return;
    const Ops *ops = e->ops;
    Backend *b = e->backend;
    EngineMark mark = engine_mark(e);
    Mat u = down_product(e, l, x), du = temporary(e, DTYPE_F32, x.rows, l->a.rows);
    for (int i = 0; i < l->parts; i++) {
        weight_grad(e, g->b[i], NULL, columns_of(dy, l, i), part_of(u, l, i));
        ops->linear_bwd_x(b, part_of(du, l, i), columns_of(dy, l, i), l->b[i], false);
    }
    ops->scale(b, du, lora_scale(&e->config->lora));
    weight_grad(e, g->a, NULL, du, x);
    ops->linear_bwd_x(b, dx, du, l->a, true);
    engine_release(e, mark);
}

/* ---- Experts ---- */

/* Matrix `part` of every expert (-1: A) as the grouped ops read it. */
static Mat *matrices(Engine *e, const Lora *l, int E, int part)
{
    Mat *m = arena_alloc(&e->host, (size_t)E * sizeof *m);
    for (int i = 0; i < E; i++) m[i] = part < 0 ? l[i].a : l[i].b[part];
    return m;
}

static Mat experts_down(Engine *e, const Lora *l, Mat x, const int32_t *offsets, int E)
{
    Mat u = temporary(e, e->dtype, x.rows, l->a.rows);
    e->ops->grouped_fwd(e->backend, u, x, matrices(e, l, E, -1), offsets, E);
    e->ops->scale(e->backend, u, lora_scale(&e->config->lora));
    return u;
}

void lora_experts_fwd(Engine *e, const Lora *l, Mat y, Mat x, const int32_t *offsets, int E)
{
    if (!l->parts) return;
    EngineMark mark = engine_mark(e);
    Mat u = experts_down(e, l, x, offsets, E);
    for (int i = 0; i < l->parts; i++) {
        Mat sum = temporary(e, DTYPE_F32, x.rows, l->b[i].rows);
        e->ops->grouped_fwd(e->backend, sum, part_of(u, l, i), matrices(e, l, E, i), offsets, E);
        e->ops->add(e->backend, columns_of(y, l, i), sum);
    }
    engine_release(e, mark);
}

void lora_experts_bwd(Engine *e, const Lora *l, const Lora *g, Mat dx, Mat dy, Mat x, const int32_t *offsets, int E)
{
    if (!l->parts) return;
    const Ops *ops = e->ops;
    Backend *b = e->backend;
    EngineMark mark = engine_mark(e);
    Mat u = experts_down(e, l, x, offsets, E), du = temporary(e, DTYPE_F32, x.rows, l->a.rows);
    for (int i = 0; i < l->parts; i++) {
        if (g->b[i].p) ops->grouped_bwd_w(b, matrices(e, g, E, i), columns_of(dy, l, i), part_of(u, l, i), offsets, E);
        ops->grouped_bwd_x(b, part_of(du, l, i), columns_of(dy, l, i), matrices(e, l, E, i), offsets, E);
    }
    ops->scale(b, du, lora_scale(&e->config->lora));
    if (g->a.p) ops->grouped_bwd_w(b, matrices(e, g, E, -1), du, x, offsets, E);
    Mat sum = temporary(e, DTYPE_F32, x.rows, x.cols);
    ops->grouped_bwd_x(b, sum, du, matrices(e, l, E, -1), offsets, E);
    ops->add(b, dx, sum);
    engine_release(e, mark);
}

/* ---- Latent decode ---- */

Weights lora_merge_latent(Engine *e, const Weights *w)
{
    size_t L = (size_t)e->config->L;
    if (!w->layers[0].lora.kv_b.parts) return *w;
    Weights merged = *w;
    size_t blocks = (size_t)config_blocks(e->config) * sizeof *merged.layers;
    merged.layers = arena_alloc(&e->host, blocks);
    memcpy(merged.layers, w->layers, blocks);
    for (size_t l = 0; l < L; l++) {
        const Lora *lora = &w->layers[l].lora.kv_b;
        Mat base = w->layers[l].kv_b, to = temporary(e, base.dtype, base.rows, base.cols);
        EngineMark mark = engine_mark(e);
        Mat sum = temporary(e, DTYPE_F32, base.rows, base.cols),
            b = temporary(e, DTYPE_F32, base.rows, lora->b[0].cols);
        keeper_need(w->keeper, w->layers[l].part, 1);
        merged.layers[l] = w->layers[l]; /* with views that hold: a part that stays lies where it is */
        merged.layers[l].kv_b_merged = to;
        e->ops->copy(e->backend, sum, w->layers[l].kv_b);
        keeper_done(w->keeper, w->layers[l].part, 1);
        e->ops->copy(e->backend, b, lora->b[0]);
        e->ops->scale(e->backend, b, lora_scale(&e->config->lora));
        e->ops->linear_bwd_x(e->backend, sum, b, lora->a, true);
        e->ops->copy(e->backend, to, sum);
        engine_release(e, mark);
    }
    e->ops->weights_changed(e->backend);
    return merged;
}
