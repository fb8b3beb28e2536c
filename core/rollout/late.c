/* Decoding one step late: the device goes on with the tokens that it sampled itself, and the host takes them while the next
 * step runs.
 *
 * A round is what is queued at once: free slots get items, whose first tokens are sampled; every slot with room for another
 * token gets a step; one download, which is fetched when the next round is queued. So the host learns that a sequence ended
 * when the device computes one token too many of it: that token is thrown away, and its slot is free a round later. A sample
 * is a function of its prompt, its number and the positions, so it is the same as without. */
#include "core/rollout/rollout_state.h"

#include <stdlib.h>

#include "core/base/check.h"

size_t rollout_late_bytes(int slots)
{
    return 2 * 2 * 2 * (size_t)slots * sizeof(int32_t);
}

bool late_reserve(Late *l, Engine *e, int slots, Status *st)
{
    size_t bytes = rollout_late_bytes(slots);
    if (slots <= l->slots) return true;
    late_close(l, e);
    l->tokens = e->ops->device.alloc(e->backend, bytes);
    l->list = calloc(2 * 2 * (size_t)slots, sizeof *l->list);
    CHECK(l->list != NULL);
    if (!l->tokens) return fail(st, "no memory for %zu bytes of tokens in flight; try fewer sequences at once", bytes);
    engine_landing(e, &l->landing, bytes);
    l->slots = slots;
    return true;
}

void late_close(Late *l, Engine *e)
{
    if (l->tokens) e->ops->device.free(e->backend, l->tokens);
    engine_landing_free(e, &l->landing);
    free(l->list);
    *l = (Late){0};
}

/* Tokens of a round, and where round p's begin: its ids, with its log-probs behind them. */
static size_t round_size(const Late *l)
{
    return 2 * (size_t)l->slots;
}

static size_t round_at(const Late *l, int p)
{
    return (size_t)p * 2 * round_size(l);
}

/* The next tokens of m slots are tokens `first` .. of round p. */
static Draws next_tokens(Rollout *r, int p, int first, Slot **slots, int m)
{
    Engine *e = r->s->e;
    Late *l = &r->s->late;
    size_t at = round_at(l, p) + (size_t)first, n = (size_t)m;
    Draws d = {.n = n, .ids = l->tokens + at, .lp = (float *)(l->tokens + at + round_size(l))};
    float *u = arena_floats(&e->host, n);
    for (int i = 0; i < m; i++) {
        Slot *slot = slots[i];
        slot_draw(r, slot, slot->sampled++, 1);
        slot->newest = (int)at + i;
        u[i] = slot->u[0];
        l->list[(size_t)p * round_size(l) + (size_t)(first + i)] = (LateToken){slot, slot->item};
    }
    d.u = engine_upload(e, u, n * sizeof *u);
    return d;
}

/* Items of the queue into free slots. */
static void admit_late(Rollout *r, int p)
{
    Engine *e = r->s->e;
    if (r->next == r->items || r->busy == r->spec->slots) return;
    EngineMark mark = engine_mark(e);
    Slot **started;
    float *logits;
    int m = admit_items(r, &started, &logits);
    Draws d = next_tokens(r, p, r->s->late.slots, started, m);
    decode_sample(r, &d, logits);
    engine_release(e, mark);
}

/* A step of every slot that has room for a token beyond those that are sampled. */
static void step_late(Rollout *r, int p)
{
    Engine *e = r->s->e;
    Late *l = &r->s->late;
    EngineMark mark = engine_mark(e);
    Slot **slots = arena_alloc(&e->host, (size_t)r->spec->slots * sizeof *slots);
    int m = 0;
    for (int i = 0; i < r->spec->slots; i++) {
        Slot *slot = &r->s->slots[i];
        if (slot->item >= 0 && slot_room(r, slot, slot->sampled) > 0) slots[m++] = slot;
    }
    if (m) {
        RolloutRows rows = rollout_rows(e, m, 0, r->s->tiles_max);
        rows.tokens = mat_f32((float *)l->tokens, 4 * round_size(l), 1);
        for (int i = 0; i < m; i++) {
            int at = slot_position(r, slots[i], slots[i]->sampled);
            slot_own_pages(r, slots[i], at, at);
            rollout_row(&rows, i, slots[i]->newest, at, slots[i]->pages, slots[i]->tiles);
        }
        Draws d = next_tokens(r, p, 0, slots, m);
        decode_rows(r, &rows, &d);
        decode_count(r, m);
    }
    engine_release(e, mark);
}

/* Queues round p; false: there was nothing to do. */
static bool issue(Rollout *r, int p)
{
    Engine *e = r->s->e;
    Late *l = &r->s->late;
    size_t n = round_size(l), at = round_at(l, p);
    for (size_t i = 0; i < n; i++) l->list[(size_t)p * n + i] = (LateToken){NULL, -1};
    admit_late(r, p);
    step_late(r, p);
    for (size_t i = 0; i < n && !l->flies[p]; i++) l->flies[p] = l->list[(size_t)p * n + i].slot != NULL;
    if (!l->flies[p]) return false;
    l->ticket[p] = e->ops->device.download_later(e->backend, (int32_t *)l->landing.p + at, l->tokens + at,
                                                 2 * n * sizeof *l->tokens);
    return true;
}

/* Takes the tokens [from, to) of round p, but for those behind the end of their item. */
static void take_tokens(Rollout *r, int p, size_t from, size_t to)
{
    const Late *l = &r->s->late;
    const int32_t *ids = (const int32_t *)l->landing.p + round_at(l, p);
    const float *lp = (const float *)(ids + round_size(l));
    for (size_t i = from; i < to; i++) {
        LateToken t = l->list[(size_t)p * round_size(l) + i];
        if (!t.slot) continue;
        if (t.slot->item == t.item) slot_accept(r, t.slot, ids[i], lp[i]);
        else r->stats.discarded++;
    }
}

/* Waits for round p; false: it was not in flight. First tokens come before those of the step behind them. */
static bool take(Rollout *r, int p)
{
    Late *l = &r->s->late;
    if (!l->flies[p]) return false;
    r->s->e->ops->device.wait(r->s->e->backend, l->ticket[p]);
    l->flies[p] = false;
    take_tokens(r, p, (size_t)l->slots, round_size(l));
    take_tokens(r, p, 0, (size_t)l->slots);
    return true;
}

bool late_run(Rollout *r)
{
    bool stopped = false, goes_on = true;
    for (int p = 0; goes_on; p = !p) {
        bool issued = !stopped && issue(r, p);
        goes_on = take(r, !p) || issued;
        stopped = stopped || (r->spec->cancel && *r->spec->cancel) || r->broken >= 0;
    }
    return !stopped;
}
