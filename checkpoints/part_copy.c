/* Parameters of a file in the form that computes. */
#include "checkpoints/part_copy.h"

#include <stdlib.h>
#include <string.h>

#include "checkpoints/float16.h"
#include "checkpoints/mapping.h"
#include "core/base/check.h"

size_t part_layout(const ParamTable *t, int part, Form form, char *base, void **at)
{
    size_t bytes = 0;
    for (int i = 0; i < t->parts[part].n; i++) {
        const Param *p = &t->params[t->parts[part].first + i];
        if (at) at[i] = NULL;
        if (p->apart) continue;
        /* What is not joined begins at a cache line. */
        if (!param_joins(p->kind)) bytes = (bytes + 63) / 64 * 64;
        if (at && base) at[i] = base + bytes;
        bytes += param_bytes(p, form);
    }
    return bytes;
}

/* The nearest bf16, ties away from 0: the high half of core/weight_block.h. */
static uint16_t high_half(float x)
{
    return (uint16_t)((bits_of_f32(x) + 0x8000u) >> 16);
}

void numbers_convert(void *out, bool half, const void *in, StDtype dtype, size_t n)
{
    size_t each = st_dtype_size(dtype);
    if (dtype == (half ? ST_BF16 : ST_F32)) {
        memcpy(out, in, n * each);
        return;
    }
    const char *from = in;
    for (size_t i = 0; i < n; i++, from += each) {
        float x;
        uint16_t h;
        if (dtype == ST_F32) memcpy(&x, from, sizeof x);
        else memcpy(&h, from, sizeof h), x = dtype == ST_BF16 ? f32_of_bf16(h) : f32_of_f16(h);
        if (half) ((uint16_t *)out)[i] = high_half(x);
        else ((float *)out)[i] = x;
    }
}

static bool param_copy(const LoadedModel *m, const Param *p, bool half, void *out, Status *st)
{
    const void *words = half ? model_param_bf16(m, p) : NULL;
    if (words) {
        memcpy(out, words, p->count * sizeof(uint16_t));
        mapping_forget(words, p->count * sizeof(uint16_t));
        return true;
    }
    if (!half) return model_param_read(m, p, out, st);
    float *wide = malloc(p->count * sizeof *wide);
    if (!wide) return fail(st, "no memory for %.1f GB of tensor %s", (double)(p->count * sizeof *wide) / 1e9, p->name);
    bool ok = model_param_read(m, p, wide, st);
    if (ok) numbers_convert(out, true, wide, ST_F32, p->count);
    free(wide);
    return ok;
}

bool part_copy(const LoadedModel *m, int part, Form form, char *base, Status *st)
{
    const ParamTable *t = &m->table;
    const Part *its = &t->parts[part];
    void **at = calloc((size_t)its->n, sizeof *at);
    CHECK(at);
    bool ok = true;
    part_layout(t, part, form, base, at);
    for (int i = 0; i < its->n && ok; i++) {
        const Param *p = &t->params[its->first + i];
        if (!p->apart) ok = param_copy(m, p, form == FORM_BF16 && p->split, at[i], st);
    }
    free(at);
    return ok;
}

/* The first bf16 word that is no finite number, or n. */
static size_t odd_word(const uint16_t *w, size_t n)
{
    if (all_finite(w, n, true)) return n;
    size_t i = 0;
    while (i < n && (w[i] & 0x7f80) != 0x7f80) i++;
    return i;
}

bool part_finite(const LoadedModel *m, int part, Form form, void *const *at, Status *st)
{
    const ParamTable *t = &m->table;
    for (int i = 0; i < t->parts[part].n; i++) {
        const Param *p = &t->params[t->parts[part].first + i];
        if (p->apart) continue;
        if (form != FORM_BF16 || !p->split) {
            if (!model_rows_finite(m, p, 0, p->rows, at[i], st)) return false;
            continue;
        }
        const uint16_t *words = at[i];
        size_t odd = odd_word(words, p->count);
        if (odd < p->count) return model_not_finite(m, p, odd, f32_of_bf16(words[odd]), st);
    }
    return true;
}
