/* Pinned parts and a ring. Everything here runs on the thread that computes; a source has its own. */
#include "checkpoints/pool.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/base/check.h"
#include "core/base/clock.h"
#include "core/base/memory.h"

enum { PAGE = 4096, NOWHERE = -1, EXPERT_PARAMS = 3 };

/* FREE slots hold nothing; AHEAD: read (or being read) for later; USED: core needs it; KEPT: at the turn of a training sweep, for
 * the way back. */
typedef enum { SLOT_FREE, SLOT_AHEAD, SLOT_USED, SLOT_KEPT } SlotState;

typedef struct Slot {
    char *memory;
    SlotState state;
    int part;
    bool there;              /* the source was waited for */
    void *at[EXPERT_PARAMS]; /* then: the places of its parameters */
    bool closed;             /* strict: no access */
} Slot;

/* A policy or its reference. */
typedef struct View {
    Weights *w;
    WeightBlock trained;
} View;

struct Pool {
    Keeper keeper;
    const ParamTable *t;
    View views[2];
    int n_views;
    Form form;
    PartSource *below;
    bool strict;
    Slot *slots;
    int n_slots;
    size_t slot_bytes;
    char *ring, *stay;
    size_t stay_bytes;
    bool *pinned;              /* [parts] stays in memory; if not, it passes through the ring */
    void **stays;              /* [params] places of what is pinned */
    int *slot;                 /* [parts] NOWHERE */
    bool *rows;                /* [parts] experts: the layer's last routing sent rows there */
    int *queue, n_queue, next; /* parts to be read ahead, in the order of their use */
    Sweep sweep;
    int layer, first_moe, last_moe; /* layer: the last one that was routed, -1 at a sweep's start */
    double began, last_done;        /* of the sweep; last_done 0: nothing yet */
    bool back, dense; /* back: in the second half of a training sweep; dense: few experts were idle last time */
    PoolCounts counts;
    Status fault;
};

static Pool *pool_of(Keeper *k)
{
    return (Pool *)(void *)k;
}

static bool is_expert(const Pool *p, int part)
{
    return p->t->parts[part].expert >= 0;
}

static bool stays(const Pool *p, int part)
{
    return p->pinned[part];
}

static void **stay_places(const Pool *p, int part)
{
    return p->stays + p->t->parts[part].first;
}

/* What lies apart each view has itself. */
static void show_in(const Pool *p, const View *v, int part, void *const *at, bool passing)
{
    const Part *its = &p->t->parts[part];
    void **all = malloc((size_t)its->n * sizeof *all);
    CHECK(all);
    for (int i = 0; i < its->n; i++) {
        const Param *q = &p->t->params[its->first + i];
        all[i] = !at ? NULL : q->apart ? weight_at(&v->trained, q, q->state) : at[i];
    }
    weights_place(v->w, p->t, part, p->form, all, passing);
    free(all);
}

static void show(Pool *p, int part, void *const *at, bool passing)
{
    for (int i = 0; i < p->n_views; i++) show_in(p, &p->views[i], part, at, passing);
}

/* The embedding, norm and head lie in Weights itself, of which there may be copies: they are shown all the time. So are adapters,
 * which no one asks for. */
static bool always_shown(const Pool *p, int part)
{
    return p->t->parts[part].layer < 0 || p->t->parts[part].layer >= p->t->L;
}

static void hide(Pool *p, int part)
{
    if (always_shown(p, part)) return;
    show(p, part, NULL, true);
}

/* ---- Slots ---- */

static void slot_open(Pool *p, Slot *s)
{
    if (!s->closed) return;
    CHECK(mprotect(s->memory, p->slot_bytes, PROT_READ | PROT_WRITE) == 0);
    s->closed = false;
}

static void slot_close(Pool *p, Slot *s)
{
    if (!p->strict || s->closed) return;
    memset(s->memory, 0xff, p->slot_bytes); /* NaN in every type */
    CHECK(mprotect(s->memory, p->slot_bytes, PROT_NONE) == 0);
    s->closed = true;
}

/* Waits for what was asked for. */
static void slot_wait(Pool *p, Slot *s)
{
    if (s->there) return;
    double start = clock_seconds();
    Status st = {0};
    if (!p->below->ready(p->below, s->part, s->at, &st) && !p->fault.failed) p->fault = st;
    p->counts.waited += clock_seconds() - start;
    s->there = true;
}

/* What a slot holds is given up. */
static void slot_free(Pool *p, Slot *s)
{
    if (s->state == SLOT_FREE) return;
    slot_wait(p, s);
    if (s->state == SLOT_AHEAD) p->counts.vain++;
    p->slot[s->part] = NOWHERE;
    s->state = SLOT_FREE;
    slot_close(p, s);
}

static void slot_ask(Pool *p, Slot *s, int part, SlotState state)
{
    slot_open(p, s);
    *s = (Slot){.memory = s->memory, .state = state, .part = part};
    p->slot[part] = (int)(s - p->slots);
    p->counts.reads++;
    p->counts.bytes += p->below->bytes(p->below, part);
    p->counts.sweeps[p->sweep].bytes += p->below->bytes(p->below, part);
    p->below->start(p->below, part, s->memory);
}

static Slot *find_slot(const Pool *p, SlotState state, bool highest)
{
    Slot *best = NULL;
    for (Slot *s = p->slots; s < p->slots + p->n_slots; s++)
        if (s->state == state && (!best || (highest ? s->part > best->part : s->part < best->part))) best = s;
    return best;
}

/* Of the parts read ahead the one that is used last. */
static Slot *last_ahead(const Pool *p)
{
    Slot *best = NULL;
    for (int i = 0; i < p->next; i++) {
        int slot = p->slot[p->queue[i]];
        if (slot != NOWHERE && p->slots[slot].state == SLOT_AHEAD) best = &p->slots[slot];
    }
    return best ? best : find_slot(p, SLOT_AHEAD, true);
}

/* Fills free slots with what comes next. On the way up what is kept for the way back gives room too, lowest first. */
static void read_ahead(Pool *p)
{
    for (; p->next < p->n_queue; p->next++) {
        int part = p->queue[p->next];
        if (p->slot[part] != NOWHERE) continue;
        Slot *s = find_slot(p, SLOT_FREE, false);
        if (!s && !p->back) s = find_slot(p, SLOT_KEPT, false);
        if (!s) return;
        slot_free(p, s);
        slot_ask(p, s, part, SLOT_AHEAD);
    }
}

/* ---- The four words ---- */

static void queue_layer(Pool *p, int layer, bool all)
{
    for (int part = params_part(p->t, layer, 0); p->t->parts[part].layer == layer; part++)
        if (!stays(p, part) && (all || p->rows[part])) p->queue[p->n_queue++] = part;
}

/* The seconds of the sweep that is going on. */
static void end_sweep(PoolCounts *c, const Pool *p)
{
    if (p->last_done > 0) c->sweeps[p->sweep].seconds += p->last_done - p->began;
}

static void pool_sweep(Keeper *k, Sweep kind)
{
    Pool *p = pool_of(k);
    end_sweep(&p->counts, p);
    p->counts.sweeps[kind].n++;
    p->began = clock_seconds();
    p->last_done = 0;
    for (Slot *s = p->slots; s < p->slots + p->n_slots; s++)
        if (s->state != SLOT_AHEAD) slot_free(p, s);
    p->sweep = kind;
    p->layer = NOWHERE;
    p->back = false;
    p->n_queue = p->next = 0;
    if (p->first_moe != NOWHERE && p->dense) queue_layer(p, p->first_moe, true);
    read_ahead(p);
}

static bool has_experts(const Pool *p, int layer)
{
    return layer >= 0 && layer < p->t->L && p->t->parts[params_part(p->t, layer, 0)].layer == layer;
}

static void pool_routed(Keeper *k, int layer, const int32_t *offsets)
{
    Pool *p = pool_of(k);
    int first = params_part(p->t, layer, 0), idle = 0, e = 0;
    p->back |= p->sweep == SWEEP_TRAIN && p->layer != NOWHERE && layer <= p->layer;
    p->layer = layer;
    for (; p->t->parts[first + e].layer == layer; e++) {
        p->rows[first + e] = offsets[e + 1] > offsets[e];
        idle += !p->rows[first + e];
    }
    /* What was read ahead for experts without rows gives way. */
    for (Slot *s = p->slots; s < p->slots + p->n_slots; s++)
        if (s->state == SLOT_AHEAD && s->part >= first && s->part < first + e && !p->rows[s->part]) slot_free(p, s);
    p->dense = idle * 10 < e;
    p->n_queue = p->next = 0;
    queue_layer(p, layer, false);
    int next = layer + (p->back ? -1 : 1);
    if (p->dense && has_experts(p, next)) queue_layer(p, next, true);
    read_ahead(p);
}

/* A slot for a part that core waits for. */
static Slot *slot_for_need(Pool *p)
{
    Slot *s = find_slot(p, SLOT_FREE, false);
    if (!s) s = find_slot(p, SLOT_KEPT, p->back);
    if (!s) s = last_ahead(p);
    CHECK(s != NULL);
    slot_free(p, s);
    return s;
}

static void need_expert(Pool *p, int part)
{
    p->counts.needed++;
    if (stays(p, part)) {
        p->counts.hits++;
        if (p->strict) show(p, part, stay_places(p, part), false);
        return;
    }
    if (p->slot[part] == NOWHERE) slot_ask(p, slot_for_need(p), part, SLOT_USED);
    else p->slots[p->slot[part]].state = SLOT_USED;
}

static void pool_need(Keeper *k, int part, int n)
{
    Pool *p = pool_of(k);
    /* What is there already is taken first, so that it does not give its slot to another of them. */
    for (int pass = 0; pass < 2; pass++)
        for (int i = part; i < part + n; i++) {
            bool here = stays(p, i) || p->slot[i] != NOWHERE;
            if (!is_expert(p, i) && pass == 0 && p->strict) show(p, i, stay_places(p, i), false);
            if (is_expert(p, i) && p->rows[i] && here == (pass == 0) &&
                (stays(p, i) || p->slot[i] == NOWHERE || p->slots[p->slot[i]].state != SLOT_USED))
                need_expert(p, i);
        }
    read_ahead(p);
    for (int i = part; i < part + n; i++) {
        if (!is_expert(p, i) || !p->rows[i] || stays(p, i)) continue;
        Slot *s = &p->slots[p->slot[i]];
        slot_wait(p, s);
        show(p, i, s->at, true);
    }
}

static void pool_done(Keeper *k, int part, int n)
{
    Pool *p = pool_of(k);
    for (int i = part; i < part + n; i++) {
        if (stays(p, i)) {
            if (p->strict) hide(p, i);
            continue;
        }
        if (p->slot[i] == NOWHERE || p->slots[p->slot[i]].state != SLOT_USED) continue;
        Slot *s = &p->slots[p->slot[i]];
        hide(p, i);
        s->state = SLOT_KEPT;
        bool turn = p->sweep == SWEEP_TRAIN && !p->back && p->layer == p->last_moe;
        if (!turn) slot_free(p, s);
    }
    read_ahead(p);
    p->last_done = clock_seconds();
}

static bool pool_fault(Keeper *k, Status *st)
{
    Pool *p = pool_of(k);
    return !p->fault.failed || fail(st, "%s", p->fault.text);
}

/* ---- Opening ---- */

size_t pool_part_bytes(const PartSource *below, int part)
{
    return (below->room(below, part) + PAGE - 1) / PAGE * PAGE;
}

size_t pool_slot_bytes(const ParamTable *t, const PartSource *below)
{
    size_t largest = 0;
    for (int i = 0; i < t->n_parts; i++)
        if (t->parts[i].expert >= 0 && pool_part_bytes(below, i) > largest) largest = pool_part_bytes(below, i);
    return largest;
}

/* Whether anything of a part that stays comes from below. */
static bool is_read(const Pool *p, int part)
{
    return stays(p, part) && pool_part_bytes(p->below, part) > 0;
}

/* Reads what stays; a few parts are asked for before the first is waited for. */
static bool read_stays(Pool *p, Status *st)
{
    enum { ASKED = 4 };
    char *at = p->stay;
    bool ok = true;
    int n = p->t->n_parts, asked = 0, waiting = 0;
    for (int i = 0; i < n; i++) {
        if (!stays(p, i)) continue;
        while (asked < n && waiting < ASKED) {
            if (is_read(p, asked)) {
                p->below->start(p->below, asked, at);
                at += pool_part_bytes(p->below, asked);
                waiting++;
            }
            asked++;
        }
        if (is_read(p, i)) {
            ok = p->below->ready(p->below, i, stay_places(p, i), st) && ok;
            waiting--;
        }
        show(p, i, stay_places(p, i), false);
        if (p->strict) hide(p, i);
    }
    return ok;
}

static bool reserve(Pool *p, Status *st)
{
    for (int i = 0; i < p->t->n_parts; i++)
        if (stays(p, i)) p->stay_bytes += pool_part_bytes(p->below, i);
        else hide(p, i);
    p->slot_bytes = pool_slot_bytes(p->t, p->below);
    p->stay = memory_reserve(p->stay_bytes);
    p->ring = memory_reserve(p->slot_bytes * (size_t)p->n_slots + 1);
    if (!p->stay || !p->ring) return fail(st, "no memory for %.1f GB of weights", (double)pool_bytes(p) / 1e9);
    for (int i = 0; i < p->n_slots; i++) {
        p->slots[i] = (Slot){.memory = p->ring + p->slot_bytes * (size_t)i, .part = NOWHERE};
        slot_close(p, &p->slots[i]);
    }
    return true;
}

Pool *pool_open(const ParamTable *t, Weights *w, Form form, PartSource *below, const PoolPlan *plan, Status *st)
{
    size_t n = (size_t)t->n_parts;
    Pool *p = calloc(1, sizeof *p);
    CHECK(p);
    CHECK(plan->slots >= 2);
    *p = (Pool){.t = t, .form = form, .below = below, .strict = plan->strict, .n_slots = plan->slots};
    p->views[p->n_views++] = (View){w, plan->trained};
    p->keeper = (Keeper){pool_sweep, pool_routed, pool_need, pool_done, pool_fault, plan->slots / 2};
    p->first_moe = p->last_moe = p->layer = NOWHERE;
    p->pinned = calloc(n, sizeof *p->pinned);
    CHECK(p->pinned);
    for (int i = 0; i < t->n_parts; i++) {
        p->pinned[i] = t->parts[i].expert < 0 || plan->pinned[i];
        if (t->parts[i].expert < 0) continue;
        CHECK_EQ(t->parts[i].n, EXPERT_PARAMS);
        if (p->first_moe == NOWHERE) p->first_moe = t->parts[i].layer;
        p->last_moe = t->parts[i].layer;
    }
    p->slots = calloc((size_t)plan->slots, sizeof *p->slots);
    p->stays = calloc((size_t)t->n, sizeof *p->stays);
    p->slot = malloc(n * sizeof *p->slot);
    p->queue = malloc(n * sizeof *p->queue);
    p->rows = calloc(n, sizeof *p->rows);
    CHECK(p->slots && p->stays && p->slot && p->queue && p->rows);
    for (int i = 0; i < t->n_parts; i++) p->slot[i] = NOWHERE;
    if (reserve(p, st) && read_stays(p, st)) {
        weights_keep(w, &p->keeper);
        return p;
    }
    pool_close(p);
    return NULL;
}

void pool_close(Pool *p)
{
    if (!p) return;
    for (int i = 0; i < p->n_slots; i++)
        if (p->slots[i].state != SLOT_FREE) slot_wait(p, &p->slots[i]);
    memory_unreserve(p->stay, p->stay_bytes);
    memory_unreserve(p->ring, p->slot_bytes * (size_t)p->n_slots + 1);
    free(p->slots);
    free(p->stays);
    free(p->pinned);
    free(p->slot);
    free(p->queue);
    free(p->rows);
    free(p);
}

void pool_show_also(Pool *p, Weights *also, const WeightBlock *trained)
{
    CHECK_EQ(p->n_views, 1);
    p->views[p->n_views++] = (View){also, *trained};
    for (int i = 0; i < p->t->n_parts; i++) {
        bool now = stays(p, i) && (!p->strict || always_shown(p, i));
        show_in(p, &p->views[1], i, now ? stay_places(p, i) : NULL, !now);
    }
    weights_keep(also, &p->keeper);
}

PoolCounts pool_counts(const Pool *p)
{
    PoolCounts c = p->counts;
    end_sweep(&c, p);
    return c;
}

size_t pool_bytes(const Pool *p)
{
    return p->stay_bytes + p->slot_bytes * (size_t)p->n_slots;
}
