/* v16 as one 512-bit register; only vec.h includes this. */
#ifndef CPU_KERNELS_VEC_AVX512_H
#define CPU_KERNELS_VEC_AVX512_H

#include <immintrin.h>

typedef __m512 v16;
typedef __mmask16 m16;

VEC_INLINE v16 v16_zero(void)
{
    return _mm512_setzero_ps();
}

VEC_INLINE v16 v16_set1(float x)
{
    return _mm512_set1_ps(x);
}

VEC_INLINE v16 v16_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

VEC_INLINE void v16_store(float *p, v16 a)
{
    _mm512_storeu_ps(p, a);
}

/* The first 8. */
VEC_INLINE void v16_store_half(float *p, v16 a)
{
    _mm256_storeu_ps(p, _mm512_castps512_ps256(a));
}

VEC_INLINE m16 m16_first(int n)
{
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_cmpgt_epi32_mask(_mm512_set1_epi32(n), lane);
}

/* The branches: masked stores are slow on some processors, and most calls are for all lanes. */
VEC_INLINE v16 v16_load_n(const float *p, int n)
{
    return n >= 16 ? _mm512_loadu_ps(p) : _mm512_maskz_loadu_ps(m16_first(n), p);
}

VEC_INLINE void v16_store_n(float *p, v16 a, int n)
{
    if (n >= 16) _mm512_storeu_ps(p, a);
    else _mm512_mask_storeu_ps(p, m16_first(n), a);
}

VEC_INLINE v16 v16_add(v16 a, v16 b)
{
    return _mm512_add_ps(a, b);
}

VEC_INLINE v16 v16_sub(v16 a, v16 b)
{
    return _mm512_sub_ps(a, b);
}

VEC_INLINE v16 v16_mul(v16 a, v16 b)
{
    return _mm512_mul_ps(a, b);
}

VEC_INLINE v16 v16_div(v16 a, v16 b)
{
    return _mm512_div_ps(a, b);
}

VEC_INLINE v16 v16_sqrt(v16 a)
{
    return _mm512_sqrt_ps(a);
}

VEC_INLINE v16 v16_fma(v16 a, v16 b, v16 c)
{
    return _mm512_fmadd_ps(a, b, c);
}

VEC_INLINE v16 v16_nfma(v16 a, v16 b, v16 c)
{
    return _mm512_fnmadd_ps(a, b, c);
}

VEC_INLINE v16 v16_max(v16 a, v16 b)
{
    return _mm512_max_ps(a, b);
}

VEC_INLINE v16 v16_min(v16 a, v16 b)
{
    return _mm512_min_ps(a, b);
}

VEC_INLINE m16 v16_lt(v16 a, v16 b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}

VEC_INLINE m16 v16_le(v16 a, v16 b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ);
}

VEC_INLINE m16 v16_eq(v16 a, v16 b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
}

VEC_INLINE v16 v16_select(m16 m, v16 a, v16 b)
{
    return _mm512_mask_blend_ps(m, b, a);
}

VEC_INLINE v16 v16_abs(v16 a)
{
    return _mm512_abs_ps(a);
}

VEC_INLINE v16 v16_neg(v16 a)
{
    return _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(a), _mm512_set1_epi32(INT32_MIN)));
}

VEC_INLINE v16 v16_scale2(v16 a, v16 n)
{
    return _mm512_scalef_ps(a, n);
}

VEC_INLINE v16 v16_frexp(v16 a, v16 *e)
{
    __m512i bits = _mm512_castps_si512(a);
    *e = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_srai_epi32(bits, 23), _mm512_set1_epi32(126)));
    bits = _mm512_or_si512(_mm512_and_si512(bits, _mm512_set1_epi32(0x007fffff)), _mm512_set1_epi32(0x3f000000));
    return _mm512_castsi512_ps(bits);
}

/* bf16: the upper half of an f32. Widening is exact. */
VEC_INLINE v16 v16_load_bf16(const uint16_t *p)
{
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

VEC_INLINE v16 v16_load_bf16_n(const uint16_t *p, int n)
{
    if (n >= 16) return v16_load_bf16(p);
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m16_first(n), p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

VEC_INLINE v16 v16_round_bf16(v16 a)
{
    __m512i bits = _mm512_castps_si512(a), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    bits = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    __m512 rounded = _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32((int)0xffff0000u)));
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), rounded, _mm512_set1_ps(NAN));
}

VEC_INLINE __m256i vec_narrow_bf16(v16 a)
{
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(v16_round_bf16(a)), 16));
}

VEC_INLINE void v16_store_bf16(uint16_t *p, v16 a)
{
    _mm256_storeu_si256((__m256i *)p, vec_narrow_bf16(a));
}

VEC_INLINE void v16_store_bf16_n(uint16_t *p, v16 a, int n)
{
    if (n >= 16) _mm256_storeu_si256((__m256i *)p, vec_narrow_bf16(a));
    else _mm256_mask_storeu_epi16(p, m16_first(n), vec_narrow_bf16(a));
}

/* Pairs of bf16 in 32-bit lanes: the first in the low half. */
VEC_INLINE v16 v16_pair(v16 first, v16 second)
{
    __m512i low = _mm512_srli_epi32(_mm512_castps_si512(first), 16);
    __m512i high = _mm512_and_si512(_mm512_castps_si512(second), _mm512_set1_epi32((int)0xffff0000u));
    return _mm512_castsi512_ps(_mm512_or_si512(low, high));
}

VEC_INLINE v16 v16_firsts(v16 pairs)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(pairs), 16));
}

VEC_INLINE v16 v16_seconds(v16 pairs)
{
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(pairs), _mm512_set1_epi32((int)0xffff0000u)));
}

#if defined(__AVX512BF16__)
#define VEC_HAS_DOT
VEC_INLINE v16 v16_dot(const void *a, v16 b, v16 sum)
{
    int32_t pair;
    memcpy(&pair, a, sizeof pair);
    return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32(pair), (__m512bh)_mm512_castps_si512(b));
}
#endif

VEC_INLINE v16 v16_load_split(const uint16_t *high, const uint16_t *low)
{
    __m512i h = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)high));
    __m512i l = _mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i *)low));
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_slli_epi32(h, 16), l));
}

VEC_INLINE void v16_store_split(uint16_t *high, uint16_t *low, v16 a)
{
    __m512i bits = _mm512_castps_si512(a), h = _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x8000)), 16);
    _mm256_storeu_si256((__m256i *)high, _mm512_cvtepi32_epi16(h));
    _mm256_storeu_si256((__m256i *)low, _mm512_cvtepi32_epi16(bits));
}

VEC_INLINE float v16_reduce_add(v16 a)
{
    __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a), 1));
    __m256 s = _mm256_add_ps(_mm512_castps512_ps256(a), high);
    __m128 t = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    t = _mm_add_ps(t, _mm_movehl_ps(t, t));
    return _mm_cvtss_f32(_mm_add_ss(t, _mm_shuffle_ps(t, t, 1)));
}

VEC_INLINE float v16_reduce_max(v16 a)
{
    __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a), 1));
    __m256 s = _mm256_max_ps(_mm512_castps512_ps256(a), high);
    __m128 t = _mm_max_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    t = _mm_max_ps(t, _mm_movehl_ps(t, t));
    return _mm_cvtss_f32(_mm_max_ss(t, _mm_shuffle_ps(t, t, 1)));
}

/* Pairs of rows, then pairs of pairs inside each 128-bit lane, then the lanes. */
VEC_INLINE void v16_transpose(v16 r[16])
{
    __m512d t[16], u[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_castps_pd(_mm512_unpacklo_ps(r[i], r[i + 1]));
        t[i + 1] = _mm512_castps_pd(_mm512_unpackhi_ps(r[i], r[i + 1]));
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            u[i + 2 * j] = _mm512_unpacklo_pd(t[i + j], t[i + j + 2]);
            u[i + 2 * j + 1] = _mm512_unpackhi_pd(t[i + j], t[i + j + 2]);
        }
    for (int c = 0; c < 4; c++) {
        __m512 a = _mm512_castpd_ps(u[c]), b = _mm512_castpd_ps(u[4 + c]);
        __m512 d = _mm512_castpd_ps(u[8 + c]), e = _mm512_castpd_ps(u[12 + c]);
        __m512 ab_low = _mm512_shuffle_f32x4(a, b, 0x44), ab_high = _mm512_shuffle_f32x4(a, b, 0xee);
        __m512 de_low = _mm512_shuffle_f32x4(d, e, 0x44), de_high = _mm512_shuffle_f32x4(d, e, 0xee);
        r[c] = _mm512_shuffle_f32x4(ab_low, de_low, 0x88);
        r[4 + c] = _mm512_shuffle_f32x4(ab_low, de_low, 0xdd);
        r[8 + c] = _mm512_shuffle_f32x4(ab_high, de_high, 0x88);
        r[12 + c] = _mm512_shuffle_f32x4(ab_high, de_high, 0xdd);
    }
}

#endif
