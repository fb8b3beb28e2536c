/* Negative log-likelihood, and the losses of reward models. */
#include "core/losses/loss.h"

#include <math.h>

#include "core/ops/ops.h"

double sum_in_blocks(const float *x, int n)
{
    double sum = 0.0;
    for (int from = 0; from < n; from += TOKEN_BLOCK) {
        int end = n - from < TOKEN_BLOCK ? n : from + TOKEN_BLOCK;
        double part = 0.0;
        for (int i = from; i < end; i++) part += x[i];
        sum += part;
    }
    return sum;
}

static void nll_eval(void *ctx, const LossRows *in, const LossGrads *out)
{
    const float *weight = ((NllLoss *)ctx)->weight + in->first;
    for (int i = 0; i < in->n; i++) {
        out->loss[i] = weight[i] == 0.0f ? 0.0f : -weight[i] * in->lp[i]; /* not 0 * lp: an unused row's may be -inf */
        out->dlp[i] = weight[i] == 0.0f ? 0.0f : -weight[i];
        if (out->dentropy) out->dentropy[i] = 0.0f;
        if (out->dkl) out->dkl[i] = 0.0f;
    }
}

Loss nll_loss(NllLoss *ctx)
{
    return (Loss){.eval = nll_eval, .ctx = ctx};
}

static void kl_eval(void *ctx, const LossRows *in, const LossGrads *out)
{
    const float *weight = ((KlLoss *)ctx)->weight + in->first;
    for (int i = 0; i < in->n; i++) {
        out->loss[i] = weight[i] == 0.0f ? 0.0f : weight[i] * in->kl[i];
        out->dlp[i] = 0.0f;
        if (out->dentropy) out->dentropy[i] = 0.0f;
        out->dkl[i] = weight[i];
    }
}

Loss kl_loss(KlLoss *ctx)
{
    return (Loss){.eval = kl_eval, .ctx = ctx, .needs_kl = true};
}

int nll_weights_mean(float *weight, const int32_t *targets, int n)
{
    int count = 0;
    for (int i = 0; i < n; i++) count += targets[i] >= 0;
    for (int i = 0; i < n; i++) weight[i] = targets[i] >= 0 ? (float)(1.0 / count) : 0.0f;
    return count;
}

/* log(1 + exp(x)) without overflow. */
static double softplus(double x)
{
    return fmax(x, 0.0) + log1p(exp(-fabs(x)));
}

static double sigmoid(double x)
{
    double e = exp(-fabs(x));
    return x >= 0.0 ? 1.0 / (1.0 + e) : e / (1.0 + e);
}

void pairwise_loss(float *loss, float *dchosen, float *drejected, const float *chosen, const float *rejected,
                   float weight, int n)
{
    for (int i = 0; i < n; i++) {
        double behind = (double)rejected[i] - chosen[i];
        loss[i] = (float)(weight * softplus(behind));
        drejected[i] = (float)(weight * sigmoid(behind));
        dchosen[i] = -drejected[i];
    }
}

void pointwise_loss(float *loss, float *dvalue, const float *value, const float *label, float weight, int n)
{
    for (int i = 0; i < n; i++) {
        double x = value[i], y = label[i];
        loss[i] = (float)(weight * (y * softplus(-x) + (1.0 - y) * softplus(x)));
        dvalue[i] = (float)(weight * (sigmoid(x) - y));
    }
}
