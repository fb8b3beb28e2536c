/* AdamW over the parameter table (Loshchilov & Hutter, arXiv:1711.05101) with clipping by the global norm. */
#ifndef CORE_OPTIMIZER_H
#define CORE_OPTIMIZER_H

#include "core/ops.h"
#include "core/params.h"

typedef struct OptimizerConfig {
    float beta1, beta2, eps;
    float weight_decay; /* decoupled; on Param.decay only (matrices, embedding and head included) */
    float max_norm;     /* g *= min(1, max_norm / (norm + 1e-6)); 0: no clipping */
} OptimizerConfig;

/* sqrt of the sum of squares of all trained gradients, added in f64 in table order. Blocks are the table's. */
double optimizer_grad_norm(const Ops *ops, Backend *b, const ParamTable *t, const float *g);

/* One step on blocks of t->total elements (w split when dtype is bf16, see core/split_master.h): w, m, v are updated, g is only
 * read (the clip is a factor inside AdamW). step counts from 1 and gives the bias corrections 1 - beta^step. Parameters
 * that are not trained, and padding (zero in all four), stay as they are.
 * norm (may be NULL): the norm before clipping. Fails, with w, m, v untouched, when the norm is not finite or the
 * backend has recorded a fault. Tells the backend that weights changed. */
bool optimizer_step(const Ops *ops, Backend *b, const ParamTable *t, DType dtype, float *w, float *m, float *v,
                    const float *g, const OptimizerConfig *config, int64_t step, float lr, double *norm, Status *st);

#endif
