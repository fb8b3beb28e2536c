/* A matmul provider in terms of a library's sgemm, which packs for itself. */
#include <string.h>

#include "cpu/internal.h"

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
    const float *w = (const float *)packed + from * x.cols;
    sgemm(b, thread, false, true, x.rows, to - from, x.cols, x.p, x.stride, w, x.cols, add, (float *)y.p + from,
          y.stride);
    for (size_t n = 0; bias && n < y.rows; n++) {
        for (size_t j = from; j < to; j++) {
            mat_row(y, n)[j] += bias[j];
        }
    }
}

void blas_bwd_x(Sgemm *sgemm, Backend *b, int thread, Mat dx, Mat dy, Mat w, size_t from, size_t to, bool add)
{
    sgemm(b, thread, false, false, dy.rows, to - from, dy.cols, dy.p, dy.stride, (float *)w.p + from, w.stride, add,
          (float *)dx.p + from, dx.stride);
}

void blas_bwd_w(Sgemm *sgemm, Backend *b, int thread, Mat dw, Mat dy, Mat x, size_t o0, size_t o1)
{
    sgemm(b, thread, true, false, o1 - o0, x.cols, x.rows, (float *)dy.p + o0, dy.stride, x.p, x.stride, true,
          mat_row(dw, o0), dw.stride);
}
