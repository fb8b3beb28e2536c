/* Files and tensors that travel with a model unchanged. */
#include "checkpoints/attachments.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"

void attach_file(Attachments *a, const char *name, const char *bytes, size_t length)
{
    for (int i = 0; i < a->nfiles; i++)
        if (!strcmp(a->files[i].name, name)) {
            AttachedFile old = a->files[i];
            a->files[i] = a->files[--a->nfiles];
            free(old.name);
            free(old.bytes);
        }
    a->files = realloc(a->files, ((size_t)a->nfiles + 1) * sizeof *a->files);
    CHECK(a->files);
    AttachedFile *f = &a->files[a->nfiles++];
    *f = (AttachedFile){strdup(name), malloc(length + 1), length};
    CHECK(f->name && f->bytes);
    memcpy(f->bytes, bytes, length);
    f->bytes[length] = 0;
}

void attach_tensor(Attachments *a, const StTensor *t, bool own)
{
    a->tensors = realloc(a->tensors, ((size_t)a->ntensors + 1) * sizeof *a->tensors);
    CHECK(a->tensors);
    AttachedTensor *to = &a->tensors[a->ntensors++];
    *to = (AttachedTensor){*t, own};
    to->tensor.name = strdup(t->name);
    CHECK(to->tensor.name);
}

const AttachedFile *attached_file(const Attachments *a, const char *name)
{
    for (int i = 0; i < a->nfiles; i++)
        if (!strcmp(a->files[i].name, name)) return &a->files[i];
    return NULL;
}

void attachments_free(Attachments *a)
{
    for (int i = 0; i < a->nfiles; i++) {
        free(a->files[i].name);
        free(a->files[i].bytes);
    }
    for (int i = 0; i < a->ntensors; i++) {
        free((char *)a->tensors[i].tensor.name);
        if (a->tensors[i].owned) free((void *)a->tensors[i].tensor.data);
    }
    free(a->files);
    free(a->tensors);
    *a = (Attachments){0};
}
