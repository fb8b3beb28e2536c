/* A trunk with a scalar head. Reward models read the last token of a sequence: scores, and the gradient of a step on pairs of
 * answers or on labelled ones (DeepSeek-R1, arXiv:2501.12948: helpful and safety reward models). PPO's critic reads every
 * token of a completion. */
#ifndef CORE_SCALAR_HEAD_H
#define CORE_SCALAR_HEAD_H

#include "core/losses/ppo.h"
#include "core/model.h"

/* value[i] = score . xn of sequence i's last token, i < batch.nseq, without gradients. On the host. Resets the arenas. */
void scalar_values(Engine *e, const Weights *w, Batch batch, float *value);

/* value[i] = score . xn of row rows[i] of the batch, ascending, i < n: V of the state that ends there. On the host. Resets the
 * arenas; rows are the caller's. */
void scalar_row_values(Engine *e, const Weights *w, Batch batch, const int32_t *rows, int n, float *value);

typedef struct ScalarStep {
    Batch batch;                  /* pairs: the chosen sequences, then the rejected ones */
    const float *label;           /* [nseq] in [0, 1]: pointwise_loss; NULL: pairs, pairwise_loss */
    const BalanceConfig *balance; /* NULL: none */
} ScalarStep;

typedef struct ScalarOut {
    double loss;            /* mean over pairs or sequences; of value_gradients: the sum over its rows */
    int cut;                /* of value_gradients: rows whose value moved too far (value_loss) */
    const Routing *routing; /* [L] of the batch; valid until the engine's next call */
} ScalarOut;

/* Resets the arena; overwrites g with the gradient of the loss and of the balance losses. */
void scalar_gradients(Engine *e, const Weights *w, const Weights *g, const ScalarStep *step, ScalarOut *out);

typedef struct ValueStep {
    Batch batch;
    const int32_t *rows; /* [n] ascending: those that have a value */
    int n;
    ValueLoss loss;               /* its arrays [n] */
    const BalanceConfig *balance; /* NULL: none */
} ValueStep;

/* The same for a critic's loss. */
void value_gradients(Engine *e, const Weights *w, const Weights *g, const ValueStep *step, ScalarOut *out);

#endif
