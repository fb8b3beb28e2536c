/* Continuous batching: slots, prefill, decoding, sampling. */
#include "core/rollout/rollout.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/batches.h"
#include "core/lora.h"
#include "core/model.h"
#include "core/rollout/draft.h"
#include "core/rollout/rollout_need.h"
#include "core/rollout/rollout_rows.h"
#include "core/rollout/routes.h"

/* A prompt whose samples are being started: its pages and the logits of its last token. */
typedef struct Prefill {
    int32_t *pages; /* [tiles of the prompt] */
    int row;        /* of the sampler's logits */
    int to_start;   /* samples not started yet */
} Prefill;

typedef struct Slot {
    int item;       /* prompt * samples + sample, -1: free */
    int length;     /* tokens of the completion so far */
    int tiles;      /* pages in use */
    int32_t *pages; /* [tiles_max] */
    int pending;    /* its last tokens that the drafting module has not seen */
    int guessed;    /* tokens drafted for this step */
    int32_t guesses[DRAFT_MOST];
    float u[DRAFT_MOST + 1]; /* random numbers of its next tokens */
} Slot;

struct Sampler {
    Engine *e;
    KvCache cache;
    bool cache_is_open;
    Slot *slots;
    int n_slots, tiles_max;
    int32_t *page_storage;
    int32_t *ids; /* [items][max_tokens] */
    float *logprobs;
    size_t storage;       /* tokens that ids and logprobs hold */
    float *prompt_logits; /* [n_rows][V] on the device: of the last tokens of prompts being started */
    int32_t *free_rows;   /* [n_rows] */
    int n_rows, n_free;
    DraftStates draft; /* most 0: none */
    Routes routes;     /* of the last rollout that kept them */
};

/* One rollout in progress. */
typedef struct Rollout {
    Sampler *s;
    const Weights *w;
    const RolloutSpec *spec;
    const RolloutPrompt *prompts;
    Completion *out;
    Prefill *prefills;  /* [n] */
    int n, next, items; /* prompts; the next item to start; all items */
    int busy;
    double busy_sum; /* of busy slots, over steps with a queue */
    long queued_steps;
    int broken; /* an item whose log-prob was no number; -1: none */
    RolloutStats stats;
} Rollout;

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

/* Slots, pages and storage for the largest request seen so far. */
static bool reserve(Sampler *s, const RolloutSpec *spec, const RolloutNeed *need, Status *st)
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
    if (need->tokens > s->storage) {
        s->ids = realloc(s->ids, need->tokens * sizeof *s->ids);
        s->logprobs = realloc(s->logprobs, need->tokens * sizeof *s->logprobs);
        CHECK(s->ids && s->logprobs);
        s->storage = need->tokens;
    }
    for (int i = 0; i < s->n_slots; i++) s->slots[i].item = -1;
    return true;
}

static bool is_stop(const RolloutSpec *spec, int32_t id)
{
    for (int i = 0; i < spec->n_stops; i++)
        if (spec->stops[i] == id) return true;
    return false;
}

static void free_slot(Rollout *r, Slot *slot)
{
    for (int i = 0; i < slot->tiles; i++) kv_page_drop(&r->s->cache, slot->pages[i]);
    slot->item = -1;
    slot->tiles = 0;
    r->busy--;
}

/* Tokens that a slot's completion may still have. */
static int room_of(const Rollout *r, const Slot *slot)
{
    int positions = r->s->e->config->max_positions - r->prompts[slot->item / r->spec->samples].n;
    int most = r->spec->max_tokens < positions ? r->spec->max_tokens : positions;
    return most - slot->length;
}

/* Takes token id into the slot's completion; false: that ended it, and the slot is free. */
static bool accept(Rollout *r, Slot *slot, int32_t id, float lp)
{
    size_t at = (size_t)slot->item * (size_t)r->spec->max_tokens + (size_t)slot->length;
    r->s->ids[at] = id;
    r->s->logprobs[at] = lp;
    slot->length++;
    r->stats.tokens++;
    if (!isfinite(lp) && r->broken < 0) r->broken = slot->item;
    if (r->spec->on_token && isfinite(lp)) r->spec->on_token(r->spec->on_token_ctx, slot->item, id);
    bool stop = is_stop(r->spec, id);
    if (!stop && room_of(r, slot) > 0) return true;
    Completion *done = &r->out[slot->item];
    size_t first = (size_t)slot->item * (size_t)r->spec->max_tokens;
    *done = (Completion){
        .ids = r->s->ids + first, .logprobs = r->s->logprobs + first, .n = slot->length, .truncated = !stop};
    const Routes *routes = &r->s->routes;
    if (r->spec->routes) {
        done->routes = routes->samples + first * routes->each;
        done->prompt_routes = routes->prompts + routes->first[slot->item / r->spec->samples];
    }
    free_slot(r, slot);
    return false;
}

/* The random numbers of a slot's next n tokens. */
static void draw(const Rollout *r, Slot *slot, int n)
{
    const RolloutSpec *spec = r->spec;
    int prompt = slot->item / spec->samples, sample = slot->item % spec->samples;
    for (int i = 0; i < n; i++)
        slot->u[i] = rng_token(spec->seed, spec->purpose, spec->stage, spec->step, r->prompts[prompt].index,
                               (uint32_t)sample, (uint32_t)(slot->length + i));
}

/* Takes what a slot sampled in the rows of its last token and its guesses, as far as the guesses hold. */
static void accept_rows(Rollout *r, Slot *slot, const int32_t *ids, const float *lp)
{
    bool goes_on = true;
    int taken = 0;
    r->stats.drafted += slot->guessed;
    while (goes_on && (taken == 0 || (taken <= slot->guessed && slot->guesses[taken - 1] == ids[taken - 1]))) {
        goes_on = accept(r, slot, ids[taken], lp[taken]);
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

/* Where the next tokens of n rows go, and the random numbers that choose them; on the device. */
typedef struct Draws {
    size_t n;
    int32_t *ids;
    float *lp;
    const float *u;
} Draws;

static Draws draws_of(Rollout *r, Slot **slots, int m)
{
    Engine *e = r->s->e;
    size_t at = 0;
    Draws d = {.n = rows_of(slots, m)};
    d.ids = arena_ints(&e->arena, d.n);
    d.lp = arena_floats(&e->arena, d.n);
    float *u = arena_floats(&e->host, d.n);
    for (int i = 0; i < m; i++) {
        draw(r, slots[i], slots[i]->guessed + 1);
        for (int k = 0; k <= slots[i]->guessed; k++) u[at++] = slots[i]->u[k];
    }
    d.u = engine_upload(e, u, d.n * sizeof *u);
    return d;
}

static void sample(Rollout *r, const Draws *d, float *logits)
{
    Engine *e = r->s->e;
    Mat rows = mat_f32(logits, d->n, (size_t)e->config->V);
    e->ops->sample(e->backend, d->ids, d->lp, rows, r->spec->sampling, d->u);
}

/* Takes what was sampled in the rows of m slots. */
static void take(Rollout *r, Slot **slots, int m, const Draws *d)
{
    Engine *e = r->s->e;
    const int32_t *id = engine_download(e, d->ids, d->n * sizeof *id);
    const float *logprob = engine_download(e, d->lp, d->n * sizeof *logprob);
    for (int i = 0; i < m; i++) {
        int rows = slots[i]->guessed + 1;
        accept_rows(r, slots[i], id, logprob);
        id += rows, logprob += rows;
    }
}

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
    slot->length = 0;
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

/* Fills free slots from the queue and samples their first token. A first token may already end a sample: then the slot is
 * filled again. */
static void admit(Rollout *r)
{
    Engine *e = r->s->e;
    size_t V = (size_t)e->config->V;
    while (r->next < r->items && r->busy < r->spec->slots) {
        int G = r->spec->samples, room = r->spec->slots - r->busy;
        int last_item = r->next + room < r->items ? r->next + room : r->items;
        int first = (r->next + G - 1) / G, last = (last_item + G - 1) / G; /* prompts whose first sample starts now */
        if (first < last) prefill(r, first, last);
        EngineMark mark = engine_mark(e);
        int m = 0, from = r->next / G;
        Slot **started = arena_alloc(&e->host, (size_t)room * sizeof *started);
        int32_t *row = arena_ints(&e->host, (size_t)room);
        for (int i = 0; i < r->spec->slots && r->next < last_item; i++) {
            if (r->s->slots[i].item >= 0) continue;
            row[m] = r->prefills[r->next / G].row;
            started[m++] = &r->s->slots[i];
            start_item(r, &r->s->slots[i]);
        }
        for (int p = from; p < last; p++)
            if (r->prefills[p].to_start == 0 && r->prefills[p].pages) end_prefill(r, &r->prefills[p], p);
        float *logits = arena_floats(&e->arena, (size_t)m * V);
        e->ops->gather_rows(e->backend, mat_f32(logits, (size_t)m, V),
                            mat_f32(r->s->prompt_logits, (size_t)r->s->n_rows, V),
                            engine_upload_ints(e, row, (size_t)m));
        Draws d = draws_of(r, started, m);
        sample(r, &d, logits);
        take(r, started, m, &d);
        engine_release(e, mark);
    }
}

/* Position of a slot's last token, and that token. */
static int last_position(const Rollout *r, const Slot *slot)
{
    return r->prompts[slot->item / r->spec->samples].n + slot->length - 1;
}

static const int32_t *tokens_of(const Rollout *r, const Slot *slot)
{
    return r->s->ids + (size_t)slot->item * (size_t)r->spec->max_tokens;
}

/* Pages of its own for positions from .. to of a slot. */
static void own_pages(Rollout *r, Slot *slot, int from, int to)
{
    for (int tile = from / KEY_TILE; tile <= to / KEY_TILE; tile++) {
        int page = tile == slot->tiles ? kv_page_take(&r->s->cache) : kv_page_private(&r->s->cache, slot->pages[tile]);
        CHECK(page >= 0 && tile <= slot->tiles);
        slot->pages[tile] = page;
        if (tile == slot->tiles) slot->tiles++;
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
        int room = room_of(r, slot) - 1,
            at = last_position(r, slot); /* the model's own token comes after the guesses */
        slot->guessed = room < r->spec->draft ? room : r->spec->draft;
        own_pages(r, slot, slot->guessed ? at - slot->pending : at, at + slot->guessed);
        if (!slot->guessed) continue;
        draw(r, slot, slot->guessed);
        list[n++] = (DraftSequence){.slot = (int)(slot - r->s->slots),
                                    .pending = slot->pending,
                                    .at = at,
                                    .last = tokens_of(r, slot) + slot->length - slot->pending,
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

/* The step's rows through the model, and its samples: issued, or issued again as they were recorded. Returns the rows' final
 * states; with drafts alone, which read them: their steps are not recorded. */
static const float *decode(Rollout *r, const RolloutRows *rows, const Draws *d)
{
    Engine *e = r->s->e;
    const Device *device = &e->ops->device;
    Rows there = rollout_rows_there(e, rows, &r->s->cache);
    const int32_t *ids = engine_upload_ints(e, rows->ids, (size_t)rows->n);
    bool records = device->replay && !r->spec->draft && !r->spec->routes && !r->w->keeper;
    engine_reach(e, there.reach); /* before the tables' addresses are part of the key */
    uint64_t key = records ? rollout_key(e, r->w, &there, &r->s->cache, r->spec->sampling) : 0;
    if (records && device->replay(e->backend, key)) return NULL;
    EngineMark mark = engine_mark(e);
    const float *xn;
    do {
        engine_release(e, mark);
        xn = model_forward_rows(e, r->w, ids, &there);
        sample(r, d, rollout_logits(e, r->w, rows, xn));
    } while (records && !device->recorded(e->backend));
    return xn;
}

/* A step of every busy slot: one token, and with drafts as many more as were guessed rightly. */
static void decode_step(Rollout *r)
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
        int at = last_position(r, slot);
        if (!r->spec->draft) own_pages(r, slot, at, at);
        for (int k = 0; k <= slot->guessed; k++) {
            rows.ids[first[i] + k] = k ? slot->guesses[k - 1] : tokens_of(r, slot)[slot->length - 1];
            rows.pos[first[i] + k] = at + k;
            rows.cached[first[i] + k] = (CacheRow){i * rows.tiles, at + k};
        }
        memcpy(rows.pages + i * rows.tiles, slot->pages, (size_t)slot->tiles * sizeof *slot->pages);
    }
    if (r->spec->routes) rows.routes = routes_rows(e, &r->s->routes, (size_t)rows.n);
    Draws d = draws_of(r, slots, m);
    const float *xn = decode(r, &rows, &d);
    keep_routes(r, slots, m, &rows);
    r->stats.steps++;
    if (r->next < r->items) {
        r->busy_sum += m;
        r->queued_steps++;
    }
    take(r, slots, m, &d);
    if (r->spec->draft) keep_states(r, slots, m, first, xn);
    engine_release(e, mark);
}

static void close_run(Rollout *r)
{
    for (int i = 0; i < r->spec->slots; i++)
        if (r->s->slots[i].item >= 0) free_slot(r, &r->s->slots[i]);
    for (int p = 0; p < r->n; p++)
        if (r->prefills[p].pages) end_prefill(r, &r->prefills[p], p);
    free(r->prefills);
}

/* Ids and lengths that the model has rows and positions for. */
static bool prompt_fits(const ModelConfig *c, const RolloutPrompt *p, int number, Status *st)
{
    if (p->n < 1) return fail(st, "prompt %d of a rollout is empty; give it at least one token", number);
    if (p->n >= c->max_positions)
        return fail(st,
                    "prompt %d has %d tokens, but the model has positions for %d (max_position_embeddings): shorten it",
                    number + 1, p->n, c->max_positions);
    return ids_fit(p->ids, p->n, c, st) || fail_prefix(st, "prompt %d", number + 1);
}

static bool is_finite(const Rollout *r, Status *st)
{
    if (r->broken < 0) return true;
    return fail(
        st,
        "the model gave a log-prob that is not finite for a completion of prompt %d: a weight is no number or far "
        "too large (r1 inspect MODEL --sha256 looks for it)",
        r->broken / r->spec->samples + 1);
}

bool rollout_run(Sampler *s, const Weights *w, const RolloutSpec *spec, const RolloutPrompt *prompts, int n,
                 Completion *out, RolloutStats *stats, Status *st)
{
    CHECK(n > 0 && spec->samples > 0 && spec->slots > 0 && spec->max_tokens > 0);
    RolloutSpec used = *spec;
    CHECK(spec->draft >= 0 && spec->draft <= DRAFT_MOST);
    if (spec->draft && s->e->config->mtp == 0)
        return fail(st, "drafts need a model with modules of multi-token prediction (num_nextn_predict_layers), which "
                        "this one has not as parameters");
    RolloutSize size = {.prompts = n,
                        .samples = spec->samples,
                        .slots = spec->slots,
                        .max_tokens = spec->max_tokens,
                        .draft = spec->draft};
    for (int i = 0; i < n; i++) {
        if (!prompt_fits(s->e->config, &prompts[i], i, st)) return false;
        if (prompts[i].n > size.longest) size.longest = prompts[i].n;
    }
    RolloutNeed need = rollout_need(&size);
    used.slots = need.slots;
    if (!reserve(s, &used, &need, st)) return false;
    if (spec->routes) routes_reserve(&s->routes, s->e->config, need.tokens, prompts, n);
    engine_reset(s->e);
    Weights merged = *w;
    if (spec->cache == CACHE_LATENT) merged = lora_merge_latent(s->e, w);
    Rollout r = {.s = s,
                 .w = &merged,
                 .spec = &used,
                 .prompts = prompts,
                 .out = out,
                 .n = n,
                 .items = n * spec->samples,
                 .broken = -1};
    r.prefills = calloc((size_t)n, sizeof *r.prefills);
    CHECK(r.prefills != NULL);
    bool stopped = false, kept = s->e->ops->keep_packed(s->e->backend, !w->keeper);
    for (admit(&r); r.busy > 0 && !stopped; admit(&r)) {
        decode_step(&r);
        stopped = (used.cancel && *used.cancel) || r.broken >= 0 || !keeper_fault(w->keeper, st);
    }
    s->e->ops->keep_packed(s->e->backend, kept);
    close_run(&r);
    r.stats.occupancy = r.queued_steps ? r.busy_sum / ((double)r.queued_steps * used.slots) : 1.0;
    r.stats.cache_bytes = kv_cache_bytes(&s->cache);
    if (stats) *stats = r.stats;
    if (st->failed || !keeper_fault(w->keeper, st) || !is_finite(&r, st)) return false;
    return stopped ? fail(st, "interrupted") : true;
}
