/* safetensors (docs/formats.md 1): reading one file or a sharded folder, memory-mapped; writing F32 / F16 /
 * BF16. */
#ifndef CHECKPOINTS_SAFETENSORS_H
#define CHECKPOINTS_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "checkpoints/mapping.h"
#include "core/base/status.h"

typedef enum {
    ST_BOOL,
    ST_U8,
    ST_I8,
    ST_I16,
    ST_U16,
    ST_F16,
    ST_BF16,
    ST_I32,
    ST_U32,
    ST_F32,
    ST_I64,
    ST_U64,
    ST_F64,
    ST_F8_E4M3,
    ST_F8_E5M2,
    ST_OTHER
} StDtype;

/* "F32", ...; bytes of an element (0: not a whole number, or unknown). */
const char *st_dtype_name(StDtype dtype);
size_t st_dtype_size(StDtype dtype);

typedef struct StTensor {
    const char *name;
    StDtype dtype;
    int ndim;
    uint64_t shape[8];
    uint64_t count, bytes;
    const void *data; /* into the mapping */
} StTensor;

typedef struct StFile StFile;
/* A .safetensors file, or a folder with model.safetensors or model.safetensors.index.json. Hostile headers are refused.
 */
StFile *st_open(const char *path, Status *st);
void st_close(StFile *f);
size_t st_count(const StFile *f);
const StTensor *st_at(const StFile *f, size_t i);
const StTensor *st_find(const StFile *f, const char *name); /* NULL when absent */
/* Shard i; false: there are no more. */
bool st_mapped(const StFile *f, size_t i, MappedFile *out);
/* Where a tensor's data lie: path (the file's own string) and *offset in it. */
const char *st_place(const StFile *f, const StTensor *t, uint64_t *offset);
/* Gives the pages of n bytes of a tensor back from byte `from` on. */
void st_forget(const StFile *f, const StTensor *t, uint64_t from, uint64_t n);
/* out[count] = the tensor as f32 (F32, F16, BF16, F64 and F8_E4M3 accepted). */
bool st_read_f32(const StTensor *t, float *out, Status *st);
/* Elements [from, from + n) of it. */
bool st_read_f32_part(const StTensor *t, uint64_t from, uint64_t n, float *out, Status *st);

/* Writing: declare every tensor, then write their data. F32 / I32 data are given as they
 * are; F16 and BF16 tensors take f32 data, rounded to nearest even. Written beside and renamed by st_writer_close. */
typedef struct StWriter StWriter;
StWriter *st_writer_open(const char *path, Status *st);
/* An entry of __metadata__, before the first data: {"format": "pt"} is what transformers looks for. One entry at most.
 */
void st_writer_metadata(StWriter *w, const char *key, const char *value);
void st_writer_add(StWriter *w, const char *name, StDtype dtype, int ndim, const uint64_t *shape);
/* data: count elements, f32 for the float types, int32 for ST_I32; keeps no pointer. Any order after the last add. */
bool st_writer_data(StWriter *w, const char *name, const void *data, Status *st);
/* Elements [from, from + n) of it; a tensor's parts come in order. */
bool st_writer_part(StWriter *w, const char *name, uint64_t from, uint64_t n, const void *data, Status *st);
/* The same for bytes as they lie in a file. */
bool st_writer_raw(StWriter *w, const char *name, const void *bytes, Status *st);
bool st_writer_close(StWriter *w,
                     Status *st);    /* every declared tensor must have its data (fails and removes otherwise) */
void st_writer_abandon(StWriter *w); /* instead of close: nothing is left behind */

#endif
