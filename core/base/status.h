/* Status: how a function tells about the world's faults (file, format, memory, config, child process).
 *
 * Such a function returns bool (or NULL for a pointer), leaves its outputs untouched on failure and writes one sentence
 * that says what, where and what to try. The first failure wins: a later one does not overwrite it. Only main prints. */
#ifndef CORE_STATUS_H
#define CORE_STATUS_H

#include <stdbool.h>

typedef struct Status {
    bool failed;
    char text[1024];
} Status;

/* Writes the sentence unless an earlier failure is there already. Returns false, so that `return fail(st, ...)` reads well. */
bool fail(Status *st, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts "prefix: " before the sentence already there ("recipes/x.yaml" before "line 3: ..."). Returns false. */
bool fail_prefix(Status *st, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Forgets a failure (for callers that can go on without). */
void status_clear(Status *st);

#endif
