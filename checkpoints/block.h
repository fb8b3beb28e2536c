/* Memory for a role's block of all parameters (core/params.h). */
#ifndef CHECKPOINTS_BLOCK_H
#define CHECKPOINTS_BLOCK_H

#include <stddef.h>

/* n floats, 64-byte aligned, not cleared; large ones in huge pages where the kernel gives them, which saves most of the time of
 * their first touch. NULL when the machine has not that much. free() gives them back. */
float *block_alloc(size_t n);

#endif
