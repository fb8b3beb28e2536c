/* Memory from the system in 2 MiB pages where it gives them, so that a wide matrix does not need a TLB entry per row, and its
 * first touch takes a fraction of the page faults. */
#ifndef CORE_MEMORY_H
#define CORE_MEMORY_H

#include <stddef.h>

/* bytes, 64-byte aligned, not cleared. NULL when the machine has not that much. Only memory_free gives them back. */
void *memory_block(size_t bytes);
void memory_free(void *block);
/* The contents of [p, p + bytes) of a block are not needed any more: its whole pages go back to the system. */
void memory_drop(void *p, size_t bytes);

/* Addresses that get memory, zeros, where they are first touched: of `bytes`, at large pages. NULL: there are not that many.
 * memory_unreserve gives them back. */
void *memory_reserve(size_t bytes);
void memory_unreserve(void *p, size_t bytes);

#endif
