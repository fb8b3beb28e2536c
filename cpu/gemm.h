/* One-thread matmuls behind linear_* and grouped_*: what a matmul provider offers.
 *
 * The callers (cpu/linear.c) cut the work into tasks and run them on a team; a provider never starts threads. A weight w
 * is [out, in]. x and w are of the provider's dtype, y is f32 or bf16, gradients are f32 (dy may be bf16); ld* are row strides
 * in elements. */
#ifndef CPU_GEMM_H
#define CPU_GEMM_H

#include <stdbool.h>
#include <stddef.h>

#include "core/matrix.h"
#include "core/ops.h"

typedef struct GemmProvider {
    const char *name;
    DType dtype;
    bool isa_matters;  /* bits differ between instruction sets: machine_kind names it */

    /* Outputs of fwd (columns of y) and of bwd_x (columns of dx) may be cut at multiples of this; 0: not at all. */
    size_t column_unit;

    /* Makes and frees what the provider keeps between calls (Backend.gemm_state). NULL: nothing. */
    void *(*open)(int threads);
    void (*close)(void *state);

    /* Packed form of w for fwd: its size, and writing the part of output columns [from, to). */
    size_t (*pack_bytes)(size_t out, size_t in);
    void (*pack)(Backend *b, int thread, void *packed, Mat w, size_t from, size_t to);

    /* y[:, from:to) = x w^T + bias, or added to y. x: [rows, in]. packed: of the whole w. */
    void (*fwd)(Backend *b, int thread, Mat y, Mat x, const void *packed, size_t from, size_t to, const float *bias,
                bool add);
    /* dx[:, from:to) = dy w, or added to dx. */
    void (*bwd_x)(Backend *b, int thread, Mat dx, Mat dy, Mat w, size_t from, size_t to, bool add);
    /* dw[o0:o1) += dy^T x: rows [o0, o1) of dw, all its columns; at most TOKEN_BLOCK rows of dy and x. */
    void (*bwd_w)(Backend *b, int thread, Mat dw, Mat dy, Mat x, size_t o0, size_t o1);

    /* Only for providers made of BLAS_PROVIDER_CALLS, NULL otherwise. Row-major, one thread:
     * c [M, N] = op(a) op(b), or added to c; ta, tb: that one is transposed. */
    void (*sgemm)(Backend *b, int thread, bool ta, bool tb, size_t M, size_t N, size_t K, const float *a, size_t lda,
                  const float *bp, size_t ldb, bool add, float *c, size_t ldc);
} GemmProvider;

/* The calls above in terms of sgemm alone (cpu/gemm_blas.c), for a library that packs for itself. */
size_t blas_pack_bytes(size_t out, size_t in);
void blas_pack(Backend *b, int thread, void *packed, Mat w, size_t from, size_t to);
void blas_fwd(Backend *b, int thread, Mat y, Mat x, const void *packed, size_t from, size_t to, const float *bias,
              bool add);
void blas_bwd_x(Backend *b, int thread, Mat dx, Mat dy, Mat w, size_t from, size_t to, bool add);
void blas_bwd_w(Backend *b, int thread, Mat dw, Mat dy, Mat x, size_t o0, size_t o1);
#define BLAS_PROVIDER_CALLS                                                                                            \
    .pack_bytes = blas_pack_bytes, .pack = blas_pack, .fwd = blas_fwd, .bwd_x = blas_bwd_x, .bwd_w = blas_bwd_w

/* Providers of this build beside native, NULL where not built in. */
const GemmProvider *gemm_onednn(void);
const GemmProvider *gemm_openblas(void);

/* Packed weights, kept until gemm_packs_stale. Found by address and shape. */
typedef struct PackCache PackCache;
PackCache *gemm_packs_open(void);
void gemm_packs_close(PackCache *cache);
size_t gemm_packs_bytes(const PackCache *cache);
/* The weights changed: every packed copy is stale. Buffers are kept for reuse, those unused for long are freed. */
void gemm_packs_stale(PackCache *cache);
/* packed[e] = the packed form of w[e] for provider g, E matrices; packs those not yet there, in parallel. need[e] (NULL: all):
 * skip if false. */
void gemm_packs_get(Backend *b, const GemmProvider *g, const void **packed, const Mat *w, const bool *need, int E);

#endif
