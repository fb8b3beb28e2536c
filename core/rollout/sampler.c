/* What a sampler keeps between rollouts: cache, slots, storage of completions. */
#include "core/rollout/rollout_state.h"

#include <stdlib.h>

#include "core/base/check.h"

Sampler *sampler_new(Engine *e)
{
    Sampler *s = calloc(1, sizeof *s);
    CHECK(s != NULL);
    s->e = e;
    return s;
}

static void drop_slots(Sampler *s)
{
    if (s->cache_is_open) kv_cache_close(&s->cache);
    s->cache_is_open = false;
    if (s->prompt_logits) s->e->ops->device.free(s->e->backend, s->prompt_logits);
    draft_close(&s->draft);
    late_close(&s->late, s->e);
    free(s->slots);
    free(s->page_storage);
    free(s->free_rows);
    s->prompt_logits = NULL;
    s->free_rows = NULL;
    s->n_rows = 0;
    s->slots = NULL;
    s->page_storage = NULL;
}

void sampler_free(Sampler *s)
{
    if (!s) return;
    drop_slots(s);
    free(s->ids);
    free(s->logprobs);
    routes_free(&s->routes);
    free(s);
}

static bool reserve_logits(Sampler *s, int rows, Status *st)
{
    const Device *d = &s->e->ops->device;
    size_t bytes = (size_t)rows * (size_t)s->e->config->V * sizeof(float);
    if (rows > s->n_rows) {
        if (s->prompt_logits) d->free(s->e->backend, s->prompt_logits);
        free(s->free_rows);
        s->n_rows = 0;
        s->prompt_logits = d->alloc(s->e->backend, bytes);
        s->free_rows = malloc((size_t)rows * sizeof *s->free_rows);
        CHECK(s->free_rows != NULL);
        if (!s->prompt_logits)
            return fail(st, "no memory for %zu MB of logits; try fewer sequences at once", bytes >> 20);
        s->n_rows = rows;
    }
    s->n_free = s->n_rows;
    for (int i = 0; i < s->n_rows; i++) s->free_rows[i] = i;
    return true;
}

bool sampler_reserve(Sampler *s, const RolloutSpec *spec, const RolloutNeed *need, bool late, Status *st)
{
    if (!s->cache_is_open || s->cache.kind != spec->cache || s->cache.n_pages < need->pages ||
        s->n_slots < need->slots || s->tiles_max < need->tiles || s->draft.most != spec->draft ||
        (spec->draft && s->n_rows < need->started)) {
        size_t slots = (size_t)need->slots, tiles = (size_t)need->tiles;
        drop_slots(s);
        if (!kv_cache_open(&s->cache, s->e, spec->cache, spec->draft > 0, need->pages, st)) return false;
        s->cache_is_open = true;
        s->n_slots = need->slots;
        s->tiles_max = need->tiles;
        s->slots = calloc(slots, sizeof *s->slots);
        s->page_storage = calloc(slots * tiles, sizeof *s->page_storage);
        CHECK(s->slots && s->page_storage);
        for (size_t i = 0; i < slots; i++) s->slots[i].pages = s->page_storage + i * tiles;
    }
    if (!reserve_logits(s, need->started, st)) return false;
    if (spec->draft && !s->draft.e && !draft_open(&s->draft, s->e, spec->draft, s->n_slots, s->n_rows, st))
        return false;
    if (late && !late_reserve(&s->late, s->e, s->n_slots, st)) return false;
    if (need->tokens > s->storage) {
        s->ids = realloc(s->ids, need->tokens * sizeof *s->ids);
        s->logprobs = realloc(s->logprobs, need->tokens * sizeof *s->logprobs);
        CHECK(s->ids && s->logprobs);
        s->storage = need->tokens;
    }
    for (int i = 0; i < s->n_slots; i++) s->slots[i].item = -1;
    return true;
}
