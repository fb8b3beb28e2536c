/* AdamW over the parameter table (Loshchilov & Hutter, arXiv:1711.05101) with clipping by the global norm. */
#ifndef CORE_OPTIMIZER_H
#define CORE_OPTIMIZER_H

#include "core/engine.h"
#include "core/state_store.h"
#include "core/weight_block.h"

typedef struct OptimizerConfig {
    float beta1, beta2, eps;
    float weight_decay;   /* decoupled; on Param.decay only (matrices, embedding and head included) */
    float max_norm;       /* g *= min(1, max_norm / (norm + 1e-6)); 0: no clipping */
    uint32_t seed, stage; /* of stochastic rounding (core/moments.h) */
} OptimizerConfig;

/* The blocks of a table's roles, on the device: weights at param_place; gradients of what is trained, at Param.state; moments as
 * the table stores them, at Param.moment. store (NULL: none) has the moments instead of m and v, on a device that is the
 * process's memory. */
typedef struct ParamBlocks {
    WeightBlock w;
    void *m, *v;
    const float *g;
    StateStore *store;
    Keeper *gradients; /* is asked for g's parts; NULL: they are there */
} ParamBlocks;

/* The step's number, from 1 on, gives the bias corrections 1 - beta^number. */
typedef struct AdamWStep {
    int64_t number;
    float lr;
} AdamWStep;

/* sqrt of the sum of squares of all trained gradients, added in f64 in table order. Blocks are the table's. */
double optimizer_grad_norm(Engine *e, const float *g);

/* Elements that moments which are not f32 are widened by at a time. */
size_t optimizer_piece(const Param *p);
/* What that takes of the engine's arena, for the table's largest parameter; 0: moments are f32. */
size_t optimizer_scratch(const ParamTable *t);

/* One step on the engine's blocks: w, m, v are updated, g is only read (the clip is a factor inside AdamW).
 * Parameters that are not trained, modules of multi-token prediction that the gradients are not of, and padding (zero in all
 * four) stay as they are.
 * norm (may be NULL): the norm before clipping. Fails, with w, m, v untouched, when the norm is not finite or the
 * backend has recorded a fault; and where the store fails: parts are then updated and others not, so the process can only end or
 * begin again from what the store has. Tells the backend that weights changed. */
bool optimizer_step(Engine *e, const ParamBlocks *blocks, const OptimizerConfig *config, AdamWStep step, double *norm,
                    Status *st);

#endif
