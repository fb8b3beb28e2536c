/* A model's weights with what sampling and training need. */
#include "core/policy.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/base/memory.h"
#include "core/params_select.h"
#include "core/split_master.h"

static size_t block_bytes(const Policy *p)
{
    return p->engine.table.total * sizeof(float);
}

/* Of gradients and of the reference's own values. */
static size_t state_bytes(const Policy *p)
{
    return p->engine.table.state_total * sizeof(float);
}

static size_t weights_bytes(const Policy *p)
{
    return !p->weights ? 0 : p->placed ? state_bytes(p) : block_bytes(p);
}

/* On the device, zeros, written by all threads: page faults, which take longest here, are shared. */
static float *block_new(const Policy *p, size_t bytes)
{
    const Engine *e = &p->engine;
    float *block = e->ops->device.alloc(e->backend, bytes);
    CHECK(block != NULL);
    e->ops->fill(e->backend, block, bytes / sizeof(float), 0.0f);
    return block;
}

static void block_free(const Policy *p, void *block)
{
    if (block) p->engine.ops->device.free(p->engine.backend, block);
}

/* Takes over a host block (memory_block): it is the device's from now on. */
static void *block_to_device(const Policy *p, void *host, size_t bytes)
{
    const Engine *e = &p->engine;
    if (e->ops->device.host || !host) return host;
    void *block = e->ops->device.alloc(e->backend, bytes);
    CHECK(block != NULL);
    e->ops->device.upload(e->backend, block, host, bytes);
    memory_free(host);
    return block;
}

/* The host's own memory where that is the device's, else a copy to be freed. */
static void *block_to_host(const Policy *p, void *block, size_t bytes)
{
    const Engine *e = &p->engine;
    if (e->ops->device.host || !block) return block;
    void *host = memory_block(bytes);
    CHECK(host != NULL);
    e->ops->device.download(e->backend, host, block, bytes);
    return host;
}

Policy *policy_new(EngineOptions o, const ModelConfig *config, uint32_t seed, float *weights)
{
    Policy *p = calloc(1, sizeof *p);
    CHECK(p != NULL);
    p->config = *config;
    engine_open(&p->engine, &p->config, &o);
    if (!weights) {
        weights = memory_block(block_bytes(p));
        CHECK(weights != NULL);
        params_init(&p->engine.table, &p->config, weights, seed);
    }
    if (p->engine.dtype == DTYPE_BF16) split_block(&p->engine.table, weights);
    p->weights = block_to_device(p, weights, block_bytes(p));
    p->w = weights_view(&p->config, &p->engine.table, p->weights, p->engine.dtype);
    p->sampler = sampler_new(&p->engine);
    policy_weights_changed(p);
    return p;
}

Policy *policy_placed(EngineOptions o, const ModelConfig *config)
{
    Policy *p = calloc(1, sizeof *p);
    CHECK(p != NULL);
    p->config = *config;
    engine_open(&p->engine, &p->config, &o);
    p->placed = true;
    p->w = weights_new(&p->config, &p->engine.table);
    p->sampler = sampler_new(&p->engine);
    return p;
}

void policy_place_trained(Policy *p, float *weights)
{
    CHECK(p->placed && !p->weights);
    params_set_apart(&p->engine.table);
    if (p->engine.dtype == DTYPE_BF16) split_states(&p->engine.table, weights, p->lent_keeper);
    p->weights = block_to_device(p, weights, state_bytes(p));
    policy_weights_changed(p);
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
    if (!p->lent) block_free(p, p->weights);
    if (!p->lent) block_free(p, p->grads);
    block_free(p, p->m);
    block_free(p, p->v);
    block_free(p, p->reference);
    if (p->free_attached) p->free_attached(p->attached);
    if (p->free_placer) p->free_placer(p->placer);
    engine_close(&p->engine);
    free(p);
}

static void open_gradients(Policy *p)
{
    p->grads = p->lent ? p->lent : block_new(p, state_bytes(p));
    p->g = weights_view_gradients(&p->config, &p->engine.table, p->grads);
    if (p->lent_keeper) weights_keep(&p->g, p->lent_keeper);
}

void policy_gradients_open(Policy *p)
{
    if (!p->grads) open_gradients(p);
}

void policy_train_open(Policy *p)
{
    if (p->grads) return;
    open_gradients(p);
    if (p->store) return;
    p->m = block_new(p, p->engine.table.moment_total);
    p->v = block_new(p, p->engine.table.moment_total);
}

/* What the policy does not train is the reference's as well. */
static void view_reference(Policy *p)
{
    const ParamTable *t = &p->engine.table;
    if (p->placed) p->ref = weights_new(&p->config, t);
    else p->ref = weights_view_beside(&p->config, t, p->weights, p->reference, p->engine.dtype);
    if (p->placed) p->show_reference(p);
}

void policy_reference_set(Policy *p)
{
    const ParamTable *t = &p->engine.table;
    if (!p->reference) {
        p->reference = block_new(p, state_bytes(p));
        view_reference(p);
    }
    for (int part = 0; part < t->n_parts; part++) {
        keeper_need(p->lent_keeper, part, 1);
        for (int i = t->parts[part].first; i < t->parts[part].first + t->parts[part].n; i++) {
            const Param *q = &t->params[i];
            if (q->state != SIZE_MAX)
                p->engine.ops->device.copy(p->engine.backend, p->reference + q->state, p->weights + param_place(q),
                                           q->count * sizeof(float));
        }
        keeper_done(p->lent_keeper, part, 1);
    }
    p->references++;
    policy_weights_changed(p);
}

void policy_resume(Policy *p, void *m, void *v, float *reference)
{
    CHECK(!p->grads && !p->reference);
    open_gradients(p);
    p->m = block_to_device(p, m, p->engine.table.moment_total);
    p->v = block_to_device(p, v, p->engine.table.moment_total);
    if (!reference) return;
    if (p->engine.dtype == DTYPE_BF16) split_states(&p->engine.table, reference, NULL);
    p->reference = block_to_device(p, reference, state_bytes(p));
    view_reference(p);
}

PolicyMaster policy_master_open(Policy *p)
{
    PolicyMaster host = {.weights = block_to_host(p, p->weights, weights_bytes(p)),
                         .m = block_to_host(p, p->m, p->engine.table.moment_total),
                         .v = block_to_host(p, p->v, p->engine.table.moment_total),
                         .reference = block_to_host(p, p->reference, state_bytes(p))};
    if (p->engine.dtype == DTYPE_F32) return host;
    if (p->placed) join_states(&p->engine.table, host.weights, p->lent_keeper);
    else join_block(&p->engine.table, host.weights);
    if (host.reference) join_states(&p->engine.table, host.reference, NULL);
    return host;
}

void policy_master_close(Policy *p, PolicyMaster *host)
{
    if (!p->engine.ops->device.host) {
        memory_free(host->weights);
        memory_free(host->m);
        memory_free(host->v);
        memory_free(host->reference);
    } else if (p->engine.dtype == DTYPE_BF16) {
        if (p->placed) split_states(&p->engine.table, p->weights, p->lent_keeper);
        else split_block(&p->engine.table, p->weights);
        if (p->reference) split_states(&p->engine.table, p->reference, NULL);
    }
    *host = (PolicyMaster){0};
}

Policy *policy_that_samples(Policy *p, bool bf16)
{
    if (!bf16 || p->engine.dtype == DTYPE_BF16) return p;
    if (!p->half) {
        const Engine *e = &p->engine;
        EngineOptions half = {e->ops, e->backend, DTYPE_BF16, e->chunk, e->keep_bytes};
        float *zeros = memory_block(block_bytes(p));
        CHECK(zeros != NULL);
        memset(zeros, 0, block_bytes(p));
        p->half = policy_new(half, &p->config, 0, zeros);
        p->half_stale = true;
    }
    if (p->half_stale) {
        p->engine.ops->device.copy(p->engine.backend, p->half->weights, p->weights, block_bytes(p));
        float *host = block_to_host(p, p->half->weights, block_bytes(p));
        split_block(&p->engine.table, host);
        if (host != p->half->weights) {
            p->engine.ops->device.upload(p->engine.backend, p->half->weights, host, block_bytes(p));
            memory_free(host);
        }
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
    if (!keeper_fault(p->w.keeper, st)) return false;
    ParamBlocks blocks = {
        .w = p->weights, .m = p->m, .v = p->v, .g = p->grads, .store = p->store, .gradients = p->g.keeper};
    AdamWStep step = {p->optimizer_step + 1, lr};
    if (!optimizer_step(e, &blocks, o, step, norm, st)) return false;
    p->optimizer_step++;
    p->half_stale = true;
    return true;
}

void policy_bias_update(Policy *p, const Routing *routing, float rate)
{
    const Engine *e = &p->engine;
    for (int l = 0; l < config_blocks(&p->config); l++)
        if (routing[l].offsets && e->table.params[params_find(&e->table, PARAM_ROUTER_BIAS, l, -1)].chosen)
            e->ops->bias_update(e->backend, p->w.layers[l].router_bias, routing[l].offsets, p->config.E, rate);
    policy_weights_changed(p);
}

size_t policy_bytes(const Policy *p)
{
    size_t halves = p->half ? block_bytes(p) : 0, states = (p->grads ? 1u : 0u) + (p->reference ? 1u : 0u);
    size_t moments = p->m ? 2 * p->engine.table.moment_total : 0;
    size_t arenas = p->engine.arena.peak + p->engine.host.peak;
    if (p->half) arenas += p->half->engine.arena.peak + p->half->engine.host.peak;
    return weights_bytes(p) + halves + states * state_bytes(p) + moments + arenas +
           p->engine.ops->bytes(p->engine.backend);
}
