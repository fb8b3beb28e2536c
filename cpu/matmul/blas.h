/* A provider made of a library's sgemm, which packs for itself: a weight's "packed form" is a dense copy. */
#ifndef CPU_MATMUL_BLAS_H
#define CPU_MATMUL_BLAS_H

#include "cpu/matmul/provider.h"

/* One thread, f32 views: c = op(x) op(y), or added to c; tx, ty: that one is transposed. */
typedef void Sgemm(Backend *b, int thread, Mat c, Mat x, bool tx, Mat y, bool ty, bool add);

/* GemmProvider's calls in terms of sgemm alone. */
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

#endif
