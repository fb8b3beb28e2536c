/* The metadata of a written GGUF file: shared by the two files that write one. */
#ifndef CHECKPOINTS_GGUF_WRITE_H
#define CHECKPOINTS_GGUF_WRITE_H

#include <stdio.h>

#include "checkpoints/gguf/gguf.h"

typedef struct GgufKeys {
    FILE *out;
    uint64_t n;
    const char *arch; /* put before keys that begin with a dot */
} GgufKeys;

void gguf_put_u64(FILE *out, uint64_t v, unsigned size); /* little-endian, size bytes */
void gguf_put_string(FILE *out, const char *text, size_t length);
/* Everything but the tensors: general, architecture, tokenizer. */
bool gguf_put_keys(GgufKeys *k, const char *model_name, const ModelConfig *c, GgufTarget target, const Tokenizer *t,
                   Status *st);
/* tokenizer.ggml.*: a byte-level BPE, or "none". */
bool gguf_put_tokenizer(GgufKeys *k, const ModelConfig *c, const Tokenizer *t, Status *st);

void gguf_key_u32(GgufKeys *k, const char *key, uint32_t v);
void gguf_key_f32(GgufKeys *k, const char *key, float v);
void gguf_key_bool(GgufKeys *k, const char *key, bool v);
void gguf_key_text(GgufKeys *k, const char *key, const char *v);
/* Begins an array of `count` elements of a value type; the elements follow. */
void gguf_key_array(GgufKeys *k, const char *key, uint32_t element, uint64_t count);

#endif
