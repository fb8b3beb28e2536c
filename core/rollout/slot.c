/* A slot's sequence: its tokens, its pages, its random numbers, its end. */
#include "core/rollout/rollout_state.h"

#include <math.h>

#include "core/base/check.h"

static bool is_stop(const RolloutSpec *spec, int32_t id)
{
    for (int i = 0; i < spec->n_stops; i++)
        if (spec->stops[i] == id) return true;
    return false;
}

void slot_free(Rollout *r, Slot *slot)
{
    for (int i = 0; i < slot->tiles; i++) kv_page_drop(&r->s->cache, slot->pages[i]);
    slot->item = -1;
    slot->tiles = 0;
    r->busy--;
}

int slot_room(const Rollout *r, const Slot *slot, int length)
{
    int positions = r->s->e->config->max_positions - r->prompts[slot->item / r->spec->samples].n;
    int most = r->spec->max_tokens < positions ? r->spec->max_tokens : positions;
    return most - length;
}

bool slot_accept(Rollout *r, Slot *slot, int32_t id, float lp)
{
    size_t at = (size_t)slot->item * (size_t)r->spec->max_tokens + (size_t)slot->length;
    r->s->ids[at] = id;
    r->s->logprobs[at] = lp;
    slot->length++;
    r->stats.tokens++;
    if (!isfinite(lp) && r->broken < 0) r->broken = slot->item;
    if (r->spec->on_token && isfinite(lp)) r->spec->on_token(r->spec->on_token_ctx, slot->item, id);
    bool stop = is_stop(r->spec, id);
    if (!stop && slot_room(r, slot, slot->length) > 0) return true;
    Completion *done = &r->out[slot->item];
    size_t first = (size_t)slot->item * (size_t)r->spec->max_tokens;
    *done = (Completion){
        .ids = r->s->ids + first, .logprobs = r->s->logprobs + first, .n = slot->length, .truncated = !stop};
    const Routes *routes = &r->s->routes;
    if (r->spec->routes) {
        done->routes = routes->samples + first * routes->each;
        done->prompt_routes = routes->prompts + routes->first[slot->item / r->spec->samples];
    }
    slot_free(r, slot);
    return false;
}

void slot_draw(const Rollout *r, Slot *slot, int length, int n)
{
    const RolloutSpec *spec = r->spec;
    int prompt = slot->item / spec->samples, sample = slot->item % spec->samples;
    for (int i = 0; i < n; i++)
        slot->u[i] = rng_token(spec->seed, spec->purpose, spec->stage, spec->step, r->prompts[prompt].index,
                               (uint32_t)sample, (uint32_t)(length + i));
}

int slot_position(const Rollout *r, const Slot *slot, int length)
{
    return r->prompts[slot->item / r->spec->samples].n + length - 1;
}

const int32_t *slot_tokens(const Rollout *r, const Slot *slot)
{
    return r->s->ids + (size_t)slot->item * (size_t)r->spec->max_tokens;
}

void slot_own_pages(Rollout *r, Slot *slot, int from, int to)
{
    for (int tile = from / KEY_TILE; tile <= to / KEY_TILE; tile++) {
        int page = tile == slot->tiles ? kv_page_take(&r->s->cache) : kv_page_private(&r->s->cache, slot->pages[tile]);
        CHECK(page >= 0 && tile <= slot->tiles);
        slot->pages[tile] = page;
        if (tile == slot->tiles) slot->tiles++;
    }
}
