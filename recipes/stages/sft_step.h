/* The step of supervised training: pretraining, cold starts, rejection sampling, distillation. */
#ifndef RECIPES_SFT_STEP_H
#define RECIPES_SFT_STEP_H

#include "core/batches.h"
#include "recipes/run/run.h"

/* One update on sequences: mean negative log-likelihood over predicted tokens plus balance losses; fills loss, aux, lr,
 * grad_norm of metrics. */
bool sft_update(UnitRun *u, const BatchBuilder *batch, float lr, Json *metrics, Status *st);

#endif
