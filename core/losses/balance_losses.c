/* Balance losses of a batch: sums by ops, formulas here, slopes back. */
#include "core/losses/balance_losses.h"

/* Rows of sums: of every layer and sequence. */
static size_t sum_rows(const BalanceLosses *l)
{
    return (size_t)l->layers.n * (size_t)l->nseq;
}

static BalanceCounts count(Engine *e, const BalanceLosses *l, size_t n, const Routing *routing, bool normalised)
{
    const ModelConfig *c = e->config;
    size_t rows = sum_rows(l), E = (size_t)c->E, D = (size_t)l->config->devices;
    BalanceCounts k = {.shape = {.E = c->E, .K = c->K, .devices = l->config->devices, .normalised = normalised}};
    k.sums.score = arena_alloc(&e->arena, rows * E * sizeof(double));
    k.sums.count = arena_ints(&e->arena, rows * E);
    if (!normalised && l->config->comm != 0.0f) k.sums.reached = arena_ints(&e->arena, rows * D);
    for (int layer = 0; layer < l->layers.n; layer++) {
        if (!config_is_moe(c, l->layers.first + layer)) continue;
        size_t at = (size_t)layer * (size_t)l->nseq;
        BalanceSums out = {k.sums.score + at * E, k.sums.count + at * E,
                           k.sums.reached ? k.sums.reached + at * D : NULL};
        e->ops->balance_sums(e->backend, out, k.shape, mat_f32(routing[layer].scores, n, E), routing[layer].idx,
                             l->offsets, l->nseq);
    }
    return k;
}

/* An array on its way to *at in the landing; returns where it will be, and moves *at behind it. */
static void *fetch_later(Engine *e, BalanceLosses *l, char **at, const void *there, size_t bytes)
{
    void *here = *at;
    if (!there) return NULL;
    l->ticket = e->ops->device.download_later(e->backend, here, there, bytes);
    *at += (bytes + 63) / 64 * 64;
    return here;
}

static void counts_later(Engine *e, BalanceLosses *l, BalanceCounts *k, char **at)
{
    size_t rows = sum_rows(l), E = (size_t)k->shape.E, D = (size_t)k->shape.devices;
    k->sums.score = fetch_later(e, l, at, k->sums.score, rows * E * sizeof(double));
    k->sums.count = fetch_later(e, l, at, k->sums.count, rows * E * sizeof(int32_t));
    k->sums.reached = fetch_later(e, l, at, k->sums.reached, rows * D * sizeof(int32_t));
}

void balance_losses_ask(Engine *e, const BalanceConfig *config, const Batch *batch, const int32_t *offsets,
                        const Routing *routing, LayerRange layers, BalanceLosses *out)
{
    *out = (BalanceLosses){.config = config, .layers = layers, .nseq = batch->nseq, .offsets = offsets};
    if (balance_of_choices(config)) out->chosen = count(e, out, (size_t)batch->N, routing, false);
    if (config->sequence != 0.0f) out->best = count(e, out, (size_t)batch->N, routing, true);
    if (e->ops->device.host) return;
    size_t one = sum_rows(out) * ((size_t)e->config->E * 12 + (size_t)config->devices * 4) + 3 * 64;
    char *at = engine_landing(e, &e->balance, 2 * one);
    counts_later(e, out, &out->chosen, &at);
    counts_later(e, out, &out->best, &at);
}

/* The sums of one layer and sequence. */
static BalanceSums sums_at(const BalanceCounts *k, size_t at)
{
    size_t E = (size_t)k->shape.E, D = (size_t)k->shape.devices;
    if (!k->sums.score) return (BalanceSums){0};
    return (BalanceSums){k->sums.score + at * E, k->sums.count + at * E,
                         k->sums.reached ? k->sums.reached + at * D : NULL};
}

void balance_losses_finish(Engine *e, const Batch *batch, BalanceLosses *l)
{
    const ModelConfig *c = e->config;
    size_t rows = sum_rows(l), E = (size_t)c->E;
    bool choices = balance_of_choices(l->config), best = l->config->sequence != 0.0f;
    l->values = arena_alloc(&e->host, rows * sizeof *l->values);
    double *slope = choices ? arena_alloc(&e->host, rows * E * sizeof *slope) : NULL;
    double *frequency = best ? arena_alloc(&e->host, rows * E * sizeof *frequency) : NULL;
    if (l->ticket) e->ops->device.wait(e->backend, l->ticket);
    for (int layer = 0; layer < l->layers.n; layer++)
        for (int q = 0; q < l->nseq; q++) {
            size_t at = (size_t)layer * (size_t)l->nseq + (size_t)q;
            l->values[at] = (BalanceValues){0};
            if (!config_is_moe(c, l->layers.first + layer)) continue;
            BalanceSums chosen = sums_at(&l->chosen, at), scored = sums_at(&l->best, at);
            l->values[at] = balance_values(l->config, c, batch->offsets[q + 1] - batch->offsets[q], &chosen, &scored,
                                           choices ? slope + at * E : NULL, best ? frequency + at * E : NULL);
        }
    if (choices) l->slope = engine_upload(e, slope, rows * E * sizeof *slope);
    if (best) l->frequency = engine_upload(e, frequency, rows * E * sizeof *frequency);
}

double balance_losses_aux(const BalanceLosses *l)
{
    double aux = 0.0;
    for (int layer = 0; layer < l->layers.n; layer++) {
        BalanceValues mean = balance_mean(l->values + (size_t)layer * (size_t)l->nseq, l->nseq);
        aux += balance_aux(l->config, &mean);
    }
    return aux;
}

void balance_losses_grad(Engine *e, const BalanceLosses *l, int layer, size_t n, Routing *r)
{
    size_t E = (size_t)e->config->E, at = (size_t)(layer - l->layers.first) * (size_t)l->nseq * E;
    BalanceSlopes slopes = {.slope = l->slope ? l->slope + at : NULL,
                            .frequency = l->frequency ? l->frequency + at : NULL,
                            .weight = l->config->sequence};
    r->dscores = arena_floats(&e->arena, n * E);
    e->ops->balance_grad(e->backend, mat_f32(r->dscores, n, E), slopes, mat_f32(r->scores, n, E), l->offsets, l->nseq);
}
