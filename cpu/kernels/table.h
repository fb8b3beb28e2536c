/* What table.c gathers beside the ops. */
#ifndef CPU_KERNELS_TABLE_H
#define CPU_KERNELS_TABLE_H

#include "cpu/internal.h"

extern const GemmProvider gemm_native, gemm_widen, gemm_dot;

void column_sums(float *sum, Mat x, size_t from, size_t to);
size_t attention_bwd_scratch(AttentionShape s, size_t longest);
size_t attention_bwd_shared(AttentionShape s, size_t tokens, size_t longest);

#endif
