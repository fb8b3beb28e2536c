/* Pairs (token, choice) sorted by expert: a stable counting sort without atomics. A block an expert walks all pairs,
 * so that ranks are counts of what comes before. */
#include "gpu/kernels/rows.cuh"

enum { SORT_THREADS = 128, RUN = 8, SORT_TILE = SORT_THREADS * RUN };

/* How many of this thread's run of pairs [from, from + RUN) chose expert e. */
DEVICE int count_run(const int32_t *idx, size_t from, size_t pairs, int e)
{
    int found = 0;
    for (size_t i = from; i < from + RUN && i < pairs; i++) found += idx[i] == e;
    return found;
}

/* Sum over the threads before this one, and over all. */
DEVICE int block_prefix(int value, int *all)
{
    SMEM(int, warps, [SORT_THREADS / WARP]);
    int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP, sum = value;
    for (int step = 1; step < WARP; step *= 2) {
        int before = __shfl_up_sync(0xffffffffu, sum, (unsigned)step);
        if (lane >= step) sum += before;
    }
    __syncthreads(); /* the call before has been read */
    if (lane == WARP - 1) warps[warp] = sum;
    __syncthreads();
    int first = 0, total = 0;
    for (int w = 0; w < SORT_THREADS / WARP; w++) {
        if (w == warp) first = total;
        total += warps[w];
    }
    *all = total;
    return first + sum - value;
}

/* count[e] of expert blockIdx.x. Bound: bytes of idx, read by every expert from the second cache. */
__global__ void __launch_bounds__(SORT_THREADS) count_pairs(int32_t *count, const int32_t *idx, size_t pairs)
{
    int found = 0, all;
    for (size_t at = 0; at < pairs; at += SORT_TILE)
        found += count_run(idx, at + (size_t)threadIdx.x * RUN, pairs, (int)blockIdx.x);
    block_prefix(found, &all);
    if (threadIdx.x == 0) count[blockIdx.x] = all;
}

/* offsets of counts: one thread, E additions. */
__global__ void add_counts(int32_t *offsets, const int32_t *count, int E)
{
    int32_t sum = 0;
    for (int e = 0; e < E; e++) offsets[e] = sum, sum += count[e];
    offsets[E] = sum;
}

/* slot and rows of the pairs of expert blockIdx.x. Bound: as count_pairs. */
__global__ void __launch_bounds__(SORT_THREADS)
    place_pairs(int32_t *slot, int32_t *rows, const int32_t *offsets, const int32_t *idx, size_t pairs, int K)
{
    int e = (int)blockIdx.x, base = offsets[e];
    if (base == offsets[e + 1]) return;
    for (size_t at = 0; at < pairs; at += SORT_TILE) {
        size_t from = at + (size_t)threadIdx.x * RUN;
        int all, place = base + block_prefix(count_run(idx, from, pairs, e), &all);
        for (size_t i = from; i < from + RUN && i < pairs; i++) {
            if (idx[i] != e) continue;
            slot[i] = place;
            rows[place++] = (int32_t)(i / (size_t)K);
        }
        base += all;
    }
}

void gpu_sort_experts(Backend *b, int32_t *offsets, int32_t *slot, int32_t *rows, const int32_t *idx, int n, int E,
                      int K)
{
    size_t pairs = (size_t)n * (size_t)K;
    int32_t *count = (int32_t *)gpu_scratch(b, (size_t)E * sizeof(int32_t));
    if (!count) return;
    LAUNCH(count_pairs, E, SORT_THREADS, 0, b->stream, count, idx, pairs);
    LAUNCH(add_counts, 1, 1, 0, b->stream, offsets, count, E);
    LAUNCH(place_pairs, E, SORT_THREADS, 0, b->stream, slot, rows, offsets, idx, pairs, K);
}
