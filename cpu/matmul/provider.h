/* One-thread matmuls behind linear_* and grouped_*: what a matmul provider offers.
 *
 * The callers (cpu/linear.c) cut the work into pieces (linear_pieces.h) and run them on a team; a provider never starts threads.
 * A weight w is [out, in]. x and w are of the provider's dtype, y is f32 or bf16, gradients are f32 (dy may be bf16); ld* are
 * row strides in elements. */
#ifndef CPU_MATMUL_PROVIDER_H
#define CPU_MATMUL_PROVIDER_H

#include <stdbool.h>
#include <stddef.h>

#include "core/matrix.h"
#include "core/ops/ops.h"

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
    /* The same bits from w itself, for weights that are used once or twice before they change. NULL: packed ones only. */
    void (*fwd_unpacked)(Backend *b, int thread, Mat y, Mat x, Mat w, size_t from, size_t to, const float *bias,
                         bool add);
    /* dx[:, from:to) = dy w, or added to dx. */
    void (*bwd_x)(Backend *b, int thread, Mat dx, Mat dy, Mat w, size_t from, size_t to, bool add);
    /* dw[o0:o1) += dy^T x: rows [o0, o1) of dw, all its columns; at most TOKEN_BLOCK rows of dy and x. */
    void (*bwd_w)(Backend *b, int thread, Mat dw, Mat dy, Mat x, size_t o0, size_t o1);
    /* The most bytes of a thread's scratch that a call takes with `rows` rows and an inner index of `inner`. NULL: none. */
    size_t (*scratch)(size_t rows, size_t inner);
} GemmProvider;

/* Providers of this build beside native, NULL where not built in. */
const GemmProvider *gemm_onednn(void);
const GemmProvider *gemm_openblas(void);

/* Name and version of the library; NULL when it was not built in. */
const char *onednn_library(void);
const char *openblas_library(void);

#endif
