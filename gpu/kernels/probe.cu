/* Work that does nothing but reach a limit of the card: `r1 bench` times it and calls the result 100 %. */
#include "gpu/kernels/probe.h"
#include "gpu/kernels/tiles/mma_tile.cuh"

enum { PROBE_THREADS = 256, PROBE_BLOCKS_EACH = 8, CHAINS = 8, MMA_CHAINS = 4 };

/* x = x a + b in eight independent chains a thread. Bound: FFMA. */
__global__ void __launch_bounds__(PROBE_THREADS) multiply_adds(float *out, long rounds, float a, float b)
{
    float x[CHAINS], sum = 0.0f;
#pragma unroll
    for (int i = 0; i < CHAINS; i++) x[i] = (float)(threadIdx.x + (unsigned)i);
    for (long r = 0; r < rounds; r++)
#pragma unroll
        for (int i = 0; i < CHAINS; i++) x[i] = fmaf(x[i], a, b);
#pragma unroll
    for (int i = 0; i < CHAINS; i++) sum += x[i];
    if (sum == -1.0f) out[0] = sum; /* never: the chains are needed */
}

/* Four independent chains of mma.m16n8k16 a warp. Bound: tensor cores. */
__global__ void __launch_bounds__(PROBE_THREADS) tensor_cores(float *out, long rounds, uint32_t pair)
{
    float c[MMA_CHAINS][4] = {}, sum = 0.0f;
    uint32_t a[4] = {pair, pair, pair, pair};
    for (long r = 0; r < rounds; r++)
#pragma unroll
        for (int i = 0; i < MMA_CHAINS; i++) mma16816(c[i], a, pair, pair);
#pragma unroll
    for (int i = 0; i < MMA_CHAINS; i++) sum += c[i][0] + c[i][1] + c[i][2] + c[i][3];
    if (sum == -1.0f) out[0] = sum;
}

/* Every float of x once, 16 bytes a load. Bound: bytes read. */
__global__ void __launch_bounds__(PROBE_THREADS) read_all(float *out, const float4 *x, size_t n)
{
    float4 sum = make_float4(0, 0, 0, 0);
    size_t step = (size_t)gridDim.x * PROBE_THREADS;
#pragma unroll 4
    for (size_t i = (size_t)blockIdx.x * PROBE_THREADS + threadIdx.x; i < n; i += step) sum = add4(sum, x[i]);
    if (sum.x + sum.y + sum.z + sum.w == -1.0f) out[0] = sum.x;
}

/* Every float of x multiplied in place. Bound: bytes read and written. */
__global__ void __launch_bounds__(PROBE_THREADS) update_all(float4 *x, size_t n, float by)
{
    size_t step = (size_t)gridDim.x * PROBE_THREADS;
    for (size_t i = (size_t)blockIdx.x * PROBE_THREADS + threadIdx.x; i < n; i += step) x[i] = scale4(x[i], by);
}

/* Blocks that fill the card. */
static unsigned full_grid(const Backend *b)
{
    return (unsigned)(b->processors * PROBE_BLOCKS_EACH);
}

double gpu_probe_fma(Backend *b, long rounds)
{
    float *out = (float *)gpu_scratch(b, sizeof(float));
    if (!out) return 0;
    LAUNCH(multiply_adds, full_grid(b), PROBE_THREADS, 0, b->stream, out, rounds, 0.5f, 1.0f);
    return 2.0 * CHAINS * PROBE_THREADS * (double)full_grid(b) * (double)rounds;
}

double gpu_probe_mma(Backend *b, long rounds)
{
    float *out = (float *)gpu_scratch(b, sizeof(float));
    if (!out) return 0;
    LAUNCH(tensor_cores, full_grid(b), PROBE_THREADS, 0, b->stream, out, rounds, 0x3f803f80u);
    return 2.0 * 16 * 8 * 16 * MMA_CHAINS * (PROBE_THREADS / WARP) * (double)full_grid(b) * (double)rounds;
}

double gpu_probe_read(Backend *b, const float *x, size_t n)
{
    float *out = (float *)gpu_scratch(b, sizeof(float));
    if (!out) return 0;
    LAUNCH(read_all, full_grid(b), PROBE_THREADS, 0, b->stream, out, (const float4 *)x, n / 4);
    return 4.0 * (double)(n / 4 * 4);
}

double gpu_probe_update(Backend *b, float *x, size_t n)
{
    LAUNCH(update_all, full_grid(b), PROBE_THREADS, 0, b->stream, (float4 *)x, n / 4, 1.0f);
    return 8.0 * (double)(n / 4 * 4);
}
