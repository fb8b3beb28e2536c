/* Loops that reach what this processor can do: FMAs in registers, reading memory, reading and writing it. */
#include "cpu/limits.h"

#include "cpu/internal.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* Sums of chains are kept here, so that no compiler finds the work useless. */
static volatile float sink;

/* Independent chains: latency of an FMA (4 to 6 cycles) x FMAs a cycle (at most 2), with room. */
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

__attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16"))) static float dot_avx512(long rounds)
{
    __m512 s[CHAINS];
    __m512bh a = (__m512bh)_mm512_set1_epi32(0x3f803f80),
             b = (__m512bh)_mm512_set1_epi32(0x3f80bf80); /* 1 - 1 is added */
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++) s[i] = _mm512_set1_ps((float)i);
    for (long r = 0; r < rounds; r++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) s[i] = _mm512_dpbf16_ps(s[i], a, b);
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

static FmaLoop bf16_loop(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512bf16")) return (FmaLoop){4.0 * 16 * CHAINS, dot_avx512};
#endif
    return fma_loop();
}

static double probe_loop(const Backend *b, FmaLoop loop, long rounds)
{
#pragma omp parallel num_threads(b->threads)
    {
        float last = loop.run(rounds);
#pragma omp critical
        sink += last;
    }
    return loop.flops * (double)rounds * b->threads;
}

double cpu_probe_fma(Backend *b, long rounds)
{
    return probe_loop(b, fma_loop(), rounds);
}

double cpu_probe_bf16(Backend *b, long rounds)
{
    return probe_loop(b, bf16_loop(), rounds);
}

/* A cache line is four of these. */
typedef float Quad __attribute__((vector_size(16), may_alias));

/* A thread reads several streams at once, which keeps more DRAM banks busy than one does. All streams of all threads begin at
 * different offsets from large powers of two, or they would conflict in the same banks. SKEW: in lines. */
enum { LINE = 4, STREAMS = 4, SKEW = 1089 };

/* Lines of a stream out of n floats; stream s begins at s times as many. */
static size_t stream_lines(const Backend *b, size_t n)
{
    size_t most = n / 16 / ((size_t)b->threads * STREAMS);
    return most > 2 * SKEW ? most - SKEW : most;
}

static double streams_bytes(const Backend *b, size_t n)
{
    return 64.0 * STREAMS * (double)stream_lines(b, n) * b->threads;
}

double cpu_probe_read(Backend *b, const float *x, size_t n)
{
    size_t count = stream_lines(b, n) * LINE;
#pragma omp parallel num_threads(b->threads)
    {
        const Quad *s0 = (const Quad *)x + (size_t)omp_get_thread_num() * STREAMS * count;
        const Quad *s1 = s0 + count, *s2 = s1 + count, *s3 = s2 + count;
        Quad sums[LINE] = {{0}};
        for (size_t i = 0; i < count; i += LINE)
            for (size_t k = 0; k < LINE; k++) sums[k] += (s0[i + k] + s1[i + k]) + (s2[i + k] + s3[i + k]);
        Quad sum = sums[0] + sums[1] + sums[2] + sums[3];
#pragma omp critical
        sink += sum[0];
    }
    return streams_bytes(b, n);
}

double cpu_probe_update(Backend *b, float *x, size_t n)
{
    size_t count = stream_lines(b, n) * LINE;
#pragma omp parallel num_threads(b->threads)
    {
        Quad *first = (Quad *)x + (size_t)omp_get_thread_num() * STREAMS * count;
        for (size_t i = 0; i < count; i += LINE)
            for (size_t s = 0; s < STREAMS; s++)
                for (size_t k = 0; k < LINE; k++) first[s * count + i + k] *= FACTOR;
    }
    return 2 * streams_bytes(b, n);
}
