/* Where queries, keys and values lie in a layer's projected rows: the columns of one product, and what is made of them. */
#ifndef CORE_PROJECTED_H
#define CORE_PROJECTED_H

#include "core/engine.h"

/* What attention reads of a layer's input, row-major, in forward of the engine's dtype; or the gradients of it, f32. */
typedef struct Projected {
    DType dtype;
    void *in; /* [n, ...] MLA: [q | c^KV | k^R] or [c^Q | c^KV | k^R]; GQA: [q | k | v] */
    void *q;  /* [n, H * (Dn + Dr)] where that in `in` goes through more: q_lora_rank, q_norm (Qwen3) */
    void *k;  /* [n, Hkv * D] Qwen3: normed */
    void *kv; /* [n, H * (Dn + Dv)] MLA: [k^C | v^C] of every head */
} Projected;

/* Columns of each; 0 where this attention has none of it. */
typedef struct ProjectedWidths {
    size_t in, q, k, kv;
} ProjectedWidths;

ProjectedWidths projected_widths(const ModelConfig *c);

/* Gradients of n rows in the engine's arena; rows from `from` on of a Projected of gradients. */
Projected projected_alloc(Engine *e, size_t n);
Projected projected_from(const ModelConfig *c, const Projected *d, size_t from);

/* Columns [from, from + cols) of `in`, n rows. */
Mat projected_in(const ModelConfig *c, const Projected *p, size_t n, size_t from, size_t cols);
/* c^Q where there is a q_lora_rank, else q as it comes out of the product. */
Mat projected_cq(const ModelConfig *c, const Projected *p, size_t n);
/* MLA: c^KV with k^R behind it, and c^KV alone. */
Mat projected_ckv_kr(const ModelConfig *c, const Projected *p, size_t n);
Mat projected_ckv(const ModelConfig *c, const Projected *p, size_t n);
/* GQA: keys (i = 0) or values (1) as they come out of the product. */
Mat projected_kv(const ModelConfig *c, const Projected *p, size_t n, int i);
/* Queries as attention reads them. */
Mat projected_queries(const ModelConfig *c, const Projected *p, size_t n);
/* Where the attention op finds queries, keys and values. */
AttentionInputs projected_inputs(const ModelConfig *c, const Projected *p);

/* Heads of `head` values each beside one another in the rows of m; 0: one for all. */
static inline HeadView heads_in(Mat m, size_t head)
{
    return (HeadView){m.p, m.stride, head, m.dtype};
}

#endif
