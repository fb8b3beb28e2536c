/* Moments of AdamW stored in fewer bits, widened and narrowed in the CPU's bits (core/moments.h). */
#include "core/moments.h"
#include "gpu/kernels/rows.cuh"

enum { EACH_THREADS = 256 };
static_assert((int)EACH_THREADS == MOMENT_BLOCK && (int)EACH_THREADS == MOMENT_CODES,
              "a thread a value, and a thread a code");

constexpr MomentCodes all_codes()
{
    MomentCodes c = {};
    for (int s = 0; s < 2; s++) {
        for (int k = 0; k < MOMENT_CODES; k++) c.value[s][k] = moment_code(s, k);
        for (int k = 0; k + 1 < MOMENT_CODES; k++) c.border[s][k] = moment_border(s, k);
    }
    return c;
}
static __device__ const MomentCodes codes = all_codes();

typedef struct Words {
    unsigned x, y, z, w;
} Words;

/* Four words of Philox4x32-10 (core/base/philox.c). */
DEVICE Words philox(Words c, unsigned k0, unsigned k1)
{
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c.x, b = (uint64_t)0xCD9E8D57u * c.z;
        Words next = {(unsigned)(b >> 32) ^ c.y ^ k0, (unsigned)b, (unsigned)(a >> 32) ^ c.w ^ k1, (unsigned)a};
        c = next;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c;
}

/* A thread a value. Bound: bytes (6 a value and moment). */
__global__ void __launch_bounds__(EACH_THREADS) widen_halves(float *out, const uint16_t *in, size_t n)
{
    size_t i = (size_t)blockIdx.x * EACH_THREADS + threadIdx.x;
    if (i < n) out[i] = widen(in[i]);
}

__global__ void __launch_bounds__(EACH_THREADS) narrow_halves(uint16_t *out, const float *in, size_t n)
{
    size_t i = (size_t)blockIdx.x * EACH_THREADS + threadIdx.x;
    if (i < n) out[i] = (uint16_t)narrow(in[i]);
}

/* A thread the eight values of a counter. */
__global__ void __launch_bounds__(EACH_THREADS) round_halves(uint16_t *out, const float *in, size_t n, MomentRounding r)
{
    size_t from = 8 * ((size_t)blockIdx.x * EACH_THREADS + threadIdx.x);
    if (from >= n) return;
    uint64_t at = (r.first + from) / 8;
    Words counter = {(unsigned)at, (unsigned)(at >> 32), r.tensor, r.step};
    Words random = philox(counter, r.key[0], r.key[1]);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        if (from + (size_t)i >= n) return;
        unsigned word = i < 2 ? random.x : i < 4 ? random.y : i < 6 ? random.z : random.w;
        unsigned bits = __float_as_uint(in[from + (size_t)i]);
        bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
        out[from + (size_t)i] = nan ? (uint16_t)0x7fc0u : (uint16_t)((bits + (word >> 16 * (i % 2) & 0xffffu)) >> 16);
    }
}

/* A block of threads a block of values. which: 1 signed numbers, 0 square roots. Bound: bytes (5 a value and moment). */
__global__ void __launch_bounds__(EACH_THREADS)
    widen_codes(float *out, const uint8_t *in, const float *scale, size_t n, int which)
{
    SMEM(float, value, [MOMENT_CODES]);
    size_t i = (size_t)blockIdx.x * EACH_THREADS + threadIdx.x;
    value[threadIdx.x] = codes.value[which][threadIdx.x];
    __syncthreads();
    if (i >= n) return;
    float x = value[in[i]] * scale[blockIdx.x];
    out[i] = which ? x : x * x;
}

__global__ void __launch_bounds__(EACH_THREADS)
    narrow_codes(uint8_t *out, float *scale, const float *in, size_t n, int which)
{
    SMEM(float, border, [MOMENT_CODES]);
    SMEM(float, most, [MOMENT_BLOCK]);
    size_t i = (size_t)blockIdx.x * EACH_THREADS + threadIdx.x;
    float x = i < n ? which ? in[i] : sqrtf(in[i]) : 0.0f;
    if (threadIdx.x + 1 < MOMENT_CODES) border[threadIdx.x] = codes.border[which][threadIdx.x];
    most[threadIdx.x] = fabsf(x);
    __syncthreads();
    for (unsigned step = MOMENT_BLOCK / 2; step > 0; step /= 2) {
        if (threadIdx.x < step) most[threadIdx.x] = larger(most[threadIdx.x], most[threadIdx.x + step]);
        __syncthreads();
    }
    float all = most[0], unit = all > 0.0f ? x / all : 0.0f;
    if (threadIdx.x == 0) scale[blockIdx.x] = all;
    if (i >= n) return;
    unsigned at = 0;
    for (unsigned step = MOMENT_CODES / 2; step > 0; step /= 2) at += unit > border[at + step - 1] ? step : 0;
    out[i] = (uint8_t)(!which && at == 0 && x > 0.0f ? 1 : at);
}

void gpu_moments_widen(Backend *b, float *m, float *v, StoredMoments s, size_t n)
{
    size_t blocks = ceil_div(n, EACH_THREADS);
    if (!n) return;
    if (s.form == MOMENTS_BF16) {
        LAUNCH(widen_halves, blocks, EACH_THREADS, 0, b->stream, m, (const uint16_t *)s.m, n);
        LAUNCH(widen_halves, blocks, EACH_THREADS, 0, b->stream, v, (const uint16_t *)s.v, n);
        return;
    }
    LAUNCH(widen_codes, blocks, EACH_THREADS, 0, b->stream, m, (const uint8_t *)s.m, s.m_scale, n, 1);
    LAUNCH(widen_codes, blocks, EACH_THREADS, 0, b->stream, v, (const uint8_t *)s.v, s.v_scale, n, 0);
}

void gpu_moments_narrow(Backend *b, StoredMoments s, const float *m, const float *v, size_t n, MomentRounding r)
{
    size_t blocks = ceil_div(n, EACH_THREADS);
    if (!n) return;
    if (s.form == MOMENTS_BF16) {
        LAUNCH(narrow_halves, blocks, EACH_THREADS, 0, b->stream, (uint16_t *)s.m, m, n);
        LAUNCH(round_halves, ceil_div(n, 8 * EACH_THREADS), EACH_THREADS, 0, b->stream, (uint16_t *)s.v, v, n, r);
        return;
    }
    LAUNCH(narrow_codes, blocks, EACH_THREADS, 0, b->stream, (uint8_t *)s.m, s.m_scale, m, n, 1);
    LAUNCH(narrow_codes, blocks, EACH_THREADS, 0, b->stream, (uint8_t *)s.v, s.v_scale, v, n, 0);
}
