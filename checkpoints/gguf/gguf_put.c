#include "checkpoints/gguf/gguf_put.h"

#include <string.h>

#include "checkpoints/float16.h"
#include "checkpoints/gguf/ggml_type.h"

void gguf_put_u64(FILE *out, uint64_t v, unsigned size)
{
    for (unsigned i = 0; i < size; i++) fputc((int)(v >> (8 * i) & 255), out);
}

void gguf_put_string(FILE *out, const char *text, size_t length)
{
    gguf_put_u64(out, length, 8);
    fwrite(text, 1, length, out);
}

static void put_key(GgufKeys *k, const char *key, uint32_t type)
{
    char full[128];
    int n = snprintf(full, sizeof full, "%s%s", *key == '.' ? k->arch : "", key);
    gguf_put_string(k->out, full, (size_t)n);
    gguf_put_u64(k->out, type, 4);
    k->n++;
}

void gguf_key_u32(GgufKeys *k, const char *key, uint32_t v)
{
    put_key(k, key, VALUE_U32);
    gguf_put_u64(k->out, v, 4);
}

void gguf_key_f32(GgufKeys *k, const char *key, float v)
{
    put_key(k, key, VALUE_F32);
    gguf_put_u64(k->out, bits_of_f32(v), 4);
}

void gguf_key_bool(GgufKeys *k, const char *key, bool v)
{
    put_key(k, key, VALUE_BOOL);
    gguf_put_u64(k->out, v, 1);
}

void gguf_key_text(GgufKeys *k, const char *key, const char *v)
{
    put_key(k, key, VALUE_STRING);
    gguf_put_string(k->out, v, strlen(v));
}

void gguf_key_array(GgufKeys *k, const char *key, uint32_t element, uint64_t count)
{
    put_key(k, key, VALUE_ARRAY);
    gguf_put_u64(k->out, element, 4);
    gguf_put_u64(k->out, count, 8);
}
