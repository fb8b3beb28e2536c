/* The attention half of a block: MLA in naive form (training, prefill, exact decode), MLA absorbed (latent decode), GQA. */
#include "core/block.h"
#include "core/check.h"

static const float LATENT_NORM_EPS = 1e-6f; /* the class default of the reference code, not rms_norm_eps */

static size_t q_width(const ModelConfig *c)
{
    return (size_t)c->H * (size_t)config_qk_dim(c);
}

/* Columns [from, from + cols) of p.in, n rows. */
static Mat in_part(const ModelConfig *c, const Projected *p, size_t n, size_t from, size_t cols)
{
    return mat_cols(mat_of(p->in, p->dtype, n, projected_widths(c).in), from, cols);
}

/* Its first part: q, or what q is made of. */
static Mat in_first(const ModelConfig *c, const Projected *p, size_t n)
{
    return in_part(c, p, n, 0, c->Rq ? (size_t)c->Rq : q_width(c));
}

static Mat in_ckv(const ModelConfig *c, const Projected *p, size_t n)
{
    size_t cols = (size_t)(c->Rkv + c->Dr);
    return in_part(c, p, n, projected_widths(c).in - cols, cols);
}

static Mat in_latent(const ModelConfig *c, const Projected *p, size_t n)
{
    return mat_cols(in_ckv(c, p, n), 0, (size_t)c->Rkv);
}

/* Keys (i = 0) or values (1) of GQA. */
static Mat in_kv(const ModelConfig *c, const Projected *p, size_t n, int i)
{
    size_t cols = (size_t)c->Hkv * (size_t)c->Dv;
    return in_part(c, p, n, q_width(c) + (size_t)i * cols, cols);
}

static Mat queries(const ModelConfig *c, const Projected *p, size_t n)
{
    return p->q ? mat_of(p->q, p->dtype, n, q_width(c)) : in_first(c, p, n);
}

/* Heads of `head` values each beside one another in the rows of m; 0: one for all. */
static HeadView heads_in(Mat m, size_t head)
{
    return (HeadView){m.p, m.stride, head, m.dtype};
}

/* Where the attention op finds queries, keys and values. */
static AttentionInputs inputs_of(const ModelConfig *c, const Projected *p)
{
    size_t D = (size_t)c->Dv;
    AttentionInputs in = {.q = heads_in(queries(c, p, 1), (size_t)config_qk_dim(c))};
    if (c->attention == ATTENTION_MLA) {
        size_t Dn = (size_t)c->Dn;
        in.k = heads_in(mat_of(p->kv, p->dtype, 1, projected_widths(c).kv), Dn + D);
        in.v = heads_from(in.k, Dn);
        in.k_rope = heads_from(heads_in(in_ckv(c, p, 1), 0), (size_t)c->Rkv);
    } else {
        in.k_rope = heads_in(p->k ? mat_of(p->k, p->dtype, 1, projected_widths(c).k) : in_kv(c, p, 1, 0), D);
        in.v = heads_in(in_kv(c, p, 1, 1), D);
    }
    return in;
}

/* Rotates queries and keys (or rotates their gradients back). */
static void rotate(Engine *e, AttentionInputs in, const int32_t *pos, size_t n, bool inverse)
{
    const ModelConfig *c = e->config;
    RopeArgs args = {e->rope.cos, e->rope.sin, c->Dr, c->rope.interleaved, inverse};
    int key_heads = c->attention == ATTENTION_MLA ? 1 : c->Hkv;
    e->ops->rope(e->backend, heads_from(in.q, (size_t)c->Dn), pos, args, (int)n, c->H);
    e->ops->rope(e->backend, in.k_rope, pos, args, (int)n, key_heads);
}

/* q with q_lora_rank, and z (model.md 2.2 steps 1, 2, 4). */
static void mla_project(Engine *e, const LayerWeights *w, AttentionActs *a, size_t n)
{
    const ModelConfig *c = e->config;
    const Ops *ops = e->ops;
    Backend *b = e->backend;
    if (c->Rq) {
        Mat qan = act_mat(e, a->qan, n, (size_t)c->Rq);
        ops->rmsnorm_fwd(b, qan, a->rstd_q, in_first(c, &a->p, n), w->q_a_norm, LATENT_NORM_EPS);
        ops->linear_fwd(b, queries(c, &a->p, n), qan, w->q_b, NULL, false);
    }
    ops->rmsnorm_fwd(b, act_mat(e, a->z, n, (size_t)c->Rkv), a->rstd_kv, in_latent(c, &a->p, n), w->kv_a_norm,
                     LATENT_NORM_EPS);
}

static void mla_expand(Engine *e, const LayerWeights *w, AttentionActs *a, size_t n)
{
    const ModelConfig *c = e->config;
    Mat kv = act_mat(e, a->p.kv, n, projected_widths(c).kv);
    e->ops->linear_fwd(e->backend, kv, act_mat(e, a->z, n, (size_t)c->Rkv), w->kv_b, NULL, false);
}

/* Qwen3: q and k of their raw forms, head by head. */
static void gqa_norms(Engine *e, const LayerWeights *w, AttentionActs *a, size_t n)
{
    const ModelConfig *c = e->config;
    size_t D = (size_t)c->Dv;
    AttentionInputs in = inputs_of(c, &a->p);
    HeadView q_raw = heads_in(in_first(c, &a->p, n), D), k_raw = heads_in(in_kv(c, &a->p, n, 0), D);
    e->ops->headnorm_fwd(e->backend, in.q, a->rstd_qn, q_raw, (HeadNorm){w->q_norm, (int)n, c->H, (int)D}, c->eps);
    e->ops->headnorm_fwd(e->backend, in.k_rope, a->rstd_kn, k_raw, (HeadNorm){w->k_norm, (int)n, c->Hkv, (int)D},
                         c->eps);
}

/* Rows of kv_b that make head h's keys (from = 0) or values (from = Dn). */
static Mat kv_b_head(const ModelConfig *c, const LayerWeights *w, int h, int from, int rows)
{
    return mat_rows(w->kv_b, (size_t)(h * (c->Dn + c->Dv) + from), (size_t)rows);
}

/* Absorbed form (model.md 2.3): attention in the latent space, never expanding keys and values. */
static void latent_attend(Engine *e, const LayerWeights *w, AttentionActs *a, int layer, const Rows *r)
{
    const ModelConfig *c = e->config;
    const Ops *ops = e->ops;
    Backend *b = e->backend;
    size_t n = (size_t)r->n, H = (size_t)c->H, R = (size_t)c->Rkv, qk = (size_t)config_qk_dim(c), Dv = (size_t)c->Dv;
    ArenaMark mark = arena_mark(&e->arena);
    Mat qz_all = mat_f32(arena_floats(&e->arena, n * H * R), n, H * R);
    Mat u_all = act_mat(e, arena_alloc(&e->arena, n * H * R * dtype_size(e->dtype)), n, H * R);
    Mat q_all = queries(c, &a->p, n), o_all = act_mat(e, a->o, n, H * Dv);
    for (int h = 0; h < c->H; h++)
        ops->linear_bwd_x(b, mat_cols(qz_all, (size_t)h * R, R), mat_cols(q_all, (size_t)h * qk, (size_t)c->Dn),
                          kv_b_head(c, w, h, 0, c->Dn), false);
    ops->attention_latent(b, e->attention, c->Rkv, heads_in(u_all, R), heads_in(qz_all, R),
                          heads_from(heads_in(q_all, qk), (size_t)c->Dn), kv_cache_layer(r->cache, layer), r->cached,
                          r->n);
    for (int h = 0; h < c->H; h++)
        ops->linear_fwd(b, mat_cols(o_all, (size_t)h * Dv, Dv), mat_cols(u_all, (size_t)h * R, R),
                        kv_b_head(c, w, h, c->Dn, c->Dv), NULL, false);
    arena_release(&e->arena, mark);
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
    AttentionInputs in = inputs_of(c, &a->p);
    bool latent = r->cache && r->cache->kind == CACHE_LATENT;
    CacheLayer cache = {0};
    if (r->cache) cache = kv_cache_layer(r->cache, layer);
    if (latent)
        e->ops->latent_write(e->backend, cache, r->cached, r->n, act_mat(e, a->z, n, (size_t)c->Rkv), in.k_rope, c->Dr);
    if (absorbed(r)) {
        latent_attend(e, w, a, layer, r);
        return;
    }
    if (r->cache && !latent) e->ops->cache_write(e->backend, e->attention, cache, r->cached, r->n, in);
    if (r->offsets) e->ops->attention_fwd(e->backend, e->attention, o, a->lse, in, r->offsets, r->nseq);
    else e->ops->attention_cached(e->backend, e->attention, o, in.q, cache, r->cached, r->n);
}

/* Queries, keys and values of the rows of x, before they meet a cache. */
static void project(Engine *e, const LayerWeights *w, AttentionActs *a, Mat x, const int32_t *pos, bool expand)
{
    const ModelConfig *c = e->config;
    Mat xn = act_mat(e, a->xn, x.rows, x.cols);
    e->ops->rmsnorm_fwd(e->backend, xn, a->rstd, x, w->attn_norm, c->eps);
    e->ops->linear_fwd(e->backend, in_part(c, &a->p, x.rows, 0, w->in.rows), xn, w->in, w->in_bias, false);
    if (c->attention == ATTENTION_MLA) mla_project(e, w, a, x.rows);
    if (c->qk_norm) gqa_norms(e, w, a, x.rows);
    rotate(e, inputs_of(c, &a->p), pos, x.rows, false);
    if (c->attention == ATTENTION_MLA && expand) mla_expand(e, w, a, x.rows);
}

void attention_block_fwd(Engine *e, const LayerWeights *w, AttentionActs *a, int layer, const float *x, const Rows *r)
{
    const ModelConfig *c = e->config;
    size_t n = (size_t)r->n, C = (size_t)c->C, o_width = (size_t)c->H * (size_t)c->Dv;
    Mat in = mat_f32((float *)x, n, C), h = mat_f32(a->h, n, C), o = act_mat(e, a->o, n, o_width);
    EACH_SLICE(from, rows, n)
    {
        AttentionActs slice = attention_acts_from(e, a, from);
        project(e, w, &slice, mat_rows(in, from, rows), r->pos + from, !absorbed(r));
    }
    attend(e, w, a, layer, r);
    EACH_SLICE(from, rows, n)
    {
        Mat out = mat_rows(h, from, rows);
        e->ops->copy(e->backend, out, mat_rows(in, from, rows));
        e->ops->linear_fwd(e->backend, out, mat_rows(o, from, rows), w->o, NULL, true);
    }
}

/* Gradients of n rows. */
static Projected projected_alloc(Engine *e, size_t n)
{
    ProjectedWidths w = projected_widths(e->config);
    Projected d = {.dtype = DTYPE_F32, .in = arena_floats(&e->arena, n * w.in)};
    if (w.q) d.q = arena_floats(&e->arena, n * w.q);
    if (w.k) d.k = arena_floats(&e->arena, n * w.k);
    if (w.kv) d.kv = arena_floats(&e->arena, n * w.kv);
    return d;
}

/* The same from row `from` on. */
static Projected gradients_from(const ModelConfig *c, const Projected *d, size_t from)
{
    ProjectedWidths w = projected_widths(c);
    return (Projected){d->dtype, (float *)d->in + from * w.in, d->q ? (float *)d->q + from * w.q : NULL,
                       d->k ? (float *)d->k + from * w.k : NULL, d->kv ? (float *)d->kv + from * w.kv : NULL};
}

/* d->in through what made queries, keys and values of it. */
static void mla_bwd(Engine *e, const LayerWeights *w, const LayerWeights *g, const AttentionActs *a, const Projected *d,
                    size_t n)
{
    const ModelConfig *c = e->config;
    const Ops *ops = e->ops;
    Backend *b = e->backend;
    size_t R = (size_t)c->Rkv, Rq = (size_t)c->Rq;
    Mat dkv = mat_of(d->kv, DTYPE_F32, n, projected_widths(c).kv), dz = mat_f32(arena_floats(&e->arena, n * R), n, R);
    ops->linear_bwd_w(b, g->kv_b, NULL, dkv, act_mat(e, a->z, n, R));
    ops->linear_bwd_x(b, dz, dkv, w->kv_b, false);
    ops->rmsnorm_bwd(b, in_latent(c, d, n), g->kv_a_norm, dz, in_latent(c, &a->p, n), w->kv_a_norm, a->rstd_kv, false);
    if (!Rq) return;
    Mat dq = queries(c, d, n), qan = act_mat(e, a->qan, n, Rq), dqan = mat_f32(arena_floats(&e->arena, n * Rq), n, Rq);
    ops->linear_bwd_w(b, g->q_b, NULL, dq, qan);
    ops->linear_bwd_x(b, dqan, dq, w->q_b, false);
    ops->rmsnorm_bwd(b, in_first(c, d, n), g->q_a_norm, dqan, in_first(c, &a->p, n), w->q_a_norm, a->rstd_q, false);
}

static void gqa_norms_bwd(Engine *e, const LayerWeights *w, const LayerWeights *g, const AttentionActs *a,
                          const Projected *d, size_t n)
{
    const ModelConfig *c = e->config;
    size_t D = (size_t)c->Dv;
    AttentionInputs in = inputs_of(c, d);
    e->ops->headnorm_bwd(e->backend, heads_in(in_first(c, d, n), D), g->q_norm, in.q,
                         heads_in(in_first(c, &a->p, n), D), (HeadNorm){w->q_norm, (int)n, c->H, (int)D}, a->rstd_qn);
    e->ops->headnorm_bwd(e->backend, heads_in(in_kv(c, d, n, 0), D), g->k_norm, in.k_rope,
                         heads_in(in_kv(c, &a->p, n, 0), D), (HeadNorm){w->k_norm, (int)n, c->Hkv, (int)D}, a->rstd_kn);
}

/* dxn = d->in w->in, as the sum of its parts: MLA's kv_a, then q; GQA's q, k, v. */
static void in_bwd_x(Engine *e, const LayerWeights *w, Mat dxn, const Projected *d, size_t n)
{
    const ModelConfig *c = e->config;
    bool mla = c->attention == ATTENTION_MLA;
    Mat first = in_first(c, d, n), second = mla ? in_ckv(c, d, n) : in_kv(c, d, n, 0);
    Mat w_first = mat_rows(w->in, 0, first.cols), w_second = mat_rows(w->in, first.cols, second.cols);
    if (mla) e->ops->linear_bwd_x(e->backend, dxn, second, w_second, false);
    e->ops->linear_bwd_x(e->backend, dxn, first, w_first, mla);
    if (mla) return;
    e->ops->linear_bwd_x(e->backend, dxn, second, w_second, true);
    e->ops->linear_bwd_x(e->backend, dxn, in_kv(c, d, n, 1), mat_rows(w->in, first.cols + second.cols, second.cols),
                         true);
}

/* dx += the gradient through the projections of a slice of rows and the norm before them. */
static void project_bwd(Engine *e, const LayerWeights *w, const LayerWeights *g, const AttentionActs *a, Mat dx, Mat x,
                        const Projected *d, const int32_t *pos)
{
    const ModelConfig *c = e->config;
    ArenaMark mark = arena_mark(&e->arena);
    Mat dxn = mat_f32(arena_floats(&e->arena, x.rows * x.cols), x.rows, x.cols);
    rotate(e, inputs_of(c, d), pos, x.rows, true);
    if (c->attention == ATTENTION_MLA) mla_bwd(e, w, g, a, d, x.rows);
    if (c->qk_norm) gqa_norms_bwd(e, w, g, a, d, x.rows);
    e->ops->linear_bwd_w(e->backend, g->in, g->in_bias, in_part(c, d, x.rows, 0, w->in.rows),
                         act_mat(e, a->xn, x.rows, x.cols));
    in_bwd_x(e, w, dxn, d, x.rows);
    e->ops->rmsnorm_bwd(e->backend, dx, g->attn_norm, dxn, x, w->attn_norm, a->rstd, true);
    arena_release(&e->arena, mark);
}

void attention_block_bwd(Engine *e, const LayerWeights *w, const LayerWeights *g, const AttentionActs *a, float *dx,
                         const float *x, const Rows *r)
{
    const ModelConfig *c = e->config;
    const Ops *ops = e->ops;
    Backend *b = e->backend;
    size_t n = (size_t)r->n, C = (size_t)c->C, Dv = (size_t)c->Dv, o_width = (size_t)c->H * Dv;
    ArenaMark mark = arena_mark(&e->arena);
    Mat dh = mat_f32(dx, n, C), in = mat_f32((float *)x, n, C), o = act_mat(e, a->o, n, o_width);
    Mat d_o = mat_f32(arena_floats(&e->arena, n * o_width), n, o_width);
    EACH_SLICE(from, rows, n)
    {
        ops->linear_bwd_w(b, g->o, NULL, mat_rows(dh, from, rows), mat_rows(o, from, rows));
        ops->linear_bwd_x(b, mat_rows(d_o, from, rows), mat_rows(dh, from, rows), w->o, false);
    }
    Projected d = projected_alloc(e, n);
    ops->attention_bwd(b, e->attention, inputs_of(c, &d), heads_in(d_o, Dv), heads_in(o, Dv), a->lse,
                       inputs_of(c, &a->p), r->offsets, r->nseq);
    EACH_SLICE(from, rows, n)
    {
        AttentionActs slice = attention_acts_from(e, a, from);
        Projected part = gradients_from(c, &d, from);
        project_bwd(e, w, g, &slice, mat_rows(dh, from, rows), mat_rows(in, from, rows), &part, r->pos + from);
    }
    arena_release(&e->arena, mark);
}
