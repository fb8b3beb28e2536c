/* The one softmax of a row: head, sampler and router share it, so that their values agree bit for bit. */
#ifndef CPU_KERNELS_SOFTMAX_H
#define CPU_KERNELS_SOFTMAX_H

#include <math.h>

#include "cpu/kernels/simd/rows.h"

/* max_j x_j * scale */
VEC_INLINE float row_scaled_max(const float *x, size_t n, float scale)
{
    const v16 low = v16_set1(-INFINITY), s = v16_set1(scale);
    v16 m = low;
    EACH_V16(j, k, n)
    {
        m = v16_max(v16_select(m16_first((int)k), v16_mul(row_load(x + j, k), s), low), m);
    }
    return v16_reduce_max(m);
}

/* e_j = exp(x_j * scale - max), and their sum. e may be x. */
VEC_INLINE float row_exp(float *e, const float *x, size_t n, float scale, float max)
{
    const v16 zero = v16_zero(), s = v16_set1(scale), m = v16_set1(max);
    RowSum sum = row_sum_zero();
    EACH_V16(j, k, n)
    {
        v16 v = v16_exp(v16_sub(v16_mul(row_load(x + j, k), s), m));
        v = v16_select(m16_first((int)k), v, zero);
        v16 *part = &sum.part[j / VEC % 4];
        *part = v16_add(*part, v);
        if (e) {
            row_store(e + j, v, k);
        }
    }
    return row_sum_total(sum);
}

/* log of a number as the vectors take it. */
VEC_INLINE float row_log(float x)
{
    float out[VEC];
    v16_store(out, v16_log(v16_set1(x)));
    return out[0];
}

#endif
