/* Memory that the backend takes beside its callers': packed weights and the threads' scratch. `r1 plan` asks before anything is
 * allocated; the sizes come from the kernels that take them. */
#ifndef CPU_MEMORY_NEED_H
#define CPU_MEMORY_NEED_H

#include "core/ops/ops.h"

/* Bytes of the packed copy of a weight [out, in] that forwards make with or without Ops.keep_packed. */
size_t cpu_packed_bytes(const Backend *b, DType dtype, size_t out, size_t in, bool keep_packed);

/* Training on `tokens` tokens in sequences of at most `longest`, `predicted` of them by a head of `vocab` words (0: none);
 * `widest`: the most values that the other matrix products have as their inner index. */
typedef struct ScratchWork {
    AttentionShape attention;
    DType dtype; /* of the products' operands */
    size_t widest, vocab, tokens, longest, predicted;
} ScratchWork;

/* The most bytes that the scratch of all threads grows to. */
size_t cpu_scratch_bytes(const Backend *b, const ScratchWork *w);

#endif
