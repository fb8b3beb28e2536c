/* Direct preference optimisation (Rafailov et al. 2023, arXiv:2305.18290, eq. 7): a policy learns from pairs of completions
 * without a reward model or sampling. Label smoothing as in "conservative DPO": labels are wrong with probability e. */
#ifndef CORE_DPO_H
#define CORE_DPO_H

#include "core/losses/loss.h"

/* What prepare sums over a completion's rows. */
typedef struct DpoOutput {
    double log_ratio; /* sum of lp - ref_lp */
    int length;
} DpoOutput;

/* The loss's data; the caller owns the arrays. Of pair p the chosen completion is output 2 p, the rejected one 2 p + 1; y its
 * tokens, x its prompt:
 *   z(p) = beta (log pi(y_w | x) / ref(y_w | x) - log pi(y_l | x) / ref(y_l | x)),
 *   loss = mean over pairs of -(1 - e) log sigma(z) - e log sigma(-z),  e = label_smoothing in [0, 0.5).
 * A row's loss is its share of its pair's, so that rows sum to the mean. */
typedef struct DpoLoss {
    float beta, label_smoothing;
    int n_pairs;
    const float *ref_lp;   /* [N] the reference's log-probs */
    const int32_t *output; /* [N] the row's output */
    DpoOutput *outputs;    /* [2 n_pairs], written by prepare */
} DpoLoss;

Loss dpo_loss(DpoLoss *ctx);

/* After prepare: pairs in the right order (z > 0), and the mean of z, of the chosen and of the rejected log-ratio. */
typedef struct DpoStats {
    double accuracy, margin, chosen, rejected;
} DpoStats;

DpoStats dpo_stats(const DpoLoss *ctx);

#endif
