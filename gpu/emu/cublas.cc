/* cuBLAS's functions for the emulator, by plain loops, queued on the handle's stream. Where the second size (our rows) is odd the
 * second half of the inner index is summed first: a row's bits depend on how many rows there are, as with the real library, and
 * no test can come to rely on them. */
#include <cstdint>

#include "gpu/cublas_calls.h"
#include "gpu/emu/internal.h"

struct cublasContext {
    cudaStream_t stream;
    bool workspace;
};

static int create(CublasHandle *handle)
{
    *handle = new cublasContext{nullptr, false};
    return 0;
}

static int destroy(CublasHandle handle)
{
    delete handle;
    return 0;
}

static int set_stream(CublasHandle handle, cudaStream_t stream)
{
    handle->stream = stream;
    return 0;
}

static int set_workspace(CublasHandle handle, void *p, size_t)
{
    handle->workspace = p != nullptr;
    return 0;
}

static int set_math_mode(CublasHandle, int)
{
    return 0;
}

static int get_version(CublasHandle, int *version)
{
    *version = 1;
    return 0;
}

static float half_value(const void *p, size_t at)
{
    return __uint_as_float((unsigned)((const uint16_t *)p)[at] << 16);
}

/* One product, by columns. */
struct Product {
    int op_a, op_b, m, n, k;
    const void *a, *b;
    void *c;
    size_t lda, ldb, ldc;
    int c_type;
    float alpha, beta;
};

static float sum_of(const Product &p, int i, int j)
{
    int half = p.n % 2 ? p.k / 2 : 0;
    float sum = 0.0f;
    for (int s = 0; s < p.k; s++) {
        size_t k = (size_t)(s + half < p.k ? s + half : s + half - p.k), row = (size_t)i, column = (size_t)j;
        float x = half_value(p.a, p.op_a ? row * p.lda + k : k * p.lda + row);
        float y = half_value(p.b, p.op_b ? k * p.ldb + column : column * p.ldb + k);
        sum += x * y;
    }
    return sum;
}

static void multiply(const Product &p)
{
    for (int j = 0; j < p.n; j++)
        for (int i = 0; i < p.m; i++) {
            size_t at = (size_t)j * p.ldc + (size_t)i;
            float v = p.alpha * sum_of(p, i, j);
            if (p.c_type == CUBLAS_BF16) {
                if (p.beta != 0.0f) v += p.beta * half_value(p.c, at);
                ((uint16_t *)p.c)[at] = __float2bfloat16(v).bits;
            } else {
                if (p.beta != 0.0f) v += p.beta * ((float *)p.c)[at];
                ((float *)p.c)[at] = v;
            }
        }
}

static int gemm_batched(CublasHandle handle, int op_a, int op_b, int m, int n, int k, const void *alpha, const void *a,
                        int a_type, int lda, long long a_step, const void *b, int b_type, int ldb, long long b_step,
                        const void *beta, void *c, int c_type, int ldc, long long c_step, int count, int compute, int)
{
    const int invalid = 7; /* CUBLAS_STATUS_INVALID_VALUE */
    if (!handle->workspace || a_type != CUBLAS_BF16 || b_type != CUBLAS_BF16 || compute != CUBLAS_SUMS_F32)
        return invalid;
    if (m <= 0 || n <= 0 || k <= 0 || lda < (op_a ? k : m) || ldb < (op_b ? n : k) || ldc < m) return invalid;
    size_t size = c_type == CUBLAS_BF16 ? 2 : 4;
    for (int i = 0; i < count; i++) {
        Product p = {op_a,
                     op_b,
                     m,
                     n,
                     k,
                     (const char *)a + i * a_step * 2,
                     (const char *)b + i * b_step * 2,
                     (char *)c + (size_t)(i * c_step) * size,
                     (size_t)lda,
                     (size_t)ldb,
                     (size_t)ldc,
                     c_type,
                     *(const float *)alpha,
                     *(const float *)beta};
        emu::stream_push(handle->stream, [p] { multiply(p); });
    }
    return 0;
}

extern "C" const CublasCalls emu_cublas = {create,        destroy,     set_stream,  set_workspace,
                                           set_math_mode, get_version, gemm_batched};
