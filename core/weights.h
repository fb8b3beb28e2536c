/* Views of a model's weights (or gradients, or a reference policy's) by place in the model, built from the parameter table. */
#ifndef CORE_WEIGHTS_H
#define CORE_WEIGHTS_H

#include "core/keeper.h"
#include "core/matrix.h"
#include "core/weight_block.h"

/* The adapters of one product x W^T: of some of the matrices that W joins (parts), each with an A and a B. */
enum { LORA_PARTS = 3 };
typedef struct Lora {
    int parts;             /* 0: none */
    Mat a;                 /* [parts * rank, in]: the A's, one after the other */
    Mat b[LORA_PARTS];     /* [out, rank] */
    size_t at[LORA_PARTS]; /* the first column of y that part i adds to */
} Lora;

/* One layer. Members that the config lacks have a NULL pointer. in: all that multiplies attention's input, with rows
 * [q | k | v] (in_bias likewise), [q | kv_a] or [q_a | kv_a]. gate_up is [2F, C], gate first (gate_up_bias
 * likewise). */
typedef struct LayerWeights {
    float *attn_norm, *ffn_norm, *q_a_norm, *kv_a_norm, *q_norm, *k_norm, *in_bias, *o_bias, *router_bias;
    Mat in, q_b, kv_b, o;
    Mat gate_up, down; /* dense FFN */
    float *gate_up_bias, *down_bias;
    Mat router, shared_gate_up, shared_down;
    Mat *expert_gate_up, *expert_down; /* [E] */
    float *enorm, *hnorm, *mtp_norm;   /* a module of multi-token prediction */
    Mat eh_proj;                       /* [C, 2C] */
    Keeper *keeper;                    /* Weights.keeper */
    int layer, part;                   /* this layer's trunk; expert e is part + 1 + e (params_part) */
    struct {
        Lora in, q_b, kv_b, o, gate_up, down, shared_gate_up, shared_down;
        Lora *expert_gate_up, *expert_down; /* [E] */
    } lora;
    Mat kv_b_merged; /* latent decode: kv_b with its adapter (core/lora.h); else NULL */
} LayerWeights;

typedef struct Weights {
    float *block;           /* gradients: all of them */
    Mat embed, head, score; /* head: embed when tied; score [1, C] of scalar-head models */
    float *norm;
    LayerWeights *layers; /* [L + mtp] */
    Mat *expert_views;    /* storage of the experts' arrays */
    Lora *expert_loras;
    Keeper *keeper; /* NULL: every view holds at any time */
    bool tied;
    int L;                    /* with the modules of multi-token prediction */
    int last_part, head_part; /* the final norm's; the head's: last_part, or the embedding's when tied */
} Weights;

/* How a part's weights lie where they can be computed with. */
typedef enum {
    FORM_F32, /* f32 */
    FORM_BF16 /* matrices with Param.split are bf16, rows one after another; the others (norms, router) f32 */
} Form;

/* Bytes of a parameter in a form. */
size_t param_bytes(const Param *p, Form form);

/* Views with room for every part of the model; none is placed yet. Free with weights_free. */
Weights weights_new(const ModelConfig *c, const ParamTable *t);
/* Points the views of a part at memory: at[i] = place of its i-th parameter, NULL: nowhere (the view keeps its shape). Parameters
 * that join others (param_joins) must be their neighbours. passing: Mat.passing. A part is placed whole. */
void weights_place(Weights *w, const ParamTable *t, int part, Form form, void *const *at, bool passing);
/* From now on k is asked for every part. */
void weights_keep(Weights *w, Keeper *k);

/* Of a block of the whole table, which must outlive the views. Free with weights_free (the block is the caller's). */
Weights weights_view(const ModelConfig *c, const ParamTable *t, const WeightBlock *block);
/* The same model with other values of whatever has a Param.state, which are in `states`. */
Weights weights_view_beside(const ModelConfig *c, const ParamTable *t, const WeightBlock *block,
                            const WeightBlock *states);
/* Views of a block of table->state_total floats, gradients: matrices that are not trained are NULL. */
Weights weights_view_gradients(const ModelConfig *c, const ParamTable *t, float *block);
void weights_free(Weights *w);

#endif
