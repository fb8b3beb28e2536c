/* SHA-256, the only place that sees libcrypto. */
#ifndef CHECKPOINTS_HASH_H
#define CHECKPOINTS_HASH_H

#include <stdbool.h>
#include <stddef.h>

#include "checkpoints/weight_source.h"

typedef struct Sha256 Sha256;
Sha256 *sha256_new(void);
void sha256_add(Sha256 *h, const void *bytes, size_t n);
void sha256_finish(Sha256 *h, char hex[65]); /* frees h */
void sha256_of(const void *bytes, size_t n, char hex[65]);

/* weights_sha256: over the tensors in name order: name, dtype, shape, bytes (each name and dtype NUL-terminated, ndim
 * and the dimensions as u64 little-endian). */
void weights_sha256(const ParamTable *t, const float *weights, char hex[65]);
/* The same of weights that are read where they lie. */
bool weights_sha256_of(const ParamTable *t, const WeightSource *s, char hex[65], Status *st);

/* The library's name and version. */
const char *hash_library(void);

#endif
