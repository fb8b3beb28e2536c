/* A file that appears whole or not at all: it is written as PATH.tmp.PID in the target folder, then fsync, rename,
 * fsync of the folder. The earlier file of that name stays whole until the rename. */
#ifndef CORE_DURABLE_H
#define CORE_DURABLE_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/status.h"

typedef struct Durable {
    char path[4096], temp[4096 + 32];
} Durable;

/* Whether the path is there and no file or folder (/dev/null, a pipe): a rename would take it away. */
bool durable_special(const char *path);
/* Names the temporary file, and removes those left for the same path by processes that are no more. A special path is
 * refused. */
bool durable_begin(Durable *d, const char *path, Status *st);
/* Only the latter: for a path that will not be written again. */
void durable_sweep(const char *path);
/* The finished temporary file becomes PATH. On failure it is removed. */
bool durable_commit(const Durable *d, Status *st);
/* Removes the temporary file, if there is one. */
void durable_abandon(const Durable *d);

/* All of it: PATH holds these n bytes, or what it held before. */
bool durable_write(const char *path, const void *bytes, size_t n, Status *st);

/* The sentence for a failed write of `path`, with what to try, from errno's value. Returns false. */
bool durable_fail(const char *path, int error, Status *st);
/* Whether the file system of `folder` (an existing one, or of the file that it names) has room for `bytes` more, so that
 * a long write fails before it begins: else the sentence says how much is missing. Where it cannot be asked, yes. */
bool durable_room(const char *path, uint64_t bytes, Status *st);
/* All n bytes at `offset` of fd. */
bool durable_write_at(int fd, const void *bytes, size_t n, size_t offset, const char *path, Status *st);

#endif
