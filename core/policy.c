#include "core/policy.h"

#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/memory.h"
#include "core/split_master.h"

/* Zeros, written by all threads: page faults, which take longest here, are shared. */
static float *block_new(const Policy *p)
{
    const Engine *e = &p->engine;
    float *block = memory_block(e->table.total * sizeof(float));
    CHECK(block != NULL);
    e->ops->fill(e->backend, block, e->table.total, 0.0f);
    return block;
}

Policy *policy_new(EngineOptions o, const ModelConfig *config, uint32_t seed, float *weights)
{
    Policy *p = calloc(1, sizeof *p);
    CHECK(p != NULL);
    p->config = *config;
    engine_open(&p->engine, &p->config, &o);
    p->weights = weights ? weights : block_new(p);
    if (!weights) params_init(&p->engine.table, &p->config, p->weights, seed);
    if (p->engine.dtype == DTYPE_BF16) split_block(&p->engine.table, p->weights);
    p->w = weights_view(&p->config, &p->engine.table, p->weights, p->engine.dtype);
    p->sampler = sampler_new(&p->engine);
    policy_weights_changed(p);
    return p;
}

void policy_free(Policy *p)
{
    if (!p) return;
    p->engine.ops->weights_freed(p->engine.backend); /* the addresses may be given to another model */
    policy_free(p->half);
    sampler_free(p->sampler);
    weights_free(&p->w);
    if (p->grads) weights_free(&p->g);
    if (p->reference) weights_free(&p->ref);
    memory_free(p->weights);
    memory_free(p->grads);
    memory_free(p->m);
    memory_free(p->v);
    memory_free(p->reference);
    if (p->free_attached) p->free_attached(p->attached);
    engine_close(&p->engine);
    free(p);
}

static void open_gradients(Policy *p)
{
    p->grads = block_new(p);
    p->g = weights_view(&p->config, &p->engine.table, p->grads, DTYPE_F32);
}

void policy_train_open(Policy *p)
{
    if (p->grads) return;
    open_gradients(p);
    p->m = block_new(p);
    p->v = block_new(p);
}

static void view_reference(Policy *p)
{
    p->ref = weights_view(&p->config, &p->engine.table, p->reference, p->engine.dtype);
}

void policy_reference_set(Policy *p)
{
    if (!p->reference) {
        p->reference = block_new(p);
        view_reference(p);
    }
    memcpy(p->reference, p->weights, p->engine.table.total * sizeof(float));
    policy_weights_changed(p);
}

void policy_resume(Policy *p, float *m, float *v, float *reference)
{
    CHECK(!p->grads && !p->reference);
    open_gradients(p);
    p->m = m;
    p->v = v;
    p->reference = reference;
    if (!reference) return;
    if (p->engine.dtype == DTYPE_BF16) split_block(&p->engine.table, reference);
    view_reference(p);
}

void policy_master_open(Policy *p)
{
    if (p->engine.dtype == DTYPE_F32) return;
    join_block(&p->engine.table, p->weights);
    if (p->reference) join_block(&p->engine.table, p->reference);
}

void policy_master_close(Policy *p)
{
    if (p->engine.dtype == DTYPE_F32) return;
    split_block(&p->engine.table, p->weights);
    if (p->reference) split_block(&p->engine.table, p->reference);
}

Policy *policy_that_samples(Policy *p, bool bf16)
{
    if (!bf16 || p->engine.dtype == DTYPE_BF16) return p;
    if (!p->half) {
        const Engine *e = &p->engine;
        EngineOptions half = {e->ops, e->backend, DTYPE_BF16, e->chunk, e->keep_bytes};
        p->half = policy_new(half, &p->config, 0, block_new(p));
        p->half_stale = true;
    }
    if (p->half_stale) {
        memcpy(p->half->weights, p->weights, p->engine.table.total * sizeof(float));
        split_block(&p->engine.table, p->half->weights);
        policy_weights_changed(p->half);
        p->half_stale = false;
    }
    return p->half;
}

void policy_weights_changed(Policy *p)
{
    p->half_stale = true;
    p->engine.ops->weights_changed(p->engine.backend);
}

bool policy_update(Policy *p, const OptimizerConfig *o, float lr, double *norm, Status *st)
{
    Engine *e = &p->engine;
    ParamBlocks blocks = {e->dtype, p->weights, p->m, p->v, p->grads};
    AdamWStep step = {p->optimizer_step + 1, lr};
    if (!optimizer_step(e->ops, e->backend, &e->table, &blocks, o, step, norm, st)) return false;
    p->optimizer_step++;
    p->half_stale = true;
    return true;
}

void policy_bias_update(Policy *p, const Routing *routing, float rate)
{
    const Engine *e = &p->engine;
    for (int l = 0; l < p->config.L; l++)
        if (config_is_moe(&p->config, l))
            e->ops->bias_update(e->backend, p->w.layers[l].router_bias, routing[l].offsets, p->config.E, rate);
    policy_weights_changed(p);
}

size_t policy_bytes(const Policy *p)
{
    size_t blocks = 1 + (p->grads ? 3u : 0u) + (p->reference ? 1u : 0u) + (p->half ? 1u : 0u);
    size_t arenas = p->engine.arena.peak + (p->half ? p->half->engine.arena.peak : 0);
    return blocks * p->engine.table.total * sizeof(float) + arenas + p->engine.ops->bytes(p->engine.backend);
}
