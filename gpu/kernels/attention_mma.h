/* Attention on tensor cores: what the ops of attention ask where the backend's bf16 products are on them. */
#ifndef GPU_KERNELS_ATTENTION_MMA_H
#define GPU_KERNELS_ATTENTION_MMA_H

#include "gpu/internal.h"

#ifdef __cplusplus
extern "C" {
#endif

/* As the ops of core/ops/ops.h; queries, keys, values and probabilities are multiplied as bf16, sums are f32. False, and
 * nothing is done: a head is wider than 192 (queries, keys) or 128 (values). */
bool attention_mma_fwd(Backend *b, AttentionShape s, HeadView o, float *lse, AttentionInputs in, SequenceRows seq);
bool attention_mma_bwd(Backend *b, AttentionShape s, AttentionInputs din, HeadView dout, HeadView o, const float *lse,
                       AttentionInputs in, SequenceRows seq);
bool attention_mma_cached(Backend *b, AttentionShape s, HeadView o, HeadView q, CacheLayer cache, const CacheRow *rows,
                          int n);
/* False also where Rkv is more than 512 or Dr more than 64. */
bool attention_mma_latent(Backend *b, AttentionShape s, int Rkv, HeadView u, HeadView qz, HeadView q_rope,
                          CacheLayer cache, const CacheRow *rows, int n);

#ifdef __cplusplus
}
#endif
#endif
