/* Guesses of the first module of multi-token prediction. */
#include "core/rollout/draft.h"

#include <string.h>

#include "core/head.h"
#include "core/mtp.h"

static size_t width(const DraftStates *d)
{
    return (size_t)d->e->config->C;
}

bool draft_open(DraftStates *d, Engine *e, int most, int slots, int prompts, Status *st)
{
    const Device *device = &e->ops->device;
    *d = (DraftStates){.e = e, .most = most};
    size_t row = width(d) * sizeof(float), states = (size_t)slots * (size_t)(most + 1) * row;
    d->states = device->alloc(e->backend, states);
    d->prompt = device->alloc(e->backend, (size_t)prompts * row);
    if (d->states && d->prompt) return true;
    draft_close(d);
    return fail(st, "no memory for %zu MB of states to draft from; try fewer sequences at once", states >> 20);
}

void draft_close(DraftStates *d)
{
    if (!d->e) return;
    if (d->states) d->e->ops->device.free(d->e->backend, d->states);
    if (d->prompt) d->e->ops->device.free(d->e->backend, d->prompt);
    *d = (DraftStates){0};
}

/* Row i of the module's prefill is row i of its prompt, with the token after it: a prompt's last row waits for a sample. */
static RolloutRows shifted(Engine *e, const RolloutRows *rows, int32_t *from)
{
    RolloutRows r = rollout_rows(e, rows->n, rows->nseq, rows->tiles);
    int n = 0, nseq = 0;
    r.offsets[0] = 0;
    for (int p = 0; p < rows->nseq; p++) {
        int first = rows->offsets[p], end = rows->offsets[p + 1];
        if (end - first < 2) continue;
        memcpy(r.pages + nseq * r.tiles, rows->pages + p * rows->tiles, (size_t)r.tiles * sizeof *r.pages);
        for (int i = first; i + 1 < end; i++, n++) {
            from[n] = i;
            r.ids[n] = rows->ids[i + 1];
            r.pos[n] = rows->pos[i];
            r.cached[n] = (CacheRow){nseq * r.tiles, rows->cached[i].pos};
        }
        r.offsets[++nseq] = n;
    }
    r.n = n, r.nseq = nseq;
    return r;
}

void draft_prefill(DraftStates *d, const Weights *w, KvCache *cache, const RolloutRows *rows, const float *xn,
                   const int *row)
{
    Engine *e = d->e;
    size_t C = width(d);
    for (int p = 0; p < rows->nseq; p++)
        e->ops->device.copy(e->backend, d->prompt + (size_t)row[p] * C, xn + (size_t)rows->ends[p] * C,
                            C * sizeof(float));
    EngineMark mark = engine_mark(e);
    int32_t *from = arena_ints(&e->host, (size_t)rows->n);
    RolloutRows r = shifted(e, rows, from);
    if (r.n) {
        size_t n = (size_t)r.n;
        float *h = arena_floats(&e->arena, n * C);
        e->ops->gather_rows(e->backend, mat_f32(h, n, C), mat_f32((float *)xn, (size_t)rows->n, C),
                            engine_upload_ints(e, from, n));
        Rows there = rollout_rows_there(e, &r, cache);
        mtp_forward_rows(e, w, engine_upload_ints(e, r.ids, n), h, &there);
    }
    engine_release(e, mark);
}

/* Guessing for n sequences, one guess of each at a time. */
typedef struct Guessing {
    DraftStates *d;
    const Weights *w;
    KvCache *cache;
    DraftSequence *list;
    int n;
    SampleArgs sampling;
    const float *xn; /* the module's states of the last guess's rows */
    int rows;        /* of xn */
    int32_t *at;     /* [n] a sequence's last row of them */
} Guessing;

static void put_row(RolloutRows *r, int i, const DraftSequence *s, int table, int32_t id, int pos)
{
    memcpy(r->pages + table * r->tiles, s->pages, (size_t)s->tiles * sizeof *s->pages);
    r->ids[i] = id;
    r->pos[i] = pos;
    r->cached[i] = (CacheRow){table * r->tiles, pos};
}

/* Guess k of those who want one, from rows r of the module on rows `from` of `states`. */
static void guess(Guessing *g, int k, const RolloutRows *r, Mat states, const int32_t *from)
{
    Engine *e = g->d->e;
    size_t C = width(g->d), n = (size_t)r->n, V = (size_t)e->config->V, m = 0;
    int32_t *last = arena_ints(&e->host, (size_t)g->n);
    float *u = arena_floats(&e->host, (size_t)g->n), *h = arena_floats(&e->arena, n * C);
    for (int i = 0; i < g->n; i++) {
        if (g->list[i].wanted <= k) continue;
        last[m] = g->at[i];
        u[m++] = g->list[i].u[k];
    }
    e->ops->gather_rows(e->backend, mat_f32(h, n, C), states, engine_upload_ints(e, from, n));
    Rows there = rollout_rows_there(e, r, g->cache);
    g->xn = mtp_forward_rows(e, g->w, engine_upload_ints(e, r->ids, n), h, &there);
    g->rows = r->n;
    float *ends = arena_floats(&e->arena, m * C), *logits = arena_floats(&e->arena, m * V);
    float *lp = arena_floats(&e->arena, m);
    int32_t *ids = arena_ints(&e->arena, m);
    e->ops->gather_rows(e->backend, mat_f32(ends, m, C), mat_f32((float *)g->xn, n, C), engine_upload_ints(e, last, m));
    head_logits(e, g->w, logits, ends, m);
    e->ops->sample(e->backend, ids, lp, mat_f32(logits, m, V), g->sampling, engine_upload(e, u, m * sizeof *u));
    const int32_t *out = engine_download(e, ids, m * sizeof *ids);
    for (int i = 0; i < g->n; i++)
        if (g->list[i].wanted > k) g->list[i].guesses[k] = *out++;
}

/* The first guess: the module sees what it has not seen yet. */
static void guess_first(Guessing *g, int tiles)
{
    Engine *e = g->d->e;
    int total = 0, row = 0, slots = 0, each = g->d->most + 1;
    for (int i = 0; i < g->n; i++) total += g->list[i].pending;
    RolloutRows r = rollout_rows(e, total, 0, tiles);
    int32_t *from = arena_ints(&e->host, (size_t)total);
    for (int i = 0; i < g->n; i++) {
        const DraftSequence *s = &g->list[i];
        for (int k = 0; k < s->pending; k++, row++) {
            from[row] = s->slot * each + k;
            put_row(&r, row, s, i, s->last[k], s->at - s->pending + k);
        }
        g->at[i] = row - 1;
        if (s->slot >= slots) slots = s->slot + 1;
    }
    guess(g, 0, &r, mat_f32(g->d->states, (size_t)(slots * each), width(g->d)), from);
}

/* Guess k: the module goes on from its own states and guesses. False: nobody wants one. */
static bool guess_next(Guessing *g, int k, int tiles)
{
    Engine *e = g->d->e;
    int m = 0, row = 0;
    for (int i = 0; i < g->n; i++) m += g->list[i].wanted > k;
    if (!m) return false;
    Mat before = mat_f32((float *)g->xn, (size_t)g->rows, width(g->d));
    RolloutRows r = rollout_rows(e, m, 0, tiles);
    int32_t *from = arena_ints(&e->host, (size_t)m);
    for (int i = 0; i < g->n; i++) {
        const DraftSequence *s = &g->list[i];
        if (s->wanted <= k) continue;
        from[row] = g->at[i];
        put_row(&r, row, s, row, s->guesses[k - 1], s->at - 1 + k);
        g->at[i] = row++;
    }
    guess(g, k, &r, before, from);
    return true;
}

void draft_guess(DraftStates *d, const Weights *w, KvCache *cache, DraftSequence *list, int n, int tiles_max,
                 SampleArgs sampling)
{
    if (!n) return;
    EngineMark mark = engine_mark(d->e);
    Guessing g = {.d = d, .w = w, .cache = cache, .list = list, .n = n, .sampling = sampling};
    g.at = arena_ints(&d->e->host, (size_t)n);
    guess_first(&g, tiles_max);
    for (int k = 1; guess_next(&g, k, tiles_max); k++) continue;
    engine_release(d->e, mark);
}
