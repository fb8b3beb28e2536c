/* router_fwd, router_bwd: contract in core/ops/ops.h. The gate of DeepSeekMoE for a token with logits l (l_e = u . e_e):
 *   V2 (arXiv:2405.04434, eqs. 20-22)   s = softmax(l),  c = s;   a group's score is the largest c of its experts
 *   V3 (arXiv:2412.19437, eqs. 12-16)   s = sigmoid(l),  c = s + b;   ... the sum of its two largest c
 * Group limit (V2 2.2.2, V3 2.1.2: M devices or nodes a token): experts outside the topk_group best of n_group contiguous groups
 * are masked, and T = the K experts of largest c, ties to the lower index. b (aux-loss-free balancing) only chooses: weights are
 *   g_e = f s_e                       not normalised
 *   g_e = f s_e / (sum_T s + 1e-20)   norm_topk; there f is 1 in V2 and the routed scaling factor in V3 */
#include <math.h>

#include "core/config.h"
#include "cpu/kernels/simd/softmax.h"

/* s of the equations above. */
static void score_row(float *s, const float *logits, size_t E, int score)
{
    if (score == SCORE_SIGMOID) {
        EACH_V16(j, k, E)
        {
            row_store(s + j, v16_sigmoid(row_load(logits + j, k)), k);
        }
        return;
    }
    v16 sum = v16_set1(row_exp(s, logits, E, 1.0f, row_scaled_max(logits, E, 1.0f)));
    EACH_V16(j, k, E)
    {
        row_store(s + j, v16_div(row_load(s + j, k), sum), k);
    }
}

/* The `count` largest of c into chosen[] (flags), ties to the lowest index; NaN is never larger, so `count` are found. */
static void choose_largest(bool *chosen, const float *c, int n, int count)
{
    for (int i = 0; i < n; i++) {
        chosen[i] = false;
    }
    for (int found = 0; found < count; found++) {
        int best = -1;
        for (int i = 0; i < n; i++) {
            if (!chosen[i] && (best < 0 || c[i] > c[best])) {
                best = i;
            }
        }
        chosen[best] = true;
    }
}

/* V2: the largest c of the group. V3: the sum of its two largest (a group of one: that one). */
static float group_score(const float *c, int size, int topk)
{
    float first = -INFINITY, second = -INFINITY;
    for (int i = 0; i < size; i++) {
        if (c[i] > first) {
            second = first;
            first = c[i];
        } else if (c[i] > second) {
            second = c[i];
        }
    }
    return topk == TOPK_GROUP_MAX || size == 1 ? first : first + second;
}

/* Choice values of the experts outside the topk_group best groups become -inf (0 under mask_zero). */
static void mask_groups(float *c, RouterShape s, float *group, bool *kept)
{
    int size = s.E / s.n_group;
    for (int g = 0; g < s.n_group; g++) {
        group[g] = group_score(c + g * size, size, s.topk);
    }
    choose_largest(kept, group, s.n_group, s.topk_group);
    for (int e = 0; e < s.E; e++) {
        if (!kept[e / size]) {
            c[e] = s.mask_zero ? 0.0f : -INFINITY;
        }
    }
}

static bool normalises(RouterShape s)
{
    return s.norm_topk && (s.K > 1 || s.scale_after_norm);
}

/* sum_T s + 1e-20, in ascending expert order. */
static float chosen_sum(const float *scores, const int32_t *idx, int K)
{
    float sum = 0.0f;
    for (int i = 0; i < K; i++) {
        sum += scores[idx[i]];
    }
    return sum + 1e-20f;
}

/* f. */
static float router_factor(RouterShape s)
{
    return normalises(s) && !s.scale_after_norm ? 1.0f : s.scale;
}

static void weigh_row(float *weights, const float *scores, const int32_t *idx, RouterShape s)
{
    float sum = normalises(s) ? chosen_sum(scores, idx, s.K) : 1.0f, factor = router_factor(s);
    for (int i = 0; i < s.K; i++) {
        weights[i] = scores[idx[i]] / sum * factor;
    }
}

typedef struct RouterScratch {
    float *choice, *group;
    bool *chosen;
} RouterScratch;

static void choose_row(int32_t *idx, const float *scores, const float *bias, RouterShape s, RouterScratch t)
{
    for (int e = 0; e < s.E; e++) {
        t.choice[e] = bias ? scores[e] + bias[e] : scores[e];
    }
    if (s.topk != TOPK_GREEDY && s.n_group > 1) {
        mask_groups(t.choice, s, t.group, t.chosen);
    }
    choose_largest(t.chosen, t.choice, s.E, s.K);
    for (int e = 0, i = 0; e < s.E; e++) {
        if (t.chosen[e]) {
            idx[i++] = e;
        }
    }
}

static void route_rows(Backend *b, RouterShape s, Mat scores, int32_t *idx, Mat weights, Mat logits, const float *bias)
{
    size_t E = (size_t)s.E, K = (size_t)s.K;
#pragma omp for nowait
    for (size_t n = 0; n < logits.rows; n++) {
        int thread = omp_get_thread_num();
        ArenaMark mark = cpu_mark(b, thread);
        RouterScratch t = {cpu_scratch(b, thread, E), cpu_scratch(b, thread, E), (bool *)cpu_scratch(b, thread, E)};
        score_row(mat_row(scores, n), mat_row(logits, n), E, s.score);
        if (!s.given || idx[n * K] < 0) choose_row(idx + n * K, mat_row(scores, n), bias, s, t);
        weigh_row(mat_row(weights, n), mat_row(scores, n), idx + n * K, s);
        cpu_release(b, thread, mark);
    }
}

void cpu_router_fwd(Backend *b, RouterShape s, Mat scores, int32_t *idx, Mat weights, Mat logits, const float *bias)
{
    check_f32(scores), check_f32(weights), check_f32(logits);
    CHECK_EQ(logits.cols, s.E);
    CHECK_EQ(weights.cols, s.K);
    CHECK(s.K >= 1 && s.K <= s.E);
    ON_TEAM(cpu_team(b, (double)(logits.rows * logits.cols) * (s.K + 12)),
            route_rows(b, s, scores, idx, weights, logits, bias));
}

/* ds_e += f dg_e, or normalised, with n = sum_T s + 1e-20: (f / n) (dg_e - sum_T (s_j / n) dg_j). */
static void weights_to_scores(float *ds, const float *dweights, const float *scores, const int32_t *idx, RouterShape s)
{
    float factor = router_factor(s), n = 1.0f, mean = 0.0f;
    if (normalises(s)) {
        n = chosen_sum(scores, idx, s.K);
        for (int i = 0; i < s.K; i++) {
            mean = fmaf(scores[idx[i]] / n, dweights[i], mean);
        }
    }
    for (int i = 0; i < s.K; i++) {
        ds[idx[i]] += factor / n * (dweights[i] - mean);
    }
}

/* In place: dL/ds -> dL/dlogits. Softmax: s (ds - sum_j s_j ds_j); sigmoid: s (1 - s) ds. */
static void scores_to_logits(float *d, const float *scores, size_t E, int score)
{
    const v16 one = v16_set1(1.0f), mean = v16_set1(score == SCORE_SOFTMAX ? row_dot(scores, d, E) : 0.0f);
    EACH_V16(j, k, E)
    {
        v16 s = row_load(scores + j, k), slope = score == SCORE_SOFTMAX ? s : v16_mul(s, v16_sub(one, s));
        row_store(d + j, v16_mul(slope, v16_sub(row_load(d + j, k), mean)), k);
    }
}

void cpu_router_bwd(Backend *b, RouterShape s, Mat dlogits, Mat dweights, const Mat *dscores, Mat scores,
                    const int32_t *idx)
{
    check_f32(dlogits), check_f32(dweights), check_f32(scores);
    CHECK_EQ(dlogits.cols, s.E);
    CHECK_EQ(dweights.cols, s.K);
    size_t E = (size_t)s.E, K = (size_t)s.K;
#pragma omp parallel for num_threads(cpu_team(b, (double)(4 * dlogits.rows * E)))
    for (size_t n = 0; n < dlogits.rows; n++) {
        float *d = mat_row(dlogits, n);
        for (size_t e = 0; e < E; e++) {
            d[e] = dscores ? mat_row(*dscores, n)[e] : 0.0f;
        }
        weights_to_scores(d, mat_row(dweights, n), mat_row(scores, n), idx + n * K, s);
        scores_to_logits(d, mat_row(scores, n), E, s.score);
    }
}
