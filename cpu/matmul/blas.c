/* A matmul provider in terms of a library's sgemm, which packs for itself. */
#include "cpu/matmul/blas.h"

#include <string.h>

size_t blas_pack_bytes(size_t out, size_t in)
{
    return out * in * sizeof(float);
}

void blas_pack(Backend *b, int thread, void *packed, Mat w, size_t from, size_t to)
{
    (void)b, (void)thread;
    for (size_t o = from; o < to; o++) {
        memcpy((float *)packed + o * w.cols, mat_row(w, o), w.cols * sizeof(float));
    }
}

void blas_fwd(Sgemm *sgemm, Backend *b, int thread, Mat y, Mat x, const void *packed, size_t from, size_t to,
              const float *bias, bool add)
{
    Mat w = mat_f32((float *)packed + from * x.cols, to - from, x.cols), part = mat_cols(y, from, to - from);
    sgemm(b, thread, part, x, false, w, true, add);
    for (size_t n = 0; bias && n < y.rows; n++) {
        for (size_t j = from; j < to; j++) {
            mat_row(y, n)[j] += bias[j];
        }
    }
}

void blas_bwd_x(Sgemm *sgemm, Backend *b, int thread, Mat dx, Mat dy, Mat w, size_t from, size_t to, bool add)
{
    sgemm(b, thread, mat_cols(dx, from, to - from), dy, false, mat_cols(w, from, to - from), false, add);
}

void blas_bwd_w(Sgemm *sgemm, Backend *b, int thread, Mat dw, Mat dy, Mat x, size_t o0, size_t o1)
{
    sgemm(b, thread, mat_rows(dw, o0, o1 - o0), mat_cols(dy, o0, o1 - o0), true, x, false, true);
}
