/* What came with an imported model, carried along to its export. */
#include "recipes/model/attached.h"

#include <stdlib.h>

#include "core/base/check.h"

typedef struct Attached {
    Attachments list;
    StFile *source;
} Attached;

static void attached_free(void *p)
{
    Attached *a = p;
    attachments_free(&a->list);
    if (a->source) st_close(a->source);
    free(a);
}

void policy_attach(Policy *p, Attachments *attached, StFile *source)
{
    CHECK(!p->attached);
    Attached *a = malloc(sizeof *a);
    CHECK(a != NULL);
    *a = (Attached){*attached, source};
    p->attached = a;
    p->free_attached = attached_free;
    *attached = (Attachments){0};
}

Attachments policy_attached(const Policy *p)
{
    return p->attached ? ((const Attached *)p->attached)->list : (Attachments){0};
}
