/* Whole files. */
#ifndef DATA_FILE_H
#define DATA_FILE_H

#include <stddef.h>

#include "core/base/status.h"

/* The bytes of a file (pipes too), with a NUL behind them that *length does not count. Fails for a folder. Caller
 * frees. */
char *file_read(const char *path, size_t *length, Status *st);

#endif
