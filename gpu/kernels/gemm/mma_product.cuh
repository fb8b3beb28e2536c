/* A block's chains of tensor-core steps, shared by the products of gemm_mma and gate_up: tiles, the ring of stages, and the
 * order of the steps of an element. */
#ifndef GPU_KERNELS_GEMM_MMA_PRODUCT_CUH
#define GPU_KERNELS_GEMM_MMA_PRODUCT_CUH

#include "gpu/kernels/gemm/gemm_work.cuh"
#include "gpu/kernels/tiles/mma_tile.cuh"

/* BM x BN of c a block, BK steps a stage; WM x WN warps. */
template <int BM_, int BN_, int BK_, int WM_, int WN_, int STAGES_> struct MmaShape {
    static constexpr int BM = BM_, BN = BN_, BK = BK_, WM = WM_, WN = WN_, STAGES = STAGES_, THREADS = WM * WN * WARP,
                         RM = BM / WM, RN = BN / WN, MI = RM / 16, NI = RN / 8, STAGE = BK * (BM + BN),
                         BYTES = STAGES * STAGE * 2;
};
typedef MmaShape<16, 64, 64, 1, 4, 6> DecodeTile;
typedef MmaShape<64, 64, 32, 2, 2, 4> MiddleTile;
typedef MmaShape<128, 128, 32, 2, 2, 4> WideTile;

/* acc += the 16 steps from kk on of a stage, for this warp's rows and columns. */
template <int FORM, class T>
DEVICE void mma_step(float (&acc)[T::MI][T::NI][4], uint16_t *as, uint16_t *bs, int row, int column, int kk)
{
    uint32_t a[T::MI][4], b[T::NI / 2][4];
#pragma unroll
    for (int i = 0; i < T::MI; i++)
        if (FORM == GEMM_TN) a_columns<T::BM / CHUNK>(a[i], as, row + 16 * i, kk);
        else a_rows<T::BK / CHUNK>(a[i], as, row + 16 * i, kk);
#pragma unroll
    for (int j = 0; j < T::NI / 2; j++)
        if (FORM == GEMM_NT) b_rows<T::BK / CHUNK>(b[j], bs, column + 16 * j, kk);
        else b_columns<T::BN / CHUNK>(b[j], bs, column + 16 * j, kk);
#pragma unroll
    for (int i = 0; i < T::MI; i++)
#pragma unroll
        for (int j = 0; j < T::NI / 2; j++) mma_16x16(acc[i][2 * j], acc[i][2 * j + 1], a[i], b[j]);
}

template <class T> DEVICE void clear(float (&acc)[T::MI][T::NI][4])
{
#pragma unroll
    for (int i = 0; i < T::MI; i++)
#pragma unroll
        for (int j = 0; j < T::NI; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) acc[i][j][e] = 0.0f;
}

/* acc += all of k < K. load(stage, k) begins to bring steps [k, k + BK); stage s of the ring holds step s, s + STAGES, ... */
template <int FORM, class T, class Load>
DEVICE void mma_chain(float (&acc)[T::MI][T::NI][4], uint16_t *ring, int K, const Load &load)
{
    int warp = (int)threadIdx.x / WARP, row = warp / T::WN * T::RM, column = warp % T::WN * T::RN;
    int steps = (K + T::BK - 1) / T::BK;
#pragma unroll
    for (int s = 0; s < T::STAGES - 1; s++) {
        if (s < steps) load(ring + s * T::STAGE, s * T::BK);
        copy_async_commit();
    }
    for (int step = 0; step < steps; step++) {
        copy_async_wait<T::STAGES - 2>();
        __syncthreads(); /* this stage is there, and all have left the one that is loaded next */
        int next = step + T::STAGES - 1;
        if (next < steps) load(ring + next % T::STAGES * T::STAGE, next * T::BK);
        copy_async_commit();
        uint16_t *as = ring + step % T::STAGES * T::STAGE, *bs = as + T::BK * T::BM;
#pragma unroll
        for (int kk = 0; kk < T::BK; kk += 16) mma_step<FORM, T>(acc, as, bs, row, column, kk);
    }
}

/* Begins the copies of the operands of steps [k, k + BK). */
template <int FORM, class T> DEVICE void load_stage(uint16_t *stage, const GemmCall &g, const Work &w, int n0, int k)
{
    const uint16_t *a = (const uint16_t *)w.a, *b = (const uint16_t *)w.b;
    int left = w.K - k, columns = g.N - n0;
    size_t lda = g.lda, ldb = g.ldb, at = (size_t)k, n = (size_t)n0;
    uint16_t *bs = stage + T::BK * T::BM;
    if (FORM == GEMM_TN) copy_tile<T::BK, T::BM / CHUNK, T::THREADS>(stage, a + at * lda, lda, left, w.M);
    else copy_tile<T::BM, T::BK / CHUNK, T::THREADS>(stage, a + at, lda, w.M, left);
    if (FORM == GEMM_NT) copy_tile<T::BN, T::BK / CHUNK, T::THREADS>(bs, b + n * ldb + at, ldb, columns, left);
    else copy_tile<T::BK, T::BN / CHUNK, T::THREADS>(bs, b + at * ldb + n, ldb, left, columns);
}

/* A call's tile: any gives the same bits. */
static inline MmaTile mma_tile_for(const Backend *b, GemmForm form, const GemmCall &g)
{
    if (b->mma_tile != MMA_BY_SIZE) return b->mma_tile;
    if (form != GEMM_TN && g.M <= 2 * DecodeTile::BM) return MMA_DECODE;
    return g.M >= 4 * WideTile::BM && g.N >= WideTile::BN ? MMA_WIDE : MMA_MIDDLE;
}

#endif
