/* Where queries, keys, values and latents lie in a projected row. */
#include "core/projected.h"

ProjectedWidths projected_widths(const ModelConfig *c)
{
    size_t H = (size_t)c->H, q = H * (size_t)config_qk_dim(c), kv = (size_t)c->Hkv * (size_t)c->Dv;
    if (c->attention != ATTENTION_MLA) return (ProjectedWidths){q + 2 * kv, c->qk_norm ? q : 0, c->qk_norm ? kv : 0, 0};
    size_t first = c->Rq ? (size_t)c->Rq : q;
    return (ProjectedWidths){first + (size_t)(c->Rkv + c->Dr), c->Rq ? q : 0, 0, H * (size_t)(c->Dn + c->Dv)};
}

static size_t q_width(const ModelConfig *c)
{
    return (size_t)c->H * (size_t)config_qk_dim(c);
}

Mat projected_in(const ModelConfig *c, const Projected *p, size_t n, size_t from, size_t cols)
{
    return mat_cols(mat_of(p->in, p->dtype, n, projected_widths(c).in), from, cols);
}

Mat projected_cq(const ModelConfig *c, const Projected *p, size_t n)
{
    return projected_in(c, p, n, 0, c->Rq ? (size_t)c->Rq : q_width(c));
}

Mat projected_ckv_kr(const ModelConfig *c, const Projected *p, size_t n)
{
    size_t cols = (size_t)(c->Rkv + c->Dr);
    return projected_in(c, p, n, projected_widths(c).in - cols, cols);
}

Mat projected_ckv(const ModelConfig *c, const Projected *p, size_t n)
{
    return mat_cols(projected_ckv_kr(c, p, n), 0, (size_t)c->Rkv);
}

Mat projected_kv(const ModelConfig *c, const Projected *p, size_t n, int i)
{
    size_t cols = (size_t)c->Hkv * (size_t)c->Dv;
    return projected_in(c, p, n, q_width(c) + (size_t)i * cols, cols);
}

Mat projected_queries(const ModelConfig *c, const Projected *p, size_t n)
{
    return p->q ? mat_of(p->q, p->dtype, n, q_width(c)) : projected_cq(c, p, n);
}

AttentionInputs projected_inputs(const ModelConfig *c, const Projected *p)
{
    size_t D = (size_t)c->Dv;
    AttentionInputs in = {.q = heads_in(projected_queries(c, p, 1), (size_t)config_qk_dim(c))};
    if (c->attention == ATTENTION_MLA) {
        size_t Dn = (size_t)c->Dn;
        in.k = heads_in(mat_of(p->kv, p->dtype, 1, projected_widths(c).kv), Dn + D);
        in.v = heads_from(in.k, Dn);
        in.k_rope = heads_from(heads_in(projected_ckv_kr(c, p, 1), 0), (size_t)c->Rkv);
    } else {
        in.k_rope = heads_in(p->k ? mat_of(p->k, p->dtype, 1, projected_widths(c).k) : projected_kv(c, p, 1, 0), D);
        in.v = heads_in(projected_kv(c, p, 1, 1), D);
    }
    return in;
}

Projected projected_alloc(Engine *e, size_t n)
{
    ProjectedWidths w = projected_widths(e->config);
    Projected d = {.dtype = DTYPE_F32, .in = arena_floats(&e->arena, n * w.in)};
    if (w.q) d.q = arena_floats(&e->arena, n * w.q);
    if (w.k) d.k = arena_floats(&e->arena, n * w.k);
    if (w.kv) d.kv = arena_floats(&e->arena, n * w.kv);
    return d;
}

Projected projected_from(const ModelConfig *c, const Projected *d, size_t from)
{
    ProjectedWidths w = projected_widths(c);
    return (Projected){d->dtype, (float *)d->in + from * w.in, d->q ? (float *)d->q + from * w.q : NULL,
                       d->k ? (float *)d->k + from * w.k : NULL, d->kv ? (float *)d->kv + from * w.kv : NULL};
}
