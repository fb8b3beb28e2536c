/* A policy: one model's weights with what training and sampling it need. */
#ifndef RECIPES_POLICY_H
#define RECIPES_POLICY_H

#include "core/optimizer.h"
#include "core/rollout.h"
#include "core/train.h"
#include "recipes/machine.h"

typedef struct Policy {
    ModelConfig config;
    Engine engine;
    float *weights;             /* block of engine.table */
    float *grads, *m, *v;       /* NULL until policy_train_open */
    float *reference;           /* NULL until policy_reference_set */
    Weights w, g, ref;
    Sampler *sampler;
    int64_t optimizer_step;
} Policy;

/* Initial weights from the seed. With weights given, takes that block over instead (malloc'ed, of the table's total). */
Policy *policy_new(const Machine *m, const ModelConfig *config, uint32_t seed, float *weights);
void policy_free(Policy *p);

/* Gradient and moment blocks, zeroed (kept when there already). */
void policy_train_open(Policy *p);
/* The reference policy becomes a copy of the present weights. */
void policy_reference_set(Policy *p);
/* One AdamW update from policy->grads. */
bool policy_update(Policy *p, const OptimizerConfig *o, float lr, double *norm, Status *st);
/* Tells the backend that some weights of this policy were written. */
void policy_weights_changed(Policy *p);

/* Bytes of the blocks, the backend and the largest step so far. */
size_t policy_bytes(const Policy *p);

#endif
