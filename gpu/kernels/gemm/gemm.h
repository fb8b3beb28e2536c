/* Matrix products of one family: what gpu/linear.c asks of gpu/kernels/gemm. */
#ifndef GPU_KERNELS_GEMM_H
#define GPU_KERNELS_GEMM_H

#ifdef __cplusplus
extern "C" {
#endif

/* c[m, n] of: NT a[m, k] b[n, k] (forward), NN a[m, k] b[k, n] (gradient of x), TN a[k, m] b[k, n] (gradient of w). */
typedef enum GemmForm { GEMM_NT, GEMM_NN, GEMM_TN } GemmForm;

/* Matrix i begins at table[i], or where table is NULL `i * step` bytes behind base. */
typedef struct MatrixList {
    char *base;
    ptrdiff_t step;
    void *const *table; /* device */
} MatrixList;

/* One call. Strides in elements between rows. Types: all f32; or NT a, b bf16 and c any; NN b bf16, c f32; TN b bf16, c f32; the
 * gradient a of NN and TN may be f32, and is rounded to bf16 before it is multiplied.
 * NT, NN: c = a op(b) (+ bias[n]), added to what c held where `add`. With experts: rows [offsets[e], offsets[e+1]) of
 * a and c take matrix e of `list` as b, the product's M is all rows.
 * TN: c += a^T b in blocks of TOKEN_BLOCK k. With experts: k runs over the expert's rows, c is matrix e of `list`.
 * batch: that many products, whose operands lie a_step, b_step, c_step elements apart; no experts then.
 * rows (gate | up only): row i of a lies at row rows[i]; NULL: at i. */
typedef struct GemmCall {
    const void *a, *b;
    void *c;
    DType a_type, b_type, c_type;
    size_t lda, ldb, ldc;
    int M, N, K;
    const float *bias;
    bool add;
    MatrixList list;
    const int32_t *offsets; /* NULL: no experts */
    int experts, batch;
    size_t a_step, b_step, c_step;
    const int32_t *rows;
} GemmCall;

/* Every element is one chain of fmaf over k ascending, started at 0: bit for bit the CPU's native provider, and in bf16 its form
 * "widen". */
void gemm_f32(Backend *b, GemmForm form, GemmCall call);

/* b bf16: every element is one chain of tensor-core steps of 16 k, ascending; TN goes on from what c holds. The same bits
 * from every tile and for any number of rows (a card's tensor cores decide: gpu/self_test.c asks them). */
void gemm_mma(Backend *b, GemmForm form, GemmCall call);

/* Ops.gate_up_fwd, NT: c is gate | up, h the SwiGLU of it, in the bits of a product and swiglu_fwd by gemm_mma or gemm_f32. */
void gemm_gate_up(Backend *b, GemmCall call, Mat h, bool tensor_cores);

/* Ops.logits_fwd, NT, c f32: c in the bits of gemm_mma or gemm_f32, and maxima [M][N / MAXIMA_COLUMNS, rounded up]. */
void gemm_logits(Backend *b, GemmCall call, float *maxima, bool tensor_cores);

/* Copies a call's operands to scratch where they are f32 or do not lie at multiples of 16 bytes, and changes the call; false: no
 * memory. */
bool gemm_operands(Backend *b, GemmForm form, GemmCall *call);

/* sum[j] += sum over rows of x, in blocks of TOKEN_BLOCK. */
void gemm_column_sums(Backend *b, float *sum, Mat x);

#ifdef __cplusplus
}
#endif
#endif
