/* Where the parts of a model come from (core/params.h): a reader of files, or in tests something slower and less reliable. All
 * calls come from one thread. */
#ifndef CHECKPOINTS_PART_SOURCE_H
#define CHECKPOINTS_PART_SOURCE_H

#include "core/weights.h"

typedef struct PartSource PartSource;
struct PartSource {
    /* Bytes of memory that a part takes while it is used; it begins at a page. */
    size_t (*room)(const PartSource *s, int part);
    /* Asks for a part, which is written to `slot` some time later. A part is asked for once until `ready` was called for it. */
    void (*start)(PartSource *s, int part, void *slot);
    /* Waits until the part is there: at[i] = place of its i-th parameter, in the source's form. False with the sentence when it
     * could not be read: the slot then holds zeros at the same places. */
    bool (*ready)(PartSource *s, int part, void **at, Status *st);
    uint64_t (*bytes)(const PartSource *s, int part); /* read from the disk for it */
};

#endif
