/* What travels with a model unchanged: the tokenizer's and the template's files as they came, and tensors that the
 * program knows of but does not train (DeepSeek-V3's multi-token prediction layers). */
#ifndef CHECKPOINTS_ATTACHMENTS_H
#define CHECKPOINTS_ATTACHMENTS_H

#include "checkpoints/hf/safetensors.h"

typedef struct AttachedFile {
    char *name; /* in the folder, without a slash */
    char *bytes;
    size_t length;
} AttachedFile;

typedef struct AttachedTensor {
    StTensor tensor; /* its name is owned */
    bool owned;      /* its data too; else it lies in something that outlives the attachments */
} AttachedTensor;

typedef struct Attachments {
    AttachedFile *files;
    int nfiles;
    AttachedTensor *tensors;
    int ntensors;
} Attachments;

/* Takes a copy of name and bytes; a file of that name gives way. */
void attach_file(Attachments *a, const char *name, const char *bytes, size_t length);
/* Copies the description and the name; the data stays where it is, and is freed with the attachments when `own`. */
void attach_tensor(Attachments *a, const StTensor *t, bool own);
const AttachedFile *attached_file(const Attachments *a, const char *name); /* NULL when absent */
void attachments_free(Attachments *a);

#endif
