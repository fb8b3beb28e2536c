/* Sizes and storage of a layer's interior: one list serves allocation and counting. */
#include <string.h>

#include "core/block.h"

typedef struct Slot {
    void *at;      /* the pointer's place */
    size_t values; /* per row */
    bool f32;      /* whatever the engine's dtype */
} Slot;

enum { MAX_SLOTS = 32 };

static int attention_slots(const ModelConfig *c, AttentionActs *a, Slot *s)
{
    size_t C = (size_t)c->C, H = (size_t)c->H;
    ProjectedWidths w = projected_widths(c);
    int n = 0;
    s[n++] = (Slot){&a->xn, C, false};
    s[n++] = (Slot){&a->rstd, 1, true};
    s[n++] = (Slot){&a->p.in, w.in, false};
    if (w.q) s[n++] = (Slot){&a->p.q, w.q, false};
    if (w.k) s[n++] = (Slot){&a->p.k, w.k, false};
    if (w.kv) s[n++] = (Slot){&a->p.kv, w.kv, false};
    s[n++] = (Slot){&a->o, H * (size_t)c->Dv, false};
    s[n++] = (Slot){&a->lse, H, true};
    s[n++] = (Slot){&a->h, C, true};
    if (c->Rq) {
        s[n++] = (Slot){&a->cq, (size_t)c->Rq, false};
        s[n++] = (Slot){&a->rstd_q, 1, true};
    }
    if (c->attention == ATTENTION_MLA) {
        s[n++] = (Slot){&a->ckv, (size_t)c->Rkv, false};
        s[n++] = (Slot){&a->rstd_kv, 1, true};
    }
    if (c->qk_norm) {
        s[n++] = (Slot){&a->rstd_qn, H, true};
        s[n++] = (Slot){&a->rstd_kn, (size_t)c->Hkv, true};
    }
    return n;
}

static int ffn_slots(const ModelConfig *c, int layer, FfnActs *a, Slot *s)
{
    size_t C = (size_t)c->C, K = (size_t)c->K, F = (size_t)c->moe_F, SF = (size_t)c->S * F;
    int n = 0;
    s[n++] = (Slot){&a->xn, C, false};
    s[n++] = (Slot){&a->rstd, 1, true};
    if (!config_is_moe(c, layer)) {
        s[n++] = (Slot){&a->gu, 2 * (size_t)c->F, false};
        s[n++] = (Slot){&a->act, (size_t)c->F, false};
        return n;
    }
    s[n++] = (Slot){&a->xs, K * C, false};
    s[n++] = (Slot){&a->egu, K * 2 * F, false};
    s[n++] = (Slot){&a->eact, K * F, false};
    s[n++] = (Slot){&a->ey, K * C, false};
    if (SF) {
        s[n++] = (Slot){&a->sgu, 2 * SF, false};
        s[n++] = (Slot){&a->sact, SF, false};
        s[n++] = (Slot){&a->sy, C, false};
    }
    return n;
}

static int slots_of(const ModelConfig *c, int layer, LayerActs *a, Slot *s)
{
    int n = attention_slots(c, &a->attention, s);
    return n + ffn_slots(c, layer, &a->ffn, s + n);
}

static size_t slot_bytes(const Slot *s, size_t n, DType dtype)
{
    return n * s->values * (s->f32 ? sizeof(float) : dtype_size(dtype));
}

static void alloc_slots(Engine *e, int layer, size_t n, LayerActs *a, bool later)
{
    Slot slots[MAX_SLOTS];
    *a = (LayerActs){.attention.p.dtype = e->dtype, .ffn.later = later};
    int count = slots_of(e->config, layer, a, slots);
    const void *const of_experts[] = {&a->ffn.xs, &a->ffn.egu, &a->ffn.eact, &a->ffn.ey};
    for (int i = 0; i < count; i++) {
        bool skipped = false;
        for (size_t k = 0; k < 4; k++) skipped = skipped || (later && slots[i].at == of_experts[k]);
        if (skipped) continue;
        void *p = arena_alloc(&e->arena, slot_bytes(&slots[i], n, e->dtype));
        memcpy(slots[i].at, &p, sizeof p);
    }
}

void layer_acts_alloc(Engine *e, int layer, size_t n, LayerActs *a)
{
    alloc_slots(e, layer, n, a, false);
}

void layer_acts_alloc_again(Engine *e, int layer, size_t n, LayerActs *a)
{
    alloc_slots(e, layer, n, a, config_is_moe(e->config, layer));
}

size_t layer_acts_bytes(const ModelConfig *c, int layer, size_t n, DType dtype)
{
    Slot slots[MAX_SLOTS];
    LayerActs unused;
    size_t bytes = 0;
    int count = slots_of(c, layer, &unused, slots);
    for (int i = 0; i < count; i++) bytes += (slot_bytes(&slots[i], n, dtype) + 63) / 64 * 64;
    return bytes;
}

AttentionActs attention_acts_from(const Engine *e, const AttentionActs *a, size_t from)
{
    Slot slots[MAX_SLOTS];
    AttentionActs slice = *a;
    int count = attention_slots(e->config, &slice, slots);
    for (int i = 0; i < count; i++) {
        char *p;
        memcpy(&p, slots[i].at, sizeof p);
        p += slot_bytes(&slots[i], from, e->dtype);
        memcpy(slots[i].at, &p, sizeof p);
    }
    return slice;
}

void routing_give(Engine *e, int layer, size_t n, Routing *r)
{
    if (!e->given) return;
    size_t count = n * (size_t)e->config->K;
    e->ops->device.upload(e->backend, r->idx, e->given->idx + (size_t)moe_before(e->config, layer) * count,
                          count * sizeof *r->idx);
    r->given = true;
}

void routing_alloc(Engine *e, size_t n, Routing *r)
{
    size_t E = (size_t)e->config->E, K = (size_t)e->config->K;
    *r = (Routing){.logits = arena_floats(&e->arena, n * E)};
    r->scores = arena_floats(&e->arena, n * E);
    r->weights = arena_floats(&e->arena, n * K);
    r->idx = arena_ints(&e->arena, n * K);
    r->slot = arena_ints(&e->arena, n * K);
    r->rows = arena_ints(&e->arena, n * K);
    r->offsets = arena_ints(&e->arena, E + 1);
}
