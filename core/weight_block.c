/* f32 weights in planes of bf16 halves and back. */
#include "core/weight_block.h"

#include <string.h>

WeightBytes weight_bytes(const ParamTable *t, size_t total, DType dtype)
{
    if (dtype == DTYPE_F32) return (WeightBytes){.plain = total * sizeof(float)};
    size_t plane = total * sizeof(uint16_t);
    return (WeightBytes){plane, plane, t->plain_total * sizeof(float)};
}

void split_values(uint16_t *high, uint16_t *low, const float *from, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, from + i, sizeof bits);
        high[i] = (uint16_t)((bits + 0x8000u) >> 16);
        if (low) low[i] = (uint16_t)bits;
    }
}

void join_values(float *out, const uint16_t *high, const uint16_t *low, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = ((uint32_t)high[i] << 16) + (low ? (uint32_t)(int16_t)low[i] : 0);
        memcpy(out + i, &bits, sizeof bits);
    }
}

void weight_write(const WeightBlock *b, const Param *p, size_t at, size_t from, size_t n, const float *values)
{
    if (weight_split(b, p)) split_values(b->high + at + from, b->low ? b->low + at + from : NULL, values, n);
    else memcpy((float *)weight_at(b, p, at) + from, values, n * sizeof *values);
}

void weight_read(const WeightBlock *b, const Param *p, size_t at, size_t from, size_t n, float *out)
{
    if (weight_split(b, p)) join_values(out, b->high + at + from, b->low ? b->low + at + from : NULL, n);
    else memcpy(out, (const float *)weight_at(b, p, at) + from, n * sizeof *out);
}

static size_t padding(size_t end)
{
    return (end + PARAM_ALIGNMENT - 1) / PARAM_ALIGNMENT * PARAM_ALIGNMENT - end;
}

void weight_clear_behind(const WeightBlock *b, const Param *p, size_t at)
{
    size_t end = at + p->count, n = padding(end);
    if (!weight_split(b, p)) {
        size_t begin = b->high ? p->plain : at;
        memset(b->plain + begin + p->count, 0, padding(begin + p->count) * sizeof *b->plain);
        return;
    }
    memset(b->high + end, 0, n * sizeof *b->high);
    if (b->low) memset(b->low + end, 0, n * sizeof *b->low);
}
