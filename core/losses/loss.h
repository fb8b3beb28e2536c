/* Losses on log-probs. The head gives each row (a predicted token) its log-prob, entropy and exact KL to the reference;
 * a loss turns the three into a number and its derivatives; the head turns those into gradients of the logits. A loss is
 * a sum over rows: a row's weight already holds every mean (over tokens, completions, the batch), so that nothing depends
 * on how rows are chunked. */
#ifndef CORE_LOSS_H
#define CORE_LOSS_H

#include <stdbool.h>
#include <stdint.h>

/* What the head measured of n rows, the first of which is row `first` of the batch: arrays of n. entropy is NULL unless
 * needs_entropy or asked for, kl unless there is a reference. */
typedef struct LossRows {
    int first, n;
    const float *lp, *entropy, *kl;
} LossRows;

/* What a loss makes of them: its value in each row and its derivatives by lp, entropy and kl. dentropy may be NULL unless
 * needs_entropy, dkl unless needs_kl. */
typedef struct LossGrads {
    float *loss, *dlp, *dentropy, *dkl;
} LossGrads;

/* eval writes all of `out` that is there (zeros where the loss does not depend on it). A row of weight 0 gets zeros.
 * prepare (NULL: none) sees the log-probs of all n rows before any is evaluated, for losses of whole outputs; it costs a second
 * product with the head. */
typedef struct Loss {
    void (*prepare)(void *ctx, const float *lp, int n);
    void (*eval)(void *ctx, const LossRows *in, const LossGrads *out);
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

/* Weighted KL over the vocabulary: loss[n] = weight[n] * kl[n], kl as the head gives it (HeadRun.forward_kl: which way). What
 * distillation on a teacher's logits minimises (arXiv:1503.02531; on the student's own samples arXiv:2306.13649, eq. 2). */
typedef struct KlLoss {
    const float *weight;
} KlLoss;

Loss kl_loss(KlLoss *ctx);

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
