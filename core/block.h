/* The two halves of a transformer block, attention and FFN, forward and backward, written once for training, prefill
 * and decode. Internal to core/. Residual form: h = x + Attention(norm(x)), y = h + FFN(norm(h)). */
#ifndef CORE_BLOCK_H
#define CORE_BLOCK_H

#include "core/rollout/kv_cache.h"
#include "core/projected.h"

/* The rows of a call and how they attend: whole sequences (offsets), or rows on top of a cache. Arrays lie on the
 * device. */
typedef struct Rows {
    int n;
    int reach;              /* the largest position + 1 */
    const int32_t *pos;     /* [n] */
    const int32_t *offsets; /* [nseq + 1], NULL: cached */
    int nseq;
    int32_t *routes;        /* NULL, or [MoE layers][n][K], where the choices of experts go */
    KvCache *cache;         /* NULL: nothing is cached */
    const CacheRow *cached; /* [n] where each row lies in the cache */
    const int32_t *pages;   /* the page table of `cached` */
} Rows;

static inline SequenceRows sequences_of(const Rows *r)
{
    return (SequenceRows){r->offsets, r->nseq, r->n};
}

/* for each slice [from, from + rows) of n rows: Device.slice_rows go through the ops of a half one after another, so
 * that what one op writes is still in the cache when the next one reads it, and a backward's workspace has this size.
 * Sums over tokens have the blocks of a single call. */
static inline size_t slice_of(const Engine *e, size_t left)
{
    return left < e->ops->device.slice_rows ? left : e->ops->device.slice_rows;
}

#define EACH_SLICE(e, from, rows, n)                                                                                   \
    for (size_t from = 0, rows = slice_of(e, n); from < (n); from += rows, rows = slice_of(e, (n)-from))

/* What attention leaves for its backward. All [n, ...] row-major; void: of the engine's dtype. */
typedef struct AttentionActs {
    void *xn;    /* [n, C] normed input */
    Projected p; /* queries and keys rotated */
    void *cq;    /* [n, Rq] MLA with q_lora_rank: norm(c^Q) */
    void *ckv;   /* [n, Rkv] MLA: norm(c^KV) */
    void *o;     /* [n, H * Dv] */
    float *lse;  /* [n * H] */
    float *h;    /* [n, C] residual stream between the halves */
    float *rstd, *rstd_q, *rstd_qn, *rstd_kn, *rstd_kv;
} AttentionActs;

/* Which experts each token is sent to. Decided once in forward, stored, never re-decided. */
typedef struct Routing {
    float *logits, *scores; /* [n, E] */
    float *weights;         /* [n, K] */
    int32_t *idx;           /* [n, K] ascending */
    int32_t *slot;          /* [n, K] row of the pair (n, k) in the order sorted by expert */
    int32_t *rows;          /* [n * K] token of each sorted row */
    int32_t *offsets;       /* [E + 1] */
    bool given;             /* idx holds choices made elsewhere (RoutingGiven), which are weighed here */
    bool decided;           /* the members above hold it: forward is run again for a backward */
    float *dscores;         /* [n, E] gradient of the balance losses by the scores; NULL: none */
} Routing;

/* Choices of experts made elsewhere, for every row of a batch: a sampler's, replayed in training (arXiv:2510.11370). idx, on the
 * host: of each MoE layer in turn [n, K] ascending; a row that begins with -1 is chosen anew. */
typedef struct RoutingGiven {
    const int32_t *idx;
} RoutingGiven;
/* Puts layer's choices into r, which is allocated for n rows, where e->given has them. */
void routing_give(Engine *e, int layer, size_t n, Routing *r);
/* MoE layers below `layer`. */
static inline int moe_before(const ModelConfig *c, int layer)
{
    int count = 0;
    for (int l = 0; l < layer; l++) count += config_is_moe(c, l);
    return count;
}

typedef struct FfnActs {
    void *xn;                   /* [n, C] */
    void *gu, *act;             /* dense: [n, 2F], [n, F] */
    void *xs, *egu, *eact, *ey; /* experts, sorted rows: [nK, C], [nK, 2F], [nK, F], [nK, C] */
    void *sgu, *sact, *sy;      /* shared expert: [n, 2SF], [n, SF], [n, C] */
    float *rstd;
    bool
        later; /* the experts of this forward were left to its backward, which makes xs, egu, eact and ey slice by slice */
} FfnActs;

typedef struct LayerActs {
    AttentionActs attention;
    FfnActs ffn;
} LayerActs;

/* Allocates the interior of layer l for n rows from the engine's arena. */
void layer_acts_alloc(Engine *e, int layer, size_t n, LayerActs *a);
/* The same of a layer that is computed again for its backward alone: that of routed experts is left to it (FfnActs.later), so
 * that their weights are visited once and no more than a slice of their rows is held. */
void layer_acts_alloc_again(Engine *e, int layer, size_t n, LayerActs *a);
size_t layer_acts_bytes(const ModelConfig *c, int layer, size_t n, DType dtype);
/* The same from row `from` on. */
AttentionActs attention_acts_from(const Engine *e, const AttentionActs *a, size_t from);
/* An interior [n, cols]. */
static inline Mat act_mat(const Engine *e, void *p, size_t n, size_t cols)
{
    return mat_of(p, e->dtype, n, cols);
}
void routing_alloc(Engine *e, size_t n, Routing *r);

/* MLA (mla.c): c^Q and c^KV normed, and queries; keys and values; attention on the latent cache; d->in from d->q,
 * d->kv. */
void mla_project(Engine *e, const LayerWeights *w, AttentionActs *a, size_t n);
void mla_expand(Engine *e, const LayerWeights *w, AttentionActs *a, size_t n);
void mla_absorbed(Engine *e, const LayerWeights *w, AttentionActs *a, int layer, const Rows *r);
void mla_bwd(Engine *e, const LayerWeights *w, const LayerWeights *g, const AttentionActs *a, const Projected *d,
             size_t n);
/* Qwen3's norms of queries and keys (gqa.c), and d->in from d->q, d->k. */
void gqa_norms(Engine *e, const LayerWeights *w, AttentionActs *a, size_t n);
void gqa_norms_bwd(Engine *e, const LayerWeights *w, const LayerWeights *g, const AttentionActs *a, const Projected *d,
                   size_t n);

/* acts->h = x + Attention(norm(x)). */
void attention_block_fwd(Engine *e, const LayerWeights *w, AttentionActs *a, int layer, const float *x,
                         const Rows *rows);
/* dx [n, C] holds d h on entry and d x on return; weight gradients are added to g. */
void attention_block_bwd(Engine *e, const LayerWeights *w, const LayerWeights *g, const AttentionActs *a, float *dx,
                         const float *x, const Rows *rows);

/* y = h + FFN(norm(h)), without the routed experts where a->later. r is NULL in dense layers. */
void ffn_block_fwd(Engine *e, const LayerWeights *w, FfnActs *a, Routing *r, float *y, const float *h, size_t n);
/* dx holds d y on entry and d h on return. */
void ffn_block_bwd(Engine *e, const LayerWeights *w, const LayerWeights *g, const FfnActs *a, const Routing *r,
                   float *dx, const float *h, size_t n);

#endif
