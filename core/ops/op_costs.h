/* What a call of an op needs by its formula: FLOPs, and what is read and written when every argument moves once. Attention scores
 * that a backward computes again do not count. Amounts are f32 numbers: two bf16 values are one. */
#ifndef CORE_OP_COSTS_H
#define CORE_OP_COSTS_H

#include "core/ops/ops.h"

typedef struct OpCost {
    double flops, read, written;
    size_t out, in; /* rows and columns of the weight; 0: not a matrix product */
} OpCost;

double cost_size(Mat m);
double cost_floats(DType dtype, double values);
OpCost cost_moves(double read, double written);
/* A matrix product of `rows` rows with matrices like w, `weights` of which are read or written. */
OpCost cost_product(double rows, Mat w, double weights, double read, double written);
/* Experts that have rows. */
double cost_busy(const int32_t *offsets, int E);
double cost_heads(HeadNorm norm);
double cost_runs(const FloatRun *list, int count);
/* Keys and values of n rows, and of n positions of an exact cache. */
double cost_keys(AttentionShape s, double n, bool rope_shared);
double cost_cached(AttentionShape s, CacheLayer cache, double n);
/* Query-key pairs of rows on a cache. */
double cost_pairs(const CacheRow *rows, int n);
OpCost cost_attention(AttentionShape s, AttentionInputs in, const int32_t *offsets, int nseq, bool backward);

#endif
