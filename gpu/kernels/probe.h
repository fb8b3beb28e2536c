/* The limits of a card, by work that reaches one of them; GpuPlugin shows these. */
#ifndef GPU_KERNELS_PROBE_H
#define GPU_KERNELS_PROBE_H

#include "gpu/internal.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Queued, not waited for. Give FLOPs (an FMA is two), or bytes that are read, or read and written; 0: no memory for it. */
double gpu_probe_fma(Backend *b, long rounds);
double gpu_probe_mma(Backend *b, long rounds);
double gpu_probe_read(Backend *b, const float *x, size_t n);
double gpu_probe_update(Backend *b, float *x, size_t n);

#ifdef __cplusplus
}
#endif
#endif
