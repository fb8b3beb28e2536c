/* Device-level token dropping (DeepSeek-V2, arXiv:2405.04434, section 2.2.4): experts lie on D devices in contiguous
 * blocks; a device computes at most cap = ceil(capacity N K / D) of the batch's pairs (token, expert), and where it was
 * sent more, those with the lowest scores are dropped until it has so many. Tokens of some sequences are never dropped.
 * A dropped pair adds nothing to its token and gets no gradient; the other weights stay as they are, the shared expert
 * has every token, and balance losses count what was chosen. What a row becomes depends on its batch, so this is for
 * training alone. Here all experts lie on one machine: pairs are dropped as they would be there, and no time is saved. */
#ifndef CORE_TOKEN_DROP_H
#define CORE_TOKEN_DROP_H

#include "core/block.h"

typedef struct TokenDrop {
    float capacity;
    int devices;         /* D, divides E */
    const uint8_t *kept; /* [N] on the host: tokens that are never dropped */
    long pairs, dropped; /* counted, over the layers */
} TokenDrop;

/* Sets the weights of the dropped pairs of n routed tokens to 0. */
void token_drop(Engine *e, TokenDrop *d, Routing *r, size_t n);
/* The same pairs of dweights [n, K]: no gradient by a weight that is 0. */
void token_drop_bwd(Engine *e, const Routing *r, Mat dweights);

#endif
