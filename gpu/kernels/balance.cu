/* What the balance losses are formed of, their gradient, and the step of V3's biases. Sums over tokens are in f64 and
 * in order, so a thread owns each of them. */
#include "gpu/kernels/rows.cuh"

/* The sequence of row n. */
DEVICE int sequence_of(const int32_t *offsets, int nseq, size_t n)
{
    int low = 0, high = nseq - 1;
    while (low < high) {
        int mid = (low + high + 1) / 2;
        if ((size_t)offsets[mid] <= n) low = mid;
        else high = mid - 1;
    }
    return low;
}

DEVICE double row_total(const float *scores, int E)
{
    double sum = 1e-20;
    for (int i = 0; i < E; i++) sum += scores[i];
    return sum;
}

/* 1 when expert i is among the K best of a row, the lowest index among equals. */
DEVICE int is_best(const float *row, int E, int K, int i)
{
    int before = 0;
    for (int k = 0; k < E; k++) before += row[k] > row[i] || (row[k] == row[i] && k < i);
    return before < K;
}

/* total[n] of every row. A thread a row. */
__global__ void __launch_bounds__(ROW_THREADS) row_totals(double *total, Mat scores)
{
    size_t n = (size_t)blockIdx.x * ROW_THREADS + threadIdx.x;
    if (n < scores.rows) total[n] = row_total(row_ptr(scores, n), (int)scores.cols);
}

/* score and count of expert i in sequence blockIdx.y. total: NULL, or of every row (normalised). A thread an expert.
 * Bound: latency of one addition after another; E comparisons a row where normalised. */
__global__ void __launch_bounds__(ROW_THREADS)
    sum_scores(BalanceSums out, BalanceShape s, Mat scores, const int32_t *idx, const int32_t *offsets,
               const double *total)
{
    int i = (int)(blockIdx.x * ROW_THREADS + threadIdx.x);
    size_t q = blockIdx.y;
    if (i >= s.E) return;
    double score = 0.0;
    int count = 0;
    for (size_t n = (size_t)offsets[q]; n < (size_t)offsets[q + 1]; n++) {
        const float *row = row_ptr(scores, n);
        score += total ? row[i] / total[n] : (double)row[i];
        if (total) count += is_best(row, s.E, s.K, i);
        else
            for (int k = 0; k < s.K; k++) count += idx[n * (size_t)s.K + (size_t)k] == i;
    }
    out.score[q * (size_t)s.E + (size_t)i] = score;
    out.count[q * (size_t)s.E + (size_t)i] = count;
}

/* reached[d] of sequence blockIdx.y: tokens with a choice on device d. A thread a device. */
__global__ void __launch_bounds__(ROW_THREADS)
    count_reached(int32_t *reached, BalanceShape s, const int32_t *idx, const int32_t *offsets)
{
    int d = (int)(blockIdx.x * ROW_THREADS + threadIdx.x), experts = s.E / s.devices, count = 0;
    size_t q = blockIdx.y;
    if (d >= s.devices) return;
    for (size_t n = (size_t)offsets[q]; n < (size_t)offsets[q + 1]; n++) {
        int here = 0;
        for (int k = 0; k < s.K; k++) here = here || idx[n * (size_t)s.K + (size_t)k] / experts == d;
        count += here;
    }
    reached[q * (size_t)s.devices + (size_t)d] = count;
}

/* dscores of a row; lane 0 forms the row's total and mean, whose terms are added in order. A warp a row. Bound: f64
 * divisions. */
__global__ void __launch_bounds__(ROW_THREADS)
    score_grad(Mat dscores, BalanceSlopes by, Mat scores, const int32_t *offsets, int nseq, double share)
{
    size_t n = warp_row();
    int lane = (int)threadIdx.x % WARP, E = (int)scores.cols;
    bool on = n < scores.rows;
    int q = on ? sequence_of(offsets, nseq, n) : 0;
    const float *row = row_ptr(scores, on ? n : 0);
    const double *frequency = by.frequency + (by.frequency ? (size_t)q * (size_t)E : 0);
    double total = 1.0, mean = 0.0;
    if (on && lane == 0 && by.weight != 0.0) {
        total = row_total(row, E);
        for (int i = 0; i < E; i++) mean += frequency[i] * (row[i] / total);
    }
    total = __shfl_sync(0xffffffffu, total, 0);
    mean = __shfl_sync(0xffffffffu, mean, 0);
    if (!on) return;
    int T = offsets[q + 1] - offsets[q];
    for (int i = lane; i < E; i += WARP) {
        double d = by.slope ? by.slope[(size_t)q * (size_t)E + (size_t)i] : 0.0;
        if (by.weight != 0.0) d += by.weight * (frequency[i] - mean) / total;
        row_ptr(dscores, n)[i] = (float)(d * share / T);
    }
}

/* n_i E against the sum of all, in whole numbers. A thread an expert. */
__global__ void __launch_bounds__(ROW_THREADS) move_bias(float *bias, const int32_t *offsets, int E, float rate)
{
    int i = (int)(blockIdx.x * ROW_THREADS + threadIdx.x);
    if (i >= E) return;
    int64_t total = (int64_t)offsets[E] - offsets[0], load = ((int64_t)offsets[i + 1] - offsets[i]) * E;
    if (load < total) bias[i] += rate;
    if (load > total) bias[i] -= rate;
}

void gpu_balance_sums(Backend *b, BalanceSums out, BalanceShape s, Mat scores, const int32_t *idx,
                      const int32_t *offsets, int nseq)
{
    check_f32(scores);
    if (nseq <= 0) return;
    double *total = NULL;
    if (s.normalised && scores.rows) {
        total = (double *)gpu_scratch(b, scores.rows * sizeof(double));
        if (!total) return;
        LAUNCH(row_totals, ceil_div(scores.rows, ROW_THREADS), ROW_THREADS, 0, b->stream, total, scores);
    }
    dim3 grid((unsigned)ceil_div((size_t)s.E, ROW_THREADS), (unsigned)nseq);
    LAUNCH(sum_scores, grid, ROW_THREADS, 0, b->stream, out, s, scores, idx, offsets, total);
    if (!out.reached || s.normalised) return;
    grid.x = (unsigned)ceil_div((size_t)s.devices, ROW_THREADS);
    LAUNCH(count_reached, grid, ROW_THREADS, 0, b->stream, out.reached, s, idx, offsets);
}

void gpu_balance_grad(Backend *b, Mat dscores, BalanceSlopes s, Mat scores, const int32_t *offsets, int nseq)
{
    check_f32(dscores), check_f32(scores);
    if (scores.rows)
        LAUNCH(score_grad, ceil_div(scores.rows, WARP_ROWS), ROW_THREADS, 0, b->stream, dscores, s, scores, offsets,
               nseq, 1.0 / nseq);
}

void gpu_bias_update(Backend *b, float *bias, const int32_t *offsets, int E, float rate)
{
    LAUNCH(move_bias, ceil_div((size_t)E, ROW_THREADS), ROW_THREADS, 0, b->stream, bias, offsets, E, rate);
}
