/* Hashes that are the same on every machine. */
#ifndef CORE_HASH_H
#define CORE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* FNV-1a, 64 bits, of n bytes, started at `seed` (0: the usual offset). */
uint64_t hash_bytes(const void *bytes, size_t n, uint64_t seed);
/* Spreads a hash over all 64 bits (the finaliser of splitmix64), for taking its remainder or its share of the range. */
uint64_t hash_spread(uint64_t h);

#endif
