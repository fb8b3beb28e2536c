/* Scores of experts, the choice of K, their weights; and back. */
#include "gpu/kernels/softmax.cuh"

enum { ROUTER_ROWS = 8, ROUTER_SHARED = 96 << 10 };

/* One row's part of shared memory: choice values and marks of experts and of groups. */
typedef struct Choice {
    float *c;    /* [E] */
    float *rank; /* [E]: of groups first, then of experts: 1 chosen, 0 not */
    float *group;
} Choice;

/* How many floats a row takes. */
__host__ __device__ static inline size_t choice_floats(RouterShape s)
{
    return 2 * (size_t)s.E + 2 * (size_t)s.n_group;
}

/* chosen[i] = 1 for the `count` largest of c, ties to the lowest index: an element is chosen when fewer than `count`
 * are before it. A NaN is before all behind it and behind all before it, which no ranks say: then one lane chooses as
 * the CPU does. */
DEVICE void choose_largest(float *chosen, const float *c, int n, int count, int lane)
{
    bool nan = false;
    for (int i = lane; i < n; i += HALF_WARP) {
        int before = 0;
        for (int k = 0; k < n; k++) before += c[k] > c[i] || (c[k] == c[i] && k < i);
        nan = nan || c[i] != c[i];
        chosen[i] = before < count ? 1.0f : 0.0f;
    }
    unsigned half = 0xffffu << (threadIdx.x & 16u);
    nan = (__ballot_sync(0xffffffffu, nan) & half) != 0;
    if (nan && lane == 0) {
        for (int i = 0; i < n; i++) chosen[i] = 0.0f;
        for (int found = 0; found < count; found++) {
            int best = -1;
            for (int i = 0; i < n; i++)
                if (chosen[i] == 0.0f && (best < 0 || c[i] > c[best])) best = i;
            chosen[best] = 1.0f;
        }
    }
    __syncwarp();
}

/* V2: the group's largest. V3: the sum of its two largest (a group of one: that one). */
DEVICE float group_score(const float *c, int size, int topk)
{
    float first = -INFINITY, second = -INFINITY;
    for (int i = 0; i < size; i++) {
        if (c[i] > first) second = first, first = c[i];
        else if (c[i] > second) second = c[i];
    }
    return topk == TOPK_GROUP_MAX || size == 1 ? first : first + second;
}

/* Choice values outside the topk_group best groups become -inf (0 under mask_zero). Every lane of the warp comes here. */
DEVICE void mask_groups(Choice t, RouterShape s, int lane)
{
    int size = s.E / s.n_group;
    float *kept = t.group + s.n_group;
    for (int g = lane; g < s.n_group; g += HALF_WARP) t.group[g] = group_score(t.c + g * size, size, s.topk);
    __syncwarp();
    choose_largest(kept, t.group, s.n_group, s.topk_group, lane);
    for (int e = lane; e < s.E; e += HALF_WARP)
        if (kept[e / size] == 0.0f) t.c[e] = s.mask_zero ? 0.0f : -INFINITY;
    __syncwarp();
}

__host__ __device__ static inline bool normalises(RouterShape s)
{
    return s.norm_topk && (s.K > 1 || s.scale_after_norm);
}

/* The sum of the chosen scores in ascending expert order, + 1e-20. */
DEVICE float chosen_sum(const float *scores, const int32_t *idx, int K)
{
    float sum = 0.0f;
    for (int i = 0; i < K; i++) sum += scores[idx[i]];
    return sum + 1e-20f;
}

/* What multiplies a normalised (or raw) score. */
DEVICE float router_factor(RouterShape s)
{
    return normalises(s) && !s.scale_after_norm ? 1.0f : s.scale;
}

typedef struct RouterOut {
    Mat scores, weights;
    int32_t *idx;
} RouterOut;

/* A half-warp a token, its choice values in shared memory; E^2 / 16 comparisons a lane. Bound: those comparisons for many
 * experts, else bytes. */
__global__ void route(RouterOut out, RouterShape s, Mat logits, const float *bias)
{
    DSMEM(float, shared);
    int lane = (int)(threadIdx.x % HALF_WARP), rows = (int)(blockDim.x / HALF_WARP);
    size_t slot = threadIdx.x / HALF_WARP, n = (size_t)blockIdx.x * (size_t)rows + slot;
    bool on = n < logits.rows;
    size_t E = on ? (size_t)s.E : 0, row = on ? n : 0;
    Choice t;
    t.c = shared + slot * choice_floats(s), t.rank = t.c + s.E, t.group = t.rank + s.E;
    const float *x = row_ptr(logits, row);
    float *scores = row_ptr(out.scores, row);
    float max = 0.0f, sum = 1.0f;
    if (s.score == SCORE_SOFTMAX) {
        max = half_max(lane_scaled_max(x, E, 1.0f, (size_t)lane, HALF_WARP));
        sum = half_exp_sum(x, E, 1.0f, max);
    }
    for (int e = lane; e < s.E; e += HALF_WARP) {
        float score = 0.0f;
        if (on) {
            score = s.score == SCORE_SIGMOID ? sigmoid_r1(x[e]) : exp_r1(x[e] - max) / sum;
            scores[e] = score;
        }
        t.c[e] = bias ? score + bias[e] : score;
    }
    __syncwarp();
    if (s.topk != TOPK_GREEDY && s.n_group > 1) mask_groups(t, s, lane);
    choose_largest(t.rank, t.c, s.E, s.K, lane);
    int32_t *idx = out.idx + row * (size_t)s.K;
    bool kept = s.given && idx[0] >= 0;
    __syncwarp();
    for (int e = lane; e < (int)E; e += HALF_WARP) {
        int at = 0;
        if (kept || t.rank[e] == 0.0f) continue;
        for (int k = 0; k < e; k++) at += t.rank[k] != 0.0f;
        idx[at] = e;
    }
    __syncwarp();
    if (!on) return;
    float n_sum = normalises(s) ? chosen_sum(scores, idx, s.K) : 1.0f, factor = router_factor(s);
    for (int i = lane; i < s.K; i += HALF_WARP) row_ptr(out.weights, n)[i] = scores[idx[i]] / n_sum * factor;
}

/* d <- dscores + what the K weights say: f g_e, or normalised (f / n) (g_e - sum_j (s_j / n) g_j); then dL/ds -> dL/dlogits,
 * softmax: s (ds - sum_j s_j ds_j), sigmoid: s (1 - s) ds. A half-warp a token. Bound: bytes. */
__global__ void __launch_bounds__(ROW_THREADS)
    route_grad(RouterShape s, Mat dlogits, Mat dweights, Mat dscores, Mat all_scores, const int32_t *all_idx)
{
    int lane = (int)(threadIdx.x % HALF_WARP);
    size_t row = half_row();
    bool on = row < dlogits.rows;
    size_t n = on ? row : 0, E = on ? (size_t)s.E : 0;
    const float *scores = row_ptr(all_scores, n), *dw = row_ptr(dweights, n);
    const int32_t *idx = all_idx + n * (size_t)s.K;
    float *d = row_ptr(dlogits, n), total = 1.0f, mean = 0.0f;
    for (size_t e = (size_t)lane; e < E; e += HALF_WARP) d[e] = dscores.p ? row_ptr(dscores, n)[e] : 0.0f;
    if (normalises(s)) {
        total = chosen_sum(scores, idx, s.K);
        for (int i = 0; i < s.K; i++) mean = fmaf(scores[idx[i]] / total, dw[i], mean);
    }
    __syncwarp();
    for (int i = lane; i < s.K && on; i += HALF_WARP) d[idx[i]] += router_factor(s) / total * (dw[i] - mean);
    __syncwarp();
    float dot = s.score == SCORE_SOFTMAX ? half_dot(f32_row(scores), f32_row(d), E) : 0.0f;
    __syncwarp();
    for (size_t e = (size_t)lane; e < E; e += HALF_WARP) {
        float sc = scores[e], slope = s.score == SCORE_SOFTMAX ? sc : sc * (1.0f - sc);
        d[e] = slope * (d[e] - dot);
    }
}

void gpu_router_fwd(Backend *b, RouterShape s, Mat scores, int32_t *idx, Mat weights, Mat logits, const float *bias)
{
    check_f32(scores), check_f32(weights), check_f32(logits);
    CHECK_EQ(logits.cols, s.E);
    CHECK_EQ(weights.cols, s.K);
    CHECK(s.K >= 1 && s.K <= s.E);
    size_t row = choice_floats(s) * sizeof(float), rows = ROUTER_ROWS;
    while (rows > 2 && rows * row > SHARED_FREE) rows /= 2;
    if (rows * row > ROUTER_SHARED) {
        fail(&b->fault, "the GPU's router takes up to %d experts a layer, not %d", (int)(ROUTER_SHARED / 24), s.E);
        return;
    }
    if (rows * row > SHARED_FREE) ALLOW_SHARED(route, rows * row);
    RouterOut out = {scores, weights, idx};
    if (logits.rows)
        LAUNCH(route, ceil_div(logits.rows, rows), rows * HALF_WARP, rows * row, b->stream, out, s, logits, bias);
}

void gpu_router_bwd(Backend *b, RouterShape s, Mat dlogits, Mat dweights, const Mat *dscores, Mat scores,
                    const int32_t *idx)
{
    check_f32(dlogits), check_f32(dweights), check_f32(scores);
    CHECK_EQ(dlogits.cols, s.E);
    CHECK_EQ(dweights.cols, s.K);
    Mat balance = {};
    if (dscores) balance = *dscores;
    if (dlogits.rows)
        LAUNCH(route_grad, ceil_div(dlogits.rows, HALF_ROWS), ROW_THREADS, 0, b->stream, s, dlogits, dweights, balance,
               scores, idx);
}
