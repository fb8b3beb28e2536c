/* GGUF v2 / v3 files (docs/formats.md 2): reading by memory map, writing; and the models of llama.cpp's
 * architectures llama, qwen2, qwen3, deepseek2 in both directions. Headers are hostile until checked. */
#ifndef CHECKPOINTS_GGUF_H
#define CHECKPOINTS_GGUF_H

#include "checkpoints/mapping.h"
#include "checkpoints/weight_source.h"
#include "core/params.h"
#include "data/tokenizer/tokenizer.h"

typedef struct GgufTensor {
    char *name;
    uint32_t type; /* ggml's number: ggml_type.h */
    int ndim;
    uint64_t ne[4]; /* ne[0] is the fastest: a [out, in] weight has ne = {in, out}; 1 beyond ndim */
    uint64_t count, bytes;
    const void *data; /* into the mapping */
} GgufTensor;

typedef struct GgufFile GgufFile;
/* A file, or the first part of several: then the others, NAME-0000N-of-0000M.gguf beside it, are read with it. */
GgufFile *gguf_open(const char *path, Status *st);
void gguf_close(GgufFile *f);
size_t gguf_count(const GgufFile *f);
const GgufTensor *gguf_at(const GgufFile *f, size_t i); /* in the file's order */
const GgufTensor *gguf_find(const GgufFile *f, const char *name);
/* File i of its parts; false: there are no more. */
bool gguf_mapped(const GgufFile *f, size_t i, MappedFile *out);
/* out[n] = elements [from, from + n) as f32; both multiples of ne[0], or the whole. F32, F16, BF16, Q8_0, Q4_0, Q4_1,
 * Q5_0, Q5_1, Q2_K .. Q6_K, IQ4_NL, IQ4_XS. */
bool gguf_read_f32(const GgufTensor *t, uint64_t from, uint64_t n, float *out, Status *st);
/* They are not needed for now: their pages leave this process's memory. */
void gguf_forget(const GgufFile *f, const GgufTensor *t, uint64_t from, uint64_t n);

/* Metadata. False, NULL when the key is absent or of another kind. Any integer type is an integer, both widths are
 * floats. */
bool gguf_int(const GgufFile *f, const char *key, int64_t *out);
bool gguf_float(const GgufFile *f, const char *key, double *out);
bool gguf_bool(const GgufFile *f, const char *key, bool *out);
const char *gguf_string(const GgufFile *f, const char *key);
/* An array of strings; of integers as i32 (NULL when one does not fit); of f32. One block, the caller frees it. */
const char **gguf_strings(const GgufFile *f, const char *key, size_t *n);
int32_t *gguf_ints(const GgufFile *f, const char *key, size_t *n);
float *gguf_floats(const GgufFile *f, const char *key, size_t *n);

/* ---- Models ---- */

/* The file's model, validated; fails naming what is not supported. */
bool gguf_config(const GgufFile *f, const char *path, ModelConfig *out, Status *st);
/* Fills weights (table->total elements, padding zeroed): names mapped, llama's Q and K rows put back in order, kv_b
 * joined from its halves, experts taken from their stacks. weights NULL: only checks that every tensor is there. */
bool gguf_weights(const GgufFile *f, const char *path, const ModelConfig *c, const ParamTable *t, float *weights,
                  Status *st);
/* One parameter of the table: w[p->count]; NULL: only checks. */
bool gguf_param_read(const GgufFile *f, const char *path, const ModelConfig *c, const Param *p, float *w, Status *st);
/* Rows [row, row + n) of it; false without a sentence where they lie in another order: read it whole. */
bool gguf_rows_read(const GgufFile *f, const ModelConfig *c, const Param *p, size_t row, size_t n, float *w,
                    Status *st);
/* Fails naming the first tensor that the model has no use for (a bias, a later block). */
bool gguf_all_used(const GgufFile *f, const char *path, const ModelConfig *c, const ParamTable *t, Status *st);
/* The tokenizer of the metadata with its chat template; NULL with a sentence when it is of a kind that is not read. */
Tokenizer *gguf_tokenizer(const GgufFile *f, const char *path, Status *st);

typedef enum { GGUF_WRITE_F32, GGUF_WRITE_F16, GGUF_WRITE_BF16, GGUF_WRITE_Q8_0 } GgufTarget;
/* A file that llama.cpp loads. Vectors, norms, the router and its bias stay F32; a matrix whose rows are no multiple of
 * 32 is F16 instead of Q8_0. tokenizer NULL, or one that tokenizer_to_gguf fails for: no vocabulary is written. */
bool gguf_write(const char *path, const char *model_name, const ModelConfig *c, const ParamTable *t,
                WeightSource weights, GgufTarget target, const Tokenizer *tokenizer, Status *st);

#endif
