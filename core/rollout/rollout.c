/* Continuous batching: slots, prefill, decoding, sampling. */
#include "core/rollout/rollout.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/batches.h"
#include "core/rollout/rollout_need.h"
#include "core/rollout/rollout_rows.h"

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
        s->n_slots < need->slots || s->tiles_max < need->tiles) {
        size_t slots = (size_t)need->slots, tiles = (size_t)need->tiles;
        drop_slots(s);
        if (!kv_cache_open(&s->cache, s->e, spec->cache, need->pages, st)) return false;
        s->cache_is_open = true;
        s->n_slots = need->slots;
        s->tiles_max = need->tiles;
        s->slots = calloc(slots, sizeof *s->slots);
        s->page_storage = calloc(slots * tiles, sizeof *s->page_storage);
        CHECK(s->slots && s->page_storage);
        for (size_t i = 0; i < slots; i++) s->slots[i].pages = s->page_storage + i * tiles;
    }
    if (!reserve_logits(s, need->started, st)) return false;
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

/* Takes token id into the slot's completion; the slot is freed when that ended it. */
static void accept(Rollout *r, Slot *slot, int32_t id, float lp)
{
    size_t at = (size_t)slot->item * (size_t)r->spec->max_tokens + (size_t)slot->length;
    r->s->ids[at] = id;
    r->s->logprobs[at] = lp;
    slot->length++;
    r->stats.tokens++;
    if (!isfinite(lp) && r->broken < 0) r->broken = slot->item;
    if (r->spec->on_token && isfinite(lp)) r->spec->on_token(r->spec->on_token_ctx, slot->item, id);
    bool stop = is_stop(r->spec, id);
    int positions = r->s->e->config->max_positions - r->prompts[slot->item / r->spec->samples].n;
    if (!stop && slot->length < r->spec->max_tokens && slot->length < positions) return;
    Completion *done = &r->out[slot->item];
    size_t first = (size_t)slot->item * (size_t)r->spec->max_tokens;
    *done = (Completion){r->s->ids + first, r->s->logprobs + first, slot->length, !stop};
    free_slot(r, slot);
}

/* Samples the next token of m slots from logits [m, V]. */
static void sample_slots(Rollout *r, Slot **slots, int m, float *logits)
{
    Engine *e = r->s->e;
    const RolloutSpec *spec = r->spec;
    int32_t *ids = arena_ints(&e->arena, (size_t)m);
    float *lp = arena_floats(&e->arena, (size_t)m), *u = arena_floats(&e->host, (size_t)m);
    const Mat rows = mat_f32(logits, (size_t)m, (size_t)e->config->V);
    for (int i = 0; i < m; i++) {
        int prompt = slots[i]->item / spec->samples, sample = slots[i]->item % spec->samples;
        u[i] = rng_token(spec->seed, spec->purpose, spec->stage, spec->step, r->prompts[prompt].index, (uint32_t)sample,
                         (uint32_t)slots[i]->length);
    }
    e->ops->sample(e->backend, ids, lp, rows, spec->sampling, engine_upload(e, u, (size_t)m * sizeof *u));
    const int32_t *id = engine_download(e, ids, (size_t)m * sizeof *ids);
    const float *logprob = engine_download(e, lp, (size_t)m * sizeof *lp);
    for (int i = 0; i < m; i++) accept(r, slots[i], id[i], logprob[i]);
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
    const float *logits = rollout_logits(e, r->w, &rows, &r->s->cache);
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
        sample_slots(r, started, m, logits);
        engine_release(e, mark);
    }
}

/* One token for every busy slot. */
static void decode_step(Rollout *r)
{
    Engine *e = r->s->e;
    EngineMark mark = engine_mark(e);
    Slot **slots = arena_alloc(&e->host, (size_t)r->busy * sizeof *slots);
    RolloutRows rows = rollout_rows(e, r->busy, 0, r->s->tiles_max);
    int m = 0;
    for (int i = 0; i < r->spec->slots; i++) {
        Slot *slot = &r->s->slots[i];
        if (slot->item < 0) continue;
        int at = r->prompts[slot->item / r->spec->samples].n + slot->length - 1, tile = at / KEY_TILE;
        int page = tile == slot->tiles ? kv_page_take(&r->s->cache) : kv_page_private(&r->s->cache, slot->pages[tile]);
        CHECK(page >= 0 && tile <= slot->tiles);
        slot->pages[tile] = page;
        if (tile == slot->tiles) slot->tiles++;
        rows.ids[m] = r->s->ids[(size_t)slot->item * (size_t)r->spec->max_tokens + (size_t)slot->length - 1];
        rows.pos[m] = at;
        rows.cached[m] = (CacheRow){m * rows.tiles, at};
        memcpy(rows.pages + m * rows.tiles, slot->pages, (size_t)slot->tiles * sizeof *slot->pages);
        slots[m++] = slot;
    }
    float *logits = rollout_logits(e, r->w, &rows, &r->s->cache);
    r->stats.steps++;
    if (r->next < r->items) {
        r->busy_sum += m;
        r->queued_steps++;
    }
    sample_slots(r, slots, m, logits);
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
    RolloutSize size = {.prompts = n, .samples = spec->samples, .slots = spec->slots, .max_tokens = spec->max_tokens};
    for (int i = 0; i < n; i++) {
        if (!prompt_fits(s->e->config, &prompts[i], i, st)) return false;
        if (prompts[i].n > size.longest) size.longest = prompts[i].n;
    }
    RolloutNeed need = rollout_need(&size);
    used.slots = need.slots;
    if (!reserve(s, &used, &need, st)) return false;
    engine_reset(s->e);
    Rollout r = {.s = s,
                 .w = w,
                 .spec = &used,
                 .prompts = prompts,
                 .out = out,
                 .n = n,
                 .items = n * spec->samples,
                 .broken = -1};
    r.prefills = calloc((size_t)n, sizeof *r.prefills);
    CHECK(r.prefills != NULL);
    bool stopped = false, kept = s->e->ops->keep_packed(s->e->backend, true);
    for (admit(&r); r.busy > 0 && !stopped; admit(&r)) {
        decode_step(&r);
        stopped = (used.cancel && *used.cancel) || r.broken >= 0;
    }
    s->e->ops->keep_packed(s->e->backend, kept);
    close_run(&r);
    r.stats.occupancy = r.queued_steps ? r.busy_sum / ((double)r.queued_steps * used.slots) : 1.0;
    r.stats.cache_bytes = kv_cache_page_bytes(s->e->config, s->cache.kind, s->cache.dtype) * (size_t)s->cache.n_pages;
    if (stats) *stats = r.stats;
    if (!is_finite(&r, st)) return false;
    return stopped ? fail(st, "interrupted") : true;
}
