#include "core/grpo.h"

#include <math.h>

#include "core/check.h"

const char *grpo_kind_name(int k)
{
    static const char *const names[] = {"grpo", "dr_grpo", "dapo"};
    return (size_t)k < sizeof names / sizeof *names ? names[k] : NULL;
}

const char *kl_estimator_name(int k)
{
    static const char *const names[] = {"k1", "k2", "k3", "exact"};
    return (size_t)k < sizeof names / sizeof *names ? names[k] : NULL;
}

/* x within +-bound; *inside tells whether the gradient passes. */
static double clamp_log(double x, double bound, bool *inside)
{
    *inside = x >= -bound && x <= bound;
    return *inside ? x : x < 0.0 ? -bound : bound;
}

/* -min(ratio A, clip(ratio) A) and its derivative by lp. */
static double surrogate(const GrpoLoss *g, int n, float lp, double *dlp)
{
    const GrpoConfig *c = &g->config;
    bool inside;
    double ratio = exp(clamp_log((double)lp - g->old_lp[n], c->log_clamp, &inside)), A = g->advantage[n];
    g->ratio[n] = (float)ratio;
    if (!inside) g->flags[n] |= GRPO_RATIO_CLAMPED;
    double low = 1.0 - c->clip_low, high = 1.0 + c->clip_high;
    if (ratio < low && A < 0.0) g->flags[n] |= GRPO_CLIP_LOW;
    if (ratio > high && A > 0.0) g->flags[n] |= GRPO_CLIP_HIGH;
    bool cut = g->flags[n] & (GRPO_CLIP_LOW | GRPO_CLIP_HIGH);
    *dlp = cut || !inside ? 0.0 : -ratio * A;
    return -A * (!cut ? ratio : ratio < low ? low : high);
}

/* The sampled estimators and their derivative by lp. */
static double sampled_kl(const GrpoLoss *g, int n, float lp, double *dlp)
{
    bool inside;
    double d = clamp_log((double)g->ref_lp[n] - lp, g->config.log_clamp, &inside);
    if (!inside) g->flags[n] |= GRPO_KL_CLAMPED;
    double value = -d, slope = 1.0;
    if (g->config.estimator == KL_K2) value = 0.5 * d * d, slope = -d;
    if (g->config.estimator == KL_K3) value = expm1(d) - d, slope = -expm1(d);
    *dlp = inside ? slope : 0.0;
    return value;
}

static void grpo_eval(void *ctx, const LossRows *in, const LossGrads *out)
{
    const GrpoLoss *g = ctx;
    const GrpoConfig *c = &g->config;
    bool exact = c->estimator == KL_EXACT;
    for (int i = 0, n = in->first; i < in->n; i++, n++) {
        double w = g->weight[n], value = 0.0, slope = 0.0, by_kl = 0.0;
        g->flags[n] = 0;
        g->ratio[n] = 0.0f;
        if (g->kl) g->kl[n] = 0.0f;
        if (w != 0.0) {
            value = surrogate(g, n, in->lp[i], &slope);
            if (c->beta != 0.0f) {
                double beta = c->beta * (g->kl_weight ? g->kl_weight[n] : 1.0), kl_slope = 0.0;
                double k = exact ? in->kl[i] : sampled_kl(g, n, in->lp[i], &kl_slope);
                g->kl[n] = (float)k;
                value += beta * k;
                slope += beta * kl_slope;
                if (exact) by_kl = beta;
            }
            if (c->entropy_bonus != 0.0f) value -= (double)c->entropy_bonus * in->entropy[i];
        }
        out->loss[i] = (float)(w * value);
        out->dlp[i] = (float)(w * slope);
        if (out->dentropy) out->dentropy[i] = (float)(-w * c->entropy_bonus);
        if (out->dkl) out->dkl[i] = (float)(w * by_kl);
    }
}

Loss grpo_loss(GrpoLoss *ctx)
{
    const GrpoConfig *c = &ctx->config;
    bool exact = c->estimator == KL_EXACT;
    CHECK(ctx->ratio && ctx->flags && c->log_clamp > 0.0f);
    CHECK(c->beta == 0.0f || (ctx->kl && (exact || ctx->ref_lp)));
    return (Loss){
        .eval = grpo_eval, .ctx = ctx, .needs_entropy = c->entropy_bonus != 0.0f, .needs_kl = c->beta != 0.0f && exact};
}

GrpoStats grpo_stats(const GrpoLoss *ctx, int N)
{
    GrpoStats s = {0};
    int low = 0, high = 0;
    for (int n = 0; n < N; n++) {
        if (ctx->weight[n] == 0.0f) continue;
        s.tokens++;
        low += (ctx->flags[n] & GRPO_CLIP_LOW) != 0;
        high += (ctx->flags[n] & GRPO_CLIP_HIGH) != 0;
        s.kl_clamps += (ctx->flags[n] & GRPO_KL_CLAMPED) != 0;
        s.ratio_clamps += (ctx->flags[n] & GRPO_RATIO_CLAMPED) != 0;
        s.ratio_max = fmax(s.ratio_max, ctx->ratio[n]);
    }
    if (s.tokens == 0) return s;
    s.clip_low = (double)low / s.tokens;
    s.clip_high = (double)high / s.tokens;
    s.clip_region = (double)(low + high) / s.tokens;
    s.ratio_mean = sum_in_blocks(ctx->ratio, N) / s.tokens; /* rows without weight hold 0 */
    if (ctx->kl) s.kl_mean = sum_in_blocks(ctx->kl, N) / s.tokens;
    return s;
}

bool grpo_advantages(float *advantage, const float *reward, int G, bool by_std)
{
    float min = reward[0], max = reward[0];
    double sum = 0.0, squares = 0.0;
    for (int i = 0; i < G; i++) {
        min = fminf(min, reward[i]);
        max = fmaxf(max, reward[i]);
        sum += reward[i];
    }
    double mean = sum / G, scale = 1.0;
    for (int i = 0; i < G; i++) squares += (reward[i] - mean) * (reward[i] - mean);
    if (by_std && G > 1) scale = sqrt(squares / (G - 1)) + 1e-4;
    for (int i = 0; i < G; i++) advantage[i] = min == max ? 0.0f : (float)((reward[i] - mean) / scale);
    return min != max;
}

void grpo_token_weights(float *weight, const GrpoConfig *config, const int *lengths, int n)
{
    double total = 0.0;
    for (int i = 0; i < n; i++) total += lengths[i];
    for (int i = 0; i < n; i++) {
        double share = config->kind == GRPO_TOKEN ? (double)n * lengths[i]
                       : config->kind == GRPO_DR  ? (double)n * config->max_length
                                                  : total;
        weight[i] = lengths[i] > 0 ? (float)(1.0 / share) : 0.0f;
    }
}
