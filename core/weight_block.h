/* The weights of a table at rest. In f32 they are one array. In bf16 mode a matrix with Param.split lies in two planes of 16-bit
 * words, so that products read contiguous bf16 rows, and what only the optimizer, checkpoints and hashes need can rest elsewhere:
 *   high = (bits + 0x8000) >> 16 (the nearest bf16, ties away from 0), low = bits & 0xffff,
 *   bits = (high << 16) + (int16) low,
 * which is exact whatever the bits of the f32. Everything else (vectors, the router, a scalar head) is f32. */
#ifndef CORE_WEIGHT_BLOCK_H
#define CORE_WEIGHT_BLOCK_H

#include "core/params.h"

/* Of a whole table, where parameter p begins at p->offset, or of what has a Param.state, where it begins there. In f32 all of it
 * is `plain`, and the planes are NULL. In bf16 high[at] and low[at] are of a matrix with Param.split that begins at `at`,
 * and what is not split lies in `plain` at Param.plain. A block that is never written (frozen weights, a copy that
 * samples) may have no low plane. All NULL: nothing is there. */
typedef struct WeightBlock {
    uint16_t *high, *low;
    float *plain;
} WeightBlock;

/* Bytes of the arrays of a block of `total` elements (ParamTable.total or state_total). */
typedef struct WeightBytes {
    size_t high, low, plain;
} WeightBytes;
WeightBytes weight_bytes(const ParamTable *t, size_t total, DType dtype);
static inline size_t weight_bytes_sum(WeightBytes n)
{
    return n.high + n.low + n.plain;
}

/* Whether p lies in the planes. */
static inline bool weight_split(const WeightBlock *b, const Param *p)
{
    return b->high && p->split;
}

/* Where p, which begins at `at`, is computed with: bf16 words of the high plane, or f32. */
static inline void *weight_at(const WeightBlock *b, const Param *p, size_t at)
{
    return weight_split(b, p) ? (void *)(b->high + at) : (void *)(b->plain + (b->high ? p->plain : at));
}

/* n values apart and together again. low NULL: the high halves alone, whose lower halves are zeros. */
void split_values(uint16_t *high, uint16_t *low, const float *from, size_t n);
void join_values(float *out, const uint16_t *high, const uint16_t *low, size_t n);

/* Elements [from, from + n) of p, of a block in the process's memory. */
void weight_write(const WeightBlock *b, const Param *p, size_t at, size_t from, size_t n, const float *values);
void weight_read(const WeightBlock *b, const Param *p, size_t at, size_t from, size_t n, float *out);
/* Zeros in the padding between p and what begins behind it. */
void weight_clear_behind(const WeightBlock *b, const Param *p, size_t at);

#endif
