/* Reward models: a trunk with a scalar head that reads the last token of a sequence. Forward, scores, and the gradient of a step
 * on pairs of answers or on labelled ones (DeepSeek-R1, arXiv:2501.12948: helpful and safety reward models). */
#ifndef CORE_SCALAR_HEAD_H
#define CORE_SCALAR_HEAD_H

#include "core/model.h"

/* value[i] = score . xn of sequence i's last token, i < batch.nseq, without gradients. On the host. Resets the arenas. */
void scalar_values(Engine *e, const Weights *w, Batch batch, float *value);

typedef struct ScalarStep {
    Batch batch;                  /* pairs: the chosen sequences, then the rejected ones */
    const float *label;           /* [nseq] in [0, 1]: pointwise_loss; NULL: pairs, pairwise_loss */
    const BalanceConfig *balance; /* NULL: none */
} ScalarStep;

typedef struct ScalarOut {
    double loss;            /* mean over pairs or sequences */
    const Routing *routing; /* [L] of the batch; valid until the engine's next call */
} ScalarOut;

/* Resets the arena; overwrites g with the gradient of the loss and of the balance losses. */
void scalar_gradients(Engine *e, const Weights *w, const Weights *g, const ScalarStep *step, ScalarOut *out);

#endif
