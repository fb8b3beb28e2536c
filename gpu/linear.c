/* Linear layers: which product of gpu/kernels/gemm an op is. One linear layer is a group without experts. */
#include <stdlib.h>

#include "gpu/gemm_cublas.h"
#include "gpu/internal.h"
#include "gpu/kernels/gemm/gemm.h"

/* Experts' matrices, which params.c lays at even distances; a table in device memory where they are not. */
static MatrixList list_of(Backend *b, const Mat *w, int E)
{
    MatrixList list = {.base = w[0].p, .step = E > 1 ? (char *)w[1].p - (char *)w[0].p : 0};
    bool even = true;
    for (int e = 0; e < E; e++) {
        CHECK_EQ(w[e].dtype, w[0].dtype);
        CHECK_EQ(w[e].rows, w[0].rows);
        CHECK_EQ(w[e].cols, w[0].cols);
        CHECK_EQ(w[e].stride, w[0].stride);
        even = even && (char *)w[e].p == list.base + e * list.step;
    }
    if (even) return list;
    void **table = malloc((size_t)E * sizeof *table);
    for (int e = 0; table && e < E; e++) table[e] = w[e].p;
    list.table = gpu_table(b, table, (size_t)E * sizeof *table);
    free(table);
    return list;
}

/* a and c of a call are rows, b one matrix or those of the experts. */
static GemmCall call_of(Mat c, Mat a, Mat w, int K)
{
    return (GemmCall){.a = a.p,
                      .b = w.p,
                      .c = c.p,
                      .a_type = a.dtype,
                      .b_type = w.dtype,
                      .c_type = c.dtype,
                      .lda = a.stride,
                      .ldb = w.stride,
                      .ldc = c.stride,
                      .M = (int)c.rows,
                      .N = (int)c.cols,
                      .K = K};
}

static void multiply(Backend *b, GemmForm form, GemmCall g)
{
    bool cublas = b->use == CUBLAS_ALWAYS || (b->use == CUBLAS_BACKWARD && form != GEMM_NT);
    if (!b->mma || g.b_type != DTYPE_BF16) gemm_f32(b, form, g);
    else if (!cublas || !gemm_cublas(b, form, g)) gemm_mma(b, form, g);
}

static GemmCall forward_of(Mat y, Mat x, Mat w)
{
    CHECK_EQ(x.dtype, w.dtype);
    CHECK_EQ(y.rows, x.rows);
    CHECK_EQ(x.cols, w.cols);
    CHECK_EQ(y.cols, w.rows);
    return call_of(y, x, w, (int)w.cols);
}

static GemmCall backward_of(Mat dx, Mat dy, Mat w)
{
    check_f32(dx);
    CHECK_EQ(dx.rows, dy.rows);
    CHECK_EQ(dx.cols, w.cols);
    CHECK_EQ(dy.cols, w.rows);
    return call_of(dx, dy, w, (int)w.rows);
}

static GemmCall gradient_of(Mat dw, Mat dy, Mat x)
{
    check_f32(dw), check_f32(dy);
    CHECK_EQ(dy.rows, x.rows);
    CHECK_EQ(dy.cols, dw.rows);
    CHECK_EQ(x.cols, dw.cols);
    return call_of(dw, dy, x, (int)dy.rows);
}

void gpu_linear_fwd(Backend *b, Mat y, Mat x, Mat w, const float *bias, bool add)
{
    GemmCall g = forward_of(y, x, w);
    g.bias = bias, g.add = add;
    multiply(b, GEMM_NT, g);
}

void gpu_linear_bwd_x(Backend *b, Mat dx, Mat dy, Mat w, bool add)
{
    GemmCall g = backward_of(dx, dy, w);
    g.add = add;
    multiply(b, GEMM_NN, g);
}

void gpu_linear_bwd_w(Backend *b, Mat dw, float *dbias, Mat dy, Mat x)
{
    multiply(b, GEMM_TN, gradient_of(dw, dy, x));
    if (dbias) gemm_column_sums(b, dbias, dy);
}

static GemmCall grouped(Backend *b, GemmCall g, const Mat *w, const int32_t *offsets, int E)
{
    g.list = list_of(b, w, E);
    g.offsets = offsets, g.experts = E;
    return g;
}

void gpu_grouped_fwd(Backend *b, Mat y, Mat x, const Mat *w, const int32_t *offsets, int E)
{
    multiply(b, GEMM_NT, grouped(b, forward_of(y, x, w[0]), w, offsets, E));
}

void gpu_gate_up_fwd(Backend *b, Mat h, Mat gu, Mat x, const int32_t *rows, const Mat *w, const int32_t *offsets, int E)
{
    CHECK_EQ(gu.rows, h.rows);
    CHECK_EQ(gu.cols, 2 * h.cols);
    CHECK(rows || x.rows == h.rows);
    bool tensor_cores = b->mma && w[0].dtype == DTYPE_BF16;
    if (tensor_cores && !offsets && !rows && b->use == CUBLAS_ALWAYS) {
        gpu_linear_fwd(b, gu, x, w[0], NULL, false);
        gpu_swiglu_fwd(b, h, gu);
        return;
    }
    x.rows = h.rows;
    GemmCall g = forward_of(gu, x, w[0]);
    g.rows = rows;
    gemm_gate_up(b, offsets ? grouped(b, g, w, offsets, E) : g, h, tensor_cores);
}

void gpu_logits_fwd(Backend *b, Mat logits, float *maxima, Mat x, Mat w)
{
    check_f32(logits);
    gemm_logits(b, forward_of(logits, x, w), maxima, b->mma && w.dtype == DTYPE_BF16);
}

void gpu_grouped_bwd_x(Backend *b, Mat dx, Mat dy, const Mat *w, const int32_t *offsets, int E)
{
    multiply(b, GEMM_NN, grouped(b, backward_of(dx, dy, w[0]), w, offsets, E));
}

void gpu_grouped_bwd_w(Backend *b, const Mat *dw, Mat dy, Mat x, const int32_t *offsets, int E)
{
    multiply(b, GEMM_TN, grouped(b, gradient_of(dw[0], dy, x), dw, offsets, E));
}

void gpu_heads_product(Backend *b, HeadView y, HeadView x, Mat w, HeadRows s, int n, bool transposed)
{
    CHECK(transposed ? y.dtype == DTYPE_F32 : x.dtype == w.dtype);
    GemmCall g = {.a = x.p,
                  .b = mat_rows(w, s.first, s.rows).p,
                  .c = y.p,
                  .a_type = x.dtype,
                  .b_type = w.dtype,
                  .c_type = y.dtype,
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
    multiply(b, transposed ? GEMM_NN : GEMM_NT, g);
}
