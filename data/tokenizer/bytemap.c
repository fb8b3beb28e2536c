/* A hash table of byte strings. */
#include "data/tokenizer/bytemap.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/base/hash.h"

static uint32_t hash_of(const char *key, size_t length)
{
    return (uint32_t)hash_spread(hash_bytes(key, length, 0));
}

/* The slot that holds the key, or the free one where it belongs. */
static ByteMapSlot *find(const ByteMap *m, const char *key, size_t length, uint32_t hash)
{
    for (size_t i = hash;; i++) {
        ByteMapSlot *s = &m->slots[i & (m->capacity - 1)];
        if (s->value < 0) return s;
        if (s->hash == hash && s->length == length && memcmp(m->pool.p + s->key, key, length) == 0) return s;
    }
}

static void grow(ByteMap *m)
{
    ByteMapSlot *old = m->slots;
    size_t old_capacity = m->capacity;
    m->capacity = old_capacity ? 2 * old_capacity : 64;
    m->slots = malloc(m->capacity * sizeof *m->slots);
    CHECK(m->slots);
    for (size_t i = 0; i < m->capacity; i++) m->slots[i].value = -1;
    for (size_t i = 0; i < old_capacity; i++) {
        if (old[i].value < 0) continue;
        size_t at = old[i].hash;
        while (m->slots[at & (m->capacity - 1)].value >= 0) at++;
        m->slots[at & (m->capacity - 1)] = old[i];
    }
    free(old);
}

bool bytemap_add(ByteMap *m, const char *key, size_t length, int32_t value)
{
    CHECK(value >= 0 && m->pool.n + length < UINT32_MAX);
    if (2 * (m->n + 1) > m->capacity) grow(m);
    uint32_t hash = hash_of(key, length);
    ByteMapSlot *s = find(m, key, length, hash);
    if (s->value >= 0) return false;
    *s = (ByteMapSlot){.key = (uint32_t)m->pool.n, .length = (uint32_t)length, .hash = hash, .value = value};
    text_add_bytes(&m->pool, key, length);
    m->n++;
    return true;
}

int32_t bytemap_get(const ByteMap *m, const char *key, size_t length)
{
    return m->n ? find(m, key, length, hash_of(key, length))->value : -1;
}

void bytemap_free(ByteMap *m)
{
    free(m->slots);
    free(m->pool.p);
    *m = (ByteMap){0};
}
