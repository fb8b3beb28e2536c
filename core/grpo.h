/* Group relative policy optimisation (DeepSeekMath, arXiv:2402.03300, section 4.1) and its variants Dr. GRPO
 * (arXiv:2503.20783) and DAPO (arXiv:2503.14476), in the token form: the ratio is a token's. They differ in the advantage
 * and in the weight of a token; the loss of a row is one formula. */
#ifndef CORE_GRPO_H
#define CORE_GRPO_H

#include "core/loss.h"

typedef enum { GRPO_TOKEN, GRPO_DR, GRPO_DAPO } GrpoKind;
/* "grpo", "dr_grpo", "dapo"; NULL after the last. */
const char *grpo_kind_name(int k);

/* Estimators of KL(policy || reference) at a token, d = ref_lp - lp: k1 = -d, k2 = d^2 / 2, k3 = exp(d) - d - 1
 * (Schulman's note); exact: the sum over the vocabulary, from the head. */
typedef enum { KL_K1, KL_K2, KL_K3, KL_EXACT } KlEstimator;
/* "k1", ..., "exact"; NULL after the last. */
const char *kl_estimator_name(int k);

typedef struct GrpoConfig {
    GrpoKind kind;
    float clip_low, clip_high; /* the ratio is clipped to [1 - clip_low, 1 + clip_high] */
    float beta;                /* of the KL term; 0: no reference needed */
    KlEstimator estimator;
    float log_clamp;     /* d and lp - old_lp are clamped to +-log_clamp, no gradient beyond; each clamp is counted */
    float entropy_bonus; /* loss -= entropy_bonus * entropy */
    int max_length;      /* dr_grpo's constant: the longest completion allowed */
} GrpoConfig;

/* What happened at a row. */
enum { GRPO_CLIP_LOW = 1, GRPO_CLIP_HIGH = 2, GRPO_KL_CLAMPED = 4, GRPO_RATIO_CLAMPED = 8 };

/* The loss's data, all [N] by row; the caller owns the arrays.
 *   ratio = exp(lp - old_lp), A the advantage,
 *   loss  = weight * (-min(ratio A, clip(ratio) A) + beta * kl_weight * KL - entropy_bonus * entropy).
 * A row of weight 0 (prompt, masked) is not in the loss and not in the statistics: its ratio and kl become 0. */
typedef struct GrpoLoss {
    GrpoConfig config;
    const float *weight, *advantage, *old_lp;
    const float *ref_lp;    /* NULL when beta is 0 or the estimator is exact */
    const float *kl_weight; /* NULL: 1. 0 switches the KL off, for instance in groups without signal */
    float *ratio, *kl;      /* written by eval: the row's ratio and KL (kl may be NULL when beta is 0) */
    uint8_t *flags;         /* written by eval */
} GrpoLoss;

Loss grpo_loss(GrpoLoss *ctx);

/* Of the rows with weight, after eval has seen all N of them; order fixed, whatever the chunks were. */
typedef struct GrpoStats {
    int tokens, kl_clamps, ratio_clamps;
    double clip_low, clip_high, clip_region; /* shares of tokens: cut below with A < 0, above with A > 0, either */
    double ratio_mean, ratio_max, kl_mean;
} GrpoStats;

GrpoStats grpo_stats(const GrpoLoss *ctx, int N);

/* advantage[G] of a group's rewards: r - mean, divided by (sample standard deviation + 1e-4) when by_std. Exactly 0 when
 * all rewards are equal; then returns false: the group has no signal. */
bool grpo_advantages(float *advantage, const float *reward, int G, bool by_std);

/* weight[i] of every token of completion i, n completions in the batch, lengths [n] in tokens (0: masked, weight 0):
 * grpo 1 / (n length), dr_grpo 1 / (n max_length), dapo 1 / (sum of lengths). */
void grpo_token_weights(float *weight, const GrpoConfig *config, const int *lengths, int n);

#endif
