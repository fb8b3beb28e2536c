/* A model's weights with what sampling and training need. */
#include "core/policy.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/base/memory.h"
#include "core/params_select.h"

/* Of gradients. */
static size_t state_bytes(const Policy *p)
{
    return p->engine.table.state_total * sizeof(float);
}

/* Elements of the policy's own weights. */
static size_t weights_total(const Policy *p)
{
    return p->placed ? p->engine.table.state_total : p->engine.table.total;
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

/* ---- Weights ---- */

static void *plane_new(const Policy *p, size_t bytes)
{
    const Engine *e = &p->engine;
    if (!bytes) return NULL;
    void *plane = e->ops->device.alloc(e->backend, bytes);
    CHECK(plane != NULL);
    /* On the host put clears what lies between parameters, so that memory is not touched before it is used. */
    if (!e->ops->device.host) e->ops->fill(e->backend, plane, bytes / sizeof(float), 0.0f);
    return plane;
}

/* Not cleared. low: with the lower halves. */
static WeightBlock weights_room(const Policy *p, size_t total, bool low)
{
    WeightBytes n = weight_bytes(&p->engine.table, total, p->engine.dtype);
    return (WeightBlock){plane_new(p, n.high), low ? plane_new(p, n.low) : NULL, plane_new(p, n.plain)};
}

static void weights_drop(const Policy *p, WeightBlock *b)
{
    const Device *d = &p->engine.ops->device;
    if (b->high) d->free(p->engine.backend, b->high);
    if (b->low) d->free(p->engine.backend, b->low);
    if (b->plain) d->free(p->engine.backend, b->plain);
    *b = (WeightBlock){0};
}

/* Parameter q, at `at` of the block, from host values. On the host in ascending order: the padding behind q is cleared. */
static void put(const Policy *p, const WeightBlock *b, const Param *q, size_t at, const float *values)
{
    const Device *d = &p->engine.ops->device;
    Backend *backend = p->engine.backend;
    if (d->host) {
        weight_write(b, q, at, 0, q->count, values);
        weight_clear_behind(b, q, at);
        return;
    }
    if (!weight_split(b, q)) {
        d->upload(backend, weight_at(b, q, at), values, q->count * sizeof *values);
        return;
    }
    uint16_t *high = malloc(2 * q->count * sizeof *high), *low = high + q->count;
    CHECK(high != NULL);
    split_values(high, low, values, q->count);
    d->upload(backend, b->high + at, high, q->count * sizeof *high);
    if (b->low) d->upload(backend, b->low + at, low, q->count * sizeof *low);
    free(high);
}

static void get(const Policy *p, const WeightBlock *b, const Param *q, size_t at, size_t from, size_t n, float *out)
{
    const Device *d = &p->engine.ops->device;
    Backend *backend = p->engine.backend;
    if (d->host) {
        weight_read(b, q, at, from, n, out);
        return;
    }
    if (!weight_split(b, q)) {
        d->download(backend, out, (const float *)weight_at(b, q, at) + from, n * sizeof *out);
        return;
    }
    uint16_t *high = malloc(2 * n * sizeof *high), *low = high + n;
    CHECK(high != NULL);
    d->download(backend, high, b->high + at + from, n * sizeof *high);
    if (b->low) d->download(backend, low, b->low + at + from, n * sizeof *low);
    join_values(out, high, b->low ? low : NULL, n);
    free(high);
}

/* Takes over host values laid out as a block of f32 (memory_block), of the table or of its states. In bf16 their memory goes back
 * parameter by parameter, so that a model is never there twice. */
static WeightBlock weights_of(const Policy *p, float *host, bool states)
{
    const ParamTable *t = &p->engine.table;
    size_t total = states ? t->state_total : t->total;
    if (p->engine.dtype == DTYPE_F32) return (WeightBlock){.plain = block_to_device(p, host, total * sizeof(float))};
    WeightBlock b = weights_room(p, total, true);
    for (int i = 0; i < t->n; i++) {
        const Param *q = &t->params[i];
        size_t at = states ? q->state : q->offset;
        if (at == SIZE_MAX) continue;
        put(p, &b, q, at, host + at);
        memory_drop(host + at, q->count * sizeof *host);
    }
    memory_free(host);
    return b;
}

typedef bool ReadParam(void *from, const Param *q, float *out, Status *st);

/* Reads what the policy has itself, parameter by parameter. */
static bool fill(const Policy *p, const WeightBlock *b, bool apart, ReadParam *read, void *from, Status *st)
{
    const ParamTable *t = &p->engine.table;
    size_t largest = 0;
    for (int i = 0; i < t->n; i++)
        if (t->params[i].count > largest && (t->params[i].apart || !apart)) largest = t->params[i].count;
    float *values = memory_block((largest + 1) * sizeof *values);
    bool ok = values || fail(st, "no memory for a tensor of %.1f GB", (double)largest * sizeof(float) / 1e9);
    for (int i = 0; i < t->n && ok; i++) {
        const Param *q = &t->params[i];
        if (apart && !q->apart) continue;
        ok = read(from, q, values, st);
        if (ok) put(p, b, q, param_place(q), values);
    }
    memory_free(values);
    return ok;
}

void policy_weights_read(const Policy *p, const Param *q, size_t from, size_t n, float *out)
{
    CHECK(!p->weights.high || p->weights.low); /* a frozen policy has them no more */
    get(p, &p->weights, q, param_place(q), from, n, out);
}

void policy_reference_read(const Policy *p, const Param *q, size_t from, size_t n, float *out)
{
    get(p, &p->reference, q, q->state, from, n, out);
}

/* ---- Opening ---- */

static Policy *policy_open(EngineOptions o, const ModelConfig *config)
{
    Policy *p = calloc(1, sizeof *p);
    CHECK(p != NULL);
    p->config = *config;
    engine_open(&p->engine, &p->config, &o);
    p->sampler = sampler_new(&p->engine);
    return p;
}

Policy *policy_new(EngineOptions o, const ModelConfig *config, uint32_t seed, float *weights)
{
    Policy *p = policy_open(o, config);
    const ParamTable *t = &p->engine.table;
    if (!weights) {
        weights = memory_block(t->total * sizeof *weights);
        CHECK(weights != NULL);
        params_init(t, &p->config, weights, seed);
    }
    p->weights = weights_of(p, weights, false);
    p->w = weights_view(&p->config, t, &p->weights);
    policy_weights_changed(p);
    return p;
}

Policy *policy_frozen(EngineOptions o, const ModelConfig *config, ReadParam *read, void *from, Status *st)
{
    Policy *p = policy_open(o, config);
    p->weights = weights_room(p, p->engine.table.total, false);
    p->w = weights_view(&p->config, &p->engine.table, &p->weights);
    policy_weights_changed(p);
    if (fill(p, &p->weights, false, read, from, st)) return p;
    policy_free(p);
    return NULL;
}

Policy *policy_placed(EngineOptions o, const ModelConfig *config)
{
    Policy *p = policy_open(o, config);
    p->placed = true;
    p->w = weights_new(&p->config, &p->engine.table);
    return p;
}

size_t policy_lent_bytes(const ParamTable *t, DType dtype)
{
    return t->state_total * sizeof(float) + weight_bytes_sum(weight_bytes(t, t->state_total, dtype));
}

/* Gradients, then the arrays of the weights. */
static WeightBlock weights_lent(const Policy *p, void *lent)
{
    const ParamTable *t = &p->engine.table;
    WeightBytes n = weight_bytes(t, t->state_total, p->engine.dtype);
    char *at = (char *)lent + state_bytes(p);
    return (WeightBlock){n.high ? (uint16_t *)(at + n.plain) : NULL, n.low ? (uint16_t *)(at + n.plain + n.high) : NULL,
                         (float *)at};
}

bool policy_place_trained(Policy *p, void *lent, bool (*read)(void *from, const Param *q, float *out, Status *st),
                          void *from, Status *st)
{
    const ParamTable *t = &p->engine.table;
    CHECK(p->placed && !p->weights.plain);
    params_set_apart(&p->engine.table);
    p->lent = lent;
    p->weights = lent ? weights_lent(p, lent) : weights_room(p, t->state_total, true);
    bool ok = fill(p, &p->weights, true, read, from, st);
    policy_weights_changed(p);
    return ok;
}

void policy_free(Policy *p)
{
    if (!p) return;
    p->engine.ops->weights_freed(p->engine.backend); /* the addresses may be given to another model */
    policy_free(p->half);
    sampler_free(p->sampler);
    weights_free(&p->w);
    if (p->grads) weights_free(&p->g);
    if (p->reference.plain) weights_free(&p->ref);
    if (!p->lent) weights_drop(p, &p->weights);
    if (!p->lent) block_free(p, p->grads);
    block_free(p, p->m);
    block_free(p, p->v);
    weights_drop(p, &p->reference);
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
    else p->ref = weights_view_beside(&p->config, t, &p->weights, &p->reference);
    if (p->placed) p->show_reference(p);
}

static void copy_param(const Policy *p, const WeightBlock *to, size_t at, const WeightBlock *from, const Param *q)
{
    const Device *d = &p->engine.ops->device;
    size_t place = param_place(q), each = weight_split(from, q) ? sizeof(uint16_t) : sizeof(float);
    d->copy(p->engine.backend, weight_at(to, q, at), weight_at(from, q, place), q->count * each);
    if (weight_split(from, q)) d->copy(p->engine.backend, to->low + at, from->low + place, q->count * each);
}

void policy_reference_set(Policy *p)
{
    const ParamTable *t = &p->engine.table;
    if (!p->reference.plain) {
        p->reference = weights_room(p, t->state_total, true);
        view_reference(p);
    }
    for (int part = 0; part < t->n_parts; part++) {
        keeper_need(p->lent_keeper, part, 1);
        for (int i = t->parts[part].first; i < t->parts[part].first + t->parts[part].n; i++)
            if (t->params[i].state != SIZE_MAX)
                copy_param(p, &p->reference, t->params[i].state, &p->weights, &t->params[i]);
        keeper_done(p->lent_keeper, part, 1);
    }
    p->references++;
    policy_weights_changed(p);
}

void policy_resume(Policy *p, void *m, void *v, float *reference)
{
    CHECK(!p->grads && !p->reference.plain);
    open_gradients(p);
    p->m = block_to_device(p, m, p->engine.table.moment_total);
    p->v = block_to_device(p, v, p->engine.table.moment_total);
    if (!reference) return;
    p->reference = weights_of(p, reference, true);
    view_reference(p);
}

PolicyMoments policy_moments_open(Policy *p)
{
    size_t n = p->engine.table.moment_total;
    return (PolicyMoments){block_to_host(p, p->m, n), block_to_host(p, p->v, n)};
}

void policy_moments_close(Policy *p, PolicyMoments *host)
{
    if (!p->engine.ops->device.host) {
        memory_free(host->m);
        memory_free(host->v);
    }
    *host = (PolicyMoments){0};
}

/* A copy in bf16 that is never trained: high halves alone. */
static Policy *half_new(const Policy *p)
{
    const Engine *e = &p->engine;
    Policy *half = policy_open((EngineOptions){e->ops, e->backend, DTYPE_BF16, e->chunk, e->keep_bytes}, &p->config);
    half->weights = weights_room(half, e->table.total, false);
    half->w = weights_view(&half->config, &half->engine.table, &half->weights);
    return half;
}

static void half_write(const Policy *half, const Policy *p)
{
    const ParamTable *t = &p->engine.table;
    bool host = p->engine.ops->device.host;
    for (int i = 0; i < t->n; i++) {
        const Param *q = &t->params[i];
        float *values = host ? weight_at(&p->weights, q, q->offset) : malloc(q->count * sizeof *values);
        CHECK(values != NULL);
        if (!host) policy_weights_read(p, q, 0, q->count, values);
        put(half, &half->weights, &half->engine.table.params[i], q->offset, values);
        if (!host) free(values);
    }
}

Policy *policy_that_samples(Policy *p, bool bf16)
{
    if (!bf16 || p->engine.dtype == DTYPE_BF16) return p;
    if (!p->half) p->half = half_new(p), p->half_stale = true;
    if (p->half_stale) {
        half_write(p->half, p);
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

static size_t weights_bytes(const Policy *p, const WeightBlock *b, size_t total)
{
    WeightBytes n = weight_bytes(&p->engine.table, total, p->engine.dtype);
    if (!b->plain) return 0;
    return weight_bytes_sum(n) - (b->low ? 0 : n.low);
}

size_t policy_bytes(const Policy *p)
{
    size_t arenas = p->engine.arena.peak + p->engine.host.peak;
    if (p->half) arenas += p->half->engine.arena.peak + p->half->engine.host.peak;
    size_t weights =
        weights_bytes(p, &p->weights, weights_total(p)) + weights_bytes(p, &p->reference, p->engine.table.state_total);
    if (p->half) weights += weights_bytes(p->half, &p->half->weights, p->half->engine.table.total);
    size_t states = (p->grads ? state_bytes(p) : 0) + (p->m ? 2 * p->engine.table.moment_total : 0);
    return weights + states + arenas + p->engine.ops->bytes(p->engine.backend);
}
