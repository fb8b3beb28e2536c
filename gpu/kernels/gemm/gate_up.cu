/* gate_up_fwd: the product gate | up of rows of x that need not lie side by side, and h = silu(gate) up in its epilogue.
 *
 * A block takes BN / 2 columns of gate and the same of up, so that a thread holds both of an element: of each group of columns
 * that belong to one warp (one thread by fmaf) the first half is gate's. The chains are those of gemm_mma and gemm_f32, gate
 * and up are rounded as they are stored, and h is made of the rounded: the bits of gather_rows, the product and swiglu_fwd. */
#include "gpu/kernels/gemm/fma_product.cuh"
#include "gpu/kernels/gemm/mma_product.cuh"

/* The rows of x that a block's tile has. */
typedef struct TileX {
    const void *x;
    const int32_t *rows; /* NULL: side by side */
} TileX;

DEVICE TileX tile_x(const GemmCall &g, const Work &w)
{
    TileX t = {g.rows ? g.a : w.a, g.rows ? g.rows + w.first : NULL};
    return t;
}

DEVICE size_t x_row(const TileX &t, int r)
{
    return t.rows ? (size_t)t.rows[r] : (size_t)r;
}

/* Row of the weights for column n of a block that begins with gate and up f0; -1 behind the last of F. */
template <int GROUP> DEVICE int weight_row(int n, int f0, int F)
{
    int f = f0 + n / GROUP * (GROUP / 2) + n % (GROUP / 2);
    return f >= F ? -1 : n % GROUP < GROUP / 2 ? f : F + f;
}

/* Where gate, up and h of row r of a block lie. */
typedef struct GateUpRow {
    Row gate, up, h;
} GateUpRow;

template <bool HALF> DEVICE GateUpRow gate_up_row(const GemmCall &g, const Work &w, const Mat &h, int r)
{
    Row gate = {element<HALF>(w.c, g.c_type, (size_t)r * g.ldc), HALF && g.c_type == DTYPE_BF16};
    GateUpRow row = {gate, row_from(gate, (size_t)(g.N / 2)), row_of(h, (size_t)(w.first + r))};
    return row;
}

/* As swiglu_fwd reads it again. */
DEVICE float stored(const Row &r, float v)
{
    return r.half ? widen(narrow(v)) : v;
}

DEVICE float silu_times(float gate, float up)
{
    return gate * sigmoid_r1(gate) * up;
}

/* ---- on tensor cores */

template <class T> struct OwnCopies {
    static constexpr int CH = T::BK / CHUNK, A = T::BM * CH / T::THREADS, B = T::BN * CH / T::THREADS;
};

/* Begins the copies of steps [k, k + BK). own: the rows of x that this thread copies of, in registers. */
template <class T>
DEVICE void load_gate_up(uint16_t *stage, const uint16_t *const (&own)[OwnCopies<T>::A], const GemmCall &g,
                         const Work &w, int f0, int k)
{
    constexpr int CH = OwnCopies<T>::CH;
    const uint16_t *b = (const uint16_t *)w.b;
    uint16_t *bs = stage + T::BK * T::BM;
#pragma unroll
    for (int i = 0; i < OwnCopies<T>::A; i++) {
        int e = (int)threadIdx.x + i * T::THREADS, r = e / CH, at = k + e % CH * CHUNK;
        bool in = r < w.M && at < w.K;
        copy_async16(chunk_at<CH>(stage, r, e % CH), in ? own[i] + at : own[i], in);
    }
#pragma unroll
    for (int i = 0; i < OwnCopies<T>::B; i++) {
        int e = (int)threadIdx.x + i * T::THREADS, n = e / CH, at = k + e % CH * CHUNK;
        int row = weight_row<T::RN>(n, f0, g.N / 2);
        bool in = row >= 0 && at < w.K;
        copy_async16(chunk_at<CH>(bs, n, e % CH), in ? b + (size_t)row * g.ldb + (size_t)at : b, in);
    }
}

/* Accumulators j < NI / 2 of a warp are gate's, the others the same columns of up. */
template <class T>
DEVICE void store_gate_up(const float (&acc)[T::MI][T::NI][4], const GemmCall &g, const Work &w, const Mat &h, int f0)
{
    int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP, F = g.N / 2;
    int row = warp / T::WN * T::RM + lane / 4, column = f0 + warp % T::WN * (T::RN / 2) + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < T::MI; i++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int r = row + 16 * i + 8 * half;
            if (r >= w.M) continue;
            GateUpRow to = gate_up_row<true>(g, w, h, r);
#pragma unroll
            for (int j = 0; j < T::NI / 2; j++) {
                int f = column + 8 * j;
                const float *gate = acc[i][j] + 2 * half, *up = acc[i][j + T::NI / 2] + 2 * half;
                put_pair(to.gate, f, F, gate[0], gate[1]);
                put_pair(to.up, f, F, up[0], up[1]);
                put_pair(to.h, f, F, silu_times(stored(to.gate, gate[0]), stored(to.up, up[0])),
                         silu_times(stored(to.gate, gate[1]), stored(to.up, up[1])));
            }
        }
}

/* A block owns BM rows of BN / 2 gates, their ups and h, and all of k. Bound: as gemm_mma; gathered rows and gate | up are
 * not read again. */
template <class T> __global__ void __launch_bounds__(T::THREADS) gate_up_mma(GemmCall g, Mat h)
{
    DSMEM(uint16_t, ring);
    Work w = work_of<GEMM_NT, true>(g, T::BM);
    if (!w.any) return;
    int f0 = (int)blockIdx.y * (T::BN / 2);
    TileX x = tile_x(g, w);
    const uint16_t *own[OwnCopies<T>::A];
#pragma unroll
    for (int i = 0; i < OwnCopies<T>::A; i++) {
        int r = ((int)threadIdx.x + i * T::THREADS) / OwnCopies<T>::CH;
        own[i] = (const uint16_t *)x.x + (r < w.M ? x_row(x, r) * g.lda : 0);
    }
    float acc[T::MI][T::NI][4];
    clear<T>(acc);
    mma_chain<GEMM_NT, T>(acc, ring, w.K, [&](uint16_t *stage, int k) { load_gate_up<T>(stage, own, g, w, f0, k); });
    store_gate_up<T>(acc, g, w, h, f0);
}

template <class T> static void launch_mma(Backend *b, const GemmCall &g, const Mat &h)
{
    ALLOW_SHARED((gate_up_mma<T>), T::BYTES);
    LAUNCH((gate_up_mma<T>), work_grid(GEMM_NT, g, T::BM, T::BN), T::THREADS, T::BYTES, b->stream, g, h);
}

/* ---- by fmaf */

/* Steps [k, k + steps) of both operands, as load_tile lays them. */
template <class T, bool HALF>
DEVICE void load_gate_up_fma(float *as, float *bs, const GemmCall &g, const Work &w, const TileX &x, int f0, int k,
                             int steps)
{
#pragma unroll 2
    for (int e = (int)threadIdx.x; e < T::BK * T::BM; e += T::THREADS) {
        int at = e % T::BK, r = e / T::BK;
        bool in = at < steps && r < w.M;
        as[at * (T::BM + T::PAD) + r] =
            in ? operand<HALF>(x.x, g.a_type, x_row(x, r) * g.lda + (size_t)(k + at)) : 0.0f;
    }
#pragma unroll 2
    for (int e = (int)threadIdx.x; e < T::BK * T::BN; e += T::THREADS) {
        int at = e % T::BK, n = e / T::BK, row = weight_row<T::TN>(n, f0, g.N / 2);
        bool in = at < steps && row >= 0;
        bs[at * (T::BN + T::PAD) + n] =
            in ? operand<HALF>(w.b, g.b_type, (size_t)row * g.ldb + (size_t)(k + at)) : 0.0f;
    }
}

template <class T, bool HALF>
DEVICE void store_gate_up_fma(const float (&acc)[T::TM][T::TN], const GemmCall &g, const Work &w, const Mat &h, int f0)
{
    int ty = (int)threadIdx.x / (T::BN / T::TN), tx = (int)threadIdx.x % (T::BN / T::TN), F = g.N / 2;
#pragma unroll
    for (int i = 0; i < T::TM; i++) {
        if (ty * T::TM + i >= w.M) continue;
        GateUpRow to = gate_up_row<HALF>(g, w, h, ty * T::TM + i);
#pragma unroll
        for (int j = 0; j < T::TN / 2; j++) {
            int f = f0 + tx * (T::TN / 2) + j;
            if (f >= F) continue;
            float gate = acc[i][j], up = acc[i][j + T::TN / 2];
            row_put(to.gate, (size_t)f, gate);
            row_put(to.up, (size_t)f, up);
            row_put(to.h, (size_t)f, silu_times(stored(to.gate, gate), stored(to.up, up)));
        }
    }
}

/* As gate_up_mma; a thread has TM rows of TN / 2 gates. Bound: as gemm. */
template <class T, bool HALF> __global__ void __launch_bounds__(T::THREADS) gate_up_fma(GemmCall g, Mat h)
{
    Work w = work_of<GEMM_NT, HALF>(g, T::BM);
    if (!w.any) return;
    int f0 = (int)blockIdx.y * (T::BN / 2);
    TileX x = tile_x(g, w);
    float acc[T::TM][T::TN];
    chain<T>(acc, 0, w.K,
             [&](float *as, float *bs, int k, int steps) { load_gate_up_fma<T, HALF>(as, bs, g, w, x, f0, k, steps); });
    store_gate_up_fma<T, HALF>(acc, g, w, h, f0);
}

template <class T, bool HALF> static void launch_fma(Backend *b, const GemmCall &g, const Mat &h)
{
    LAUNCH((gate_up_fma<T, HALF>), work_grid(GEMM_NT, g, T::BM, T::BN), T::THREADS, 0, b->stream, g, h);
}

void gemm_gate_up(Backend *b, GemmCall g, Mat h, bool tensor_cores)
{
    if (g.M <= 0 || g.N <= 0 || g.K <= 0) return;
    if (!tensor_cores) {
        if (g.b_type == DTYPE_BF16)
            large_tile(g) ? launch_fma<LargeTile, true>(b, g, h) : launch_fma<SmallTile, true>(b, g, h);
        else large_tile(g) ? launch_fma<LargeTile, false>(b, g, h) : launch_fma<SmallTile, false>(b, g, h);
        return;
    }
    if (!gemm_operands(b, GEMM_NT, &g)) return;
    MmaTile tile = mma_tile_for(b, GEMM_NT, g);
    if (tile == MMA_WIDE) launch_mma<WideTile>(b, g, h);
    else if (tile == MMA_MIDDLE) launch_mma<MiddleTile>(b, g, h);
    else launch_mma<DecodeTile>(b, g, h);
}
