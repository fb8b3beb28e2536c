/* What PPO (Schulman et al. 2017, arXiv:1707.06347) has beside GRPO's loss: a critic V of every state, its advantages and its
 * loss. State s_t of a completion of n tokens is the prompt and the tokens before t; action t is its token t; nothing follows
 * the last one, so that V of the state behind it is 0. */
#ifndef CORE_PPO_H
#define CORE_PPO_H

#include <stdbool.h>
#include <stdint.h>

/* Generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438, eqs. 11, 16) of one completion, all [n]:
 *   delta_t = r_t + gamma V(s_t+1) - V(s_t),  A_t = delta_t + gamma lambda A_t+1,  returns_t = A_t + V(s_t).
 * Reward and value in the reward's unit; sums from the last token on, in f64. */
void ppo_gae(float *advantage, float *returns, const float *reward, const float *value, int n, double gamma,
             double lambda);

/* reward[n] of one completion: `score`, its outcome, on the last token, and on every token -beta times an estimate of
 * KL(policy || reference), d = ref_lp - lp within +-clamp: k1 -d, k2 d^2 / 2, k3 exp(d) - d - 1 (InstructGPT,
 * arXiv:2203.02155, eq. 2; DeepSeekMath, arXiv:2402.03300, eq. 2, with k1). beta 0: ref_lp may be NULL. estimator: 1 to 3. */
typedef struct PpoPenalty {
    double beta, clamp;
    int estimator;
    const float *lp, *ref_lp;
} PpoPenalty;
/* Returns the sum of the estimates. */
double ppo_rewards(float *reward, double score, const PpoPenalty *penalty, int n);

/* Advantages of a batch with mean 0 and standard deviation 1: (A - mean) / sqrt(variance + 1e-8), variance with n - 1, over the
 * tokens that have a weight; the others become 0. Fewer than two: as they are. */
void ppo_whiten(float *advantage, const float *weight, int n);

/* The critic's loss, all [n] by row; the caller owns the arrays:
 *   loss = weight / 2 max((v - R)^2, (v' - R)^2),  v' = old_value + clip(v - old_value, -clip, clip)
 * (OpenAI baselines' PPO2; arXiv:2005.12729, section 3). clip 0: unclipped. Sum with sum_in_blocks. */
typedef struct ValueLoss {
    float clip;
    const float *weight, *old_value, *returns;
} ValueLoss;
/* dvalue: the derivative by value. Returns how many rows with a weight are cut: their value moves the loss no more. */
int value_loss(float *loss, float *dvalue, const float *value, const ValueLoss *l, int n);

/* 1 - Var(R - V) / Var(R) over n rows: 1 when V foretells the returns, 0 when it says no more than their mean. NAN: R is
 * constant. */
double ppo_explained(const float *value, const float *returns, int n);

#endif
