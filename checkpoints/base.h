/* The base of a checkpoint that holds only what was trained: its fingerprint, and finding it again. */
#ifndef CHECKPOINTS_BASE_H
#define CHECKPOINTS_BASE_H

#include "checkpoints/model_file.h"

/* m (a folder, .gguf file or checkpoint) as a base: its path in full, how many tensors it holds, and its fingerprint, the
 * SHA-256 of every file's size, header, and 64 KB at 16 places; of a checkpoint that of its seal, which hashes all. */
bool base_of(const LoadedModel *m, ModelBase *out, Status *st);

/* Opens a base; NULL with a sentence where it is not there any more, or is another one. shown: the checkpoint that stands on it;
 * moved: where it is looked for instead (NULL: where it was); parts: MODEL_IN_PLACE, MODEL_ATTACHMENTS. */
LoadedModel *base_open(const ModelBase *base, const char *shown, const char *moved, unsigned parts, Status *st);

/* As the text that a checkpoint holds (caller frees), and back; false: it is none. */
char *base_text(const ModelBase *b);
bool base_parse(const char *text, size_t length, ModelBase *out);

#endif
