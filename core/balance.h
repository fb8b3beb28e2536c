/* Balance losses of routed experts (DeepSeek-V2, arXiv:2405.04434, eqs. 23-31; DeepSeek-V3, arXiv:2412.19437, eqs. 17-20).
 * Counts are constants; only the mean scores carry gradient. Every loss is formed per sequence; the value of a layer is
 * the mean over sequences. */
#ifndef CORE_BALANCE_H
#define CORE_BALANCE_H

#include <stdint.h>

#include "core/batch.h"
#include "core/config.h"

typedef struct BalanceConfig {
    float expert, device, comm; /* alphas of V2's losses, 0: off */
    float sequence;             /* alpha of V3's complementary sequence-wise loss */
    int devices;                /* D: experts lie on D devices in contiguous blocks */
    int limit;                  /* M: devices a token may reach (communication loss) */
} BalanceConfig;

typedef struct BalanceValues {
    double expert, device, comm, sequence; /* without alpha, mean over sequences; 0 for a kind that is off */
} BalanceValues;

bool balance_on(const BalanceConfig *b);

/* Fails when E is not a multiple of D, or D or M is out of range. */
bool balance_validate(const BalanceConfig *b, const ModelConfig *c, Status *st);

/* One layer: scores [N, E] (full softmax or sigmoid), idx [N, K]. dscores [N, E] or NULL: written with
 * d (sum of alpha * value) / d scores. Returns the values; the aux loss of the layer is the sum of alpha * value. */
BalanceValues balance_layer(const BalanceConfig *b, const ModelConfig *c, const Batch *batch, const float *scores,
                            const int32_t *idx, float *dscores);
double balance_aux(const BalanceConfig *b, const BalanceValues *v);

/* V3's auxiliary-loss-free update: bias[i] += rate * sign(mean_j n_j - n_i), n = tokens routed to i in the whole batch. */
void balance_bias_update(float *bias, const int32_t *counts, int E, float rate);

#endif
