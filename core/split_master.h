/* Split storage of f32 weights: a row of n values is kept as n bf16 (what products read) followed by the n lower halves, in the
 * same 4 n bytes, so that the bf16 weights need no memory of their own and the f32 master is exact.
 *   high = (bits + 0x8000) >> 16 (the nearest bf16, ties away from 0), low = bits & 0xffff,
 *   bits = (high << 16) + (int16) low.
 * In a block of split weights the matrices whose Param.split is set are split, everything else is plain f32. */
#ifndef CORE_SPLIT_H
#define CORE_SPLIT_H

#include "core/keeper.h"
#include "core/params.h"

/* One row in place, and back to `row`, which may be where it lies. */
void split_row(float *row, size_t n);
void join_row(float *row, const void *split, size_t n);

/* A whole block in place. */
void split_block(const ParamTable *t, float *block);
void join_block(const ParamTable *t, float *block);
/* The same of a block of t->state_total floats: what has a Param.state. k: is asked for its parts; NULL: they are there. */
void split_states(const ParamTable *t, float *block, Keeper *k);
void join_states(const ParamTable *t, float *block, Keeper *k);

#endif
