/* What grouped-query attention (Ainslie et al., arXiv:2305.13245) has of its own: Qwen3's norms of every query and key head
 * before they are rotated. Query head h reads key head h / (H / Hkv), in the attention ops. */
#include "core/block.h"

void gqa_norms(Engine *e, const LayerWeights *w, AttentionActs *a, size_t n)
{
    const ModelConfig *c = e->config;
    size_t D = (size_t)c->Dv;
    AttentionInputs in = projected_inputs(c, &a->p);
    HeadView q_raw = heads_in(projected_cq(c, &a->p, n), D), k_raw = heads_in(projected_kv(c, &a->p, n, 0), D);
    e->ops->headnorm_fwd(e->backend, in.q, a->rstd_qn, q_raw, (HeadNorm){w->q_norm, (int)n, c->H, (int)D}, c->eps);
    e->ops->headnorm_fwd(e->backend, in.k_rope, a->rstd_kn, k_raw, (HeadNorm){w->k_norm, (int)n, c->Hkv, (int)D},
                         c->eps);
}

void gqa_norms_bwd(Engine *e, const LayerWeights *w, const LayerWeights *g, const AttentionActs *a, const Projected *d,
                   size_t n)
{
    const ModelConfig *c = e->config;
    size_t D = (size_t)c->Dv;
    AttentionInputs in = projected_inputs(c, d);
    e->ops->headnorm_bwd(e->backend, heads_in(projected_cq(c, d, n), D), g->q_norm, in.q,
                         heads_in(projected_cq(c, &a->p, n), D), (HeadNorm){w->q_norm, (int)n, c->H, (int)D},
                         a->rstd_qn);
    e->ops->headnorm_bwd(e->backend, heads_in(projected_kv(c, d, n, 0), D), g->k_norm, in.k_rope,
                         heads_in(projected_kv(c, &a->p, n, 0), D), (HeadNorm){w->k_norm, (int)n, c->Hkv, (int)D},
                         a->rstd_kn);
}
