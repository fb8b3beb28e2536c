/* Work that does nothing but reach a limit of the machine: `r1 bench` times it and calls the result 100 %. The limit is
 * the processor's, whatever instruction set the backend's kernels were told to use. */
#ifndef CPU_PROBE_H
#define CPU_PROBE_H

#include "core/ops.h"

/* Every thread of b runs `rounds` rounds of independent f32 FMAs in registers. Returns the FLOPs done (an FMA is two).
 */
double cpu_probe_fma(Backend *b, long rounds);

/* Every thread reads its share of x [n], each element once. */
void cpu_probe_read(Backend *b, const float *x, size_t n);

/* y = x [n], shared by the threads, by the C library's memcpy: for large n it writes past the cache, so the traffic is
 * what it reads and what it writes, 8 bytes an element. */
void cpu_probe_copy(Backend *b, float *y, const float *x, size_t n);

/* What a backend is made of: its threads, and floats of the packed copy that a forward keeps of a weight [out, in]. */
int cpu_threads(const Backend *b);
size_t cpu_packed_floats(const Backend *b, size_t out, size_t in);

#endif
