/* 16-bit floats <-> f32, bit for bit, subnormals, infinities and NaN included; rounding to nearest even. */
#ifndef CHECKPOINTS_HALVES_H
#define CHECKPOINTS_HALVES_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t bits_of_f32(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float f32_of_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static inline float f32_of_bf16(uint16_t h)
{
    return f32_of_bits((uint32_t)h << 16);
}

static inline uint16_t bf16_of_f32(float x)
{
    uint32_t u = bits_of_f32(x);
    if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)(u >> 16 | 64); /* a NaN stays one, made quiet */
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static inline float f32_of_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = (uint32_t)(h & 0x7fff) << 13;
    if ((h & 0x7c00) == 0x7c00) return f32_of_bits(sign | 0x7f800000 | rest);
    /* Read as f32 the exponent is 112 too small; the product is exact, also for subnormals. */
    return f32_of_bits(sign | bits_of_f32(f32_of_bits(rest) * 0x1p112f));
}

static inline uint16_t f16_of_f32(float x)
{
    uint32_t u = bits_of_f32(x), sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
    if (a > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x3ff));
    if (a >= 0x477ff000) return (uint16_t)(sign | 0x7c00); /* 65520 and above round to infinity */
    /* Below 2^-14 the sum with 1/2 rounds at 2^-24, which is the last place of a subnormal half. */
    if (a < 0x38800000) return (uint16_t)(sign | (bits_of_f32(f32_of_bits(a) + 0.5f) - 0x3f000000));
    return (uint16_t)(sign | (a - (112u << 23) + 0xfff + (a >> 13 & 1)) >> 13);
}

/* The first of n numbers that would become infinite as f16, or NULL. */
static inline const float *beyond_f16(const float *x, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        if (fabsf(x[i]) >= 65520.0f && isfinite(x[i])) return x + i;
    return NULL;
}

/* Whether n bf16 words (half) or f32 numbers, at any address, are finite: no exponent is all ones. Several at once in 64 bits: a
 * lane's exponent plus its lowest bit reaches the sign's place only from all ones. */
static inline bool all_finite(const void *numbers, size_t n, bool half)
{
    const uint64_t exponent = half ? 0x7f807f807f807f80u : 0x7f8000007f800000u,
                   one = half ? 0x0080008000800080u : 0x0080000000800000u,
                   sign = half ? 0x8000800080008000u : 0x8000000080000000u;
    const char *from = numbers;
    size_t bytes = n * (half ? 2 : 4);
    uint64_t odd = 0, x;
    for (; bytes >= sizeof x; bytes -= sizeof x, from += sizeof x) {
        memcpy(&x, from, sizeof x);
        odd |= (x & exponent) + one;
    }
    x = 0;
    memcpy(&x, from, bytes);
    return ((odd | ((x & exponent) + one)) & sign) == 0;
}

#endif
