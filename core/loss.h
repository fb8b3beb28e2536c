/* Losses on log-probs. The head gives each row (a predicted token) its log-prob, entropy and exact KL to the reference;
 * a loss turns the three into a number and its derivatives; the head turns those into gradients of the logits. A loss is
 * a sum over rows: a row's weight already holds every mean (over tokens, completions, the batch), so that nothing depends
 * on how rows are chunked. */
#ifndef CORE_LOSS_H
#define CORE_LOSS_H

#include <stdbool.h>
#include <stdint.h>

/* eval: for rows n0 .. n1 - 1 (arrays start at row n0: lp[0] is row n0's) writes loss[i] and its derivatives by lp[i],
 * entropy[i] and kl[i]. entropy and dentropy may be NULL unless needs_entropy, kl and dkl unless needs_kl; dentropy and
 * dkl are written (zeros) whenever given. A row of weight 0 gets zeros. */
typedef struct Loss {
    void (*eval)(void *ctx, int n0, int n1, const float *lp, const float *entropy, const float *kl, float *loss,
                 float *dlp, float *dentropy, float *dkl);
    void *ctx;
    bool needs_entropy, needs_kl;
} Loss;

/* The sum of x[n]: partial sums of TOKEN_BLOCK rows in f64, added in order. Every sum over tokens is this one. */
double sum_in_blocks(const float *x, int n);

/* Weighted negative log-likelihood: loss[n] = -weight[n] * lp[n]. weight: by row. */
typedef struct NllLoss {
    const float *weight;
} NllLoss;

Loss nll_loss(NllLoss *ctx);

/* weight[n] = 1 / count where targets[n] >= 0, else 0: the mean over predicted tokens. Returns count. */
int nll_weights_mean(float *weight, const int32_t *targets, int n);

/* Losses on the values of a scalar head; each is summed by the caller with sum_in_blocks.
 * Pairwise (Bradley-Terry; DeepSeek-R1's helpful reward model): loss = -weight * log sigma(chosen - rejected);
 * derivatives overwrite dchosen, drejected. All [n]. */
void pairwise_loss(float *loss, float *dchosen, float *drejected, const float *chosen, const float *rejected,
                   float weight, int n);
/* Pointwise (binary cross-entropy; the safety reward model), label y in [0, 1]:
 * loss = -weight * (y log sigma(x) + (1 - y) log(1 - sigma(x))); dvalue overwritten. All [n]. */
void pointwise_loss(float *loss, float *dvalue, const float *value, const float *label, float weight, int n);

#endif
