/* Balance losses of a batch: sums by ops, formulas here, slopes back. */
#include "core/losses/balance_losses.h"

/* Sums of all layers for one kind of counting, on the host. */
typedef struct Counted {
    BalanceShape shape;
    BalanceSums sums; /* [L][nseq][E], reached [L][nseq][devices] */
} Counted;

static Counted count(Engine *e, const BalanceLosses *l, size_t n, const Routing *routing, bool normalised)
{
    const ModelConfig *c = e->config;
    size_t rows = (size_t)l->layers.n * (size_t)l->nseq, E = (size_t)c->E, D = (size_t)l->config->devices;
    Counted k = {.shape = {.E = c->E, .K = c->K, .devices = l->config->devices, .normalised = normalised}};
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
    if (e->ops->device.host) return k;
    k.sums.score = (double *)engine_download(e, k.sums.score, rows * E * sizeof(double));
    k.sums.count = (int32_t *)engine_download(e, k.sums.count, rows * E * sizeof(int32_t));
    if (k.sums.reached) k.sums.reached = (int32_t *)engine_download(e, k.sums.reached, rows * D * sizeof(int32_t));
    return k;
}

/* The sums of one layer and sequence. */
static BalanceSums sums_at(const Counted *k, size_t at)
{
    size_t E = (size_t)k->shape.E, D = (size_t)k->shape.devices;
    if (!k->sums.score) return (BalanceSums){0};
    return (BalanceSums){k->sums.score + at * E, k->sums.count + at * E,
                         k->sums.reached ? k->sums.reached + at * D : NULL};
}

void balance_losses(Engine *e, const BalanceConfig *config, const Batch *batch, const int32_t *offsets,
                    const Routing *routing, LayerRange layers, BalanceLosses *out)
{
    const ModelConfig *c = e->config;
    size_t rows = (size_t)layers.n * (size_t)batch->nseq, E = (size_t)c->E;
    bool choices = balance_of_choices(config), best = config->sequence != 0.0f;
    *out = (BalanceLosses){.config = config, .layers = layers, .nseq = batch->nseq, .offsets = offsets};
    out->values = arena_alloc(&e->host, rows * sizeof *out->values);
    double *slope = choices ? arena_alloc(&e->host, rows * E * sizeof *slope) : NULL;
    double *frequency = best ? arena_alloc(&e->host, rows * E * sizeof *frequency) : NULL;
    Counted by_choice = {0}, by_score = {0};
    if (choices) by_choice = count(e, out, (size_t)batch->N, routing, false);
    if (best) by_score = count(e, out, (size_t)batch->N, routing, true);
    for (int layer = 0; layer < layers.n; layer++)
        for (int q = 0; q < batch->nseq; q++) {
            size_t at = (size_t)layer * (size_t)batch->nseq + (size_t)q;
            out->values[at] = (BalanceValues){0};
            if (!config_is_moe(c, layers.first + layer)) continue;
            BalanceSums chosen = sums_at(&by_choice, at), scored = sums_at(&by_score, at);
            out->values[at] = balance_values(config, c, batch->offsets[q + 1] - batch->offsets[q], &chosen, &scored,
                                             choices ? slope + at * E : NULL, best ? frequency + at * E : NULL);
        }
    if (choices) out->slope = engine_upload(e, slope, rows * E * sizeof *slope);
    if (best) out->frequency = engine_upload(e, frequency, rows * E * sizeof *frequency);
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
