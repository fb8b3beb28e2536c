/* Importance correction where sampler and trainer differ on purpose (another cache, another precision): the samples come
 * from mu, the sampler's policy, while the loss wants those of pi_old, the trainer's with the same weights. Every token's
 * policy gradient is weighted by pi_old / mu, cut off so that one token cannot carry the step. */
#ifndef CORE_CORRECTION_H
#define CORE_CORRECTION_H

#include "core/losses/grpo.h"

typedef enum {
    CORRECTION_NONE,
    CORRECTION_TRUNCATED, /* w = min(pi_old / mu, cap) */
    CORRECTION_MASKED     /* w = pi_old / mu, 0 where it is outside of [1 / cap, cap] */
} Correction;
/* "none", ...; NULL after the last. */
const char *correction_name(int k);

/* weight[n] of one completion: of each token exp(trainer_lp - sampler_lp); for a loss whose ratio is an output's, of the sum over
 * the completion (its mean for gspo), the same for all of its tokens. cap >= 1. Returns how many weights were cut or masked. */
int correction_weights(float *weight, const float *trainer_lp, const float *sampler_lp, int n, GrpoKind kind,
                       Correction how, float cap);

#endif
