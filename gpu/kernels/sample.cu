/* A token for every row. What has to be added in the CPU's order (f64 sums over sorted ids and over blocks of 16) is
 * walked by one thread; everything else is done by the block. */
#include "gpu/kernels/softmax.cuh"

enum { SAMPLE_THREADS = 128, CDF_BLOCK = 16 };

/* Scratch of one row. */
typedef struct SampleRow {
    float *e;       /* [V] exp(x / T - max), 0 for what may not be sampled */
    float *block;   /* [V / 16] sums of e */
    uint64_t *keys; /* [a power of two >= V] or NULL: sorted, larger e first, then the lower id */
} SampleRow;

/* The same in bytes of one row, for the launch and the kernel. */
typedef struct SampleScratch {
    char *at;
    size_t row, block_at, keys_at; /* bytes */
    size_t sorted;                 /* power of two, 0: nothing is sorted */
} SampleScratch;

DEVICE SampleRow row_scratch(SampleScratch s, size_t n)
{
    char *p = s.at + n * s.row;
    SampleRow r = {(float *)p, (float *)(p + s.block_at), s.sorted ? (uint64_t *)(p + s.keys_at) : NULL};
    return r;
}

/* The maximum over the block, for all threads. */
DEVICE float block_max(float m)
{
    SMEM(float, part, [SAMPLE_THREADS / WARP]);
    for (int step = 16; step > 0; step >>= 1) m = larger(__shfl_xor_sync(0xffffffffu, m, step), m);
    if (threadIdx.x % WARP == 0) part[threadIdx.x / WARP] = m;
    __syncthreads();
    for (int w = 0; w < SAMPLE_THREADS / WARP; w++) m = larger(part[w], m);
    return m;
}

/* Bitonic sort of ids by (e descending, id ascending); e >= 0, so its bits are in order. */
DEVICE void sort_ids(SampleRow r, size_t used, size_t sorted)
{
    for (size_t i = threadIdx.x; i < sorted; i += SAMPLE_THREADS)
        r.keys[i] = i < used ? (uint64_t)~__float_as_uint(r.e[i]) << 32 | (uint64_t)i : ~(uint64_t)0;
    for (size_t run = 2; run <= sorted; run *= 2)
        for (size_t gap = run / 2; gap > 0; gap /= 2) {
            __syncthreads();
            for (size_t k = threadIdx.x; k < sorted / 2; k += SAMPLE_THREADS) {
                size_t i = k / gap * gap * 2 + k % gap, j = i + gap;
                uint64_t a = r.keys[i], c = r.keys[j];
                if ((a > c) == ((i & run) == 0)) r.keys[i] = c, r.keys[j] = a;
            }
        }
    __syncthreads();
}

/* Zeroes e outside the top_k largest, then outside the shortest prefix of those with top_p of their sum. */
DEVICE void restrict_row(SampleRow r, size_t used, size_t sorted, SampleArgs args)
{
    SMEM(size_t, kept, [1]);
    sort_ids(r, used, sorted);
    if (threadIdx.x == 0) {
        size_t count = args.top_k > 0 && (size_t)args.top_k < used ? (size_t)args.top_k : used, k = 0;
        double total = 0.0, sum = 0.0;
        for (size_t i = 0; i < count; i++) total += r.e[(uint32_t)r.keys[i]];
        while (k < count && (k == 0 || args.top_p >= 1.0f || sum < (double)args.top_p * total))
            sum += r.e[(uint32_t)r.keys[k++]];
        kept[0] = k;
    }
    __syncthreads();
    for (size_t i = kept[0] + threadIdx.x; i < used; i += SAMPLE_THREADS) r.e[(uint32_t)r.keys[i]] = 0.0f;
    __syncthreads();
}

/* block[i] = the sum of 16 elements by the tree; a half-warp each. */
DEVICE void block_sums(SampleRow r, size_t used)
{
    size_t blocks = (used + CDF_BLOCK - 1) / CDF_BLOCK,
           rounds = (blocks + SAMPLE_THREADS / HALF_WARP - 1) / (SAMPLE_THREADS / HALF_WARP);
    for (size_t k = 0; k < rounds; k++) {
        size_t i = k * (SAMPLE_THREADS / HALF_WARP) + threadIdx.x / HALF_WARP;
        size_t at = i * CDF_BLOCK + threadIdx.x % HALF_WARP;
        float sum = half_reduce_add(at < used ? r.e[at] : 0.0f);
        if (i < blocks && threadIdx.x % HALF_WARP == 0) r.block[i] = sum;
    }
    __syncthreads();
}

/* The first id whose cumulative sum exceeds u total; ids without a chance are never picked. One thread. */
DEVICE int32_t inverse_cdf(SampleRow r, size_t used, float u)
{
    size_t blocks = (used + CDF_BLOCK - 1) / CDF_BLOCK, at = 0;
    double total = 0.0, sum = 0.0, before = 0.0;
    for (size_t i = 0; i < blocks; i++) total += (double)r.block[i];
    double target = (double)u * total;
    for (size_t i = 0; i < blocks && sum <= target; i++) {
        double block = (double)r.block[i];
        if (block > 0.0) at = i * CDF_BLOCK, before = sum, sum += block;
    }
    size_t last = at, end = at + CDF_BLOCK < used ? at + CDF_BLOCK : used;
    for (size_t i = at; i < end; i++) {
        if (!(r.e[i] > 0.0f)) continue;
        last = i;
        before += (double)r.e[i];
        if (before > target) break;
    }
    return (int32_t)last;
}

/* The largest of x, the lowest id among equals, for thread 0. A NaN is never larger; x[0] stays if it is one. */
DEVICE int32_t greedy(const float *x, size_t used)
{
    SMEM(float, values, [SAMPLE_THREADS]);
    SMEM(int32_t, ids, [SAMPLE_THREADS]);
    float best = -INFINITY;
    int32_t id = -1;
    for (size_t i = threadIdx.x; i < used; i += SAMPLE_THREADS)
        if (x[i] > best || (id < 0 && x[i] == best)) best = x[i], id = (int32_t)i;
    values[threadIdx.x] = best, ids[threadIdx.x] = id;
    __syncthreads();
    if (threadIdx.x != 0 || x[0] != x[0]) return 0;
    for (int t = 1; t < SAMPLE_THREADS; t++)
        if (ids[t] >= 0 && (id < 0 || values[t] > best || (values[t] == best && ids[t] < id)))
            best = values[t], id = ids[t];
    return id < 0 ? 0 : id;
}

/* id[n] and lp[n] of a row. A block a row; scratch in global memory, read back by the threads that wrote it or behind
 * a barrier. Bound: latency of the walks of one thread (V / 16 additions in f64; V with top-k or top-p). */
__global__ void __launch_bounds__(SAMPLE_THREADS)
    sample(int32_t *id, float *lp, Mat logits, SampleArgs args, const float *u, size_t used, SampleScratch scratch)
{
    size_t n = blockIdx.x, V = logits.cols, t = threadIdx.x;
    const float *x = row_ptr(logits, n);
    SampleRow r = row_scratch(scratch, n);
    float inv = args.temperature > 0.0f ? 1.0f / args.temperature : 1.0f;
    float max = block_max(lane_scaled_max(x, V, inv, t, SAMPLE_THREADS));
    EACH_FOUR(j, t, SAMPLE_THREADS, V) store4(r.e, j, V, exp4(x, j, V, inv, max));
    __syncthreads();
    float4 s = make_float4(0, 0, 0, 0);
    EACH_FOUR(j, t % HALF_WARP, HALF_WARP, t < HALF_WARP ? V : 0) s = add4(s, load4(r.e, j, V));
    float log_sum = log_r1(half_sum(s)); /* of the first half-warp; thread 0 uses it */
    int32_t picked = 0;
    if (args.temperature > 0.0f) {
        if (scratch.sorted) restrict_row(r, used, scratch.sorted, args);
        block_sums(r, used);
        if (t == 0) picked = inverse_cdf(r, used, u[n]);
    } else {
        picked = greedy(x, used);
    }
    if (t == 0) id[n] = picked, lp[n] = x[picked] * inv - max - log_sum;
}

static size_t round_up(size_t n, size_t to)
{
    return ceil_div(n, to) * to;
}

void gpu_sample(Backend *b, int32_t *id, float *lp, Mat logits, SampleArgs args, const float *u)
{
    check_f32(logits);
    size_t V = logits.cols, used = args.vocab_used > 0 && (size_t)args.vocab_used < V ? (size_t)args.vocab_used : V;
    bool restricted = args.temperature > 0.0f && (args.top_p < 1.0f || (args.top_k > 0 && (size_t)args.top_k < used));
    SampleScratch s = {NULL, 0, round_up(V * sizeof(float), 16), 0, restricted ? 1u : 0u};
    while (restricted && s.sorted < used) s.sorted *= 2;
    s.keys_at = s.block_at + round_up(ceil_div(V, CDF_BLOCK) * sizeof(float), 16);
    s.row = round_up(s.keys_at + s.sorted * sizeof(uint64_t), 16);
    if (logits.rows == 0) return;
    s.at = (char *)gpu_scratch(b, logits.rows * s.row);
    if (s.at) LAUNCH(sample, logits.rows, SAMPLE_THREADS, 0, b->stream, id, lp, logits, args, u, used, s);
}
