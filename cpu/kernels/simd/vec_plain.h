/* v16 as a C array; only vec.h includes this. */
#ifndef CPU_KERNELS_VEC_PLAIN_H
#define CPU_KERNELS_VEC_PLAIN_H

typedef struct v16 {
    float at[16];
} v16;
typedef struct m16 {
    int32_t at[16]; /* 0 or -1 */
} m16;

#define VEC_LANES for (int i = 0; i < 16; i++)

VEC_INLINE v16 v16_set1(float x)
{
    v16 r;
    VEC_LANES r.at[i] = x;
    return r;
}

VEC_INLINE v16 v16_zero(void)
{
    return v16_set1(0.0f);
}

VEC_INLINE v16 v16_load(const float *p)
{
    v16 r;
    memcpy(r.at, p, sizeof r.at);
    return r;
}

VEC_INLINE void v16_store(float *p, v16 a)
{
    memcpy(p, a.at, sizeof a.at);
}

/* The first 8. */
VEC_INLINE void v16_store_half(float *p, v16 a)
{
    memcpy(p, a.at, sizeof a.at / 2);
}

VEC_INLINE v16 v16_load_n(const float *p, int n)
{
    v16 r = v16_zero();
    for (int i = 0; i < n; i++) r.at[i] = p[i];
    return r;
}

VEC_INLINE void v16_store_n(float *p, v16 a, int n)
{
    for (int i = 0; i < n; i++) p[i] = a.at[i];
}

#define VEC_BINARY(name, expression)                                                                                   \
    VEC_INLINE v16 name(v16 a, v16 b)                                                                                  \
    {                                                                                                                  \
        v16 r;                                                                                                         \
        VEC_LANES r.at[i] = expression;                                                                                \
        return r;                                                                                                      \
    }

VEC_BINARY(v16_add, a.at[i] + b.at[i])
VEC_BINARY(v16_sub, a.at[i] - b.at[i])
VEC_BINARY(v16_mul, a.at[i] * b.at[i])
VEC_BINARY(v16_div, a.at[i] / b.at[i])
VEC_BINARY(v16_max, a.at[i] > b.at[i] ? a.at[i] : b.at[i])
VEC_BINARY(v16_min, a.at[i] < b.at[i] ? a.at[i] : b.at[i])
#undef VEC_BINARY

VEC_INLINE v16 v16_sqrt(v16 a)
{
    VEC_LANES a.at[i] = sqrtf(a.at[i]);
    return a;
}

VEC_INLINE v16 v16_fma(v16 a, v16 b, v16 c)
{
    VEC_LANES c.at[i] = fmaf(a.at[i], b.at[i], c.at[i]);
    return c;
}

VEC_INLINE v16 v16_nfma(v16 a, v16 b, v16 c)
{
    VEC_LANES c.at[i] = fmaf(-a.at[i], b.at[i], c.at[i]);
    return c;
}

VEC_INLINE v16 v16_abs(v16 a)
{
    VEC_LANES a.at[i] = fabsf(a.at[i]);
    return a;
}

VEC_INLINE v16 v16_neg(v16 a)
{
    VEC_LANES a.at[i] = -a.at[i];
    return a;
}

#define VEC_COMPARE(name, op)                                                                                          \
    VEC_INLINE m16 name(v16 a, v16 b)                                                                                  \
    {                                                                                                                  \
        m16 r;                                                                                                         \
        VEC_LANES r.at[i] = -(a.at[i] op b.at[i]);                                                                     \
        return r;                                                                                                      \
    }

VEC_COMPARE(v16_lt, <)
VEC_COMPARE(v16_le, <=)
VEC_COMPARE(v16_eq, ==)
#undef VEC_COMPARE

VEC_INLINE m16 m16_first(int n)
{
    m16 r;
    VEC_LANES r.at[i] = -(i < n);
    return r;
}

VEC_INLINE v16 v16_select(m16 m, v16 a, v16 b)
{
    VEC_LANES b.at[i] = m.at[i] ? a.at[i] : b.at[i];
    return b;
}

/* 2^n for a whole -126 <= n <= 127. */
VEC_INLINE float vec_power2(int n)
{
    int32_t bits = (n + 127) * (1 << 23);
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* The first product is exact unless it overflows, the second rounds. */
VEC_INLINE v16 v16_scale2(v16 a, v16 n)
{
    VEC_LANES
    {
        int whole = n.at[i] == n.at[i] ? (int)n.at[i] : 0;
        int half = whole >> 1;
        a.at[i] = a.at[i] * vec_power2(half) * vec_power2(whole - half);
    }
    return a;
}

VEC_INLINE v16 v16_frexp(v16 a, v16 *e)
{
    VEC_LANES
    {
        int32_t bits;
        memcpy(&bits, &a.at[i], sizeof bits);
        e->at[i] = (float)((bits >> 23) - 126);
        bits = (bits & 0x007fffff) | 0x3f000000;
        memcpy(&a.at[i], &bits, sizeof bits);
    }
    return a;
}

/* bf16: the upper half of an f32. Widening is exact. */
VEC_INLINE v16 v16_load_bf16_n(const uint16_t *p, int n)
{
    v16 r = v16_zero();
    for (int i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)p[i] << 16;
        memcpy(&r.at[i], &bits, sizeof bits);
    }
    return r;
}

VEC_INLINE v16 v16_load_bf16(const uint16_t *p)
{
    return v16_load_bf16_n(p, 16);
}

VEC_INLINE uint16_t vec_narrow_bf16(float a)
{
    uint32_t bits;
    if (a != a) a = NAN;
    memcpy(&bits, &a, sizeof bits);
    return (uint16_t)((bits + (a == a ? 0x7fff + (bits >> 16 & 1) : 0)) >> 16);
}

VEC_INLINE void v16_store_bf16_n(uint16_t *p, v16 a, int n)
{
    for (int i = 0; i < n; i++) p[i] = vec_narrow_bf16(a.at[i]);
}

VEC_INLINE void v16_store_bf16(uint16_t *p, v16 a)
{
    v16_store_bf16_n(p, a, 16);
}

VEC_INLINE v16 v16_round_bf16(v16 a)
{
    uint16_t halves[16];
    v16_store_bf16(halves, a);
    return v16_load_bf16(halves);
}

/* Pairs of bf16 in 32-bit lanes: the first in the low half. */
VEC_INLINE uint32_t vec_bits(float a)
{
    uint32_t bits;
    memcpy(&bits, &a, sizeof bits);
    return bits;
}

VEC_INLINE float vec_float(uint32_t bits)
{
    float a;
    memcpy(&a, &bits, sizeof a);
    return a;
}

VEC_INLINE v16 v16_pair(v16 first, v16 second)
{
    VEC_LANES first.at[i] = vec_float(vec_bits(first.at[i]) >> 16 | (vec_bits(second.at[i]) & 0xffff0000u));
    return first;
}

VEC_INLINE v16 v16_firsts(v16 pairs)
{
    VEC_LANES pairs.at[i] = vec_float(vec_bits(pairs.at[i]) << 16);
    return pairs;
}

VEC_INLINE v16 v16_seconds(v16 pairs)
{
    VEC_LANES pairs.at[i] = vec_float(vec_bits(pairs.at[i]) & 0xffff0000u);
    return pairs;
}

VEC_INLINE v16 v16_load_split(const uint16_t *high, const uint16_t *low)
{
    v16 r;
    VEC_LANES r.at[i] = vec_float(((uint32_t)high[i] << 16) + (uint32_t)(int16_t)low[i]);
    return r;
}

VEC_INLINE void v16_store_split(uint16_t *high, uint16_t *low, v16 a)
{
    VEC_LANES
    {
        high[i] = (uint16_t)((vec_bits(a.at[i]) + 0x8000u) >> 16);
        low[i] = (uint16_t)vec_bits(a.at[i]);
    }
}

VEC_INLINE float v16_reduce_add(v16 a)
{
    for (int step = 8; step > 0; step >>= 1)
        for (int i = 0; i < step; i++) a.at[i] = a.at[i] + a.at[i + step];
    return a.at[0];
}

VEC_INLINE float v16_reduce_max(v16 a)
{
    for (int step = 8; step > 0; step >>= 1)
        for (int i = 0; i < step; i++) a.at[i] = a.at[i] > a.at[i + step] ? a.at[i] : a.at[i + step];
    return a.at[0];
}

VEC_INLINE void v16_transpose(v16 r[16])
{
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < i; j++) {
            float t = r[i].at[j];
            r[i].at[j] = r[j].at[i];
            r[j].at[i] = t;
        }
}

#undef VEC_LANES

#endif
