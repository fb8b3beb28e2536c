/* Admission: prompts are prefilled, and their samples put into free slots. */
#include "core/rollout/rollout_state.h"

#include <stdlib.h>

#include "core/base/check.h"

/* The choices of the rows of prompts from `first` on, in order. */
static void keep_prompt_routes(Rollout *r, int first, const RolloutRows *rows)
{
    const Routes *routes = &r->s->routes;
    Engine *e = r->s->e;
    if (!rows->routes) return;
    size_t n = (size_t)rows->n, bytes = n * routes->each * sizeof(int32_t);
    const int32_t *chosen = engine_download(e, rows->routes, bytes);
    for (size_t i = 0; i < n; i++)
        routes_take(routes, e->config, routes->prompts + routes->first[first] + i * routes->each, chosen, i, n);
}

/* Computes prompts [first, last) in one ragged batch: cache pages and the last token's logits of each. */
static void prefill(Rollout *r, int first, int last)
{
    Engine *e = r->s->e;
    size_t V = (size_t)e->config->V;
    int total = 0, at = 0, longest = 0;
    for (int p = first; p < last; p++) {
        total += r->prompts[p].n;
        if (r->prompts[p].n > longest) longest = r->prompts[p].n;
    }
    EngineMark mark = engine_mark(e);
    RolloutRows rows = rollout_rows(e, total, last - first, rollout_tiles(longest));
    for (int p = first; p < last; p++) {
        Prefill *f = &r->prefills[p];
        int n = r->prompts[p].n, tiles = rollout_tiles(n), table = (p - first) * rows.tiles;
        f->pages = malloc((size_t)tiles * sizeof *f->pages);
        CHECK(f->pages && r->s->n_free > 0);
        f->row = r->s->free_rows[--r->s->n_free];
        for (int i = 0; i < tiles; i++) rows.pages[table + i] = f->pages[i] = kv_page_take(&r->s->cache);
        f->to_start = r->spec->samples;
        rows.offsets[p - first] = at;
        for (int i = 0; i < n; i++, at++) {
            rows.ids[at] = r->prompts[p].ids[i];
            rows.pos[at] = i;
            rows.cached[at] = (CacheRow){table, i};
        }
        rows.ends[p - first] = at - 1;
    }
    rows.offsets[last - first] = at;
    if (r->spec->routes) rows.routes = routes_rows(e, &r->s->routes, (size_t)rows.n);
    const float *xn = rollout_states(e, r->w, &rows, &r->s->cache), *logits = rollout_logits(e, r->w, &rows, xn);
    keep_prompt_routes(r, first, &rows);
    if (r->spec->draft) {
        int *row = arena_ints(&e->host, (size_t)(last - first));
        for (int p = first; p < last; p++) row[p - first] = r->prefills[p].row;
        draft_prefill(&r->s->draft, r->w, &r->s->cache, &rows, xn, row);
    }
    for (int p = first; p < last; p++)
        e->ops->device.copy(e->backend, r->s->prompt_logits + (size_t)r->prefills[p].row * V,
                            logits + (size_t)(p - first) * V, V * sizeof *logits);
    r->stats.prefill_tokens += total;
    engine_release(e, mark);
}

static void end_prefill(Rollout *r, Prefill *f, int prompt)
{
    for (int i = 0; i < rollout_tiles(r->prompts[prompt].n); i++) kv_page_drop(&r->s->cache, f->pages[i]);
    free(f->pages);
    r->s->free_rows[r->s->n_free++] = f->row;
    *f = (Prefill){0};
}

/* Puts the next item into a free slot, sharing its prompt's pages. */
static void start_item(Rollout *r, Slot *slot)
{
    int prompt = r->next / r->spec->samples;
    Prefill *f = &r->prefills[prompt];
    slot->item = r->next++;
    slot->length = slot->sampled = 0;
    slot->tiles = rollout_tiles(r->prompts[prompt].n);
    for (int i = 0; i < slot->tiles; i++) {
        slot->pages[i] = f->pages[i];
        kv_page_share(&r->s->cache, f->pages[i]);
    }
    slot->guessed = 0;
    if (r->spec->draft) {
        const DraftStates *d = &r->s->draft;
        size_t C = (size_t)d->e->config->C, own = (size_t)(slot - r->s->slots) * (size_t)(d->most + 1);
        d->e->ops->device.copy(d->e->backend, d->states + own * C, d->prompt + (size_t)f->row * C, C * sizeof(float));
    }
    f->to_start--;
    r->busy++;
}

int admit_items(Rollout *r, Slot ***started, float **logits)
{
    Engine *e = r->s->e;
    size_t V = (size_t)e->config->V;
    int G = r->spec->samples, room = r->spec->slots - r->busy;
    int last_item = r->next + room < r->items ? r->next + room : r->items;
    int first = (r->next + G - 1) / G, last = (last_item + G - 1) / G; /* prompts whose first sample starts now */
    if (first < last) prefill(r, first, last);
    int m = 0, from = r->next / G;
    *started = arena_alloc(&e->host, (size_t)room * sizeof **started);
    int32_t *row = arena_ints(&e->host, (size_t)room);
    for (int i = 0; i < r->spec->slots && r->next < last_item; i++) {
        if (r->s->slots[i].item >= 0) continue;
        row[m] = r->prefills[r->next / G].row;
        (*started)[m++] = &r->s->slots[i];
        start_item(r, &r->s->slots[i]);
    }
    for (int p = from; p < last; p++)
        if (r->prefills[p].to_start == 0 && r->prefills[p].pages) end_prefill(r, &r->prefills[p], p);
    *logits = arena_floats(&e->arena, (size_t)m * V);
    e->ops->gather_rows(e->backend, mat_f32(*logits, (size_t)m, V),
                        mat_f32(r->s->prompt_logits, (size_t)r->s->n_rows, V), engine_upload_ints(e, row, (size_t)m));
    return m;
}

void admit(Rollout *r)
{
    Engine *e = r->s->e;
    while (r->next < r->items && r->busy < r->spec->slots) {
        EngineMark mark = engine_mark(e);
        Slot **started;
        float *logits;
        int m = admit_items(r, &started, &logits);
        Draws d = draws_of(r, started, m);
        decode_sample(r, &d, logits);
        draws_take(r, started, m, &d);
        engine_release(e, mark);
    }
}

void admit_close(Rollout *r)
{
    for (int p = 0; p < r->n; p++)
        if (r->prefills[p].pages) end_prefill(r, &r->prefills[p], p);
    free(r->prefills);
}
