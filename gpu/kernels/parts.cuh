/* Sums over tokens: parts over blocks of TOKEN_BLOCK rows by one launch, added in order of the blocks by the next. */
#ifndef GPU_KERNELS_PARTS_CUH
#define GPU_KERNELS_PARTS_CUH

#include "gpu/kernels/rows.cuh"

/* sum[j] += part[0][j], then part[1][j], ... A thread a column. */
static __global__ void __launch_bounds__(ROW_THREADS) add_parts(float *sum, const float *part, size_t blocks, size_t D)
{
    size_t j = (size_t)blockIdx.x * ROW_THREADS + threadIdx.x;
    if (j >= D) return;
    float s = sum[j];
    for (size_t i = 0; i < blocks; i++) s += part[i * D + j];
    sum[j] = s;
}

#endif
