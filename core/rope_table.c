/* cos and sin of every position. */
#include "core/rope_table.h"

#include <math.h>
#include <stdlib.h>

#include "core/base/check.h"

RopeTable rope_table_build(const ModelConfig *c, int positions)
{
    RopeTable t = {.positions = positions, .half = c->Dr / 2};
    size_t half = (size_t)t.half, n = (size_t)positions * half;
    double multiplier, *inv_freq = malloc(half * sizeof *inv_freq);
    t.cos = malloc(2 * n * sizeof *t.cos);
    CHECK(inv_freq && t.cos);
    t.sin = t.cos + n;
    config_rope_frequencies(c, inv_freq, &multiplier);
    for (size_t p = 0; p < (size_t)positions; p++)
        for (size_t i = 0; i < half; i++) {
            double angle = (double)p * inv_freq[i];
            t.cos[p * half + i] = (float)(multiplier * cos(angle));
            t.sin[p * half + i] = (float)(multiplier * sin(angle));
        }
    free(inv_freq);
    return t;
}

void rope_table_free(RopeTable *t)
{
    free(t->cos);
    *t = (RopeTable){0};
}
