/* Balance losses of routed experts (DeepSeek-V2, arXiv:2405.04434, eqs. 23-31; DeepSeek-V3, arXiv:2412.19437, eqs. 17-20).
 * Counts are constants; only the mean scores carry gradient. Every loss is formed per sequence; the value of a layer is
 * the mean over sequences. V3's step without a loss is op bias_update. */
#ifndef CORE_BALANCE_H
#define CORE_BALANCE_H

#include <stdint.h>

#include "core/config.h"
#include "core/ops/ops.h"

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

/* Whether one of V2's losses is on, which count the router's choices. V3's counts the best scores. */
bool balance_of_choices(const BalanceConfig *b);

/* One sequence of T tokens in one layer, from its sums (op balance_sums): chosen for V2's losses, best, normalised, for V3's;
 * those of losses that are off may be NULL. slope [E]: d (sum of alpha * value) / d P_i of V2's; frequency [E]: V3's f_i. */
BalanceValues balance_values(const BalanceConfig *b, const ModelConfig *c, int T, const BalanceSums *chosen,
                             const BalanceSums *best, double *slope, double *frequency);
BalanceValues balance_mean(const BalanceValues *v, int nseq);
/* Sum of alpha * value. */
double balance_aux(const BalanceConfig *b, const BalanceValues *v);

#endif
