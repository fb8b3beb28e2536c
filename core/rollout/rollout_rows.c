/* One forward of a rollout: rows of many sequences on the cache. */
#include "core/rollout/rollout_rows.h"

#include <string.h>

#include "core/base/hash.h"
#include "core/head.h"
#include "core/model.h"

RolloutRows rollout_rows(Engine *e, int n, int nseq, int tiles)
{
    Arena *a = &e->host;
    RolloutRows r = {
        .n = n, .nseq = nseq, .tiles = tiles, .ids = arena_ints(a, (size_t)n), .pos = arena_ints(a, (size_t)n)};
    r.cached = arena_alloc(a, (size_t)n * sizeof *r.cached);
    size_t entries = (size_t)(nseq ? nseq : n) * (size_t)tiles;
    r.pages = arena_ints(a, entries);
    memset(r.pages, 0, entries * sizeof *r.pages);
    if (nseq) r.offsets = arena_ints(a, (size_t)nseq + 1), r.ends = arena_ints(a, (size_t)nseq);
    return r;
}

void rollout_row(RolloutRows *r, int i, int32_t id, int pos, const int32_t *pages, int tiles)
{
    memcpy(r->pages + i * r->tiles, pages, (size_t)tiles * sizeof *pages);
    r->ids[i] = id;
    r->pos[i] = pos;
    r->cached[i] = (CacheRow){i * r->tiles, pos};
}

Rows rollout_rows_there(Engine *e, const RolloutRows *r, KvCache *cache)
{
    size_t n = (size_t)r->n, count = (size_t)(r->nseq ? r->nseq : r->n);
    Rows rows = {.n = r->n, .nseq = r->nseq, .cache = cache, .routes = r->routes};
    for (size_t i = 0; i < n; i++)
        if (r->pos[i] >= rows.reach) rows.reach = r->pos[i] + 1;
    rows.pos = engine_upload_ints(e, r->pos, n);
    rows.cached = engine_upload(e, r->cached, n * sizeof *r->cached);
    rows.pages = engine_upload_ints(e, r->pages, count * (size_t)r->tiles);
    if (r->nseq) rows.offsets = engine_upload_ints(e, r->offsets, count + 1);
    return rows;
}

float *rollout_states(Engine *e, const Weights *w, const RolloutRows *r, KvCache *cache)
{
    Rows rows = rollout_rows_there(e, r, cache);
    return model_forward_rows(e, w, engine_upload_ints(e, r->ids, (size_t)r->n), &rows);
}

float *rollout_logits(Engine *e, const Weights *w, const RolloutRows *r, const float *xn)
{
    size_t C = (size_t)e->config->C, n = (size_t)r->n, count = (size_t)(r->nseq ? r->nseq : r->n);
    if (r->nseq) {
        float *last = arena_floats(&e->arena, count * C);
        e->ops->gather_rows(e->backend, mat_f32(last, count, C), mat_f32((float *)xn, n, C),
                            engine_upload_ints(e, r->ends, count));
        xn = last;
    }
    float *logits = arena_floats(&e->arena, count * (size_t)e->config->V);
    head_logits(e, w, logits, xn, count);
    return logits;
}

uint64_t rollout_key(const Engine *e, const Weights *w, const Rows *there, const KvCache *cache, SampleArgs sampling)
{
    const void *addresses[] = {
        e->config,   w->embed.p, w->head.p,    w->norm,       w->layers,    w->expert_views,      e->rope.cos,
        e->rope.sin, there->pos, there->pages, there->cached, cache->pages, (void *)e->arena.used};
    int numbers[] = {there->n, cache->kind, cache->n_pages, sampling.top_k, sampling.vocab_used};
    float reals[] = {sampling.temperature, sampling.top_p};
    uint64_t h = hash_bytes(addresses, sizeof addresses, 0);
    h = hash_bytes(numbers, sizeof numbers, h);
    h = hash_bytes(reals, sizeof reals, h);
    return hash_bytes(w->layers, (size_t)w->L * sizeof *w->layers, h);
}
