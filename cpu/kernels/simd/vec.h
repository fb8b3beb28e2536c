/* v16: a logical vector of 16 f32, the same bits on three instruction sets.
 *
 * Kernels are written once against v16 and compiled three times; __AVX512F__, __AVX2__ with __FMA__, or neither
 * choose the form (one 512-bit register, two 256-bit ones, a C array with fmaf). Every operation below is exactly
 * rounded or a fixed composition of exactly rounded ones, so a result that is not a NaN has the same bits everywhere
 * (a NaN stays a NaN, its payload may differ). m16 is one truth value per lane.
 *
 * Tails: a masked load gives 0 in the lanes from n on and does not touch their memory; a masked store leaves it alone.
 * No alignment is asked for. */
#ifndef CPU_KERNELS_VEC_H
#define CPU_KERNELS_VEC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* The address sanitizer watches every inlined temporary: inlining would cost it minutes of compilation a file. */
#if defined(__SANITIZE_ADDRESS__)
#define VEC_INLINE static __attribute__((noinline, unused))
#else
#define VEC_INLINE static inline __attribute__((always_inline, unused))
#endif

enum { VEC = 16 };

#if defined(__AVX512F__)
#include "cpu/kernels/simd/vec_avx512.h"
#elif defined(__AVX2__) && defined(__FMA__)
#include "cpu/kernels/simd/vec_avx2.h"
#else
#include "cpu/kernels/simd/vec_plain.h"
#endif

/* What the included file defines:
 *   v16_zero(), v16_set1(x)           all lanes 0, all lanes x
 *   v16_load(p), v16_store(p, a)      16 floats
 *   v16_load_n(p, n), v16_store_n(p, a, n)   the first n, 0 <= n <= 16
 *   v16_add, v16_sub, v16_mul, v16_div (a, b), v16_sqrt(a)    rounded once
 *   v16_fma(a, b, c) = a * b + c,  v16_nfma(a, b, c) = c - a * b    rounded once
 *   v16_max(a, b) = a > b ? a : b,  v16_min(a, b) = a < b ? a : b   (so b where either is a NaN)
 *   v16_lt, v16_le, v16_eq (a, b)     false where either is a NaN
 *   m16_first(n)                      lanes below n (n <= 0: none, n >= 16: all)
 *   v16_select(m, a, b)               m ? a : b
 *   v16_abs(a), v16_neg(a)            sign bit cleared, flipped
 *   v16_scale2(a, n)                  a * 2^n, rounded once; 0.5 <= |a| < 2, n whole, |n| <= 250
 *   v16_frexp(a, &e)                  a = m * 2^e for a normal positive: returns m in [0.5, 1), e as floats
 *   v16_load_bf16(p), v16_load_bf16_n(p, n)  16 bf16 widened, the first n
 *   v16_store_bf16(p, a), v16_store_bf16_n(p, a, n), v16_round_bf16(a)   to the nearest bf16, ties to even; NaN stays NaN
 *   v16_pair(a, b)                    bf16 values a, b as pairs in 32-bit lanes; v16_firsts(p), v16_seconds(p): back
 *   v16_load_split(h, l), v16_store_split(h, l, a)   16 f32 in two halves (core/weight_block.h)
 *   v16_transpose(r)                  r[i] lane j and r[j] lane i change places, 16 by 16
 *   v16_reduce_add(a), v16_reduce_max(a)  the tree (i, i + 8), (i, i + 4), (i, i + 2), (i, i + 1) */

/* sum + a0 b0 + a1 b1 in each lane, (a0, a1) the pair of bf16 at a, (b0, b1) the lane's of b: the second product first, each
 * added with one rounding. Where a CPU has it as one instruction, that one's rounding. */
#if !defined(VEC_HAS_DOT)
VEC_INLINE v16 v16_dot(const void *a, v16 b, v16 sum)
{
    uint32_t pair[2];
    float value[2];
    memcpy(&pair[1], a, sizeof pair[1]);
    pair[0] = pair[1] << 16;
    pair[1] &= 0xffff0000u;
    memcpy(value, pair, sizeof value);
    sum = v16_fma(v16_set1(value[1]), v16_seconds(b), sum);
    return v16_fma(v16_set1(value[0]), v16_firsts(b), sum);
}
#endif

/* e^a, at most 1.1 ulp off, exactly 1 at 0. 0 at -inf, inf above 88.73, denormal results rounded
 * once, NaN at NaN. */
VEC_INLINE v16 v16_exp(v16 a)
{
    const v16 magic = v16_set1(12582912.0f); /* 1.5 * 2^23: adding it rounds to a whole number */
    v16 x = v16_min(v16_set1(89.0f), v16_max(v16_set1(-104.0f), a));
    v16 n = v16_sub(v16_fma(x, v16_set1(1.44269502f), magic), magic);
    v16 r = v16_nfma(n, v16_set1(0.693359375f), x); /* ln 2 in two parts, the first of 10 bits: n * it is exact */
    r = v16_nfma(n, v16_set1(-0.000212194442f), r);
    v16 q = v16_set1(0.00138145953f);
    q = v16_fma(q, r, v16_set1(0.00836871658f));
    q = v16_fma(q, r, v16_set1(0.041668389f));
    q = v16_fma(q, r, v16_set1(0.166665211f));
    q = v16_fma(q, r, v16_set1(0.49999994f));
    v16 p = v16_add(v16_fma(v16_mul(q, r), r, r), v16_set1(1.0f));
    return v16_scale2(p, n);
}

/* log a, at most 0.8 ulp off. -inf at 0 (either sign), NaN below 0, inf at inf, denormals right, NaN at NaN. */
VEC_INLINE v16 v16_log(v16 a)
{
    const v16 one = v16_set1(1.0f);
    m16 small = v16_lt(a, v16_set1(1.17549435e-38f));
    v16 e, m = v16_frexp(v16_select(small, v16_mul(a, v16_set1(33554432.0f)), a), &e);
    e = v16_select(small, v16_sub(e, v16_set1(25.0f)), e);
    m16 low = v16_lt(m, v16_set1(0.707106769f)); /* m in [sqrt(1/2), sqrt(2)) keeps log m small */
    m = v16_select(low, v16_add(m, m), m);
    e = v16_select(low, v16_sub(e, one), e);
    v16 f = v16_sub(m, one), ff = v16_mul(f, f);
    v16 q = v16_set1(0.0691559315f);
    q = v16_fma(q, f, v16_set1(-0.117898978f));
    q = v16_fma(q, f, v16_set1(0.118729204f));
    q = v16_fma(q, f, v16_set1(-0.123843297f));
    q = v16_fma(q, f, v16_set1(0.142186642f));
    q = v16_fma(q, f, v16_set1(-0.166692525f));
    q = v16_fma(q, f, v16_set1(0.200022265f));
    q = v16_fma(q, f, v16_set1(-0.249999866f));
    q = v16_fma(q, f, v16_set1(0.333333105f));
    v16 tail = v16_fma(v16_mul(ff, f), q, v16_mul(e, v16_set1(-0.000212194442f)));
    tail = v16_add(f, v16_nfma(v16_set1(0.5f), ff, tail));
    v16 r = v16_fma(e, v16_set1(0.693359375f), tail);
    const v16 inf = v16_set1(INFINITY);
    r = v16_select(v16_eq(a, inf), inf, r);
    r = v16_select(v16_eq(a, v16_zero()), v16_neg(inf), r);
    return v16_select(v16_le(v16_zero(), a), r, v16_set1(NAN));
}

/* 1 / (1 + e^-a), at most 2.1 ulp off, without overflow on either side. */
VEC_INLINE v16 v16_sigmoid(v16 a)
{
    const v16 one = v16_set1(1.0f);
    v16 e = v16_exp(v16_neg(v16_abs(a)));
    return v16_div(v16_select(v16_lt(a, v16_zero()), e, one), v16_add(one, e));
}

/* a / (1 + e^-a) (Elfwing et al., arXiv:1702.03118); NaN at -inf. */
VEC_INLINE v16 v16_silu(v16 a)
{
    return v16_mul(a, v16_sigmoid(a));
}

#endif
