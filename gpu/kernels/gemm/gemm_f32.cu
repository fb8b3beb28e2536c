/* Products by fmaf with the CPU's bits, of f32 or of bf16 widened: tiles in shared memory, an outer product of registers a step.
 *
 * An element's chain over k does not depend on the tile it lies in, so the tile may be chosen by the sizes alone. */
#include "gpu/kernels/parts.cuh"

#include "gpu/kernels/gemm/fma_product.cuh"

/* c of this thread: chain (+ bias), added to what was there where `add`. */
template <class T, bool HALF>
DEVICE void store_tile(const float (&acc)[T::TM][T::TN], const GemmCall &g, const Work &w, int n0, bool add)
{
    int ty = (int)threadIdx.x / (T::BN / T::TN), tx = (int)threadIdx.x % (T::BN / T::TN);
#pragma unroll
    for (int i = 0; i < T::TM; i++) {
        if (ty * T::TM + i >= w.M) continue;
        Row c = {element<HALF>(w.c, g.c_type, (size_t)(ty * T::TM + i) * g.ldc), HALF && g.c_type == DTYPE_BF16};
#pragma unroll
        for (int j = 0; j < T::TN; j++) {
            int n = n0 + tx * T::TN + j;
            if (n >= g.N) continue;
            float sum = g.bias ? acc[i][j] + g.bias[n] : acc[i][j];
            row_put(c, (size_t)n, add ? row_get(c, (size_t)n) + sum : sum);
        }
    }
}

/* A block owns BM x BN of c and all of k; a thread TM x TN. blockIdx: row tile, column tile, expert (TN) or batch.
 * Bound: FFMA for many rows, bytes of the weights for few. */
template <int FORM, class T, bool HALF> __global__ void __launch_bounds__(T::THREADS) gemm(GemmCall g)
{
    Work w = work_of<FORM, HALF>(g, T::BM);
    if (!w.any) return;
    int n0 = (int)blockIdx.y * T::BN, most = FORM == GEMM_TN ? TOKEN_BLOCK : w.K;
    float acc[T::TM][T::TN];
    for (int k = 0; k < w.K; k += most) {
        chain<T>(acc, k, w.K - k < most ? w.K : k + most, [&](float *as, float *bs, int from, int steps) {
            load_operands<FORM, T, HALF>(as, bs, g, w, n0, from, steps);
        });
        store_tile<T, HALF>(acc, g, w, n0, FORM == GEMM_TN || g.add);
    }
}

/* part[block][j] = sum of the block's rows of x, in order. A thread a column. Bound: bytes. */
__global__ void __launch_bounds__(ROW_THREADS) column_parts(float *part, Mat x)
{
    size_t j = (size_t)blockIdx.x * ROW_THREADS + threadIdx.x, from = (size_t)blockIdx.y * TOKEN_BLOCK;
    if (j >= x.cols) return;
    size_t to = from + TOKEN_BLOCK < x.rows ? from + TOKEN_BLOCK : x.rows;
    float sum = 0.0f;
    for (size_t n = from; n < to; n++) sum += row_ptr(x, n)[j];
    part[(size_t)blockIdx.y * x.cols + j] = sum;
}

template <int FORM, class T, bool HALF> static void launch_gemm(Backend *b, const GemmCall &g)
{
    dim3 grid = work_grid((GemmForm)FORM, g, T::BM, T::BN);
    LAUNCH((gemm<FORM, T, HALF>), grid, T::THREADS, 0, b->stream, g);
}

template <int FORM, bool HALF> static void choose_tile(Backend *b, const GemmCall &g)
{
    if (large_tile(g)) launch_gemm<FORM, LargeTile, HALF>(b, g);
    else launch_gemm<FORM, SmallTile, HALF>(b, g);
}

void gemm_f32(Backend *b, GemmForm form, GemmCall g)
{
    if (g.M <= 0 || g.N <= 0 || g.K <= 0) return;
    bool half = g.b_type == DTYPE_BF16;
    if (form == GEMM_NT) half ? choose_tile<GEMM_NT, true>(b, g) : choose_tile<GEMM_NT, false>(b, g);
    else if (form == GEMM_NN) half ? choose_tile<GEMM_NN, true>(b, g) : choose_tile<GEMM_NN, false>(b, g);
    else half ? choose_tile<GEMM_TN, true>(b, g) : choose_tile<GEMM_TN, false>(b, g);
}

void gemm_column_sums(Backend *b, float *sum, Mat x)
{
    size_t blocks = ceil_div(x.rows, TOKEN_BLOCK), columns = ceil_div(x.cols, ROW_THREADS);
    float *part = blocks ? (float *)gpu_scratch(b, blocks * x.cols * sizeof(float)) : NULL;
    if (!part) return;
    LAUNCH(column_parts, dim3((unsigned)columns, (unsigned)blocks), ROW_THREADS, 0, b->stream, part, x);
    LAUNCH(add_parts, columns, ROW_THREADS, 0, b->stream, sum, part, blocks, x.cols);
}
