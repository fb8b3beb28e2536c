/* The attention half of a block, the order only: norm, project, rotate, attend, output. MLA, with keys and values expanded
 * (training, prefill, exact decode) or absorbed (latent decode), is mla.c; GQA's own is gqa.c; where things lie, projected.c. */
#include "core/block.h"
#include "core/lora.h"
#include "core/base/check.h"

/* Rotates queries and keys (or rotates their gradients back). */
static void rotate(Engine *e, AttentionInputs in, const int32_t *pos, size_t n, bool inverse)
{
    const ModelConfig *c = e->config;
    RopeArgs args = {e->rope.cos, e->rope.sin, c->Dr, c->rope.interleaved, inverse};
    int key_heads = c->attention == ATTENTION_MLA ? 1 : c->Hkv;
    e->ops->rope(e->backend, heads_from(in.q, (size_t)c->Dn), pos, args, (int)n, c->H);
    e->ops->rope(e->backend, in.k_rope, pos, args, (int)n, key_heads);
}

/* Decoding from the latent cache never expands keys and values. */
static bool absorbed(const Rows *r)
{
    return r->cache && r->cache->kind == CACHE_LATENT && !r->offsets;
}

/* Writes the rows to the cache, when there is one, and attends. */
static void attend(Engine *e, const LayerWeights *w, AttentionActs *a, int layer, const Rows *r)
{
    const ModelConfig *c = e->config;
    size_t n = (size_t)r->n, Dv = (size_t)c->Dv;
    HeadView o = heads_in(act_mat(e, a->o, n, (size_t)c->H * Dv), Dv);
    AttentionInputs in = projected_inputs(c, &a->p);
    bool latent = r->cache && r->cache->kind == CACHE_LATENT;
    CacheLayer cache = {0};
    if (r->cache) cache = kv_cache_layer(r->cache, layer, r->pages);
    if (latent)
        e->ops->latent_write(e->backend, cache, r->cached, r->n, act_mat(e, a->ckv, n, (size_t)c->Rkv), in.k_rope,
                             c->Dr);
    if (absorbed(r)) {
        mla_absorbed(e, w, a, layer, r);
        return;
    }
    if (r->cache && !latent) e->ops->cache_write(e->backend, e->attention, cache, r->cached, r->n, in);
    if (r->offsets) e->ops->attention_fwd(e->backend, e->attention, o, a->lse, in, sequences_of(r));
    else e->ops->attention_cached(e->backend, e->attention, o, in.q, cache, r->cached, r->n);
}

/* Queries, keys and values of the rows of x, before a cache or attention reads them. */
static void project(Engine *e, const LayerWeights *w, AttentionActs *a, Mat x, const int32_t *pos, bool expand)
{
    const ModelConfig *c = e->config;
    Mat xn = act_mat(e, a->xn, x.rows, x.cols);
    e->ops->rmsnorm_fwd(e->backend, xn, a->rstd, x, w->attn_norm, c->eps);
    Mat in = projected_in(c, &a->p, x.rows, 0, w->in.rows);
    e->ops->linear_fwd(e->backend, in, xn, w->in, w->in_bias, false);
    lora_fwd(e, &w->lora.in, in, xn);
    if (c->attention == ATTENTION_MLA) mla_project(e, w, a, x.rows);
    if (c->qk_norm) gqa_norms(e, w, a, x.rows);
    rotate(e, projected_inputs(c, &a->p), pos, x.rows, false);
    if (c->attention == ATTENTION_MLA && expand) mla_expand(e, w, a, x.rows);
}

void attention_block_fwd(Engine *e, const LayerWeights *w, AttentionActs *a, int layer, const float *x, const Rows *r)
{
    const ModelConfig *c = e->config;
    size_t n = (size_t)r->n, C = (size_t)c->C, o_width = (size_t)c->H * (size_t)c->Dv;
    Mat in = mat_f32((float *)x, n, C), h = mat_f32(a->h, n, C), o = act_mat(e, a->o, n, o_width);
    EACH_SLICE(e, from, rows, n)
    {
        AttentionActs slice = attention_acts_from(e, a, from);
        project(e, w, &slice, mat_rows(in, from, rows), r->pos + from, !absorbed(r));
    }
    attend(e, w, a, layer, r);
    EACH_SLICE(e, from, rows, n)
    {
        Mat out = mat_rows(h, from, rows);
        e->ops->copy(e->backend, out, mat_rows(in, from, rows));
        e->ops->linear_fwd(e->backend, out, mat_rows(o, from, rows), w->o, w->o_bias, true);
        lora_fwd(e, &w->lora.o, out, mat_rows(o, from, rows));
    }
}

/* dxn = d->in w->in, as the sum of its parts: MLA's kv_a, then q; GQA's q, k, v. */
static void in_bwd_x(Engine *e, const LayerWeights *w, Mat dxn, const Projected *d, size_t n)
{
    const ModelConfig *c = e->config;
    bool mla = c->attention == ATTENTION_MLA;
    Mat first = projected_cq(c, d, n), second = mla ? projected_ckv_kr(c, d, n) : projected_kv(c, d, n, 0);
    Mat w_first = mat_rows(w->in, 0, first.cols), w_second = mat_rows(w->in, first.cols, second.cols);
    if (mla) e->ops->linear_bwd_x(e->backend, dxn, second, w_second, false);
    e->ops->linear_bwd_x(e->backend, dxn, first, w_first, mla);
    if (mla) return;
    e->ops->linear_bwd_x(e->backend, dxn, second, w_second, true);
    e->ops->linear_bwd_x(e->backend, dxn, projected_kv(c, d, n, 1),
                         mat_rows(w->in, first.cols + second.cols, second.cols), true);
}

/* dx += the gradient through the projections of a slice of rows and the norm before them. */
static void project_bwd(Engine *e, const LayerWeights *w, const LayerWeights *g, const AttentionActs *a, Mat dx, Mat x,
                        const Projected *d, const int32_t *pos)
{
    const ModelConfig *c = e->config;
    EngineMark mark = engine_mark(e);
    Mat dxn = mat_f32(arena_floats(&e->arena, x.rows * x.cols), x.rows, x.cols);
    rotate(e, projected_inputs(c, d), pos, x.rows, true);
    if (c->attention == ATTENTION_MLA) mla_bwd(e, w, g, a, d, x.rows);
    if (c->qk_norm) gqa_norms_bwd(e, w, g, a, d, x.rows);
    Mat din = projected_in(c, d, x.rows, 0, w->in.rows), xn = act_mat(e, a->xn, x.rows, x.cols);
    weight_grad(e, g->in, g->in_bias, din, xn);
    in_bwd_x(e, w, dxn, d, x.rows);
    lora_bwd(e, &w->lora.in, &g->lora.in, dxn, din, xn);
    e->ops->rmsnorm_bwd(e->backend, dx, g->attn_norm, dxn, x, w->attn_norm, a->rstd, true);
    engine_release(e, mark);
}

void attention_block_bwd(Engine *e, const LayerWeights *w, const LayerWeights *g, const AttentionActs *a, float *dx,
                         const float *x, const Rows *r)
{
    const ModelConfig *c = e->config;
    const Ops *ops = e->ops;
    Backend *b = e->backend;
    size_t n = (size_t)r->n, C = (size_t)c->C, Dv = (size_t)c->Dv, o_width = (size_t)c->H * Dv;
    EngineMark mark = engine_mark(e);
    Mat dh = mat_f32(dx, n, C), in = mat_f32((float *)x, n, C), o = act_mat(e, a->o, n, o_width);
    Mat d_o = mat_f32(arena_floats(&e->arena, n * o_width), n, o_width);
    EACH_SLICE(e, from, rows, n)
    {
        Mat dy = mat_rows(dh, from, rows), x_o = mat_rows(o, from, rows), dx_o = mat_rows(d_o, from, rows);
        weight_grad(e, g->o, g->o_bias, dy, x_o);
        ops->linear_bwd_x(b, dx_o, dy, w->o, false);
        lora_bwd(e, &w->lora.o, &g->lora.o, dx_o, dy, x_o);
    }
    Projected d = projected_alloc(e, n);
    ops->attention_bwd(b, e->attention, projected_inputs(c, &d), heads_in(d_o, Dv), heads_in(o, Dv), a->lse,
                       projected_inputs(c, &a->p), sequences_of(r));
    EACH_SLICE(e, from, rows, n)
    {
        AttentionActs slice = attention_acts_from(e, a, from);
        Projected part = projected_from(c, &d, from);
        project_bwd(e, w, g, &slice, mat_rows(dh, from, rows), mat_rows(in, from, rows), &part, r->pos + from);
    }
    engine_release(e, mark);
}
