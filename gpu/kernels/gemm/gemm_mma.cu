/* bf16 products on tensor cores: mma.sync.m16n8k16, operands by cp.async through shared memory.
 *
 * An element is one chain over k ascending in steps of 16, whatever the tile, the number of rows or of experts: the tile may be
 * chosen by the sizes alone, and a row alone has the bits of the row in a batch. The gradient of w goes on from what dw holds, so
 * that cutting the tokens at multiples of 16 changes nothing. Operands that are f32, or whose rows do not lie at multiples of 16
 * bytes, are first copied to rows that do. */
#include "gpu/kernels/gemm/mma_product.cuh"

/* Columns n, n + 1 of a row of N: sums (+ bias), added to what was there where `add`. */
DEVICE void store_pair(Row c, int n, const GemmCall &g, float x, float y, bool add)
{
    if (n >= g.N) return;
    bool two = n + 1 < g.N;
    if (g.bias) x = x + g.bias[n], y = two ? y + g.bias[n + 1] : 0.0f;
    if (add) x = row_get(c, (size_t)n) + x, y = two ? row_get(c, (size_t)n + 1) + y : 0.0f;
    put_pair(c, n, g.N, x, y);
}

/* Every pair of this thread's elements: rows g and g + 8 of 16, two columns of 8 (PTX ISA, mma.m16n8k16). LOAD: from c. */
template <class T, bool LOAD>
DEVICE void each_pair(float (&acc)[T::MI][T::NI][4], const GemmCall &g, const Work &w, int n0, bool add)
{
    int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    int row = warp / T::WN * T::RM + lane / 4, column = n0 + warp % T::WN * T::RN + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < T::MI; i++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int r = row + 16 * i + 8 * h;
            if (r >= w.M) continue;
            Row c = {element<true>(w.c, g.c_type, (size_t)r * g.ldc), g.c_type == DTYPE_BF16};
#pragma unroll
            for (int j = 0; j < T::NI; j++) {
                int n = column + 8 * j;
                if (!LOAD) {
                    store_pair(c, n, g, acc[i][j][2 * h], acc[i][j][2 * h + 1], add);
                    continue;
                }
                if (n < g.N) acc[i][j][2 * h] = row_get(c, (size_t)n);
                if (n + 1 < g.N) acc[i][j][2 * h + 1] = row_get(c, (size_t)n + 1);
            }
        }
}

/* A block owns BM x BN of c and all of k. Bound: tensor cores for many rows, bytes of the weights for few. */
template <int FORM, class T> __global__ void __launch_bounds__(T::THREADS) gemm_mma(GemmCall g)
{
    DSMEM(uint16_t, ring);
    Work w = work_of<FORM, true>(g, T::BM);
    if (!w.any) return;
    int n0 = (int)blockIdx.y * T::BN;
    float acc[T::MI][T::NI][4];
    clear<T>(acc);
    if (FORM == GEMM_TN) each_pair<T, true>(acc, g, w, n0, false);
    mma_chain<FORM, T>(acc, ring, w.K, [&](uint16_t *stage, int k) { load_stage<FORM, T>(stage, g, w, n0, k); });
    each_pair<T, false>(acc, g, w, n0, FORM != GEMM_TN && g.add);
}

template <int FORM, class T> static void launch_mma(Backend *b, const GemmCall &g)
{
    ALLOW_SHARED((gemm_mma<FORM, T>), T::BYTES);
    LAUNCH((gemm_mma<FORM, T>), work_grid((GemmForm)FORM, g, T::BM, T::BN), T::THREADS, T::BYTES, b->stream, g);
}

/* ---- operands that cannot be copied by 16 bytes */

/* An operand: z matrices [rows][cols]; index: row r of one lies at row index[r], NULL: at r. */
typedef struct Operand {
    MatrixList list;
    DType type;
    size_t stride, rows, cols, z;
    const int32_t *index;
} Operand;

/* to[z][r][j], rows of `padded`: the operand as bf16, zeros behind its columns. A warp a row, blockIdx.y: z. Bound: bytes. */
__global__ void __launch_bounds__(ROW_THREADS) copy_operand(uint16_t *to, Operand o, size_t padded)
{
    size_t r = warp_row(), z = blockIdx.y;
    if (r >= o.rows) return;
    size_t from = o.index ? (size_t)o.index[r] : r;
    Row x = {element<true>(list_at(o.list, (int)z), o.type, from * o.stride), o.type == DTYPE_BF16};
    uint16_t *out = to + (z * o.rows + r) * padded;
    for (size_t j = threadIdx.x % WARP; j < padded; j += WARP)
        out[j] = (uint16_t)(j < o.cols ? narrow(row_get(x, j)) : 0u);
}

static bool lies_well(const Operand &o, bool even)
{
    return even && o.type == DTYPE_BF16 && o.stride % CHUNK == 0 && o.cols % CHUNK == 0 &&
           (uintptr_t)o.list.base % 16 == 0 && (o.z == 1 || o.list.step % 16 == 0);
}

static size_t padded_cols(const Operand &o)
{
    return ceil_div(o.cols, CHUNK) * CHUNK;
}

static size_t copy_bytes(const Operand &o)
{
    return ceil_div(o.z * o.rows * padded_cols(o) * 2, 256) * 256;
}

static void copy_to(Backend *b, void *to, const Operand &o)
{
    dim3 grid((unsigned)ceil_div(o.rows, WARP_ROWS), (unsigned)o.z);
    LAUNCH(copy_operand, grid, ROW_THREADS, 0, b->stream, (uint16_t *)to, o, padded_cols(o));
}

static Operand operand_a(GemmForm form, const GemmCall &g)
{
    Operand o = {{(char *)g.a, (ptrdiff_t)(g.a_step * dtype_size(g.a_type)), NULL},
                 g.a_type,
                 g.lda,
                 (size_t)(form == GEMM_TN ? g.K : g.M),
                 (size_t)(form == GEMM_TN ? g.M : g.K),
                 (size_t)(g.batch > 0 ? g.batch : 1),
                 g.rows};
    return o;
}

static Operand operand_b(GemmForm form, const GemmCall &g)
{
    bool experts = g.offsets && form != GEMM_TN;
    MatrixList one = {(char *)g.b, (ptrdiff_t)(g.b_step * dtype_size(g.b_type)), NULL};
    Operand o = {experts ? g.list : one,
                 g.b_type,
                 g.ldb,
                 (size_t)(form == GEMM_NT ? g.N : g.K),
                 (size_t)(form == GEMM_NT ? g.K : g.N),
                 (size_t)(experts       ? g.experts
                          : g.batch > 0 ? g.batch
                                        : 1),
                 NULL};
    return o;
}

bool gemm_operands(Backend *b, GemmForm form, GemmCall *g)
{
    Operand x = operand_a(form, *g), w = operand_b(form, *g);
    bool copy_x = !lies_well(x, true), copy_w = !lies_well(w, !w.list.table);
    size_t x_bytes = copy_x ? copy_bytes(x) : 0, bytes = x_bytes + (copy_w ? copy_bytes(w) : 0);
    char *scratch = bytes ? (char *)gpu_scratch(b, bytes) : NULL;
    if (bytes && !scratch) return false;
    if (copy_x) {
        copy_to(b, scratch, x);
        g->a = scratch, g->a_type = DTYPE_BF16, g->lda = padded_cols(x), g->a_step = x.rows * g->lda, g->rows = NULL;
    }
    if (copy_w) {
        copy_to(b, scratch + x_bytes, w);
        g->ldb = padded_cols(w), g->b_step = w.rows * g->ldb, g->b = scratch + x_bytes;
        if (g->offsets && form != GEMM_TN) {
            MatrixList copies = {scratch + x_bytes, (ptrdiff_t)(2 * g->b_step), NULL};
            g->list = copies;
        }
    }
    return true;
}

template <int FORM> static void mma_by_tile(Backend *b, const GemmCall &g, MmaTile tile)
{
    if (tile == MMA_WIDE) launch_mma<FORM, WideTile>(b, g);
    else if (tile == MMA_MIDDLE) launch_mma<FORM, MiddleTile>(b, g);
    else launch_mma<FORM, DecodeTile>(b, g);
}

void gemm_mma(Backend *b, GemmForm form, GemmCall g)
{
    if (g.M <= 0 || g.N <= 0 || g.K <= 0 || !gemm_operands(b, form, &g)) return;
    MmaTile tile = mma_tile_for(b, form, g);
    if (form == GEMM_NT) mma_by_tile<GEMM_NT>(b, g, tile);
    else if (form == GEMM_NN) mma_by_tile<GEMM_NN>(b, g, tile);
    else if (tile == MMA_WIDE) launch_mma<GEMM_TN, WideTile>(b, g);
    else launch_mma<GEMM_TN, MiddleTile>(b, g);
}
