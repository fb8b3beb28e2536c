/* The attention half of a block: MLA in naive form (training, prefill, exact decode), MLA absorbed (latent decode), GQA. */
#include "core/block.h"
#include "core/check.h"

static const float LATENT_NORM_EPS = 1e-6f; /* the class default of the reference code, not rms_norm_eps */

static size_t q_width(const ModelConfig *c)
{
    return (size_t)c->H * (size_t)config_qk_dim(c);
}

static HeadView heads(DType dtype, void *p, size_t row, size_t head)
{
    return (HeadView){p, row, head, dtype};
}

/* Where the attention op finds queries, keys and values of an interior (or of its gradients, same layout). */
static AttentionInputs inputs_of(const ModelConfig *c, DType t, void *q, void *ckv, void *kv, void *k, void *v)
{
    size_t qk = (size_t)config_qk_dim(c), Dn = (size_t)c->Dn, Dv = (size_t)c->Dv, H = (size_t)c->H,
           Hkv = (size_t)c->Hkv;
    AttentionInputs in = {.q = heads(t, q, H * qk, qk)};
    if (c->attention == ATTENTION_MLA) {
        in.k = heads(t, kv, H * (Dn + Dv), Dn + Dv);
        in.v = heads_from(in.k, Dn);
        in.k_rope = heads_from(heads(t, ckv, (size_t)(c->Rkv + c->Dr), 0), (size_t)c->Rkv);
    } else {
        in.k_rope = heads(t, k, Hkv * Dv, Dv);
        in.v = heads(t, v, Hkv * Dv, Dv);
    }
    return in;
}

static AttentionInputs inputs_of_acts(const Engine *e, const AttentionActs *a)
{
    return inputs_of(e->config, e->dtype, a->q, a->ckv, a->kv, a->k, a->v);
}

/* Rotates queries and keys (or rotates their gradients back). */
static void rotate(Engine *e, AttentionInputs in, const int32_t *pos, size_t n, bool inverse)
{
    const ModelConfig *c = e->config;
    const float *cos = e->rope.cos, *sin = e->rope.sin;
    int key_heads = c->attention == ATTENTION_MLA ? 1 : c->Hkv;
    e->ops->rope(e->backend, heads_from(in.q, (size_t)c->Dn), pos, cos, sin, (int)n, c->H, c->Dr, c->rope.interleaved,
                 inverse);
    e->ops->rope(e->backend, in.k_rope, pos, cos, sin, (int)n, key_heads, c->Dr, c->rope.interleaved, inverse);
}

/* q, ckv, z (model.md 2.2 steps 1, 2, 4). */
static void mla_project(Engine *e, const LayerWeights *w, AttentionActs *a, const int32_t *pos, size_t n)
{
    const ModelConfig *c = e->config;
    const Ops *ops = e->ops;
    Backend *b = e->backend;
    Mat xn = act_mat(e, a->xn, n, (size_t)c->C), q = act_mat(e, a->q, n, q_width(c));
    if (c->Rq) {
        Mat qa = act_mat(e, a->qa, n, (size_t)c->Rq), qan = act_mat(e, a->qan, n, (size_t)c->Rq);
        ops->linear_fwd(b, qa, xn, w->q_a, NULL, false);
        ops->rmsnorm_fwd(b, qan, a->rstd_q, qa, w->q_a_norm, LATENT_NORM_EPS);
        ops->linear_fwd(b, q, qan, w->q_b, NULL, false);
    } else {
        ops->linear_fwd(b, q, xn, w->q, NULL, false);
    }
    Mat ckv = act_mat(e, a->ckv, n, (size_t)(c->Rkv + c->Dr)), z = act_mat(e, a->z, n, (size_t)c->Rkv);
    ops->linear_fwd(b, ckv, xn, w->kv_a, NULL, false);
    ops->rmsnorm_fwd(b, z, a->rstd_kv, mat_cols(ckv, 0, (size_t)c->Rkv), w->kv_a_norm, LATENT_NORM_EPS);
    rotate(e, inputs_of_acts(e, a), pos, n, false);
}

static void mla_expand(Engine *e, const LayerWeights *w, AttentionActs *a, size_t n)
{
    const ModelConfig *c = e->config;
    Mat kv = act_mat(e, a->kv, n, (size_t)c->H * (size_t)(c->Dn + c->Dv));
    e->ops->linear_fwd(e->backend, kv, act_mat(e, a->z, n, (size_t)c->Rkv), w->kv_b, NULL, false);
}

static void gqa_project(Engine *e, const LayerWeights *w, AttentionActs *a, const int32_t *pos, size_t n)
{
    const ModelConfig *c = e->config;
    const Ops *ops = e->ops;
    Backend *b = e->backend;
    size_t D = (size_t)c->Dv, kv_width = (size_t)c->Hkv * D;
    Mat xn = act_mat(e, a->xn, n, (size_t)c->C);
    ops->linear_fwd(b, act_mat(e, c->qk_norm ? a->q_raw : a->q, n, q_width(c)), xn, w->q, w->q_bias, false);
    ops->linear_fwd(b, act_mat(e, c->qk_norm ? a->k_raw : a->k, n, kv_width), xn, w->k, w->k_bias, false);
    ops->linear_fwd(b, act_mat(e, a->v, n, kv_width), xn, w->v, w->v_bias, false);
    if (c->qk_norm) {
        HeadView q = heads(e->dtype, a->q, q_width(c), D), q_raw = heads(e->dtype, a->q_raw, q_width(c), D);
        HeadView k = heads(e->dtype, a->k, kv_width, D), k_raw = heads(e->dtype, a->k_raw, kv_width, D);
        ops->headnorm_fwd(b, q, a->rstd_qn, q_raw, w->q_norm, c->eps, (int)n, c->H, (int)D);
        ops->headnorm_fwd(b, k, a->rstd_kn, k_raw, w->k_norm, c->eps, (int)n, c->Hkv, (int)D);
    }
    rotate(e, inputs_of_acts(e, a), pos, n, false);
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
    Mat q_all = act_mat(e, a->q, n, H * qk), o_all = act_mat(e, a->o, n, H * Dv);
    for (int h = 0; h < c->H; h++)
        ops->linear_bwd_x(b, mat_cols(qz_all, (size_t)h * R, R), mat_cols(q_all, (size_t)h * qk, (size_t)c->Dn),
                          kv_b_head(c, w, h, 0, c->Dn), false);
    HeadView q_rope = heads_from(inputs_of_acts(e, a).q, (size_t)c->Dn);
    ops->attention_latent(b, e->attention, c->Rkv, heads(e->dtype, u_all.p, H * R, R), heads_f32(qz_all.p, H * R, R), q_rope,
                          kv_cache_layer(r->cache, layer), r->cached, r->n);
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
    HeadView o = heads(e->dtype, a->o, (size_t)c->H * Dv, Dv);
    bool latent = r->cache && r->cache->kind == CACHE_LATENT;
    CacheLayer cache = {0};
    if (r->cache) cache = kv_cache_layer(r->cache, layer);
    if (latent)
        e->ops->latent_write(e->backend, cache, r->cached, r->n, act_mat(e, a->z, n, (size_t)c->Rkv),
                             inputs_of_acts(e, a).k_rope, c->Dr);
    if (absorbed(r)) {
        latent_attend(e, w, a, layer, r);
        return;
    }
    AttentionInputs in = inputs_of_acts(e, a);
    if (r->cache && !latent) e->ops->cache_write(e->backend, e->attention, cache, r->cached, r->n, in);
    if (r->offsets) e->ops->attention_fwd(e->backend, e->attention, o, a->lse, in, r->offsets, r->nseq);
    else e->ops->attention_cached(e->backend, e->attention, o, in.q, cache, r->cached, r->n);
}

/* Queries, keys and values of the rows of x, before they meet a cache. */
static void project(Engine *e, const LayerWeights *w, AttentionActs *a, Mat x, const int32_t *pos, bool expand)
{
    const ModelConfig *c = e->config;
    e->ops->rmsnorm_fwd(e->backend, act_mat(e, a->xn, x.rows, x.cols), a->rstd, x, w->attn_norm, c->eps);
    if (c->attention != ATTENTION_MLA) {
        gqa_project(e, w, a, pos, x.rows);
        return;
    }
    mla_project(e, w, a, pos, x.rows);
    if (expand) mla_expand(e, w, a, x.rows);
}

void attention_block_fwd(Engine *e, const LayerWeights *w, AttentionActs *a, int layer, const float *x, const Rows *r)
{
    const ModelConfig *c = e->config;
    size_t n = (size_t)r->n, C = (size_t)c->C, o_width = (size_t)c->H * (size_t)c->Dv;
    Mat in = mat_f32((float *)x, n, C), h = mat_f32(a->h, n, C), o = act_mat(e, a->o, n, o_width);
    EACH_SLICE(from, rows, n) {
        AttentionActs slice = attention_acts_from(e, a, from);
        project(e, w, &slice, mat_rows(in, from, rows), r->pos + from, !absorbed(r));
    }
    attend(e, w, a, layer, r);
    EACH_SLICE(from, rows, n) {
        Mat out = mat_rows(h, from, rows);
        e->ops->copy(e->backend, out, mat_rows(in, from, rows));
        e->ops->linear_fwd(e->backend, out, mat_rows(o, from, rows), w->o, NULL, true);
    }
}

/* Gradients by what attention reads: as in AttentionActs, f32. */
typedef struct Inward {
    float *q, *ckv, *kv, *k, *v;
} Inward;

static AttentionInputs inputs_of_inward(const ModelConfig *c, const Inward *d)
{
    return inputs_of(c, DTYPE_F32, d->q, d->ckv, d->kv, d->k, d->v);
}

/* Floats of a row of each; 0: the model has none. */
static void inward_widths(const ModelConfig *c, size_t widths[5])
{
    bool mla = c->attention == ATTENTION_MLA;
    size_t kv = mla ? 0 : (size_t)c->Hkv * (size_t)c->Dv;
    widths[0] = q_width(c);
    widths[1] = mla ? (size_t)(c->Rkv + c->Dr) : 0;
    widths[2] = mla ? (size_t)c->H * (size_t)(c->Dn + c->Dv) : 0;
    widths[3] = widths[4] = kv;
}

static Inward inward_alloc(Engine *e, size_t n)
{
    size_t w[5];
    inward_widths(e->config, w);
    float *p[5];
    for (int i = 0; i < 5; i++) p[i] = arena_floats(&e->arena, n * w[i]);
    return (Inward){p[0], p[1], p[2], p[3], p[4]};
}

/* The same from row `from` on. */
static Inward inward_from(const ModelConfig *c, const Inward *d, size_t from)
{
    size_t w[5];
    inward_widths(c, w);
    return (Inward){d->q + from * w[0], d->ckv + from * w[1], d->kv + from * w[2], d->k + from * w[3], d->v + from * w[4]};
}

/* dxn from d, whose dckv is consumed. */
static void mla_bwd(Engine *e, const LayerWeights *w, const LayerWeights *g, const AttentionActs *a, Mat dxn, const Inward *d,
                    size_t n)
{
    const ModelConfig *c = e->config;
    const Ops *ops = e->ops;
    Backend *b = e->backend;
    size_t R = (size_t)c->Rkv, C = (size_t)c->C;
    Mat xn = act_mat(e, a->xn, n, C), z = act_mat(e, a->z, n, R), ckv = act_mat(e, a->ckv, n, R + (size_t)c->Dr);
    Mat dkv = mat_f32(d->kv, n, (size_t)c->H * (size_t)(c->Dn + c->Dv)), dckv = mat_f32(d->ckv, n, R + (size_t)c->Dr);
    Mat dq = mat_f32(d->q, n, q_width(c));
    Mat dz = mat_f32(arena_floats(&e->arena, n * R), n, R);
    ops->linear_bwd_w(b, g->kv_b, NULL, dkv, z);
    ops->linear_bwd_x(b, dz, dkv, w->kv_b, false);
    ops->rmsnorm_bwd(b, mat_cols(dckv, 0, R), g->kv_a_norm, dz, mat_cols(ckv, 0, R), w->kv_a_norm, a->rstd_kv, false);
    ops->linear_bwd_w(b, g->kv_a, NULL, dckv, xn);
    ops->linear_bwd_x(b, dxn, dckv, w->kv_a, false);
    if (!c->Rq) {
        ops->linear_bwd_w(b, g->q, NULL, dq, xn);
        ops->linear_bwd_x(b, dxn, dq, w->q, true);
        return;
    }
    Mat qa = act_mat(e, a->qa, n, (size_t)c->Rq), qan = act_mat(e, a->qan, n, (size_t)c->Rq);
    Mat dqan = mat_f32(arena_floats(&e->arena, n * (size_t)c->Rq), n, (size_t)c->Rq);
    Mat dqa = mat_f32(arena_floats(&e->arena, n * (size_t)c->Rq), n, (size_t)c->Rq);
    ops->linear_bwd_w(b, g->q_b, NULL, dq, qan);
    ops->linear_bwd_x(b, dqan, dq, w->q_b, false);
    ops->rmsnorm_bwd(b, dqa, g->q_a_norm, dqan, qa, w->q_a_norm, a->rstd_q, false);
    ops->linear_bwd_w(b, g->q_a, NULL, dqa, xn);
    ops->linear_bwd_x(b, dxn, dqa, w->q_a, true);
}

static void gqa_bwd(Engine *e, const LayerWeights *w, const LayerWeights *g, const AttentionActs *a, Mat dxn, const Inward *d,
                    size_t n)
{
    const ModelConfig *c = e->config;
    const Ops *ops = e->ops;
    Backend *b = e->backend;
    size_t D = (size_t)c->Dv, kv_width = (size_t)c->Hkv * D;
    Mat xn = act_mat(e, a->xn, n, (size_t)c->C), dk = mat_f32(d->k, n, kv_width), dv = mat_f32(d->v, n, kv_width);
    Mat dq = mat_f32(d->q, n, q_width(c));
    if (c->qk_norm) {
        float *dq_raw = arena_floats(&e->arena, n * q_width(c)), *dk_raw = arena_floats(&e->arena, n * kv_width);
        ops->headnorm_bwd(b, heads_f32(dq_raw, q_width(c), D), g->q_norm, heads_f32(d->q, q_width(c), D),
                          heads(e->dtype, a->q_raw, q_width(c), D), w->q_norm, a->rstd_qn, (int)n, c->H, (int)D);
        ops->headnorm_bwd(b, heads_f32(dk_raw, kv_width, D), g->k_norm, heads_f32(d->k, kv_width, D),
                          heads(e->dtype, a->k_raw, kv_width, D), w->k_norm, a->rstd_kn, (int)n, c->Hkv, (int)D);
        dq.p = dq_raw;
        dk.p = dk_raw;
    }
    ops->linear_bwd_w(b, g->q, g->q_bias, dq, xn);
    ops->linear_bwd_w(b, g->k, g->k_bias, dk, xn);
    ops->linear_bwd_w(b, g->v, g->v_bias, dv, xn);
    ops->linear_bwd_x(b, dxn, dq, w->q, false);
    ops->linear_bwd_x(b, dxn, dk, w->k, true);
    ops->linear_bwd_x(b, dxn, dv, w->v, true);
}

/* dx += the gradient through the projections of a slice of rows and the norm before them. */
static void project_bwd(Engine *e, const LayerWeights *w, const LayerWeights *g, const AttentionActs *a, Mat dx, Mat x,
                        const Inward *d, const int32_t *pos)
{
    const ModelConfig *c = e->config;
    ArenaMark mark = arena_mark(&e->arena);
    Mat dxn = mat_f32(arena_floats(&e->arena, x.rows * x.cols), x.rows, x.cols);
    rotate(e, inputs_of_inward(c, d), pos, x.rows, true);
    if (c->attention == ATTENTION_MLA) mla_bwd(e, w, g, a, dxn, d, x.rows);
    else gqa_bwd(e, w, g, a, dxn, d, x.rows);
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
    EACH_SLICE(from, rows, n) {
        ops->linear_bwd_w(b, g->o, NULL, mat_rows(dh, from, rows), mat_rows(o, from, rows));
        ops->linear_bwd_x(b, mat_rows(d_o, from, rows), mat_rows(dh, from, rows), w->o, false);
    }
    Inward d = inward_alloc(e, n);
    ops->attention_bwd(b, e->attention, inputs_of_inward(c, &d), heads_f32(d_o.p, o_width, Dv),
                       heads(e->dtype, a->o, o_width, Dv), a->lse, inputs_of_acts(e, a), r->offsets, r->nseq);
    EACH_SLICE(from, rows, n) {
        AttentionActs slice = attention_acts_from(e, a, from);
        Inward part = inward_from(c, &d, from);
        project_bwd(e, w, g, &slice, mat_rows(dh, from, rows), mat_rows(in, from, rows), &part, r->pos + from);
    }
    arena_release(&e->arena, mark);
}
