/* Matrix products of one family: what gpu/linear.c asks of gpu/kernels/gemm. */
#ifndef GPU_KERNELS_GEMM_H
#define GPU_KERNELS_GEMM_H

#ifdef __cplusplus
extern "C" {
#endif

/* c[m, n] of: NT a[m, k] b[n, k] (forward), NN a[m, k] b[k, n] (gradient of x), TN a[k, m] b[k, n] (gradient of w). */
typedef enum GemmForm { GEMM_NT, GEMM_NN, GEMM_TN } GemmForm;

/* Matrix i begins at table[i], or where table is NULL at base + i * step. */
typedef struct MatrixList {
    float *base;
    ptrdiff_t step;
    float *const *table; /* device */
} MatrixList;

/* One call. Strides in floats between rows.
 * NT, NN: c = a op(b) (+ bias[n]), added to what c held where `add`. With experts: rows [offsets[e], offsets[e+1]) of
 * a and c take matrix e of `list` as b, the product's M is all rows.
 * TN: c += a^T b in blocks of TOKEN_BLOCK k. With experts: k runs over the expert's rows, c is matrix e of `list`.
 * batch: that many products, whose operands lie a_step, b_step, c_step floats apart; no experts then. */
typedef struct GemmCall {
    const float *a, *b;
    float *c;
    size_t lda, ldb, ldc;
    int M, N, K;
    const float *bias;
    bool add;
    MatrixList list;
    const int32_t *offsets; /* NULL: no experts */
    int experts, batch;
    size_t a_step, b_step, c_step;
} GemmCall;

/* Every element is one chain of fmaf over k ascending, started at 0: the CPU's native provider, bit for bit. */
void gemm_f32(Backend *b, GemmForm form, GemmCall call);

/* sum[j] += sum over rows of x, in blocks of TOKEN_BLOCK. */
void gemm_column_sums(Backend *b, float *sum, Mat x);

#ifdef __cplusplus
}
#endif
#endif
