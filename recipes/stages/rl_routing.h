/* How far the sampler's and the trainer's routers agree, where the sampler is a bf16 copy of the policy. */
#ifndef RECIPES_RL_ROUTING_H
#define RECIPES_RL_ROUTING_H

#include "core/batches.h"
#include "core/policy.h"

/* Of the choices b [K] of a token, ascending like a [K]: how many are not among a. */
int routing_differs(const int32_t *a, const int32_t *b, int K);

/* Share of the sampler's choices of experts, over all layers with experts and all tokens of the batch that were an input to
 * it (the last of a sequence was none), that the trainer's forward did not make. With the exact cache a forward of the copy
 * makes the sampler's choices to the bit, so they need not be kept. routing [L]: the trainer's. NAN without experts. */
double routing_gap(Policy *sampler, const BatchBuilder *batch, Engine *trainer, const Routing *routing);

/* The same where the sampler's choices were kept (rl_batch_routes). */
double routing_gap_kept(const BatchBuilder *batch, Engine *trainer, const Routing *routing, const RoutingGiven *kept);
/* The same of choices that the trainer's next forward would make of its own accord: one forward of p. */
double routing_gap_own(Policy *p, const BatchBuilder *batch, const RoutingGiven *kept);

#endif
