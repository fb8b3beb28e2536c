/* The balance losses of V2 and V3: a formula a function. */
#include "core/losses/balance.h"

#include <string.h>

bool balance_on(const BalanceConfig *b)
{
    return b->expert != 0.0f || b->device != 0.0f || b->comm != 0.0f || b->sequence != 0.0f;
}

bool balance_of_choices(const BalanceConfig *b)
{
    return b->expert != 0.0f || b->device != 0.0f || b->comm != 0.0f;
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

/* One sequence of T tokens, and where the V2 losses leave d (alpha loss) / d P_i. */
typedef struct Span {
    const BalanceConfig *b;
    int E, K, T;
    const BalanceSums *sums;
    double *slope;
} Span;

/* sum_i load_i P_i, P_i the mean score of expert i (eq. 25); load and P are per device where experts lie on `devices`. */
static double weighted(Span *s, const double *load, int devices, float alpha)
{
    int experts = s->E / devices;
    double sum = 0.0;
    for (int i = 0; i < s->E; i++) {
        sum += load[i / experts] * (s->sums->score[i] / s->T);
        s->slope[i] += alpha * load[i / experts];
    }
    return sum;
}

/* V2 eqs. 23-25: f_i = E / (K T) * tokens that chose i; returns sum f_i P_i. */
static double expert_loss(Span *s)
{
    double f[CONFIG_MAX_EXPERTS];
    for (int i = 0; i < s->E; i++) f[i] = s->sums->count[i] * ((double)s->E / ((double)s->K * s->T));
    return weighted(s, f, s->E, s->b->expert);
}

/* V2 eqs. 26-28: f'_d = mean of f over the device's experts = D / (K T) * choices that fell on d. */
static double device_loss(Span *s)
{
    int D = s->b->devices, experts = s->E / D;
    double load[CONFIG_MAX_EXPERTS];
    for (int d = 0; d < D; d++) {
        int64_t choices = 0;
        for (int i = d * experts; i < (d + 1) * experts; i++) choices += s->sums->count[i];
        load[d] = (double)choices * (D / ((double)s->K * s->T));
    }
    return weighted(s, load, D, s->b->device);
}

/* V2 eqs. 29-31: f''_d = D / (M T) * tokens sent to d; a token counts once a device. */
static double comm_loss(Span *s)
{
    int D = s->b->devices;
    double load[CONFIG_MAX_EXPERTS];
    for (int d = 0; d < D; d++) load[d] = s->sums->reached[d] * (D / ((double)s->b->limit * s->T));
    return weighted(s, load, D, s->b->comm);
}

/* V3 eqs. 17-20: f_i counts the K best unbiased scores, ungrouped; P_i is the mean of s_i / sum_j s_j. */
static double sequence_loss(const BalanceSums *sums, int E, int K, int T, double *frequency)
{
    double sum = 0.0;
    for (int i = 0; i < E; i++) {
        frequency[i] = sums->count[i] * ((double)E / ((double)K * T));
        sum += frequency[i] * (sums->score[i] / T);
    }
    return sum;
}

BalanceValues balance_values(const BalanceConfig *b, const ModelConfig *c, int T, const BalanceSums *chosen,
                             const BalanceSums *best, double *slope, double *frequency)
{
    BalanceValues v = {0};
    Span s = {.b = b, .E = c->E, .K = c->K, .T = T, .sums = chosen, .slope = slope};
    if (balance_of_choices(b)) memset(slope, 0, (size_t)c->E * sizeof *slope);
    if (b->expert != 0.0f) v.expert = expert_loss(&s);
    if (b->device != 0.0f) v.device = device_loss(&s);
    if (b->comm != 0.0f) v.comm = comm_loss(&s);
    if (b->sequence != 0.0f) v.sequence = sequence_loss(best, c->E, c->K, T, frequency);
    return v;
}

BalanceValues balance_mean(const BalanceValues *v, int nseq)
{
    BalanceValues mean = {0};
    double share = 1.0 / nseq;
    for (int q = 0; q < nseq; q++) {
        mean.expert += v[q].expert * share;
        mean.device += v[q].device * share;
        mean.comm += v[q].comm * share;
        mean.sequence += v[q].sequence * share;
    }
    return mean;
}

double balance_aux(const BalanceConfig *b, const BalanceValues *v)
{
    return b->expert * v->expert + b->device * v->device + b->comm * v->comm + b->sequence * v->sequence;
}
