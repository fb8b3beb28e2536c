/* Decoding: a step of all busy slots, its samples, and with drafts its guesses. */
#include "core/rollout/rollout_state.h"

#include <string.h>

#include "core/base/hash.h"
#include "core/model.h"

/* Takes what a slot sampled in the rows of its last token and its guesses, as far as the guesses hold. */
static void accept_rows(Rollout *r, Slot *slot, const int32_t *ids, const float *lp)
{
    bool goes_on = true;
    int taken = 0;
    r->stats.drafted += slot->guessed;
    while (goes_on && (taken == 0 || (taken <= slot->guessed && slot->guesses[taken - 1] == ids[taken - 1]))) {
        goes_on = slot_accept(r, slot, ids[taken], lp[taken]);
        taken++;
    }
    r->stats.accepted += taken - 1;
    slot->pending = taken;
}

/* The rows of m slots, one after another: of the last token and of every guess. */
static size_t rows_of(Slot **slots, int m)
{
    size_t n = (size_t)m;
    for (int i = 0; i < m; i++) n += (size_t)slots[i]->guessed;
    return n;
}

Draws draws_of(Rollout *r, Slot **slots, int m)
{
    Engine *e = r->s->e;
    size_t at = 0;
    Draws d = {.n = rows_of(slots, m)};
    d.ids = arena_ints(&e->arena, 2 * d.n);
    d.lp = (float *)(d.ids + d.n);
    float *u = arena_floats(&e->host, d.n);
    for (int i = 0; i < m; i++) {
        slot_draw(r, slots[i], slots[i]->length, slots[i]->guessed + 1);
        for (int k = 0; k <= slots[i]->guessed; k++) u[at++] = slots[i]->u[k];
    }
    d.u = engine_upload(e, u, d.n * sizeof *u);
    return d;
}

void decode_sample(Rollout *r, const Draws *d, float *logits)
{
    Engine *e = r->s->e;
    Mat rows = mat_f32(logits, d->n, (size_t)e->config->V);
    e->ops->sample(e->backend, d->ids, d->lp, rows, r->spec->sampling, d->u);
}

void draws_take(Rollout *r, Slot **slots, int m, const Draws *d)
{
    Engine *e = r->s->e;
    const int32_t *id = engine_download(e, d->ids, 2 * d->n * sizeof *id);
    const float *logprob = (const float *)(id + d->n);
    for (int i = 0; i < m; i++) {
        int rows = slots[i]->guessed + 1;
        accept_rows(r, slots[i], id, logprob);
        id += rows, logprob += rows;
    }
}

/* The choices of m slots' rows of a decode step: of each slot's last token and its guesses, those that will not hold among
 * them. */
static void keep_routes(Rollout *r, Slot **slots, int m, const RolloutRows *rows)
{
    const Routes *routes = &r->s->routes;
    Engine *e = r->s->e;
    if (!rows->routes) return;
    size_t n = (size_t)rows->n, row = 0, bytes = n * routes->each * sizeof(int32_t);
    const int32_t *chosen = engine_download(e, rows->routes, bytes);
    for (int i = 0; i < m; i++)
        for (int k = 0; k <= slots[i]->guessed; k++, row++) {
            size_t at = (size_t)slots[i]->item * (size_t)r->spec->max_tokens + (size_t)(slots[i]->length - 1 + k);
            routes_take(routes, e->config, routes->samples + at * routes->each, chosen, row, n);
        }
}

/* Guesses of the next tokens of m slots, and the pages that they and the module's rows lie in. */
static void draft(Rollout *r, Slot **slots, int m)
{
    Engine *e = r->s->e;
    DraftSequence *list = arena_alloc(&e->host, (size_t)m * sizeof *list);
    int n = 0;
    for (int i = 0; i < m; i++) {
        Slot *slot = slots[i];
        int room = slot_room(r, slot, slot->length) - 1,
            at = slot_position(r, slot, slot->length); /* the model's own token comes after the guesses */
        slot->guessed = room < r->spec->draft ? room : r->spec->draft;
        slot_own_pages(r, slot, slot->guessed ? at - slot->pending : at, at + slot->guessed);
        if (!slot->guessed) continue;
        slot_draw(r, slot, slot->length, slot->guessed);
        list[n++] = (DraftSequence){.slot = (int)(slot - r->s->slots),
                                    .pending = slot->pending,
                                    .at = at,
                                    .last = slot_tokens(r, slot) + slot->length - slot->pending,
                                    .wanted = slot->guessed,
                                    .pages = slot->pages,
                                    .tiles = slot->tiles,
                                    .u = slot->u,
                                    .guesses = slot->guesses};
    }
    draft_guess(&r->s->draft, r->w, &r->s->cache, list, n, r->s->tiles_max, r->spec->sampling);
}

/* The states of the rows that were taken, for the module. first: each slot's row of xn. */
static void keep_states(Rollout *r, Slot **slots, int m, const int *first, const float *xn)
{
    const DraftStates *d = &r->s->draft;
    size_t C = (size_t)d->e->config->C, each = (size_t)(d->most + 1);
    for (int i = 0; i < m; i++)
        if (slots[i]->item >= 0)
            d->e->ops->device.copy(d->e->backend, d->states + (size_t)(slots[i] - r->s->slots) * each * C,
                                   xn + (size_t)first[i] * C, (size_t)slots[i]->pending * C * sizeof(float));
}

/* Issued, or issued again as they were recorded. Only drafts read the states: their steps are not recorded. */
const float *decode_rows(Rollout *r, const RolloutRows *rows, const Draws *d)
{
    Engine *e = r->s->e;
    const Device *device = &e->ops->device;
    Rows there = rollout_rows_there(e, rows, &r->s->cache);
    size_t n = (size_t)rows->n;
    const int32_t *ids = engine_upload_ints(e, rows->ids, n);
    int32_t *found = rows->tokens.rows ? arena_ints(&e->arena, n) : NULL;
    bool records = device->replay && !r->spec->draft && !r->spec->routes && !r->w->keeper;
    engine_reach(e, there.reach); /* before the tables' addresses are part of the key */
    uint64_t key = records ? rollout_key(e, r->w, &there, &r->s->cache, r->spec->sampling) : 0;
    if (records) key = hash_bytes(&d->ids, sizeof d->ids, key);
    if (records && device->replay(e->backend, key)) return NULL;
    EngineMark mark = engine_mark(e);
    const float *xn;
    do {
        engine_release(e, mark);
        if (found) e->ops->gather_rows(e->backend, mat_f32((float *)found, n, 1), rows->tokens, ids);
        xn = model_forward_rows(e, r->w, found ? found : ids, &there);
        decode_sample(r, d, rollout_logits(e, r->w, rows, xn));
    } while (records && !device->recorded(e->backend));
    return xn;
}

void decode_count(Rollout *r, int n)
{
    r->stats.steps++;
    if (r->next == r->items) return;
    r->busy_sum += n;
    r->queued_steps++;
}

void decode_step(Rollout *r)
{
    Engine *e = r->s->e;
    EngineMark mark = engine_mark(e);
    Slot **slots = arena_alloc(&e->host, (size_t)r->busy * sizeof *slots);
    int *first = arena_ints(&e->host, (size_t)r->busy), m = 0, n = 0;
    for (int i = 0; i < r->spec->slots; i++)
        if (r->s->slots[i].item >= 0) slots[m++] = &r->s->slots[i];
    if (r->spec->draft) draft(r, slots, m);
    for (int i = 0; i < m; i++) first[i] = n, n += slots[i]->guessed + 1;
    RolloutRows rows = rollout_rows(e, n, 0, r->s->tiles_max);
    for (int i = 0; i < m; i++) {
        Slot *slot = slots[i];
        int at = slot_position(r, slot, slot->length);
        if (!r->spec->draft) slot_own_pages(r, slot, at, at);
        for (int k = 0; k <= slot->guessed; k++) {
            rows.ids[first[i] + k] = k ? slot->guesses[k - 1] : slot_tokens(r, slot)[slot->length - 1];
            rows.pos[first[i] + k] = at + k;
            rows.cached[first[i] + k] = (CacheRow){i * rows.tiles, at + k};
        }
        memcpy(rows.pages + i * rows.tiles, slot->pages, (size_t)slot->tiles * sizeof *slot->pages);
    }
    if (r->spec->routes) rows.routes = routes_rows(e, &r->s->routes, (size_t)rows.n);
    Draws d = draws_of(r, slots, m);
    const float *xn = decode_rows(r, &rows, &d);
    keep_routes(r, slots, m, &rows);
    decode_count(r, m);
    draws_take(r, slots, m, &d);
    if (r->spec->draft) keep_states(r, slots, m, first, xn);
    engine_release(e, mark);
}
