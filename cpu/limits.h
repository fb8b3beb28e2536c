/* Work that does nothing but reach a limit of the machine: `r1 bench` times it and calls the result 100 %. The limit is
 * the processor's, whatever instruction set the backend's kernels were told to use. */
#ifndef CPU_LIMITS_H
#define CPU_LIMITS_H

#include "core/ops/ops.h"

/* Every thread of b runs `rounds` rounds of independent f32 FMAs in registers. Returns the FLOPs done (an FMA is two).
 */
double cpu_probe_fma(Backend *b, long rounds);

/* The same with bf16 operands and f32 sums: dot products of pairs where the processor has them (AVX512_BF16), else the f32
 * FMAs that widened operands go through. */
double cpu_probe_bf16(Backend *b, long rounds);

/* Every thread reads its share of x [n], 64-byte aligned, each element once. Returns the bytes read, nearly all of them. */
double cpu_probe_read(Backend *b, const float *x, size_t n);

/* Every thread multiplies its share of x [n] in place. Returns the bytes read and written, 8 an element. Of the ways to write as
 * much as is read this is the fastest (a copy to another place is slower, past the cache or through it). */
double cpu_probe_update(Backend *b, float *x, size_t n);

#endif
