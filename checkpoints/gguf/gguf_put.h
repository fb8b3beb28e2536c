/* Numbers, texts and keys as a GGUF file spells them. */
#ifndef CHECKPOINTS_GGUF_PUT_H
#define CHECKPOINTS_GGUF_PUT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct GgufKeys {
    FILE *out;
    uint64_t n;
    const char *arch; /* put before keys that begin with a dot */
} GgufKeys;

void gguf_put_u64(FILE *out, uint64_t v, unsigned size); /* little-endian, size bytes */
void gguf_put_string(FILE *out, const char *text, size_t length);

void gguf_key_u32(GgufKeys *k, const char *key, uint32_t v);
void gguf_key_f32(GgufKeys *k, const char *key, float v);
void gguf_key_bool(GgufKeys *k, const char *key, bool v);
void gguf_key_text(GgufKeys *k, const char *key, const char *v);
/* Begins an array of `count` elements of a value type; the elements follow. */
void gguf_key_array(GgufKeys *k, const char *key, uint32_t element, uint64_t count);

#endif
