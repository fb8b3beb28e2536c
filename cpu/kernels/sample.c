/* sample: contract in core/ops/ops.h. Inverse CDF over ascending ids, after temperature, top-k and top-p. */
#include "cpu/kernels/simd/softmax.h"

/* Heap order of the ids kept by top-k and top-p: the larger probability first, then the lower id. */
static bool before(const float *p, int32_t a, int32_t b)
{
    return p[a] > p[b] || (p[a] == p[b] && a < b);
}

static void sift_down(int32_t *heap, int32_t n, int32_t at, const float *p)
{
    for (;;) {
        int32_t child = 2 * at + 1;
        if (child >= n) {
            return;
        }
        if (child + 1 < n && before(p, heap[child + 1], heap[child])) {
            child++;
        }
        if (!before(p, heap[child], heap[at])) {
            return;
        }
        int32_t id = heap[at];
        heap[at] = heap[child];
        heap[child] = id;
        at = child;
    }
}

/* Sorts the best `count` ids to the end of heap[0, n), the best one last. */
static void best_to_end(int32_t *heap, int32_t n, int32_t count, const float *p)
{
    for (int32_t i = n / 2 - 1; i >= 0; i--) {
        sift_down(heap, n, i, p);
    }
    for (int32_t i = 0; i < count; i++) {
        int32_t last = n - 1 - i, best = heap[0];
        heap[0] = heap[last];
        heap[last] = best;
        sift_down(heap, last, 0, p);
    }
}

/* Zeroes e outside the top_k largest, then outside the shortest prefix of those with top_p of their sum. */
static void restrict_row(float *e, int32_t *ids, int32_t n, SampleArgs args)
{
    int32_t count = args.top_k > 0 && args.top_k < n ? args.top_k : n;
    for (int32_t i = 0; i < n; i++) {
        ids[i] = i;
    }
    best_to_end(ids, n, count, e);
    double total = 0.0, sum = 0.0;
    for (int32_t i = 0; i < count; i++) {
        total += e[ids[n - 1 - i]];
    }
    int32_t kept = 0;
    while (kept < count && (kept == 0 || args.top_p >= 1.0f || sum < (double)args.top_p * total)) {
        sum += e[ids[n - 1 - kept++]];
    }
    for (int32_t i = 0; i < n - kept; i++) {
        e[ids[i]] = 0.0f;
    }
}

/* Ids without a chance are never picked, whatever the rounding: the last one with a chance is. */
static int32_t pick_in_block(const float *e, size_t from, size_t k, double sum, double target)
{
    size_t last = from;
    for (size_t i = from; i < from + k; i++) {
        if (e[i] > 0.0f) {
            last = i;
            sum += (double)e[i];
            if (sum > target) {
                break;
            }
        }
    }
    return (int32_t)last;
}

/* The first id whose cumulative sum exceeds u * total, found by blocks of 16: block sums by the tree, in order in f64. */
static int32_t inverse_cdf(const float *e, size_t n, float u)
{
    double total = 0.0, sum = 0.0, before_block = 0.0;
    EACH_V16(j, k, n)
    {
        total += (double)v16_reduce_add(row_load(e + j, k));
    }
    double target = (double)u * total;
    size_t at = 0;
    for (size_t j = 0; j < n && sum <= target; j += VEC) {
        double block = (double)v16_reduce_add(row_load(e + j, row_lanes(n - j)));
        if (block > 0.0) {
            at = j;
            before_block = sum;
            sum += block;
        }
    }
    return pick_in_block(e, at, row_lanes(n - at), before_block, target);
}

static int32_t greedy(const float *x, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++) {
        best = x[i] > x[best] ? i : best;
    }
    return (int32_t)best;
}

void cpu_sample(Backend *b, int32_t *id, float *lp, Mat logits, SampleArgs args, const float *u)
{
    check_f32(logits);
    size_t V = logits.cols, used = args.vocab_used > 0 && (size_t)args.vocab_used < V ? (size_t)args.vocab_used : V;
    float inv = args.temperature > 0.0f ? 1.0f / args.temperature : 1.0f;
    bool restricted = args.top_p < 1.0f || (args.top_k > 0 && (size_t)args.top_k < used);
#pragma omp parallel for num_threads(cpu_team(b, 20.0 * (double)(logits.rows * V)))
    for (size_t n = 0; n < logits.rows; n++) {
        int thread = omp_get_thread_num();
        ArenaMark mark = cpu_mark(b, thread);
        float *e = cpu_scratch(b, thread, V);
        const float *row = mat_row(logits, n);
        float max = row_scaled_max(row, V, inv), log_sum = row_log(row_exp(e, row, V, inv, max));
        if (args.temperature > 0.0f) {
            if (restricted) {
                restrict_row(e, (int32_t *)cpu_scratch(b, thread, used), (int32_t)used, args);
            }
            id[n] = inverse_cdf(e, used, u[n]);
        } else {
            id[n] = greedy(row, used);
        }
        lp[n] = row[id[n]] * inv - max - log_sum;
        cpu_release(b, thread, mark);
    }
}
