/* The step of supervised training: pretraining, cold starts, rejection sampling, distillation. */
#ifndef RECIPES_SFT_STEP_H
#define RECIPES_SFT_STEP_H

#include "core/batches.h"
#include "recipes/stages/teacher.h"

/* One update on sequences: the mean over predicted tokens of the negative log-likelihood, or with a teacher (NULL: none)
 * of the KL to it, plus balance losses; fills loss, aux, lr, grad_norm of metrics. */
bool sft_update(UnitRun *u, const BatchBuilder *batch, float lr, const Teacher *teacher, Json *metrics, Status *st);

/* How an sft stage has the traces of its mix: all clean, in the other language as swap_en and swap_zh say. */
void sft_traces(const RecipeStage *s, CorpusSpec *c);

#endif
