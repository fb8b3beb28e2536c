/* Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1). For the normed input x of a token:
 *   [c^Q | c^KV | k^R] = x W_in^T               one product; with no q_lora_rank q itself stands for c^Q     (9, 12, 15)
 *   q_h = [q^C_h | q^R_h] of norm(c^Q) W_UQ^T   every head; [W^UQ | W^QR] is one matrix                      (13, 14, 16)
 *   [k^C_h | v^C_h] of norm(c^KV) W_UKV^T       every head; not formed in the absorbed form                  (10, 11)
 *   q^R_h and k^R are rotated; k^R is one for all heads: k_h = [k^C_h | k^R]                                 (14, 15, 17)
 *   o_h = sum_j softmax_j(scale q_h . k_h,j) v^C_h,j, scale = 1 / sqrt(Dn + Dr);  u = [o_1 .. o_H] W_O^T     (18, 19)
 * The two norms are not in the paper's equations; the released models have them.
 * Absorbed form (end of section 2.1.2), for decoding from the latent cache: q^C_h . (W^UK_h c) = (W^UK_h^T q^C_h) . c, so that
 * scores are taken with c^KV itself, the softmax sums c^KV, and W^UV_h follows: the cache holds Rkv + Dr values a token. */
#include "core/block.h"
#include "core/base/check.h"
#include "core/lora.h"

static const float LATENT_NORM_EPS = 1e-6f; /* the class default of the reference code, not rms_norm_eps */

void mla_project(Engine *e, const LayerWeights *w, AttentionActs *a, size_t n)
{
    const ModelConfig *c = e->config;
    const Ops *ops = e->ops;
    Backend *b = e->backend;
    if (c->Rq) {
        Mat cq = act_mat(e, a->cq, n, (size_t)c->Rq);
        /* c^Q normed, then (13, 14) */
        ops->rmsnorm_fwd(b, cq, a->rstd_q, projected_cq(c, &a->p, n), w->q_a_norm, LATENT_NORM_EPS);
        ops->linear_fwd(b, projected_queries(c, &a->p, n), cq, w->q_b, NULL, false);
        lora_fwd(e, &w->lora.q_b, projected_queries(c, &a->p, n), cq);
    }
    ops->rmsnorm_fwd(b, act_mat(e, a->ckv, n, (size_t)c->Rkv), a->rstd_kv, projected_ckv(c, &a->p, n), w->kv_a_norm,
                     LATENT_NORM_EPS);
}

void mla_expand(Engine *e, const LayerWeights *w, AttentionActs *a, size_t n)
{
    const ModelConfig *c = e->config;
    /* (10, 11) */
    Mat kv = act_mat(e, a->p.kv, n, projected_widths(c).kv), ckv = act_mat(e, a->ckv, n, (size_t)c->Rkv);
    e->ops->linear_fwd(e->backend, kv, ckv, w->kv_b, NULL, false);
    lora_fwd(e, &w->lora.kv_b, kv, ckv);
}

void mla_absorbed(Engine *e, const LayerWeights *w, AttentionActs *a, int layer, const Rows *r)
{
    const ModelConfig *c = e->config;
    const Ops *ops = e->ops;
    Backend *b = e->backend;
    size_t n = (size_t)r->n, H = (size_t)c->H, R = (size_t)c->Rkv, qk = (size_t)config_qk_dim(c), Dv = (size_t)c->Dv;
    EngineMark mark = engine_mark(e);
    Mat qz_all = mat_f32(arena_floats(&e->arena, n * H * R), n, H * R);
    Mat u_all = act_mat(e, arena_alloc(&e->arena, n * H * R * dtype_size(e->dtype)), n, H * R);
    HeadRows keys = {c->H, (size_t)(c->Dn + c->Dv), 0, (size_t)c->Dn}, values = {c->H, keys.step, keys.rows, Dv};
    HeadView q = heads_in(projected_queries(c, &a->p, n), qk), o = heads_in(act_mat(e, a->o, n, H * Dv), Dv);
    HeadView qz = heads_in(qz_all, R), u = heads_in(u_all, R);
    Mat kv_b = w->kv_b_merged.p ? w->kv_b_merged : w->kv_b;
    CHECK(w->kv_b_merged.p || !w->lora.kv_b.parts);
    ops->heads_product(b, qz, q, kv_b, keys, r->n, true);
    ops->attention_latent(b, e->attention, c->Rkv, u, qz, heads_from(q, (size_t)c->Dn),
                          kv_cache_layer(r->cache, layer, r->pages), r->cached, r->n);
    ops->heads_product(b, o, u, kv_b, values, r->n, false);
    engine_release(e, mark);
}

void mla_bwd(Engine *e, const LayerWeights *w, const LayerWeights *g, const AttentionActs *a, const Projected *d,
             size_t n)
{
    const ModelConfig *c = e->config;
    const Ops *ops = e->ops;
    Backend *b = e->backend;
    size_t R = (size_t)c->Rkv, Rq = (size_t)c->Rq;
    Mat dkv = mat_of(d->kv, DTYPE_F32, n, projected_widths(c).kv), dckv = mat_f32(arena_floats(&e->arena, n * R), n, R);
    weight_grad(e, g->kv_b, NULL, dkv, act_mat(e, a->ckv, n, R));
    ops->linear_bwd_x(b, dckv, dkv, w->kv_b, false);
    lora_bwd(e, &w->lora.kv_b, &g->lora.kv_b, dckv, dkv, act_mat(e, a->ckv, n, R));
    ops->rmsnorm_bwd(b, projected_ckv(c, d, n), g->kv_a_norm, dckv, projected_ckv(c, &a->p, n), w->kv_a_norm,
                     a->rstd_kv, false);
    if (!Rq) return;
    Mat dq = projected_queries(c, d, n), cq = act_mat(e, a->cq, n, Rq),
        dcq = mat_f32(arena_floats(&e->arena, n * Rq), n, Rq);
    weight_grad(e, g->q_b, NULL, dq, cq);
    ops->linear_bwd_x(b, dcq, dq, w->q_b, false);
    lora_bwd(e, &w->lora.q_b, &g->lora.q_b, dcq, dq, cq);
    ops->rmsnorm_bwd(b, projected_cq(c, d, n), g->q_a_norm, dcq, projected_cq(c, &a->p, n), w->q_a_norm, a->rstd_q,
                     false);
}
