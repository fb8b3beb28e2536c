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
#include "core/status.h"

typedef struct GemmProvider {
    const char *name;
    DType dtype;
    bool isa_matters; /* bits differ between instruction sets: machine_kind names it */

    /* Outputs of fwd (columns of y) and of bwd_x (columns of dx) may be cut at multiples of this; 0: not at all. */
    size_t column_unit;

    /* Makes and frees what the provider keeps between calls (in Backend). NULL: nothing. */
    void (*open)(Backend *b);
    void (*close)(Backend *b);

    /* Packed form of w for fwd: its size, and writing the part of output columns [from, to). */
    size_t (*pack_bytes)(size_t out, size_t in);
    void (*pack)(Backend *b, int thread, void *packed, Mat w, size_t from, size_t to);

    /* y[:, from:to) = x w^T + bias, or added to y. x: [rows, in]. packed: of the whole w. */
    void (*fwd)(Backend *b, int thread, Mat y, Mat x, const void *packed, size_t from, size_t to, const float *bias,
                bool add);
    /* The same bits from w itself, for weights that are met once or twice before they change. NULL: packed ones only. */
    void (*fwd_unpacked)(Backend *b, int thread, Mat y, Mat x, Mat w, size_t from, size_t to, const float *bias,
                         bool add);
    /* dx[:, from:to) = dy w, or added to dx. */
    void (*bwd_x)(Backend *b, int thread, Mat dx, Mat dy, Mat w, size_t from, size_t to, bool add);
    /* dw[o0:o1) += dy^T x: rows [o0, o1) of dw, all its columns; at most TOKEN_BLOCK rows of dy and x. */
    void (*bwd_w)(Backend *b, int thread, Mat dw, Mat dy, Mat x, size_t o0, size_t o1);
} GemmProvider;

/* Row-major, one thread: c [M, N] = op(a) op(b), or added to c; ta, tb: that one is transposed. */
typedef void Sgemm(Backend *b, int thread, bool ta, bool tb, size_t M, size_t N, size_t K, const float *a, size_t lda,
                   const float *bp, size_t ldb, bool add, float *c, size_t ldc);

/* The calls above in terms of sgemm alone (cpu/matmul/blas.c), for a library that packs for itself. */
size_t blas_pack_bytes(size_t out, size_t in);
void blas_pack(Backend *b, int thread, void *packed, Mat w, size_t from, size_t to);
void blas_fwd(Sgemm *sgemm, Backend *b, int thread, Mat y, Mat x, const void *packed, size_t from, size_t to,
              const float *bias, bool add);
void blas_bwd_x(Sgemm *sgemm, Backend *b, int thread, Mat dx, Mat dy, Mat w, size_t from, size_t to, bool add);
void blas_bwd_w(Sgemm *sgemm, Backend *b, int thread, Mat dw, Mat dy, Mat x, size_t o0, size_t o1);

/* A provider made of NAME_sgemm and what opens and closes it. */
#define BLAS_PROVIDER(title, opens, closes)                                                                            \
    static void title##_fwd(Backend *b, int thread, Mat y, Mat x, const void *packed, size_t from, size_t to,          \
                            const float *bias, bool add)                                                               \
    {                                                                                                                  \
        blas_fwd(title##_sgemm, b, thread, y, x, packed, from, to, bias, add);                                         \
    }                                                                                                                  \
    static void title##_bwd_x(Backend *b, int thread, Mat dx, Mat dy, Mat w, size_t from, size_t to, bool add)         \
    {                                                                                                                  \
        blas_bwd_x(title##_sgemm, b, thread, dx, dy, w, from, to, add);                                                \
    }                                                                                                                  \
    static void title##_bwd_w(Backend *b, int thread, Mat dw, Mat dy, Mat x, size_t o0, size_t o1)                     \
    {                                                                                                                  \
        blas_bwd_w(title##_sgemm, b, thread, dw, dy, x, o0, o1);                                                       \
    }                                                                                                                  \
    static const GemmProvider provider = {.name = #title,                                                              \
                                          .isa_matters = true,                                                         \
                                          .open = opens,                                                               \
                                          .close = closes,                                                             \
                                          .pack_bytes = blas_pack_bytes,                                               \
                                          .pack = blas_pack,                                                           \
                                          .fwd = title##_fwd,                                                          \
                                          .bwd_x = title##_bwd_x,                                                      \
                                          .bwd_w = title##_bwd_w};

/* Providers of this build beside native, NULL where not built in. */
const GemmProvider *gemm_onednn(void);
const GemmProvider *gemm_openblas(void);

/* ---- the choice (cpu/matmul/choice.c): one provider for all products of a type, and a table of exceptions */

typedef enum { GEMM_FWD, GEMM_BWD_X, GEMM_BWD_W, GEMM_OPS } GemmOp;

typedef struct GemmEntry {
    DType dtype; /* of w and x */
    GemmOp op;
    size_t out, in;
    const GemmProvider *provider;
} GemmEntry;

typedef struct GemmChoice {
    const GemmProvider *by_type[2]; /* by DType */
    GemmEntry *entries;             /* sorted; NULL: no table */
    size_t count;
    char table[24];              /* "table-" and the hash of the entries; "" without any */
    const GemmProvider *open[8]; /* those whose `open` was called */
    int opened;
} GemmChoice;

/* matmul: a provider's name or a table's path (NULL: the first provider of the build); bf16: "dot", "widen" or NULL. */
bool gemm_choice_open(Backend *b, const char *matmul, const char *bf16, Status *st);
void gemm_choice_close(Backend *b);
/* Never by the number of rows: a row's bits must not depend on its neighbours. */
const GemmProvider *gemm_of(const Backend *b, DType dtype, GemmOp op, size_t out, size_t in);

/* Whether forward products make packed copies of weights; else they use those that are there, or the weights themselves. */
static inline bool gemm_packs(const GemmProvider *g, bool keep_packed)
{
    return keep_packed || !g->fwd_unpacked;
}

/* Packed weights, kept until gemm_packs_stale. Found by address and shape. */
typedef struct PackCache PackCache;
PackCache *gemm_packs_open(void);
void gemm_packs_close(PackCache *cache);
size_t gemm_packs_bytes(const PackCache *cache);
/* The weights changed: every packed copy is stale. Buffers are kept for reuse, those unused for long are freed. */
void gemm_packs_stale(PackCache *cache);
/* Frees every packed copy. */
void gemm_packs_drop(PackCache *cache);
/* packed[e] = the packed form of w[e] for provider g, E matrices; packs those not yet there, in parallel, or leaves NULL where
 * nothing is to be packed (gemm_packs). need[e] (NULL: all): skip if false. */
void gemm_packs_get(Backend *b, const GemmProvider *g, const void **packed, const Mat *w, const bool *need, int E);

/* Name and version of the library; NULL when it was not built in. */
const char *onednn_library(void);
const char *openblas_library(void);

#endif
