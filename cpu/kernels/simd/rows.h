/* Walking a row of floats in v16 steps, and the sums of a row in their one fixed order. */
#ifndef CPU_KERNELS_ROWS_H
#define CPU_KERNELS_ROWS_H

#include <string.h>

#include "cpu/internal.h"
#include "cpu/kernels/simd/vec.h"

/* for each step at j of n floats: k = 16 lanes, fewer in the last step */
#define EACH_V16(j, k, n) for (size_t j = 0, k = row_lanes(n); j < (n); j += VEC, k = row_lanes((n)-j))

VEC_INLINE size_t row_lanes(size_t left)
{
    return left < VEC ? left : VEC;
}

VEC_INLINE v16 row_load(const float *p, size_t k)
{
    return k == VEC ? v16_load(p) : v16_load_n(p, (int)k);
}

VEC_INLINE void row_store(float *p, v16 a, size_t k)
{
    if (k == VEC) {
        v16_store(p, a);
    } else {
        v16_store_n(p, a, (int)k);
    }
}

/* A row of either type, read and written as f32 in the vectors. */
typedef struct Row {
    void *p;
    DType dtype;
} Row;

VEC_INLINE Row row_of(Mat m, size_t i)
{
    return (Row){(char *)m.p + i * m.stride * dtype_size(m.dtype), m.dtype};
}

/* Row n of head h. */
VEC_INLINE Row head_row(HeadView v, size_t n, size_t h)
{
    return (Row){(char *)v.p + (n * v.row + h * v.head) * dtype_size(v.dtype), v.dtype};
}

VEC_INLINE Row row_from(Row r, size_t j)
{
    return (Row){(char *)r.p + j * dtype_size(r.dtype), r.dtype};
}

VEC_INLINE v16 any_load(Row r, size_t j, size_t k)
{
    if (r.dtype == DTYPE_F32) return row_load((const float *)r.p + j, k);
    return v16_load_bf16_n((const uint16_t *)r.p + j, (int)k);
}

VEC_INLINE void any_store(Row r, size_t j, v16 a, size_t k)
{
    if (r.dtype == DTYPE_F32) row_store((float *)r.p + j, a, k);
    else v16_store_bf16_n((uint16_t *)r.p + j, a, (int)k);
}

/* y = x for n values of any types. */
static inline void copy_row(Row y, Row x, size_t n)
{
    if (y.dtype == x.dtype) {
        memcpy(y.p, x.p, n * dtype_size(y.dtype));
        return;
    }
    EACH_V16(j, k, n)
    {
        any_store(y, j, any_load(x, j, k), k);
    }
}

/* Four running sums hide the latency of the FMA; step i of a row goes to sum i % 4. */
typedef struct RowSum {
    v16 part[4];
} RowSum;

VEC_INLINE RowSum row_sum_zero(void)
{
    v16 zero = v16_zero();
    return (RowSum){{zero, zero, zero, zero}};
}

VEC_INLINE float row_sum_total(RowSum s)
{
    return v16_reduce_add(v16_add(v16_add(s.part[0], s.part[1]), v16_add(s.part[2], s.part[3])));
}

/* sum_j a_j b_j */
VEC_INLINE float any_dot(Row a, Row b, size_t n)
{
    RowSum s = row_sum_zero();
    size_t j = 0;
    for (; j + 4 * VEC <= n; j += 4 * VEC) {
        for (size_t i = 0; i < 4; i++) {
            s.part[i] = v16_fma(any_load(a, j + i * VEC, VEC), any_load(b, j + i * VEC, VEC), s.part[i]);
        }
    }
    for (int i = 0; j < n; j += VEC, i++) {
        size_t k = row_lanes(n - j);
        s.part[i] = v16_fma(any_load(a, j, k), any_load(b, j, k), s.part[i]);
    }
    return row_sum_total(s);
}

VEC_INLINE float row_dot(const float *a, const float *b, size_t n)
{
    return any_dot((Row){(void *)a, DTYPE_F32}, (Row){(void *)b, DTYPE_F32}, n);
}

/* Column ranges for work that must not be split over rows: `parts` ranges, cut at multiples of 16. */
VEC_INLINE size_t column_cut(size_t cols, int part, int parts)
{
    size_t steps = (cols + VEC - 1) / VEC, at = steps * (size_t)part / (size_t)parts * VEC;
    return at < cols ? at : cols;
}

#endif
