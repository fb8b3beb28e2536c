/* The cache of packed weights, kept until gemm_packs_stale and found by address and shape. */
#ifndef CPU_MATMUL_PACKS_H
#define CPU_MATMUL_PACKS_H

#include "cpu/matmul/provider.h"

/* Whether forward products make packed copies of weights; else they use those that are there, or the weights themselves. */
static inline bool gemm_packs(const GemmProvider *g, bool keep_packed)
{
    return keep_packed || !g->fwd_unpacked;
}

typedef struct PackCache PackCache;
PackCache *gemm_packs_open(void);
void gemm_packs_close(PackCache *cache);
size_t gemm_packs_bytes(const PackCache *cache);
/* The weights changed: every packed copy is stale. Buffers are kept for reuse, those unused for long are freed. */
void gemm_packs_stale(PackCache *cache);
/* Frees every packed copy. */
void gemm_packs_drop(PackCache *cache);
/* packed[e] = the packed form of w[e] for provider g, E matrices; packs those not yet there, in parallel, or leaves NULL where
 * nothing is to be packed (gemm_packs, Mat.passing). need[e] (NULL: all): skip if false. */
void gemm_packs_get(Backend *b, const GemmProvider *g, const void **packed, const Mat *w, const bool *need, int E);

#endif
