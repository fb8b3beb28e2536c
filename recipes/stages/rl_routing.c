/* The routing gap: a forward of the bf16 copy against the trainer's. */
#include "recipes/stages/rl_routing.h"

#include <math.h>

#include "core/model.h"

int routing_differs(const int32_t *a, const int32_t *b, int K)
{
    int missing = 0;
    for (int i = 0, k = 0; i < K; i++) {
        while (k < K && a[k] < b[i]) k++;
        missing += k == K || a[k] != b[i];
    }
    return missing;
}

/* Choices of one layer that differ. */
static long layer_differs(const BatchBuilder *b, const int32_t *trainer, const int32_t *sampler, int K, long *all)
{
    long differ = 0;
    for (int s = 0; s < b->nseq; s++)
        for (int n = b->offsets[s]; n + 1 < b->offsets[s + 1]; n++, *all += K)
            differ += routing_differs(trainer + (size_t)n * (size_t)K, sampler + (size_t)n * (size_t)K, K);
    return differ;
}

double routing_gap_kept(const BatchBuilder *batch, Engine *trainer, const Routing *routing, const RoutingGiven *kept)
{
    const ModelConfig *c = trainer->config;
    size_t count = (size_t)batch->n * (size_t)c->K, at = 0;
    long differ = 0, all = 0;
    for (int l = 0; l < c->L; l++) {
        if (!config_is_moe(c, l)) continue;
        const int32_t *own = engine_download(trainer, routing[l].idx, count * sizeof *own);
        differ += layer_differs(batch, own, kept->idx + at, c->K, &all);
        at += count;
    }
    return all ? (double)differ / (double)all : (double)NAN;
}

double routing_gap_own(Policy *p, const BatchBuilder *batch, const RoutingGiven *kept)
{
    Tape tape;
    engine_reset(&p->engine);
    model_forward(&p->engine, &p->w, batch_view(batch), TAPE_HIDDEN, &tape);
    return routing_gap_kept(batch, &p->engine, tape.routing, kept);
}

double routing_gap(Policy *sampler, const BatchBuilder *batch, Engine *trainer, const Routing *routing)
{
    const ModelConfig *c = &sampler->config;
    Engine *e = &sampler->engine;
    long differ = 0, all = 0;
    size_t bytes = (size_t)batch->n * (size_t)c->K * sizeof(int32_t);
    Tape tape;
    engine_reset(e);
    model_forward(e, &sampler->w, batch_view(batch), TAPE_HIDDEN, &tape);
    for (int l = 0; l < c->L; l++) {
        if (!config_is_moe(c, l)) continue;
        const int32_t *a = engine_download(trainer, routing[l].idx, bytes);
        differ += layer_differs(batch, a, engine_download(e, tape.routing[l].idx, bytes), c->K, &all);
    }
    return all ? (double)differ / (double)all : (double)NAN;
}
