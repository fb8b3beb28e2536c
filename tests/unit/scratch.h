/* A scratch folder of a test program, and the sentences of failures. */
#ifndef TESTS_UNIT_SCRATCH_H
#define TESTS_UNIT_SCRATCH_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/status.h"

/* Group setup and teardown of cmocka: makes the folder, removes it with all it holds. */
int scratch_make(void **state);
int scratch_remove(void **state);
const char *scratch_folder(void);
/* "folder/name"; one of eight buffers in turn. */
const char *scratch_path(const char *name);
/* Writes n bytes as folder/name, reads a whole file (caller frees). */
void scratch_put(const char *name, const void *bytes, size_t n);
char *scratch_read(const char *path, size_t *n);
/* Files in the folder whose names contain `part`. */
int scratch_count(const char *part);
/* Whether the failed status contains `words`; prints both when not. */
bool says(const Status *st, const char *words);

#endif
