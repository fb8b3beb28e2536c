/* What the training steps of all stages share: learning rate, balance losses, the AdamW update, FLOPs. */
#ifndef RECIPES_STEP_H
#define RECIPES_STEP_H

#include "core/losses/balance.h"
#include "core/policy.h"
#include "recipes/run/run.h"

/* Learning rate of step (1-based) of `total`, and the optimizer of a stage. */
float stage_rate(const RecipeStage *s, double lr, int64_t step, int64_t total);
OptimizerConfig stage_optimizer(const RecipeStage *s);
/* lambda of multi-token prediction in that step. */
float stage_mtp(const RecipeStage *s, int64_t step, int64_t total);

/* An AdamW update from the policy's gradients, then the selection bias by the routing [L] of the batch (NULL: dense). */
bool run_update(Run *r, Policy *p, const RecipeStage *s, const Routing *routing, float lr, double *norm, Status *st);

/* 2 FLOPs per active matmul parameter and token (a forward); attention apart. mtp_flops: of the modules of multi-token
 * prediction beside it, each with a head. */
double forward_flops(const Policy *p, int64_t tokens);
double mtp_flops(const Policy *p, int64_t tokens);
/* Forward and backward of as many tokens. Backward costs 2 per active parameter of the layers that it visits, from the
 * last to the lowest with a trained tensor, and 2 per active parameter that is trained: a forward each where all of them
 * are. mtp: with the modules of multi-token prediction. */
double train_flops(const Policy *p, int64_t tokens, bool mtp);

#endif
