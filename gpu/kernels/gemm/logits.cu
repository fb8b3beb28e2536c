/* logits_fwd: the head's product, which leaves the largest of each MAXIMA_COLUMNS logits of a row beside, so that head_stats need
 * not read all of them for the largest. The chains are those of gemm_mma and gemm_f32. */
#include "gpu/kernels/gemm/fma_product.cuh"
#include "gpu/kernels/gemm/mma_product.cuh"

/* maxima [rows][groups] of a call. */
typedef struct Maxima {
    float *at;
    int groups;
} Maxima;

DEVICE void put_maximum(const Maxima &m, const Work &w, int r, int column, float max)
{
    if (r < w.M && column / MAXIMA_COLUMNS < m.groups)
        m.at[(size_t)(w.first + r) * (size_t)m.groups + (size_t)(column / MAXIMA_COLUMNS)] = max;
}

/* A row's elements that four lanes side by side have, with their largest. */
template <class T>
DEVICE void store_logits(const float (&acc)[T::MI][T::NI][4], const GemmCall &g, const Work &w, const Maxima &m, int n0)
{
    constexpr int TILES = MAXIMA_COLUMNS / 8;
    int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    int row = warp / T::WN * T::RM + lane / 4, column = n0 + warp % T::WN * T::RN;
#pragma unroll
    for (int i = 0; i < T::MI; i++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int r = row + 16 * i + 8 * half;
            Row c = f32_row((const float *)w.c + (r < w.M ? (size_t)r * g.ldc : 0));
            float max = -INFINITY;
#pragma unroll
            for (int j = 0; j < T::NI; j++) {
                int n = column + 8 * j + lane % 4 * 2;
                float x = acc[i][j][2 * half], y = acc[i][j][2 * half + 1];
                if (r < w.M) put_pair(c, n, g.N, x, y);
                if (n < g.N) max = larger(x, max);
                if (n + 1 < g.N) max = larger(y, max);
                if (j % TILES < TILES - 1) continue;
                max = quad_max(max);
                if (lane % 4 == 0) put_maximum(m, w, r, column + (j - j % TILES) * 8, max);
                max = -INFINITY;
            }
        }
}

/* A block owns BM x BN logits, all of k, and the maxima of its columns. Bound: as gemm_mma. */
template <class T> __global__ void __launch_bounds__(T::THREADS) logits_mma(GemmCall g, Maxima m)
{
    DSMEM(uint16_t, ring);
    Work w = work_of<GEMM_NT, true>(g, T::BM);
    int n0 = (int)blockIdx.y * T::BN;
    float acc[T::MI][T::NI][4];
    clear<T>(acc);
    mma_chain<GEMM_NT, T>(acc, ring, w.K, [&](uint16_t *stage, int k) { load_stage<GEMM_NT, T>(stage, g, w, n0, k); });
    store_logits<T>(acc, g, w, m, n0);
}

/* The same by fmaf; of a row MAXIMA_COLUMNS / TN threads side by side have those columns. Bound: as gemm. */
template <class T, bool HALF> __global__ void __launch_bounds__(T::THREADS) logits_fma(GemmCall g, Maxima m)
{
    Work w = work_of<GEMM_NT, HALF>(g, T::BM);
    int n0 = (int)blockIdx.y * T::BN, ty = (int)threadIdx.x / (T::BN / T::TN),
        column = n0 + (int)threadIdx.x % (T::BN / T::TN) * T::TN;
    float acc[T::TM][T::TN];
    chain<T>(acc, 0, w.K, [&](float *as, float *bs, int k, int steps) {
        load_operands<GEMM_NT, T, HALF>(as, bs, g, w, n0, k, steps);
    });
#pragma unroll
    for (int i = 0; i < T::TM; i++) {
        int r = ty * T::TM + i;
        float *c = (float *)w.c + (r < w.M ? (size_t)r * g.ldc : 0), max = -INFINITY;
#pragma unroll
        for (int j = 0; j < T::TN; j++) {
            if (column + j >= g.N) continue;
            if (r < w.M) c[column + j] = acc[i][j];
            max = larger(acc[i][j], max);
        }
        static_assert(MAXIMA_COLUMNS == 4 * T::TN, "four lanes have the columns of a maximum");
        max = quad_max(max);
        if (column % MAXIMA_COLUMNS == 0) put_maximum(m, w, r, column, max);
    }
}

template <class T> static void launch_mma(Backend *b, const GemmCall &g, const Maxima &m)
{
    ALLOW_SHARED((logits_mma<T>), T::BYTES);
    LAUNCH((logits_mma<T>), work_grid(GEMM_NT, g, T::BM, T::BN), T::THREADS, T::BYTES, b->stream, g, m);
}

template <class T, bool HALF> static void launch_fma(Backend *b, const GemmCall &g, const Maxima &m)
{
    LAUNCH((logits_fma<T, HALF>), work_grid(GEMM_NT, g, T::BM, T::BN), T::THREADS, 0, b->stream, g, m);
}

void gemm_logits(Backend *b, GemmCall g, float *maxima, bool tensor_cores)
{
    if (g.M <= 0 || g.N <= 0 || g.K <= 0) return;
    Maxima m = {maxima, (int)ceil_div((size_t)g.N, MAXIMA_COLUMNS)};
    if (!tensor_cores) {
        if (g.b_type == DTYPE_BF16)
            large_tile(g) ? launch_fma<LargeTile, true>(b, g, m) : launch_fma<SmallTile, true>(b, g, m);
        else large_tile(g) ? launch_fma<LargeTile, false>(b, g, m) : launch_fma<SmallTile, false>(b, g, m);
        return;
    }
    if (!gemm_operands(b, GEMM_NT, &g)) return;
    if (mma_tile_for(b, GEMM_NT, g) == MMA_WIDE) launch_mma<WideTile>(b, g, m);
    else launch_mma<MiddleTile>(b, g, m); /* a warp of the decode tile has fewer columns than a maximum */
}
