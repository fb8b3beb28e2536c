/* Weights read where they lie, a few rows of a tensor at a time: neither a model nor a large tensor need be in memory. */
#ifndef CHECKPOINTS_WEIGHT_SOURCE_H
#define CHECKPOINTS_WEIGHT_SOURCE_H

#include "checkpoints/hf/safetensors.h"
#include "core/params.h"

/* out[p->count] = the parameter as f32; its bf16 words in a file's mapping, at any address, NULL when they are not at hand; rows
 * [row, row + n) of it (elements of a vector), false where it must be read whole (with a sentence: it failed). bf16 and rows may
 * be NULL themselves. */
typedef struct WeightSource {
    bool (*read)(const void *from, const Param *p, float *out, Status *st);
    const void *(*bf16)(const void *from, const Param *p);
    const void *from;
    bool (*rows)(const void *from, const Param *p, size_t row, size_t n, float *out, Status *st);
} WeightSource;

/* Where a parameter lies in a file as plain numbers side by side. Sentences name `shown`. */
typedef struct ParamPlace {
    const char *path, *shown;
    uint64_t offset, bytes;
    StDtype dtype; /* ST_BF16, ST_F16 or ST_F32 */
} ParamPlace;

/* A block of the table's total elements. */
WeightSource block_source(const float *block);
/* A block of its state_total elements. */
WeightSource states_source(const float *block);

/* Calls take with all rows of a parameter in order, some MB at a time (w: n rows from `row` on), until it returns false. */
typedef bool TakeRows(void *to, const float *w, size_t row, size_t n, Status *st);
bool source_rows(const WeightSource *s, const Param *p, TakeRows *take, void *to, Status *st);
/* A copy of all of it; NULL with a sentence. Caller frees. */
float *source_read(const WeightSource *s, const Param *p, Status *st);

#endif
