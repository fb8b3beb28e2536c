/* A block's chains of fmaf, shared by the products of gemm_f32 and gate_up: tiles in shared memory, an outer product of
 * registers a step. */
#ifndef GPU_KERNELS_GEMM_FMA_PRODUCT_CUH
#define GPU_KERNELS_GEMM_FMA_PRODUCT_CUH

#include "gpu/kernels/gemm/gemm_work.cuh"

/* A tile: BM x BN of c, BK steps at once in shared memory, TM x TN of c a thread. */
template <int BM_, int BN_, int BK_, int TM_, int TN_> struct TileShape {
    static constexpr int BM = BM_, BN = BN_, BK = BK_, TM = TM_, TN = TN_, THREADS = BM / TM * (BN / TN), PAD = 4;
};
typedef TileShape<32, 64, 16, 4, 8> SmallTile;
typedef TileShape<128, 128, 8, 8, 8> LargeTile;

/* As it is multiplied: HALF: bf16, and f32 rounded to it. */
template <bool HALF> DEVICE float operand(const void *x, DType type, size_t at)
{
    if (!HALF) return ((const float *)x)[at];
    return widen(type == DTYPE_BF16 ? ((const uint16_t *)x)[at] : narrow(((const float *)x)[at]));
}

/* tile[k][i] = x[i][k] (rows) or x[k][i] (columns) for k < BK, i < WIDTH; zeros outside of `steps` and `width`. */
template <int BK, int WIDTH, int PAD, int THREADS, bool BY_ROWS, bool HALF>
DEVICE void load_tile(float *tile, const void *x, DType type, size_t stride, int steps, int width)
{
#pragma unroll 2
    for (int e = (int)threadIdx.x; e < BK * WIDTH; e += THREADS) {
        int k = BY_ROWS ? e % BK : e / WIDTH, i = BY_ROWS ? e / BK : e % WIDTH;
        bool in = k < steps && i < width;
        size_t at = BY_ROWS ? (size_t)i * stride + (size_t)k : (size_t)k * stride + (size_t)i;
        tile[k * (WIDTH + PAD) + i] = in ? operand<HALF>(x, type, at) : 0.0f;
    }
}

template <class T> DEVICE void step(float (&acc)[T::TM][T::TN], const float *a, const float *b)
{
    float x[T::TM], y[T::TN];
#pragma unroll
    for (int i = 0; i < T::TM; i++) x[i] = a[i];
#pragma unroll
    for (int j = 0; j < T::TN; j++) y[j] = b[j];
#pragma unroll
    for (int i = 0; i < T::TM; i++)
#pragma unroll
        for (int j = 0; j < T::TN; j++) acc[i][j] = fmaf(x[i], y[j], acc[i][j]);
}

/* acc = the chains over [k0, k1). load(a, b, k, steps) brings steps [k, k + steps) of both tiles. */
template <class T, class Load> DEVICE void chain(float (&acc)[T::TM][T::TN], int k0, int k1, const Load &load)
{
    SMEM(float, as, [T::BK * (T::BM + T::PAD)]);
    SMEM(float, bs, [T::BK * (T::BN + T::PAD)]);
    int ty = (int)threadIdx.x / (T::BN / T::TN), tx = (int)threadIdx.x % (T::BN / T::TN);
    for (int i = 0; i < T::TM; i++)
        for (int j = 0; j < T::TN; j++) acc[i][j] = 0.0f;
    for (int k = k0; k < k1; k += T::BK) {
        int steps = k1 - k < T::BK ? k1 - k : T::BK;
        load(as, bs, k, steps);
        __syncthreads();
        const float *x = as + ty * T::TM, *y = bs + tx * T::TN;
        if (steps == T::BK) {
#pragma unroll
            for (int s = 0; s < T::BK; s++) step<T>(acc, x + s * (T::BM + T::PAD), y + s * (T::BN + T::PAD));
        } else { /* not one step with zeros: it would turn -0 into 0 */
            for (int s = 0; s < steps; s++) step<T>(acc, x + s * (T::BM + T::PAD), y + s * (T::BN + T::PAD));
        }
        __syncthreads();
    }
}

/* Steps [k, k + steps) of both operands. */
template <int FORM, class T, bool HALF>
DEVICE void load_operands(float *as, float *bs, const GemmCall &g, const Work &w, int n0, int k, int steps)
{
    const void *a = element<HALF>(w.a, g.a_type, (size_t)k * (FORM == GEMM_TN ? g.lda : 1));
    const void *b =
        element<HALF>(w.b, g.b_type, FORM == GEMM_NT ? (size_t)n0 * g.ldb + (size_t)k : (size_t)k * g.ldb + (size_t)n0);
    load_tile<T::BK, T::BM, T::PAD, T::THREADS, FORM != GEMM_TN, HALF>(as, a, g.a_type, g.lda, steps, w.M);
    load_tile<T::BK, T::BN, T::PAD, T::THREADS, FORM == GEMM_NT, HALF>(bs, b, g.b_type, g.ldb, steps, g.N - n0);
}

/* Which of the two a call takes: both give the same bits. */
static inline bool large_tile(const GemmCall &g)
{
    return g.M >= 4 * LargeTile::BM && g.N >= LargeTile::BN;
}

#endif
