/* The embedding table: rows out of it, gradients into it. */
#include "gpu/kernels/rows.cuh"

enum { IDS_TILE = 128 };

/* y[n] = table[ids[n]]. A warp a row. Bound: bytes. */
__global__ void __launch_bounds__(ROW_THREADS) embed(Mat y, Mat table, const int32_t *ids)
{
    size_t n = warp_row();
    if (n >= y.rows) return;
    Row from = row_of(table, (size_t)ids[n]);
    float *to = row_ptr(y, n);
    EACH_FOUR(j, threadIdx.x % WARP, WARP, y.cols) store4(to, j, y.cols, load4(from, j, y.cols));
}

/* next[i]: the first row after i with the same id, or -1; first[i]: none before i has it. A thread a row compares its id with
 * all others, tile after tile in shared memory: n^2 comparisons, no atomics. Bound: integer compares, 67 M for 8,192 rows. */
__global__ void __launch_bounds__(IDS_TILE) same_ids(int32_t *next, int32_t *first, const int32_t *ids, int n)
{
    SMEM(int32_t, tile, [IDS_TILE]);
    int i = (int)(blockIdx.x * IDS_TILE + threadIdx.x), mine = i < n ? ids[i] : -1, later = -1, before = 0;
    for (int from = 0; from < n; from += IDS_TILE) {
        int rows = n - from < IDS_TILE ? n - from : IDS_TILE;
        if ((int)threadIdx.x < rows) tile[threadIdx.x] = ids[from + (int)threadIdx.x];
        __syncthreads();
        for (int k = 0; k < rows; k++) {
            if (tile[k] != mine) continue;
            if (from + k < i) before = 1;
            else if (from + k > i && later < 0) later = from + k;
        }
        __syncthreads();
    }
    if (i < n) next[i] = later, first[i] = !before;
}

/* dtable[v] += dy[n] for the rows n with ids[n] = v, in order: the warp of the first of them walks the list. Bound: bytes; the
 * longest list where one word is very frequent. */
__global__ void __launch_bounds__(ROW_THREADS)
    add_to_table(Mat dtable, Mat dy, const int32_t *ids, const int32_t *next, const int32_t *first)
{
    size_t n = warp_row(), C = dy.cols;
    if (n >= dy.rows || !first[n]) return;
    float *out = row_ptr(dtable, (size_t)ids[n]);
    EACH_FOUR(j, threadIdx.x % WARP, WARP, C)
    {
        float4 sum = load4(out, j, C);
        for (int i = (int)n; i >= 0; i = next[i]) sum = add4(sum, load4(row_ptr(dy, (size_t)i), j, C));
        store4(out, j, C, sum);
    }
}

void gpu_embed_fwd(Backend *b, Mat y, Mat table, const int32_t *ids)
{
    check_f32(y);
    CHECK_EQ(y.cols, table.cols);
    if (y.rows) LAUNCH(embed, ceil_div(y.rows, WARP_ROWS), ROW_THREADS, 0, b->stream, y, table, ids);
}

void gpu_embed_bwd(Backend *b, Mat dtable, Mat dy, const int32_t *ids)
{
    check_f32(dtable), check_f32(dy);
    CHECK_EQ(dtable.cols, dy.cols);
    size_t n = dy.rows;
    int32_t *next = n ? (int32_t *)gpu_scratch(b, 2 * n * sizeof(int32_t)) : NULL, *first = next + n;
    if (!next) return;
    LAUNCH(same_ids, ceil_div(n, IDS_TILE), IDS_TILE, 0, b->stream, next, first, ids, (int)n);
    LAUNCH(add_to_table, ceil_div(n, WARP_ROWS), ROW_THREADS, 0, b->stream, dtable, dy, ids, next, first);
}
