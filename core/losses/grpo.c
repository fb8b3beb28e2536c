/* Policy-gradient losses: a table of kinds, one formula a row, advantages, token weights. */
#include "core/losses/grpo.h"

#include <math.h>

#include "core/base/check.h"

typedef enum { RATIO_TOKEN, RATIO_OUTPUT, RATIO_OUTPUT_MEAN } RatioOf;
typedef enum { PER_COMPLETION, PER_CONSTANT, PER_BATCH } MeanOver;

typedef struct Kind {
    const char *name;
    RatioOf ratio;
    MeanOver mean;
    bool coefficient; /* the clipped ratio only weights the gradient of lp */
    bool by_std;      /* a group's advantages are divided by its standard deviation */
} Kind;

static const Kind kinds[] = {
    [GRPO_TOKEN] = {"grpo", RATIO_TOKEN, PER_COMPLETION, false, true},
    [GRPO_DR] = {"dr_grpo", RATIO_TOKEN, PER_CONSTANT, false, false},
    [GRPO_DAPO] = {"dapo", RATIO_TOKEN, PER_BATCH, false, true},
    [GRPO_SEQUENCE] = {"grpo_sequence", RATIO_OUTPUT, PER_COMPLETION, false, true},
    [GRPO_GSPO] = {"gspo", RATIO_OUTPUT_MEAN, PER_COMPLETION, false, true},
    [GRPO_CISPO] = {"cispo", RATIO_TOKEN, PER_BATCH, true, true},
    [GRPO_RLOO] = {"rloo", RATIO_OUTPUT, PER_COMPLETION, false, false},
    [GRPO_REINFORCE_PP] = {"reinforce_pp", RATIO_TOKEN, PER_COMPLETION, false, false},
    [GRPO_PPO] = {"ppo", RATIO_TOKEN, PER_BATCH, false, true},
};

const char *grpo_kind_name(int k)
{
    return (size_t)k < sizeof kinds / sizeof *kinds ? kinds[k].name : NULL;
}

bool grpo_divides_by_std(GrpoKind kind)
{
    return kinds[kind].by_std;
}

bool grpo_of_outputs(GrpoKind kind)
{
    return kinds[kind].ratio != RATIO_TOKEN;
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

/* log pi / pi_old of a row's token or output. */
static double log_ratio(const GrpoLoss *g, int n, float lp)
{
    RatioOf of = kinds[g->config.kind].ratio;
    if (of == RATIO_TOKEN) return (double)lp - g->old_lp[n];
    const GrpoOutput *o = &g->outputs[g->output[n]];
    return of == RATIO_OUTPUT ? o->log_ratio : o->log_ratio / o->length;
}

/* By how much more an output's value moves with a token's lp than its row's share of it: the rows of a completion share the
 * value (weight 1 / length), but each lp moves all of it. A mean over the tokens takes that back. */
static double rows_of_value(const GrpoLoss *g, int n)
{
    return kinds[g->config.kind].ratio == RATIO_OUTPUT ? g->outputs[g->output[n]].length : 1.0;
}

/* -min(ratio A, clip(ratio) A) and its derivative by lp. */
static double surrogate(const GrpoLoss *g, int n, float lp, double *dlp)
{
    const GrpoConfig *c = &g->config;
    bool inside;
    double ratio = exp(clamp_log(log_ratio(g, n, lp), c->log_clamp, &inside)), A = g->advantage[n];
    g->ratio[n] = (float)ratio;
    if (!inside) g->flags[n] |= GRPO_RATIO_CLAMPED;
    double low = 1.0 - c->clip_low, high = 1.0 + c->clip_high;
    if (kinds[c->kind].coefficient) {
        if (ratio > high) g->flags[n] |= GRPO_CLIP_HIGH, ratio = high;
        *dlp = -ratio * A;
        return -ratio * A * lp;
    }
    if (ratio < low && A < 0.0) g->flags[n] |= GRPO_CLIP_LOW;
    if (ratio > high && A > 0.0) g->flags[n] |= GRPO_CLIP_HIGH;
    bool cut = g->flags[n] & (GRPO_CLIP_LOW | GRPO_CLIP_HIGH);
    *dlp = cut || !inside ? 0.0 : -ratio * A * rows_of_value(g, n);
    return -A * (!cut ? ratio : ratio < low ? low : high);
}

/* The sampled estimators and their derivative by lp. */
static double sampled_kl(const GrpoLoss *g, int n, float lp, double *dlp)
{
    bool inside, whole = kinds[g->config.kind].ratio == RATIO_OUTPUT;
    double d = whole ? g->outputs[g->output[n]].kl_d : (double)g->ref_lp[n] - lp;
    d = clamp_log(d, g->config.log_clamp, &inside);
    if (!inside) g->flags[n] |= GRPO_KL_CLAMPED;
    double value = -d, slope = 1.0;
    if (g->config.estimator == KL_K2) value = 0.5 * d * d, slope = -d;
    if (g->config.estimator == KL_K3) value = expm1(d) - d, slope = -expm1(d);
    *dlp = inside ? slope * rows_of_value(g, n) : 0.0;
    return value;
}

/* Sums over the outputs, of all N rows in order, before any row is evaluated. */
static void grpo_prepare(void *ctx, const float *lp, int N)
{
    const GrpoLoss *g = ctx;
    for (int i = 0; i < g->n_outputs; i++) g->outputs[i] = (GrpoOutput){0};
    for (int n = 0; n < N; n++) {
        GrpoOutput *o = &g->outputs[g->output[n]];
        o->log_ratio += (double)lp[n] - g->old_lp[n];
        if (g->ref_lp) o->kl_d += (double)g->ref_lp[n] - lp[n];
        o->length++;
    }
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
            if (g->correction) value *= (double)g->correction[n], slope *= (double)g->correction[n];
            if (c->beta != 0.0f) {
                double beta = c->beta * (g->kl_weight ? g->kl_weight[n] : 1.0), kl_slope = 0.0;
                double rows = rows_of_value(g, n);
                double k = exact ? rows * in->kl[i] : sampled_kl(g, n, in->lp[i], &kl_slope);
                g->kl[n] = (float)k;
                value += beta * k;
                slope += beta * kl_slope;
                if (exact) by_kl = beta * rows;
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
    bool outputs = grpo_of_outputs(c->kind);
    CHECK(!outputs || (ctx->output && ctx->outputs));
    return (Loss){.eval = grpo_eval,
                  .prepare = outputs ? grpo_prepare : NULL,
                  .ctx = ctx,
                  .needs_entropy = c->entropy_bonus != 0.0f,
                  .needs_kl = c->beta != 0.0f && exact};
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

void grpo_batch_advantages(float *advantage, const float *reward, GrpoKind kind, int n, int G)
{
    size_t count = (size_t)n * (size_t)G;
    if (kind == GRPO_RLOO && G > 1)
        for (size_t i = 0; i < count; i++) advantage[i] = (float)((double)advantage[i] * G / (G - 1));
    if (kind != GRPO_REINFORCE_PP) return;
    double sum = 0.0, squares = 0.0;
    for (size_t i = 0; i < count; i++) sum += reward[i];
    double mean = sum / (double)count;
    for (size_t i = 0; i < count; i++) squares += (reward[i] - mean) * (reward[i] - mean);
    double std = sqrt(squares / (double)count);
    for (size_t i = 0; i < count; i++) advantage[i] = (float)((reward[i] - mean) / (std + 1e-4));
}

void grpo_token_weights(float *weight, const GrpoConfig *config, const int *lengths, int n)
{
    double total = 0.0;
    for (int i = 0; i < n; i++) total += lengths[i];
    for (int i = 0; i < n; i++) {
        MeanOver over = kinds[config->kind].mean;
        double share = over == PER_COMPLETION ? (double)n * lengths[i]
                       : over == PER_CONSTANT ? (double)n * config->max_length
                                              : total;
        weight[i] = lengths[i] > 0 ? (float)(1.0 / share) : 0.0f;
    }
}
