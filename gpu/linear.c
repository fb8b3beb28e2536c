/* Linear layers: which product of gpu/kernels/gemm an op is. One linear layer is a group without experts. */
#include <stdlib.h>

#include "gpu/internal.h"
#include "gpu/kernels/gemm/gemm.h"

/* Experts' matrices, which params.c lays at even distances; a table in device memory where they are not. */
static MatrixList list_of(Backend *b, const Mat *w, int E)
{
    MatrixList list = {.base = w[0].p, .step = E > 1 ? (float *)w[1].p - (float *)w[0].p : 0};
    bool even = true;
    for (int e = 0; e < E; e++) {
        CHECK_EQ(w[e].rows, w[0].rows);
        CHECK_EQ(w[e].cols, w[0].cols);
        CHECK_EQ(w[e].stride, w[0].stride);
        even = even && (float *)w[e].p == list.base + e * list.step;
    }
    if (even) return list;
    float **table = malloc((size_t)E * sizeof *table), **there = gpu_scratch(b, (size_t)E * sizeof *table);
    for (int e = 0; table && e < E; e++) table[e] = w[e].p;
    if (table && there) /* read at the call: the memory is pageable */
        cudaMemcpyAsync(there, table, (size_t)E * sizeof *table, cudaMemcpyHostToDevice, b->stream);
    else fail(&b->fault, "GPU backend: no memory for the addresses of %d experts", E);
    free(table);
    list.table = there;
    return list;
}

void gpu_linear_fwd(Backend *b, Mat y, Mat x, Mat w, const float *bias, bool add)
{
    check_f32(y), check_f32(x), check_f32(w);
    CHECK_EQ(y.rows, x.rows);
    CHECK_EQ(x.cols, w.cols);
    CHECK_EQ(y.cols, w.rows);
    GemmCall g = {.a = x.p,
                  .b = w.p,
                  .c = y.p,
                  .lda = x.stride,
                  .ldb = w.stride,
                  .ldc = y.stride,
                  .M = (int)x.rows,
                  .N = (int)w.rows,
                  .K = (int)w.cols,
                  .bias = bias,
                  .add = add};
    gemm_f32(b, GEMM_NT, g);
}

void gpu_linear_bwd_x(Backend *b, Mat dx, Mat dy, Mat w, bool add)
{
    check_f32(dx), check_f32(dy), check_f32(w);
    CHECK_EQ(dx.rows, dy.rows);
    CHECK_EQ(dx.cols, w.cols);
    CHECK_EQ(dy.cols, w.rows);
    GemmCall g = {.a = dy.p,
                  .b = w.p,
                  .c = dx.p,
                  .lda = dy.stride,
                  .ldb = w.stride,
                  .ldc = dx.stride,
                  .M = (int)dy.rows,
                  .N = (int)w.cols,
                  .K = (int)w.rows,
                  .add = add};
    gemm_f32(b, GEMM_NN, g);
}

void gpu_linear_bwd_w(Backend *b, Mat dw, float *dbias, Mat dy, Mat x)
{
    check_f32(dw), check_f32(dy), check_f32(x);
    CHECK_EQ(dy.rows, x.rows);
    CHECK_EQ(dy.cols, dw.rows);
    CHECK_EQ(x.cols, dw.cols);
    GemmCall g = {.a = dy.p,
                  .b = x.p,
                  .c = dw.p,
                  .lda = dy.stride,
                  .ldb = x.stride,
                  .ldc = dw.stride,
                  .M = (int)dw.rows,
                  .N = (int)dw.cols,
                  .K = (int)dy.rows};
    gemm_f32(b, GEMM_TN, g);
    if (dbias) gemm_column_sums(b, dbias, dy);
}

void gpu_grouped_fwd(Backend *b, Mat y, Mat x, const Mat *w, const int32_t *offsets, int E)
{
    check_f32(y), check_f32(x), check_f32(w[0]);
    CHECK_EQ(y.rows, x.rows);
    CHECK_EQ(x.cols, w[0].cols);
    CHECK_EQ(y.cols, w[0].rows);
    GemmCall g = {.a = x.p,
                  .c = y.p,
                  .lda = x.stride,
                  .ldb = w[0].stride,
                  .ldc = y.stride,
                  .M = (int)x.rows,
                  .N = (int)y.cols,
                  .K = (int)x.cols,
                  .list = list_of(b, w, E),
                  .offsets = offsets,
                  .experts = E};
    gemm_f32(b, GEMM_NT, g);
}

void gpu_grouped_bwd_x(Backend *b, Mat dx, Mat dy, const Mat *w, const int32_t *offsets, int E)
{
    check_f32(dx), check_f32(dy), check_f32(w[0]);
    CHECK_EQ(dx.rows, dy.rows);
    CHECK_EQ(dx.cols, w[0].cols);
    CHECK_EQ(dy.cols, w[0].rows);
    GemmCall g = {.a = dy.p,
                  .c = dx.p,
                  .lda = dy.stride,
                  .ldb = w[0].stride,
                  .ldc = dx.stride,
                  .M = (int)dy.rows,
                  .N = (int)dx.cols,
                  .K = (int)dy.cols,
                  .list = list_of(b, w, E),
                  .offsets = offsets,
                  .experts = E};
    gemm_f32(b, GEMM_NN, g);
}

void gpu_grouped_bwd_w(Backend *b, const Mat *dw, Mat dy, Mat x, const int32_t *offsets, int E)
{
    check_f32(dw[0]), check_f32(dy), check_f32(x);
    CHECK_EQ(dy.rows, x.rows);
    CHECK_EQ(dy.cols, dw[0].rows);
    CHECK_EQ(x.cols, dw[0].cols);
    GemmCall g = {.a = dy.p,
                  .b = x.p,
                  .lda = dy.stride,
                  .ldb = x.stride,
                  .ldc = dw[0].stride,
                  .M = (int)dy.cols,
                  .N = (int)x.cols,
                  .K = (int)dy.rows,
                  .list = list_of(b, dw, E),
                  .offsets = offsets,
                  .experts = E};
    gemm_f32(b, GEMM_TN, g);
}

void gpu_heads_product(Backend *b, HeadView y, HeadView x, Mat w, HeadRows s, int n, bool transposed)
{
    check_f32(w);
    CHECK(y.dtype == DTYPE_F32 && x.dtype == DTYPE_F32);
    GemmCall g = {.a = x.p,
                  .b = (const float *)w.p + s.first * w.stride,
                  .c = y.p,
                  .lda = x.row,
                  .ldb = w.stride,
                  .ldc = y.row,
                  .M = n,
                  .N = (int)(transposed ? w.cols : s.rows),
                  .K = (int)(transposed ? s.rows : w.cols),
                  .batch = s.heads,
                  .a_step = x.head,
                  .b_step = s.step * w.stride,
                  .c_step = y.head};
    gemm_f32(b, transposed ? GEMM_NN : GEMM_NT, g);
}
