/* A policy: one model's weights with what training and sampling it need. */
#ifndef CORE_POLICY_H
#define CORE_POLICY_H

#include "core/optimizer.h"
#include "core/rollout/rollout.h"
#include "core/train.h"

typedef struct Policy {
    ModelConfig config;
    Engine engine;
    /* On the device: all of engine.table. A placed policy (policy_placed) has only what has a Param.state in it, there. Some
     * of it is never split, so that `plain` is NULL where there is no block. */
    WeightBlock weights;
    float *grads; /* of what is trained, at Param.state; NULL until policy_train_open */
    void *m, *v;  /* as the table stores them (params_moments, decided before), at Param.moment */
    void *lent;   /* room for gradients, and then for the weights, that is the placer's; NULL: both are the policy's */
    Keeper *lent_keeper; /* is asked for the gradients' parts where they lie there; the placer's, NULL: nobody */
    StateStore *store; /* of the moments, instead of m and v; NULL: none. Set before policy_train_open; the caller's */
    WeightBlock reference; /* what has a Param.state, as it was at policy_reference_set; nothing until then */
    int64_t references;    /* how often that was called */
    bool placed;
    void *placer; /* placed: whose views of w are, the caller's; NULL or freed with the policy by free_placer */
    void (*free_placer)(void *placer);
    void (*show_reference)(struct Policy *p); /* makes the views of ref hold as those of w do */
    Weights w, g, ref;
    Sampler *sampler;
    struct Policy *half; /* a bf16 copy that samples for an f32 policy; NULL until policy_that_samples */
    bool half_stale;
    int64_t optimizer_step;
    void *attached; /* the caller's, NULL or freed with the policy by free_attached (recipes/model/attached.h) */
    void (*free_attached)(void *attached);
} Policy;

/* Initial weights from the seed. With weights given, takes that block over instead (plain f32 on the host, a
 * memory_block of the table's total). */
Policy *policy_new(EngineOptions o, const ModelConfig *config, uint32_t seed, float *weights);
/* A policy that is never trained nor saved: in bf16 it has what products read alone, 2 bytes a weight. read writes a parameter's
 * values, or fails; then NULL. */
Policy *policy_frozen(EngineOptions o, const ModelConfig *config,
                      bool (*read)(void *from, const Param *q, float *out, Status *st), void *from, Status *st);
/* A policy whose weights lie elsewhere: p->w has room for them (weights_new), and the caller places them or keeps them by a
 * Keeper. It samples and gives log-probs. */
Policy *policy_placed(EngineOptions o, const ModelConfig *config);
/* What it trains (params_select.h, on p->engine.table, decided before) it then has itself, before the caller places the
 * rest: read writes a parameter's values, or fails. lent: memory of policy_lent_bytes for weights and gradients; NULL: the
 * policy takes its own. */
bool policy_place_trained(Policy *p, void *lent, bool (*read)(void *from, const Param *q, float *out, Status *st),
                          void *from, Status *st);
size_t policy_lent_bytes(const ParamTable *t, DType dtype);
void policy_free(Policy *p);

/* Gradient and moment blocks, zeroed (kept when there already; no moments where a store has them). What is trained is
 * decided before (params_select.h, on p->engine.table): all of it, unless something else was said. */
void policy_train_open(Policy *p);
/* The gradient block alone, for who wants gradients and makes no update. */
void policy_gradients_open(Policy *p);
/* Training goes on: takes over blocks of moments, as they are stored, and of the reference (plain f32) on the host
 * (memory_block; NULL: none). */
void policy_resume(Policy *p, void *m, void *v, float *reference);
/* Elements [from, from + n) of a parameter of engine.table as exact f32 on the host, in every precision: of the policy's own
 * weights, and of its reference (which has what has a Param.state). */
void policy_weights_read(const Policy *p, const Param *q, size_t from, size_t n, float *out);
void policy_reference_read(const Policy *p, const Param *q, size_t from, size_t n, float *out);
/* The moments on the host, for saving; NULL where there are none. On a device that is the process's memory these are the
 * policy's own. */
typedef struct PolicyMoments {
    void *m, *v;
} PolicyMoments;
PolicyMoments policy_moments_open(Policy *p);
void policy_moments_close(Policy *p, PolicyMoments *host);
/* The reference policy becomes a copy of the present weights. */
void policy_reference_set(Policy *p);
/* One AdamW update from policy->grads. False, with everything as it was, where the keeper had a fault. */
bool policy_update(Policy *p, const OptimizerConfig *o, float lr, double *norm, Status *st);
/* DeepSeek-V3's step without a loss: the selection bias of every layer by the tokens each expert was given (balance.h).
 * routing [L]: of the update's whole batch. Frozen biases stay. */
void policy_bias_update(Policy *p, const Routing *routing, float rate);
/* The policy that samples: p, or with bf16 a copy of an f32 p in bf16, made anew when p's weights were written since. */
Policy *policy_that_samples(Policy *p, bool bf16);
/* Tells the backend that some weights of this policy were written. */
void policy_weights_changed(Policy *p);

/* Bytes of the blocks, the backend and the largest step so far. */
size_t policy_bytes(const Policy *p);

#endif
