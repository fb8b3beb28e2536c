/* v16 as two 256-bit registers; only vec.h includes this. */
#ifndef CPU_KERNELS_VEC_AVX2_H
#define CPU_KERNELS_VEC_AVX2_H

#include <immintrin.h>

typedef struct v16 {
    __m256 lo, hi;
} v16;
typedef v16 m16; /* all bits set where true */

VEC_INLINE v16 v16_set1(float x)
{
    __m256 v = _mm256_set1_ps(x);
    return (v16){v, v};
}

VEC_INLINE v16 v16_zero(void)
{
    return v16_set1(0.0f);
}

VEC_INLINE v16 v16_load(const float *p)
{
    return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}

VEC_INLINE void v16_store(float *p, v16 a)
{
    _mm256_storeu_ps(p, a.lo);
    _mm256_storeu_ps(p + 8, a.hi);
}

/* The first 8. */
VEC_INLINE void v16_store_half(float *p, v16 a)
{
    _mm256_storeu_ps(p, a.lo);
}

VEC_INLINE m16 m16_first(int n)
{
    __m256i limit = _mm256_set1_epi32(n);
    __m256i lo = _mm256_cmpgt_epi32(limit, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    __m256i hi = _mm256_cmpgt_epi32(limit, _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15));
    return (m16){_mm256_castsi256_ps(lo), _mm256_castsi256_ps(hi)};
}

/* The branches: masked moves are slow on some processors, and most calls are for all lanes. */
VEC_INLINE v16 v16_load_n(const float *p, int n)
{
    if (n >= 16) return v16_load(p);
    m16 m = m16_first(n);
    return (v16){_mm256_maskload_ps(p, _mm256_castps_si256(m.lo)),
                 _mm256_maskload_ps(p + 8, _mm256_castps_si256(m.hi))};
}

VEC_INLINE void v16_store_n(float *p, v16 a, int n)
{
    if (n >= 16) {
        v16_store(p, a);
        return;
    }
    m16 m = m16_first(n);
    _mm256_maskstore_ps(p, _mm256_castps_si256(m.lo), a.lo);
    _mm256_maskstore_ps(p + 8, _mm256_castps_si256(m.hi), a.hi);
}

#define VEC_BINARY(name, of)                                                                                           \
    VEC_INLINE v16 name(v16 a, v16 b)                                                                                  \
    {                                                                                                                  \
        return (v16){of(a.lo, b.lo), of(a.hi, b.hi)};                                                                  \
    }

VEC_BINARY(v16_add, _mm256_add_ps)
VEC_BINARY(v16_sub, _mm256_sub_ps)
VEC_BINARY(v16_mul, _mm256_mul_ps)
VEC_BINARY(v16_div, _mm256_div_ps)
VEC_BINARY(v16_max, _mm256_max_ps)
VEC_BINARY(v16_min, _mm256_min_ps)
#undef VEC_BINARY

#define VEC_COMPARE(name, how)                                                                                         \
    VEC_INLINE m16 name(v16 a, v16 b)                                                                                  \
    {                                                                                                                  \
        return (m16){_mm256_cmp_ps(a.lo, b.lo, how), _mm256_cmp_ps(a.hi, b.hi, how)};                                  \
    }

VEC_COMPARE(v16_lt, _CMP_LT_OQ)
VEC_COMPARE(v16_le, _CMP_LE_OQ)
VEC_COMPARE(v16_eq, _CMP_EQ_OQ)
#undef VEC_COMPARE

VEC_INLINE v16 v16_sqrt(v16 a)
{
    return (v16){_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)};
}

VEC_INLINE v16 v16_fma(v16 a, v16 b, v16 c)
{
    return (v16){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}

VEC_INLINE v16 v16_nfma(v16 a, v16 b, v16 c)
{
    return (v16){_mm256_fnmadd_ps(a.lo, b.lo, c.lo), _mm256_fnmadd_ps(a.hi, b.hi, c.hi)};
}

VEC_INLINE v16 v16_select(m16 m, v16 a, v16 b)
{
    return (v16){_mm256_blendv_ps(b.lo, a.lo, m.lo), _mm256_blendv_ps(b.hi, a.hi, m.hi)};
}

VEC_INLINE v16 v16_abs(v16 a)
{
    __m256 sign = _mm256_set1_ps(-0.0f);
    return (v16){_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi)};
}

VEC_INLINE v16 v16_neg(v16 a)
{
    __m256 sign = _mm256_set1_ps(-0.0f);
    return (v16){_mm256_xor_ps(sign, a.lo), _mm256_xor_ps(sign, a.hi)};
}

/* a * 2^half * 2^(n - half): the first product is exact unless it overflows, the second rounds. */
VEC_INLINE __m256 vec_scale2(__m256 a, __m256 n)
{
    const __m256i bias = _mm256_set1_epi32(127);
    __m256i whole = _mm256_cvtps_epi32(n);
    __m256i half = _mm256_srai_epi32(whole, 1);
    __m256i rest = _mm256_sub_epi32(whole, half);
    a = _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23)));
    return _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23)));
}

VEC_INLINE v16 v16_scale2(v16 a, v16 n)
{
    return (v16){vec_scale2(a.lo, n.lo), vec_scale2(a.hi, n.hi)};
}

VEC_INLINE __m256 vec_frexp(__m256 a, __m256 *e)
{
    __m256i bits = _mm256_castps_si256(a);
    *e = _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_srai_epi32(bits, 23), _mm256_set1_epi32(126)));
    bits = _mm256_or_si256(_mm256_and_si256(bits, _mm256_set1_epi32(0x007fffff)), _mm256_set1_epi32(0x3f000000));
    return _mm256_castsi256_ps(bits);
}

VEC_INLINE v16 v16_frexp(v16 a, v16 *e)
{
    v16 m;
    m.lo = vec_frexp(a.lo, &e->lo);
    m.hi = vec_frexp(a.hi, &e->hi);
    return m;
}

/* bf16: the upper half of an f32. Widening is exact. */
VEC_INLINE __m256 vec_widen_bf16(__m128i halves)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}

VEC_INLINE v16 v16_load_bf16(const uint16_t *p)
{
    return (v16){vec_widen_bf16(_mm_loadu_si128((const __m128i *)p)),
                 vec_widen_bf16(_mm_loadu_si128((const __m128i *)(p + 8)))};
}

VEC_INLINE v16 v16_load_bf16_n(const uint16_t *p, int n)
{
    if (n >= 16) return v16_load_bf16(p);
    uint16_t whole[16] = {0};
    for (int i = 0; i < n; i++) whole[i] = p[i];
    return v16_load_bf16(whole);
}

VEC_INLINE __m256 vec_round_bf16(__m256 a)
{
    __m256i bits = _mm256_castps_si256(a), odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    bits = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    __m256 rounded = _mm256_castsi256_ps(_mm256_and_si256(bits, _mm256_set1_epi32((int)0xffff0000u)));
    return _mm256_blendv_ps(rounded, _mm256_set1_ps(NAN), _mm256_cmp_ps(a, a, _CMP_UNORD_Q));
}

VEC_INLINE v16 v16_round_bf16(v16 a)
{
    return (v16){vec_round_bf16(a.lo), vec_round_bf16(a.hi)};
}

VEC_INLINE void v16_store_bf16(uint16_t *p, v16 a)
{
    __m256i lo = _mm256_srli_epi32(_mm256_castps_si256(vec_round_bf16(a.lo)), 16);
    __m256i hi = _mm256_srli_epi32(_mm256_castps_si256(vec_round_bf16(a.hi)), 16);
    _mm256_storeu_si256((__m256i *)p, _mm256_permute4x64_epi64(_mm256_packus_epi32(lo, hi), 0xd8));
}

VEC_INLINE void v16_store_bf16_n(uint16_t *p, v16 a, int n)
{
    if (n >= 16) {
        v16_store_bf16(p, a);
        return;
    }
    uint16_t whole[16];
    v16_store_bf16(whole, a);
    for (int i = 0; i < n; i++) p[i] = whole[i];
}

/* Pairs of bf16 in 32-bit lanes: the first in the low half. */
VEC_INLINE __m256 vec_low_halves(__m256 a)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a), 16));
}

VEC_INLINE __m256 vec_high_halves(__m256 a)
{
    return _mm256_and_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32((int)0xffff0000u)));
}

VEC_INLINE v16 v16_pair(v16 first, v16 second)
{
    __m256 lo = _mm256_castsi256_ps(_mm256_srli_epi32(_mm256_castps_si256(first.lo), 16));
    __m256 hi = _mm256_castsi256_ps(_mm256_srli_epi32(_mm256_castps_si256(first.hi), 16));
    return (v16){_mm256_or_ps(lo, vec_high_halves(second.lo)), _mm256_or_ps(hi, vec_high_halves(second.hi))};
}

VEC_INLINE v16 v16_firsts(v16 pairs)
{
    return (v16){vec_low_halves(pairs.lo), vec_low_halves(pairs.hi)};
}

VEC_INLINE v16 v16_seconds(v16 pairs)
{
    return (v16){vec_high_halves(pairs.lo), vec_high_halves(pairs.hi)};
}

VEC_INLINE __m256 vec_join_halves(__m128i high, __m128i low)
{
    __m256i h = _mm256_slli_epi32(_mm256_cvtepu16_epi32(high), 16);
    return _mm256_castsi256_ps(_mm256_add_epi32(h, _mm256_cvtepi16_epi32(low)));
}

VEC_INLINE v16 v16_load_split(const uint16_t *high, const uint16_t *low)
{
    const __m128i *h = (const __m128i *)high, *l = (const __m128i *)low;
    return (v16){vec_join_halves(_mm_loadu_si128(h), _mm_loadu_si128(l)),
                 vec_join_halves(_mm_loadu_si128(h + 1), _mm_loadu_si128(l + 1))};
}

VEC_INLINE __m256i vec_low_words(__m256i lo, __m256i hi)
{
    const __m256i mask = _mm256_set1_epi32(0xffff);
    __m256i words = _mm256_packus_epi32(_mm256_and_si256(lo, mask), _mm256_and_si256(hi, mask));
    return _mm256_permute4x64_epi64(words, 0xd8);
}

VEC_INLINE void v16_store_split(uint16_t *high, uint16_t *low, v16 a)
{
    const __m256i half = _mm256_set1_epi32(0x8000);
    __m256i lo = _mm256_castps_si256(a.lo), hi = _mm256_castps_si256(a.hi);
    _mm256_storeu_si256((__m256i *)low, vec_low_words(lo, hi));
    lo = _mm256_srli_epi32(_mm256_add_epi32(lo, half), 16);
    hi = _mm256_srli_epi32(_mm256_add_epi32(hi, half), 16);
    _mm256_storeu_si256((__m256i *)high, vec_low_words(lo, hi));
}

VEC_INLINE float v16_reduce_add(v16 a)
{
    __m256 s = _mm256_add_ps(a.lo, a.hi);
    __m128 t = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    t = _mm_add_ps(t, _mm_movehl_ps(t, t));
    return _mm_cvtss_f32(_mm_add_ss(t, _mm_shuffle_ps(t, t, 1)));
}

VEC_INLINE float v16_reduce_max(v16 a)
{
    __m256 s = _mm256_max_ps(a.lo, a.hi);
    __m128 t = _mm_max_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    t = _mm_max_ps(t, _mm_movehl_ps(t, t));
    return _mm_cvtss_f32(_mm_max_ss(t, _mm_shuffle_ps(t, t, 1)));
}

VEC_INLINE void vec_transpose8(__m256 r[8])
{
    __m256 t[8], u[8];
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            u[i + 2 * j] = _mm256_shuffle_ps(t[i + j], t[i + j + 2], 0x44);
            u[i + 2 * j + 1] = _mm256_shuffle_ps(t[i + j], t[i + j + 2], 0xee);
        }
    for (int c = 0; c < 4; c++) {
        r[c] = _mm256_permute2f128_ps(u[c], u[4 + c], 0x20);
        r[4 + c] = _mm256_permute2f128_ps(u[c], u[4 + c], 0x31);
    }
}

VEC_INLINE void v16_transpose(v16 r[16])
{
    __m256 q[4][8];
    for (int i = 0; i < 8; i++) {
        q[0][i] = r[i].lo;
        q[1][i] = r[i].hi;
        q[2][i] = r[8 + i].lo;
        q[3][i] = r[8 + i].hi;
    }
    for (int i = 0; i < 4; i++) vec_transpose8(q[i]);
    for (int i = 0; i < 8; i++) {
        r[i] = (v16){q[0][i], q[2][i]};
        r[8 + i] = (v16){q[1][i], q[3][i]};
    }
}

#endif
