/* A random attention problem with strided views, its answer and its gradients in double. */
#ifndef TESTS_UNIT_ATTENTION_CASE_H
#define TESTS_UNIT_ATTENTION_CASE_H

#include "core/ops/ops.h"

enum { CASE_SEQUENCES = 8, CASE_PAGES = 5 };

/* Queries, keys and values the way a layer holds them: k and v side by side in one row per token, rows longer than
 * used. The unused floats hold CASE_GUARD. */
#define CASE_GUARD 12345.0f
typedef struct CaseInputs {
    float *q, *kv, *rope;
    size_t q_floats, kv_floats, rope_floats;
    AttentionInputs view;
} CaseInputs;

typedef struct AttentionCase {
    AttentionShape s;
    bool rope_shared;
    int nseq, N;
    int32_t offsets[CASE_SEQUENCES + 1];
    CaseInputs in;
    float *dout; /* [N][H][Dv] */
} AttentionCase;

static inline SequenceRows case_sequences(const AttentionCase *c)
{
    return (SequenceRows){c->offsets, c->nseq, c->N};
}

/* lengths: ends with -1. Values from N(0, 1), the same for the same seed. */
AttentionCase case_make(AttentionShape s, bool rope_shared, const int *lengths, uint32_t seed);
void case_free(AttentionCase *c);

/* Buffers of the same layout (for gradients), used floats set to `fill`. */
CaseInputs case_inputs(const AttentionCase *c, float fill);
void case_inputs_free(CaseInputs *in);
/* Whether the floats between the rows still hold CASE_GUARD. */
bool case_guards_whole(const AttentionCase *c, const CaseInputs *in);

/* [N][H][Dv] without gaps. */
/* Element i of head h of row n. */
static inline float *case_at(HeadView v, int n, int h, int i)
{
    return (float *)v.p + (size_t)n * v.row + (size_t)h * v.head + (size_t)i;
}

HeadView case_output(const AttentionCase *c, float *p);

/* The definition, in double: o [N][H][Dv], lse [N * H]. */
void case_forward(const AttentionCase *c, double *o, double *lse);

/* Analytic gradients of sum(dout * o) in double, laid out as the buffers of CaseInputs (q_floats, kv_floats,
 * rope_floats). */
typedef struct CaseGradients {
    double *q, *kv, *rope;
} CaseGradients;
CaseGradients case_backward(const AttentionCase *c);
void case_gradients_free(CaseGradients *g);

/* A cache of one layer that holds NaN wherever nothing was written; the pages of sequence s begin at pages_at(s) of its table,
 * and none is where one would expect it. Free layer.base. */
typedef struct Pages {
    CacheLayer layer;
    size_t count; /* of values */
} Pages;

static inline int32_t pages_at(int s)
{
    return s * CASE_PAGES;
}
Pages pages_make(size_t page_values, DType dtype);
/* Pages of the case's exact cache. */
Pages exact_pages(const AttentionCase *c, DType dtype);

/* Opens the backend with these, or NULL where this machine lacks the instruction set;
 * isa "emulated": the GPU's kernels on the CPU, where they are built; "emulated mma": bf16 on tensor cores. */
Backend *case_backend(const char *isa, int threads, const Ops **ops);

float case_normal(uint32_t *seed);

#endif
