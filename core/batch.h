/* A ragged batch: one flat list of token ids with sequence offsets; nothing is ever padded. */
#ifndef CORE_BATCH_H
#define CORE_BATCH_H

#include <stdint.h>

/* Views, nothing owned. Sequence s is tokens [offsets[s], offsets[s+1]); positions count from 0 inside a sequence. */
typedef struct Batch {
    int N, nseq;
    const int32_t *ids;     /* [N] */
    const int32_t *offsets; /* [nseq + 1], offsets[0] = 0, offsets[nseq] = N */
} Batch;

#endif
