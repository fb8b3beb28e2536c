/* Angles of rotary positions: cos and sin in f32 (computed in f64), one row a position. */
#ifndef CORE_ROPE_TABLE_H
#define CORE_ROPE_TABLE_H

#include "core/config.h"

/* cos, sin: [positions][Dr / 2], both times YaRN's multiplier. Zero-initialise; free with rope_table_free. */
typedef struct RopeTable {
    float *cos, *sin;
    int positions;
} RopeTable;

/* Makes the table cover positions 0 .. positions - 1 (nothing to do when it does already; grows by doubling). */
void rope_table_grow(RopeTable *t, const ModelConfig *c, int positions);
void rope_table_free(RopeTable *t);

#endif
