/* The balance losses of a batch in all layers: sums by the backend, formulas of balance.h, gradients by the backend. */
#ifndef CORE_BALANCE_LOSSES_H
#define CORE_BALANCE_LOSSES_H

#include "core/losses/balance.h"
#include "core/block.h"

/* Some layers that follow each other. */
typedef struct LayerRange {
    int first, n;
} LayerRange;

/* Sums of all layers for one kind of counting. */
typedef struct BalanceCounts {
    BalanceShape shape;
    BalanceSums
        sums; /* [L][nseq][E], reached [L][nseq][devices]; on the host when they have arrived. score NULL: not asked for */
} BalanceCounts;

/* In the engine's arenas. L: layers.n. */
typedef struct BalanceLosses {
    const BalanceConfig *config;
    LayerRange layers;
    int nseq;
    const int32_t *offsets;          /* [nseq + 1] on the device */
    BalanceValues *values;           /* [L][nseq] on the host, 0 in dense layers */
    const double *slope, *frequency; /* [L][nseq][E] on the device, NULL: no such loss is on */
    BalanceCounts chosen, best;      /* choices, and the best scores */
    uint64_t ticket;                 /* of the sums' download */
} BalanceLosses;

/* Asks for the sums; the device has something else to do until balance_losses_finish waits for them. One is asked for at a
 * time. routing [L] of these layers; offsets: the batch's, on the device. */
void balance_losses_ask(Engine *e, const BalanceConfig *config, const Batch *batch, const int32_t *offsets,
                        const Routing *routing, LayerRange layers, BalanceLosses *out);
/* Values and slopes; batch: the same. */
void balance_losses_finish(Engine *e, const Batch *batch, BalanceLosses *l);
/* Sum over layers of alpha * value, each the mean over sequences. */
double balance_losses_aux(const BalanceLosses *l);
/* r->dscores, in the arena: the gradient of that sum by the scores of `layer`. n: tokens of the batch. */
void balance_losses_grad(Engine *e, const BalanceLosses *l, int layer, size_t n, Routing *r);

#endif
