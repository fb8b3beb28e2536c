/* A hash map from byte strings to non-negative integers; keys are copied. Zero-initialise. */
#ifndef DATA_BYTEMAP_H
#define DATA_BYTEMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "data/text.h"

typedef struct ByteMapSlot {
    uint32_t key, length, hash; /* key: offset into the pool */
    int32_t value;              /* -1: free slot */
} ByteMapSlot;

typedef struct ByteMap {
    ByteMapSlot *slots;
    size_t capacity, n; /* capacity is a power of two */
    Text pool;
} ByteMap;

/* False, and nothing changes, when the key is there already. The keys together stay below 4 GiB. */
bool bytemap_add(ByteMap *m, const char *key, size_t length, int32_t value);
int32_t bytemap_get(const ByteMap *m, const char *key, size_t length); /* -1: absent */
void bytemap_free(ByteMap *m);

#endif
