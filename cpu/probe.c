#include "cpu/probe.h"

#include <string.h>

#include "cpu/internal.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* Sums of chains are kept here, so that no compiler finds the work useless. */
static volatile float sink;

/* Chains of FMAs that do not wait for each other: latency (4 or 5 cycles) x FMAs a cycle (at most 2), with room. */
enum { CHAINS = 12 };

/* A fixed point of s = s * 0.5 + 1: values stay normal however long it runs. */
static const float FACTOR = 0.5f, TERM = 1.0f;

typedef struct FmaLoop {
    double flops; /* of a round */
    float (*run)(long rounds);
} FmaLoop;

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static float fma_avx512(long rounds)
{
    __m512 s[CHAINS], a = _mm512_set1_ps(FACTOR), c = _mm512_set1_ps(TERM);
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++) s[i] = _mm512_set1_ps((float)i);
    for (long r = 0; r < rounds; r++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) s[i] = _mm512_fmadd_ps(s[i], a, c);
    }
#pragma GCC unroll 12
    for (int i = 1; i < CHAINS; i++) s[0] = _mm512_add_ps(s[0], s[i]);
    return _mm512_cvtss_f32(s[0]);
}

__attribute__((target("avx2,fma"))) static float fma_avx2(long rounds)
{
    __m256 s[CHAINS], a = _mm256_set1_ps(FACTOR), c = _mm256_set1_ps(TERM);
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++) s[i] = _mm256_set1_ps((float)i);
    for (long r = 0; r < rounds; r++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) s[i] = _mm256_fmadd_ps(s[i], a, c);
    }
#pragma GCC unroll 12
    for (int i = 1; i < CHAINS; i++) s[0] = _mm256_add_ps(s[0], s[i]);
    return _mm256_cvtss_f32(s[0]);
}
#endif

/* Four lanes as the baseline of every processor has them; without an FMA a product and a sum. */
static float fma_plain(long rounds)
{
    typedef float v4 __attribute__((vector_size(16)));
    v4 s[CHAINS], a = {FACTOR, FACTOR, FACTOR, FACTOR}, c = {TERM, TERM, TERM, TERM};
    for (int i = 0; i < CHAINS; i++) s[i] = (v4){(float)i, 0, 0, 0};
    for (long r = 0; r < rounds; r++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) s[i] = s[i] * a + c;
    }
    for (int i = 1; i < CHAINS; i++) s[0] += s[i];
    return s[0][0];
}

static FmaLoop fma_loop(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f")) return (FmaLoop){2.0 * 16 * CHAINS, fma_avx512};
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return (FmaLoop){2.0 * 8 * CHAINS, fma_avx2};
#endif
    return (FmaLoop){2.0 * 4 * CHAINS, fma_plain};
}

double cpu_probe_fma(Backend *b, long rounds)
{
    FmaLoop loop = fma_loop();
#pragma omp parallel num_threads(b->threads)
    {
        float last = loop.run(rounds);
#pragma omp critical
        sink += last;
    }
    return loop.flops * (double)rounds * b->threads;
}

/* Sum of n floats in lanes, wide enough that memory and not the additions is what it waits for. */
static float sum_lanes(const float *x, size_t n)
{
    enum { LANES = 64 };
    float s[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) s[j] += x[i + (size_t)j];
    for (; i < n; i++) s[0] += x[i];
    for (int j = 1; j < LANES; j++) s[0] += s[j];
    return s[0];
}

void cpu_probe_read(Backend *b, const float *x, size_t n)
{
#pragma omp parallel num_threads(b->threads)
    {
        size_t t = (size_t)omp_get_thread_num(), parts = (size_t)b->threads;
        float sum = sum_lanes(x + n * t / parts, n * (t + 1) / parts - n * t / parts);
#pragma omp critical
        sink += sum;
    }
}

void cpu_probe_copy(Backend *b, float *y, const float *x, size_t n)
{
#pragma omp parallel num_threads(b->threads)
    {
        size_t t = (size_t)omp_get_thread_num(), parts = (size_t)b->threads, from = n * t / parts,
               to = n * (t + 1) / parts;
        memcpy(y + from, x + from, (to - from) * sizeof(float));
    }
}

int cpu_threads(const Backend *b)
{
    return b->threads;
}

size_t cpu_packed_floats(const Backend *b, size_t out, size_t in)
{
    return b->gemm->pack_floats(out, in);
}
