/* The angles of rotary positions (Su et al., arXiv:2104.09864) as tables, made once per model. */
#ifndef CORE_ROPE_TABLE_H
#define CORE_ROPE_TABLE_H

#include "core/config.h"

/* cos[p * half + i] = multiplier * cos(p * inv_freq[i]), i < half = Dr / 2; sin likewise. Angles in f64: at position
 * 100,000 an f32 angle is off by 0.004. */
typedef struct RopeTable {
    int positions, half;
    float *cos, *sin; /* [positions][half]; sin lies behind cos in one block */
} RopeTable;

/* For positions 0 .. positions - 1. Free with rope_table_free. */
RopeTable rope_table_build(const ModelConfig *c, int positions);
void rope_table_free(RopeTable *t);

#endif
