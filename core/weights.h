/* Views of a role's block (weights, gradients, a reference policy) by place in the model, built from the parameter table. */
#ifndef CORE_WEIGHTS_H
#define CORE_WEIGHTS_H

#include "core/matrix.h"
#include "core/params.h"

/* One layer. Members that the config lacks have a NULL pointer. in: all that multiplies attention's input, with rows
 * [q | k | v] (in_bias likewise), [q | kv_a] or [q_a | kv_a]. gate_up is [2F, C], gate first. */
typedef struct LayerWeights {
    float *attn_norm, *ffn_norm, *q_a_norm, *kv_a_norm, *q_norm, *k_norm, *in_bias, *router_bias;
    Mat in, q_b, kv_b, o;
    Mat gate_up, down; /* dense FFN */
    Mat router, shared_gate_up, shared_down;
    Mat *expert_gate_up, *expert_down; /* [E] */
    float *enorm, *hnorm, *mtp_norm;   /* a module of multi-token prediction */
    Mat eh_proj;                       /* [C, 2C] */
} LayerWeights;

typedef struct Weights {
    float *block;
    Mat embed, head, score; /* head: embed when tied; score [1, C] of scalar-head models */
    float *norm;
    LayerWeights *layers; /* [L + mtp] */
    Mat *expert_views;    /* storage of the experts' arrays */
} Weights;

/* block holds table->total floats and must outlive the views. dtype bf16: it is split (split_master.h), and the views of matrices
 * see the bf16 halves. Free with weights_free (the block is the caller's). */
Weights weights_view(const ModelConfig *c, const ParamTable *t, float *block, DType dtype);
/* Views of a block of table->state_total floats, gradients: matrices that are not trained are NULL. */
Weights weights_view_gradients(const ModelConfig *c, const ParamTable *t, float *block);
void weights_free(Weights *w);

#endif
