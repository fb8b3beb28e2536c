/* What a mapped file's pages cost: a fault for a few of them, and memory of this process while they are mapped. */
#ifndef CHECKPOINTS_MAPPING_H
#define CHECKPOINTS_MAPPING_H

#include <stddef.h>

/* A file that is mapped whole; header: the bytes before the first tensor's. */
typedef struct MappedFile {
    const void *data;
    size_t size, header;
} MappedFile;

/* Maps the pages of [p, p + n) at once. Works on any memory; does nothing where the kernel cannot. */
void mapping_need(const void *p, size_t n);
/* Gives bytes [from, from + n) of a mapped file of `size` bytes back, with the pages on both sides that the kernel
 * has mapped around them (64 KB: a model of 31 GB, read in pieces of 4 MB, would keep 0.8 GB of such pages; tensors
 * of 0.5 MB that are read in another order than they lie in, 2.6 %). */
void mapping_forget_part(const void *file, size_t size, size_t from, size_t n);
/* Gives the pages of [p, p + n) back: a later access maps them again. p lies in a read-only mapping of a file; anything else
 * would lose its contents. */
void mapping_forget(const void *p, size_t n);

#endif
