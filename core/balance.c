#include "core/balance.h"

#include <string.h>

#include "core/check.h"

/* One sequence's tokens, and what its losses leave for the gradient. */
typedef struct Span {
    const BalanceConfig *b;
    int E, K, T;
    const float *scores;                  /* [T, E] */
    const int32_t *idx;                   /* [T, K] */
    double slope[CONFIG_MAX_EXPERTS];     /* d (V2 losses) / d P_i, alphas included */
    double frequency[CONFIG_MAX_EXPERTS]; /* V3: f_i */
} Span;

bool balance_on(const BalanceConfig *b)
{
    return b->expert != 0.0f || b->device != 0.0f || b->comm != 0.0f || b->sequence != 0.0f;
}

bool balance_validate(const BalanceConfig *b, const ModelConfig *c, Status *st)
{
    if (c->E == 0) return !balance_on(b) || fail(st, "a balance loss is set, but the model has no routed experts");
    if (b->device == 0.0f && b->comm == 0.0f) return true;
    if (b->devices < 1 || c->E % b->devices)
        return fail(st, "the balance losses have %d devices, but n_routed_experts is %d: it must be a multiple of them",
                    b->devices, c->E);
    if (b->comm != 0.0f && (b->limit < 1 || b->limit > b->devices))
        return fail(st,
                    "the communication loss has a limit of %d devices a token, but it must lie between 1 and the %d "
                    "devices",
                    b->limit, b->devices);
    return true;
}

/* P_i of V2: the mean score of every expert. */
static void mean_scores(const Span *s, double *P)
{
    memset(P, 0, (size_t)s->E * sizeof *P);
    for (int t = 0; t < s->T; t++)
        for (int i = 0; i < s->E; i++) P[i] += s->scores[(size_t)t * (size_t)s->E + (size_t)i];
    for (int i = 0; i < s->E; i++) P[i] /= s->T;
}

/* V2 eqs. 23-25: f_i = E / (K T) * tokens that chose i; returns sum f_i P_i. */
static double expert_loss(Span *s, const double *P)
{
    double f[CONFIG_MAX_EXPERTS], sum = 0.0;
    memset(f, 0, (size_t)s->E * sizeof *f);
    for (int k = 0; k < s->T * s->K; k++) f[s->idx[k]] += (double)s->E / ((double)s->K * s->T);
    for (int i = 0; i < s->E; i++) {
        sum += f[i] * P[i];
        s->slope[i] += s->b->expert * f[i];
    }
    return sum;
}

/* The last two V2 losses: per device, sum over devices of load times the sum of its experts' P. */
static double over_devices(Span *s, const double *P, const double *load, float alpha)
{
    int experts = s->E / s->b->devices;
    double sum = 0.0;
    for (int i = 0; i < s->E; i++) {
        sum += load[i / experts] * P[i];
        s->slope[i] += alpha * load[i / experts];
    }
    return sum;
}

/* V2 eqs. 26-28: f'_d = mean of f over the device's experts = D / (K T) * choices that fell on d. */
static double device_loss(Span *s, const double *P)
{
    int experts = s->E / s->b->devices;
    double load[CONFIG_MAX_EXPERTS];
    memset(load, 0, (size_t)s->b->devices * sizeof *load);
    for (int k = 0; k < s->T * s->K; k++) load[s->idx[k] / experts] += s->b->devices / ((double)s->K * s->T);
    return over_devices(s, P, load, s->b->device);
}

/* V2 eqs. 29-31: f''_d = D / (M T) * tokens sent to d; a token counts once a device. Its experts come in order. */
static double comm_loss(Span *s, const double *P)
{
    int experts = s->E / s->b->devices;
    double load[CONFIG_MAX_EXPERTS];
    memset(load, 0, (size_t)s->b->devices * sizeof *load);
    for (int t = 0; t < s->T; t++) {
        const int32_t *chosen = s->idx + (size_t)t * (size_t)s->K;
        for (int k = 0; k < s->K; k++)
            if (k == 0 || chosen[k] / experts != chosen[k - 1] / experts)
                load[chosen[k] / experts] += s->b->devices / ((double)s->b->limit * s->T);
    }
    return over_devices(s, P, load, s->b->comm);
}

static double row_sum(const float *scores, int E)
{
    double sum = 1e-20;
    for (int i = 0; i < E; i++) sum += scores[i];
    return sum;
}

/* Adds `amount` to the K best of scores[E]; the lowest index among equals. */
static void count_top(const float *scores, int E, int K, double amount, double *f)
{
    bool taken[CONFIG_MAX_EXPERTS];
    memset(taken, 0, (size_t)E * sizeof *taken);
    for (int k = 0; k < K; k++) {
        int best = -1;
        for (int i = 0; i < E; i++)
            if (!taken[i] && (best < 0 || scores[i] > scores[best])) best = i;
        taken[best] = true;
        f[best] += amount;
    }
}

/* V3 eqs. 17-20: f_i counts the K best unbiased scores, ungrouped; P_i is the mean of s_i / sum_j s_j. */
static double sequence_loss(Span *s)
{
    memset(s->frequency, 0, (size_t)s->E * sizeof *s->frequency);
    double sum = 0.0;
    for (int t = 0; t < s->T; t++)
        count_top(s->scores + (size_t)t * (size_t)s->E, s->E, s->K, (double)s->E / ((double)s->K * s->T), s->frequency);
    for (int t = 0; t < s->T; t++) {
        const float *row = s->scores + (size_t)t * (size_t)s->E;
        double total = row_sum(row, s->E), part = 0.0;
        for (int i = 0; i < s->E; i++) part += s->frequency[i] * row[i];
        sum += part / total;
    }
    return sum / s->T;
}

static BalanceValues span_values(Span *s)
{
    BalanceValues v = {0};
    memset(s->slope, 0, (size_t)s->E * sizeof *s->slope);
    if (s->b->expert != 0.0f || s->b->device != 0.0f || s->b->comm != 0.0f) {
        double P[CONFIG_MAX_EXPERTS];
        mean_scores(s, P);
        if (s->b->expert != 0.0f) v.expert = expert_loss(s, P);
        if (s->b->device != 0.0f) v.device = device_loss(s, P);
        if (s->b->comm != 0.0f) v.comm = comm_loss(s, P);
    }
    if (s->b->sequence != 0.0f) v.sequence = sequence_loss(s);
    return v;
}

/* dscores of the span, times `share`, the span's weight in the mean over sequences. */
static void span_gradient(const Span *s, double share, float *dscores)
{
    for (int t = 0; t < s->T; t++) {
        const float *row = s->scores + (size_t)t * (size_t)s->E;
        float *d = dscores + (size_t)t * (size_t)s->E;
        double total = 1.0, mean = 0.0, weight = s->b->sequence;
        if (weight != 0.0) {
            total = row_sum(row, s->E);
            for (int i = 0; i < s->E; i++) mean += s->frequency[i] * (row[i] / total);
        }
        for (int i = 0; i < s->E; i++) {
            double slope = s->slope[i];
            if (weight != 0.0) slope += weight * (s->frequency[i] - mean) / total;
            d[i] = (float)(slope * share / s->T);
        }
    }
}

BalanceValues balance_layer(const BalanceConfig *b, const ModelConfig *c, const Batch *batch, const float *scores,
                            const int32_t *idx, float *dscores)
{
    CHECK(c->E > 0 && c->E <= CONFIG_MAX_EXPERTS && batch->nseq > 0);
    BalanceValues sum = {0};
    double share = 1.0 / batch->nseq;
    for (int q = 0; q < batch->nseq; q++) {
        size_t from = (size_t)batch->offsets[q];
        Span s;
        s.b = b, s.E = c->E, s.K = c->K, s.T = batch->offsets[q + 1] - batch->offsets[q];
        CHECK(s.T > 0);
        s.scores = scores + from * (size_t)c->E;
        s.idx = idx + from * (size_t)c->K;
        BalanceValues v = span_values(&s);
        sum.expert += v.expert * share;
        sum.device += v.device * share;
        sum.comm += v.comm * share;
        sum.sequence += v.sequence * share;
        if (dscores) span_gradient(&s, share, dscores + from * (size_t)c->E);
    }
    return sum;
}

double balance_aux(const BalanceConfig *b, const BalanceValues *v)
{
    return b->expert * v->expert + b->device * v->device + b->comm * v->comm + b->sequence * v->sequence;
}

void balance_bias_update(float *bias, const int32_t *counts, int E, float rate)
{
    int64_t total = 0;
    for (int i = 0; i < E; i++) total += counts[i];
    for (int i = 0; i < E; i++) {
        int64_t load = (int64_t)counts[i] * E; /* against the mean, times E: exact */
        if (load < total) bias[i] += rate;
        if (load > total) bias[i] -= rate;
    }
}
