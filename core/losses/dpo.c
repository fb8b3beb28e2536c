/* DPO's loss of pairs, its gradient by a token's log-prob, and what is logged of it. */
#include "core/losses/dpo.h"

#include <math.h>

#include "core/base/check.h"

static void dpo_prepare(void *ctx, const float *lp, int N)
{
    const DpoLoss *g = ctx;
    for (int i = 0; i < 2 * g->n_pairs; i++) g->outputs[i] = (DpoOutput){0};
    for (int n = 0; n < N; n++) {
        DpoOutput *o = &g->outputs[g->output[n]];
        o->log_ratio += (double)lp[n] - g->ref_lp[n];
        o->length++;
    }
}

/* z of pair p, eq. 7. */
static double margin(const DpoLoss *g, int p)
{
    return g->beta * (g->outputs[2 * p].log_ratio - g->outputs[2 * p + 1].log_ratio);
}

/* -log sigma(z), without overflow for large |z|. */
static double softplus_of_minus(double z)
{
    return z > 0 ? log1p(exp(-z)) : log1p(exp(z)) - z;
}

/* d loss / d lp = -+ beta (sigma(-z) - e) / pairs for a token of the chosen / the rejected completion:
 * (1 - e) sigma(-z) - e sigma(z) = sigma(-z) - e. */
static void dpo_eval(void *ctx, const LossRows *in, const LossGrads *out)
{
    const DpoLoss *g = ctx;
    double e = g->label_smoothing;
    for (int i = 0; i < in->n; i++) {
        int y = g->output[in->first + i], p = y / 2;
        double z = margin(g, p), rows = g->outputs[2 * p].length + g->outputs[2 * p + 1].length;
        double slope = g->beta * (1 / (1 + exp(z)) - e) / g->n_pairs;
        double value = (1 - e) * softplus_of_minus(z) + e * softplus_of_minus(-z);
        out->loss[i] = (float)(value / g->n_pairs / rows);
        out->dlp[i] = (float)(y % 2 ? slope : -slope);
        if (out->dentropy) out->dentropy[i] = 0.0f;
        if (out->dkl) out->dkl[i] = 0.0f;
    }
}

Loss dpo_loss(DpoLoss *ctx)
{
    CHECK(ctx->n_pairs > 0 && ctx->label_smoothing >= 0 && ctx->label_smoothing < 0.5f);
    CHECK(ctx->ref_lp && ctx->output && ctx->outputs);
    return (Loss){.eval = dpo_eval, .prepare = dpo_prepare, .ctx = ctx};
}

DpoStats dpo_stats(const DpoLoss *g)
{
    DpoStats s = {0};
    for (int p = 0; p < g->n_pairs; p++) {
        double z = margin(g, p);
        s.accuracy += z > 0;
        s.margin += z;
        s.chosen += g->outputs[2 * p].log_ratio;
        s.rejected += g->outputs[2 * p + 1].log_ratio;
    }
    s.accuracy /= g->n_pairs, s.margin /= g->n_pairs, s.chosen /= g->n_pairs, s.rejected /= g->n_pairs;
    return s;
}
