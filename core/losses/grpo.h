/* Policy-gradient losses on groups of G completions of a prompt. They differ in four choices, a row of a table in grpo.c:
 * what the ratio to the sampling policy is of (a token, an output), whether it is clipped or only a coefficient, what the
 * baseline of a reward is, and how tokens are averaged.
 *
 *   grpo           DeepSeekMath, arXiv:2402.03300, eq. 3: a token's ratio; mean over a completion's tokens, then over completions
 *   dr_grpo        arXiv:2503.20783: the same, divided by a constant length instead of the completion's
 *   dapo           arXiv:2503.14476: the same, mean over all tokens of the batch
 *   grpo_sequence  as V2 (arXiv:2405.04434, eq. 32) and R1 (arXiv:2501.12948, eq. 1) print it: ratio, clip and KL of an output
 *   gspo           arXiv:2507.18071, eqs. 5-7: the ratio of an output is the geometric mean of its tokens' ratios
 *   cispo          arXiv:2506.13585, eqs. 4-5: REINFORCE with the clipped ratio as a coefficient; no token loses its gradient
 *   rloo           arXiv:2402.14740: the ratio of an output; a reward's baseline is the mean of the others in its group
 *   reinforce_pp   arXiv:2501.03262: a token's ratio; rewards are normalised over the batch instead of the group
 *   ppo            arXiv:1707.06347, eq. 7: a token's ratio, mean over all tokens of the batch; advantages are a critic's
 *                  (ppo.h), with mean 0 and deviation 1 over the batch where others divide by the group's deviation */
#ifndef CORE_GRPO_H
#define CORE_GRPO_H

#include "core/losses/loss.h"

typedef enum {
    GRPO_TOKEN,
    GRPO_DR,
    GRPO_DAPO,
    GRPO_SEQUENCE,
    GRPO_GSPO,
    GRPO_CISPO,
    GRPO_RLOO,
    GRPO_REINFORCE_PP,
    GRPO_PPO
} GrpoKind;
/* "grpo", "dr_grpo", ...; NULL after the last. */
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

/* What prepare sums over a completion's rows, for losses whose ratio is an output's. */
typedef struct GrpoOutput {
    double log_ratio; /* sum of lp - old_lp */
    double kl_d;      /* sum of ref_lp - lp */
    int length;
} GrpoOutput;

/* The loss's data, all [N] by row; the caller owns the arrays.
 *   ratio = exp(lp - old_lp), or of the sums (grpo_sequence, rloo) or means (gspo) over the row's output; A the advantage,
 *   loss  = weight * (-min(ratio A, clip(ratio) A) + beta * kl_weight * KL - entropy_bonus * entropy),
 *   cispo: weight * (-min(ratio, 1 + clip_high) A lp + ...), the ratio without gradient.
 * A row of an output's loss holds the output's value; its weight shares it among the output's rows. grpo_sequence and rloo
 * take the KL of the output too (exact: the sum over its tokens).
 * A row of weight 0 (prompt, masked) is not in the loss and not in the statistics: its ratio and kl become 0. */
typedef struct GrpoLoss {
    GrpoConfig config;
    const float *weight, *advantage, *old_lp;
    const int32_t *output; /* the row's output; needed where grpo_of_outputs */
    GrpoOutput *outputs;   /* [n_outputs], written by prepare */
    int n_outputs;
    const float *ref_lp;     /* NULL when beta is 0 or the estimator is exact */
    const float *kl_weight;  /* NULL: 1. 0 switches the KL off, for instance in groups without signal */
    const float *correction; /* of the policy gradient of a row (correction.h), KL and entropy apart; NULL: 1 */
    float *ratio, *kl;       /* written by eval: the row's ratio and KL (kl may be NULL when beta is 0) */
    uint8_t *flags;          /* written by eval */
} GrpoLoss;

/* Whether its paper divides advantages by the group's standard deviation: the default of the recipe's std_normalise. */
bool grpo_divides_by_std(GrpoKind kind);

/* Whether the ratio is an output's, so that a row's loss depends on the log-probs of the whole output. */
bool grpo_of_outputs(GrpoKind kind);

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

/* The advantages of a batch of n groups, out of what grpo_advantages made of each ([n * G]; reward likewise):
 *   rloo          r - mean of the other G - 1 = G / (G - 1) (r - mean)
 *   reinforce_pp  (r - mean of the batch) / (standard deviation of the batch + 1e-4)
 *   others        as they are. */
void grpo_batch_advantages(float *advantage, const float *reward, GrpoKind kind, int n, int G);

/* weight[i] of every token of completion i, n completions in the batch, lengths [n] in tokens (0: masked, weight 0):
 * dr_grpo 1 / (n max_length), dapo and cispo 1 / (sum of lengths), all others 1 / (n length). */
void grpo_token_weights(float *weight, const GrpoConfig *config, const int *lengths, int n);

#endif
