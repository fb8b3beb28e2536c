/* balance_sums, balance_grad, bias_update: contracts in ops.h. A sequence is one thread's, so that its sums are in order. */
#include <string.h>

#include "core/config.h"
#include "cpu/internal.h"

static double row_total(const float *scores, int E)
{
    double sum = 1e-20;
    for (int i = 0; i < E; i++) sum += scores[i];
    return sum;
}

/* Counts the K best of scores[E]; the lowest index among equals. */
static void count_best(const float *scores, int E, int K, int32_t *count)
{
    bool taken[CONFIG_MAX_EXPERTS];
    memset(taken, 0, (size_t)E * sizeof *taken);
    for (int k = 0; k < K; k++) {
        int best = -1;
        for (int i = 0; i < E; i++)
            if (!taken[i] && (best < 0 || scores[i] > scores[best])) best = i;
        taken[best] = true;
        count[best]++;
    }
}

/* V3, eqs. 18-20: row-normalised scores, and the K best of them. */
static void sum_normalised(double *score, int32_t *count, BalanceShape s, Mat scores)
{
    for (size_t t = 0; t < scores.rows; t++) {
        const float *row = mat_row(scores, t);
        double total = row_total(row, s.E);
        for (int i = 0; i < s.E; i++) score[i] += row[i] / total;
        count_best(row, s.E, s.K, count);
    }
}

/* V2, eqs. 24, 25, 30: scores, choices, devices reached. A token's choices are in order. */
static void sum_plain(double *score, int32_t *count, int32_t *reached, BalanceShape s, Mat scores, const int32_t *idx)
{
    int experts = reached ? s.E / s.devices : 1;
    for (size_t t = 0; t < scores.rows; t++, idx += s.K) {
        const float *row = mat_row(scores, t);
        for (int i = 0; i < s.E; i++) score[i] += row[i];
        for (int k = 0; k < s.K; k++) count[idx[k]]++;
        for (int k = 0; reached && k < s.K; k++)
            if (k == 0 || idx[k] / experts != idx[k - 1] / experts) reached[idx[k] / experts]++;
    }
}

void cpu_balance_sums(Backend *b, BalanceSums out, BalanceShape s, Mat scores, const int32_t *idx,
                      const int32_t *offsets, int nseq)
{
    check_f32(scores);
    CHECK(s.E <= CONFIG_MAX_EXPERTS);
    size_t E = (size_t)s.E, D = (size_t)s.devices;
#pragma omp parallel for num_threads(cpu_team(b, (double)scores.rows *s.E)) schedule(dynamic, 1)
    for (int q = 0; q < nseq; q++) {
        size_t from = (size_t)offsets[q], at = (size_t)q;
        Mat rows = mat_rows(scores, from, (size_t)offsets[q + 1] - from);
        double *score = out.score + at * E;
        int32_t *count = out.count + at * E, *reached = out.reached ? out.reached + at * D : NULL;
        memset(score, 0, E * sizeof *score);
        memset(count, 0, E * sizeof *count);
        if (reached) memset(reached, 0, D * sizeof *reached);
        if (s.normalised) sum_normalised(score, count, s, rows);
        else sum_plain(score, count, reached, s, rows, idx + from * (size_t)s.K);
    }
}

/* share: the sequence's weight in the mean over sequences. */
static void gradient(Mat d, const double *slope, const double *frequency, double weight, Mat scores, double share)
{
    int E = (int)scores.cols, T = (int)scores.rows;
    for (size_t t = 0; t < scores.rows; t++) {
        const float *row = mat_row(scores, t);
        float *out = mat_row(d, t);
        double total = 1.0, mean = 0.0;
        if (weight != 0.0) {
            total = row_total(row, E);
            for (int i = 0; i < E; i++) mean += frequency[i] * (row[i] / total);
        }
        for (int i = 0; i < E; i++) {
            double by = slope ? slope[i] : 0.0;
            if (weight != 0.0) by += weight * (frequency[i] - mean) / total;
            out[i] = (float)(by * share / T);
        }
    }
}

void cpu_balance_grad(Backend *b, Mat dscores, BalanceSlopes s, Mat scores, const int32_t *offsets, int nseq)
{
    check_f32(dscores), check_f32(scores);
    size_t E = scores.cols;
    double share = 1.0 / nseq;
#pragma omp parallel for num_threads(cpu_team(b, 4.0 * (double)(scores.rows * E))) schedule(dynamic, 1)
    for (int q = 0; q < nseq; q++) {
        size_t from = (size_t)offsets[q], T = (size_t)offsets[q + 1] - from, at = (size_t)q * E;
        gradient(mat_rows(dscores, from, T), s.slope ? s.slope + at : NULL, s.frequency ? s.frequency + at : NULL,
                 s.weight, mat_rows(scores, from, T), share);
    }
}

void cpu_bias_update(Backend *b, float *bias, const int32_t *offsets, int E, float rate)
{
    (void)b;
    int64_t total = (int64_t)offsets[E] - offsets[0];
    for (int i = 0; i < E; i++) {
        int64_t load = ((int64_t)offsets[i + 1] - offsets[i]) * E; /* against the mean, times E: exact */
        if (load < total) bias[i] += rate;
        if (load > total) bias[i] -= rate;
    }
}
