/* Memory whose pages rest in a file without a name: the weights and gradients of a trained part that is larger than memory
 * (docs/state.md). The kernel brings a page when it is touched; all of them go whenever whoever uses the memory is done with more
 * than `most` bytes, so that these and what is in use are resident. That costs time and never changes a bit. Nothing of it
 * outlives the process. */
#ifndef CHECKPOINTS_FILE_BLOCK_H
#define CHECKPOINTS_FILE_BLOCK_H

#include <stddef.h>

#include "core/base/status.h"

typedef struct FileBlock FileBlock;

/* `bytes` zeros. The space is reserved in `folder` at once, so that a full disk is a sentence here. A page that the disk
 * cannot give back later ends the process (SIGBUS). */
FileBlock *file_block_open(const char *folder, size_t bytes, size_t most, Status *st);
/* 256 MB, what `most` is unless one knows better; R1_RESIDENT (bytes) makes it small, for tests. */
size_t file_block_most(void);
void file_block_close(FileBlock *b);
void *file_block_memory(FileBlock *b);
/* So many bytes of it are not used for now. NULL: nothing to do. */
void file_block_done(FileBlock *b, size_t bytes);

#endif
