/* What came with an imported model, carried along to its export, and what its checkpoints need not hold. */
#include "recipes/model/attached.h"

#include <stdlib.h>
#include <string.h>

#include "checkpoints/base.h"
#include "core/base/check.h"

typedef struct Attached {
    Attachments list;
    StFile *source;
    ModelBase *base;    /* NULL: none */
    uint8_t *from_base; /* [table.n] */
} Attached;

static void attached_free(void *p)
{
    Attached *a = p;
    attachments_free(&a->list);
    if (a->source) st_close(a->source);
    free(a->base);
    free(a->from_base);
    free(a);
}

static Attached *attached_of(Policy *p)
{
    if (!p->attached) p->attached = calloc(1, sizeof(Attached));
    CHECK(p->attached);
    p->free_attached = attached_free;
    return p->attached;
}

void policy_attach(Policy *p, LoadedModel *m)
{
    Attached *a = attached_of(p);
    attachments_free(&a->list);
    if (a->source) st_close(a->source);
    a->source = p->placed ? NULL : model_take_source(m); /* the files of a placed policy's model stay open with it */
    a->list = m->attached;
    m->attached = (Attachments){0};
}

Attachments policy_attached(const Policy *p)
{
    return p->attached ? ((const Attached *)p->attached)->list : (Attachments){0};
}

bool policy_note_base(Policy *p, const LoadedModel *m, bool source, Status *st)
{
    Attached *a = attached_of(p);
    const ParamTable *t = &p->engine.table, *from = &m->table;
    const CheckpointMeta *meta = m->checkpoint ? &m->checkpoint->meta : NULL;
    bool stands = meta && meta->base;
    CHECK(!a->base);
    if (!stands && !source) return true;
    a->base = malloc(sizeof *a->base);
    a->from_base = calloc((size_t)t->n, 1);
    CHECK(a->base && a->from_base);
    if (stands) *a->base = *meta->base;
    else if (!base_of(m, a->base, st)) return false;
    for (int i = 0; i < t->adapters; i++) {
        int k = params_find_name(from, t->params[i].name);
        a->from_base[i] = k >= 0 && !(stands && meta->held[k]);
    }
    return true;
}

void policy_base(const Policy *p, CheckpointMeta *meta)
{
    const Attached *a = p->attached;
    const ParamTable *t = &p->engine.table;
    bool all = true; /* is held */
    if (!a || !a->base) return;
    uint8_t *held = malloc((size_t)t->n);
    CHECK(held);
    for (int i = 0; i < t->n; i++) {
        held[i] = !a->from_base[i] || t->params[i].chosen;
        all = all && held[i];
    }
    if (all) {
        free(held);
        return;
    }
    meta->base = a->base;
    meta->held = held;
}
