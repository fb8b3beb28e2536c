/* Walking rows of f32 or bf16 with warps and half-warps, and the sums and functions of a row in the CPU's bits.
 *
 * The CPU sums a row in 64 residues: element j goes to running sum j mod 64, and these are added in a fixed tree
 * (cpu/kernels/simd/rows.h). Here lane l of a half-warp owns residues 4 l .. 4 l + 3, so that its loads are 16 bytes, and
 * shuffles by 4, 8, 2, 1 are that tree. */
#ifndef GPU_KERNELS_ROWS_CUH
#define GPU_KERNELS_ROWS_CUH

#include "gpu/internal.h"
#include "gpu/kernel.h"

enum {
    ROW_THREADS = 128,
    WARP = 32,
    HALF_WARP = 16,
    WARP_ROWS = ROW_THREADS / WARP,
    HALF_ROWS = ROW_THREADS / HALF_WARP
};

/* The row of this warp or half-warp; there may be none. Lanes without a row take part in shuffles with n = 0 elements. */
DEVICE size_t warp_row()
{
    return (size_t)blockIdx.x * WARP_ROWS + threadIdx.x / WARP;
}

DEVICE size_t half_row()
{
    return (size_t)blockIdx.x * HALF_ROWS + threadIdx.x / HALF_WARP;
}

/* for this lane's groups of four of n elements, `step` lanes side by side */
#define EACH_FOUR(j, lane, step, n) for (size_t j = 4 * (size_t)(lane); j < (n); j += 4 * (step))

DEVICE bool four_at_once(const float *p, size_t j, size_t n)
{
    return j + 4 <= n && ((uintptr_t)(p + j) & 15u) == 0;
}

/* Elements j .. j + 3 of a row of n; `none` behind its end. */
DEVICE float4 load4(const float *p, size_t j, size_t n, float none = 0.0f)
{
    if (four_at_once(p, j, n)) return *(const float4 *)(p + j);
    return make_float4(p[j], j + 1 < n ? p[j + 1] : none, j + 2 < n ? p[j + 2] : none, j + 3 < n ? p[j + 3] : none);
}

DEVICE void store4(float *p, size_t j, size_t n, float4 v)
{
    if (four_at_once(p, j, n)) {
        *(float4 *)(p + j) = v;
        return;
    }
    p[j] = v.x;
    if (j + 1 < n) p[j + 1] = v.y;
    if (j + 2 < n) p[j + 2] = v.z;
    if (j + 3 < n) p[j + 3] = v.w;
}

/* A row of either type; in registers its elements are f32, bf16 is read exactly and written to the nearest. */
typedef struct Row {
    void *p;
    bool half;
} Row;

DEVICE float widen(unsigned half)
{
    return __uint_as_float(half << 16);
}

/* The nearest bf16, ties to even, every NaN to one. */
DEVICE unsigned narrow(float f)
{
    unsigned u = __float_as_uint(f);
    return (u & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
}

DEVICE Row f32_row(const float *p)
{
    Row r = {(void *)p, false};
    return r;
}

DEVICE Row row_of(Mat m, size_t n)
{
    Row r = {(char *)m.p + n * m.stride * (m.dtype == DTYPE_BF16 ? 2 : 4), m.dtype == DTYPE_BF16};
    return r;
}

/* Row n, head h. */
DEVICE Row head_row(HeadView v, size_t n, size_t h)
{
    Row r = {(char *)v.p + (n * v.row + h * v.head) * (v.dtype == DTYPE_BF16 ? 2 : 4), v.dtype == DTYPE_BF16};
    return r;
}

DEVICE Row row_from(Row r, size_t j)
{
    Row from = {(char *)r.p + j * (r.half ? 2 : 4), r.half};
    return from;
}

DEVICE float row_get(Row r, size_t j)
{
    return r.half ? widen(((const uint16_t *)r.p)[j]) : ((const float *)r.p)[j];
}

DEVICE void row_put(Row r, size_t j, float v)
{
    if (r.half) ((uint16_t *)r.p)[j] = (uint16_t)narrow(v);
    else ((float *)r.p)[j] = v;
}

DEVICE bool four_halves(const uint16_t *p, size_t j, size_t n)
{
    return j + 4 <= n && ((uintptr_t)(p + j) & 7u) == 0;
}

DEVICE float4 load4(Row r, size_t j, size_t n, float none = 0.0f)
{
    if (!r.half) return load4((const float *)r.p, j, n, none);
    const uint16_t *p = (const uint16_t *)r.p;
    if (four_halves(p, j, n)) {
        uint2 v = *(const uint2 *)(p + j);
        return make_float4(widen(v.x & 0xffffu), widen(v.x >> 16), widen(v.y & 0xffffu), widen(v.y >> 16));
    }
    return make_float4(widen(p[j]), j + 1 < n ? widen(p[j + 1]) : none, j + 2 < n ? widen(p[j + 2]) : none,
                       j + 3 < n ? widen(p[j + 3]) : none);
}

DEVICE void store4(Row r, size_t j, size_t n, float4 v)
{
    if (!r.half) {
        store4((float *)r.p, j, n, v);
        return;
    }
    uint16_t *p = (uint16_t *)r.p;
    if (four_halves(p, j, n)) {
        uint2 pairs = {narrow(v.x) | narrow(v.y) << 16, narrow(v.z) | narrow(v.w) << 16};
        *(uint2 *)(p + j) = pairs;
        return;
    }
    p[j] = (uint16_t)narrow(v.x);
    if (j + 1 < n) p[j + 1] = (uint16_t)narrow(v.y);
    if (j + 2 < n) p[j + 2] = (uint16_t)narrow(v.z);
    if (j + 3 < n) p[j + 3] = (uint16_t)narrow(v.w);
}

DEVICE float4 add4(float4 a, float4 b)
{
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

DEVICE float4 fma4(float4 a, float4 b, float4 c)
{
    return make_float4(fmaf(a.x, b.x, c.x), fmaf(a.y, b.y, c.y), fmaf(a.z, b.z, c.z), fmaf(a.w, b.w, c.w));
}

DEVICE float4 scale4(float4 a, float s)
{
    return make_float4(a.x * s, a.y * s, a.z * s, a.w * s);
}

/* Row n, head h. */
DEVICE float *head_ptr(HeadView v, size_t n, size_t h)
{
    return (float *)v.p + n * v.row + h * v.head;
}

DEVICE float *row_ptr(Mat m, size_t n)
{
    return (float *)m.p + n * m.stride;
}

/* The sum over a half-warp of sums by residue; every lane gets it. */
DEVICE float half_sum(float4 s)
{
    s = add4(s, shuffle_xor4(s, 4));
    s = add4(s, shuffle_xor4(s, 8));
    s = add4(s, shuffle_xor4(s, 2));
    s = add4(s, shuffle_xor4(s, 1));
    return (s.x + s.z) + (s.y + s.w);
}

DEVICE float larger(float a, float b)
{
    return a > b ? a : b;
}

DEVICE float half_max(float m)
{
    for (int step = 8; step > 0; step >>= 1) m = larger(__shfl_xor_sync(0xffffffffu, m, step), m);
    return m;
}

/* Of one value a lane, in the order of v16_reduce_add. */
DEVICE float half_reduce_add(float v)
{
    for (int step = 8; step > 0; step >>= 1) v = v + __shfl_xor_sync(0xffffffffu, v, step);
    return v;
}

/* sum_j a_j b_j */
DEVICE float half_dot(Row a, Row b, size_t n)
{
    float4 s = make_float4(0, 0, 0, 0);
    EACH_FOUR(j, threadIdx.x % HALF_WARP, HALF_WARP, n) s = fma4(load4(a, j, n), load4(b, j, n), s);
    return half_sum(s);
}

/* 2^n for a whole -126 <= n <= 127 */
DEVICE float power2(int n)
{
    return __uint_as_float((unsigned)(n + 127) << 23);
}

/* e^a: v16_exp of cpu/kernels/simd/vec.h, operation for operation. */
DEVICE float exp_r1(float a)
{
    const float magic = 12582912.0f;
    float x = -104.0f > a ? -104.0f : a;
    x = 89.0f < x ? 89.0f : x;
    float n = fmaf(x, 1.44269502f, magic) - magic;
    float r = fmaf(-n, 0.693359375f, x);
    r = fmaf(-n, -0.000212194442f, r);
    float q = 0.00138145953f;
    q = fmaf(q, r, 0.00836871658f);
    q = fmaf(q, r, 0.041668389f);
    q = fmaf(q, r, 0.166665211f);
    q = fmaf(q, r, 0.49999994f);
    float p = fmaf(q * r, r, r) + 1.0f;
    int whole = n == n ? (int)n : 0, half = whole >> 1;
    return p * power2(half) * power2(whole - half);
}

/* log a: v16_log, operation for operation. */
DEVICE float log_r1(float a)
{
    bool small = a < 1.17549435e-38f;
    unsigned bits = __float_as_uint(small ? a * 33554432.0f : a);
    float e = (float)(((int)bits >> 23) - 126), m = __uint_as_float((bits & 0x007fffffu) | 0x3f000000u);
    e = small ? e - 25.0f : e;
    bool low = m < 0.707106769f;
    m = low ? m + m : m;
    e = low ? e - 1.0f : e;
    float f = m - 1.0f, ff = f * f, q = 0.0691559315f;
    q = fmaf(q, f, -0.117898978f);
    q = fmaf(q, f, 0.118729204f);
    q = fmaf(q, f, -0.123843297f);
    q = fmaf(q, f, 0.142186642f);
    q = fmaf(q, f, -0.166692525f);
    q = fmaf(q, f, 0.200022265f);
    q = fmaf(q, f, -0.249999866f);
    q = fmaf(q, f, 0.333333105f);
    float tail = fmaf(ff * f, q, e * -0.000212194442f);
    tail = f + fmaf(-0.5f, ff, tail);
    float r = fmaf(e, 0.693359375f, tail);
    if (a == INFINITY) r = INFINITY;
    if (a == 0.0f) r = -INFINITY;
    return 0.0f <= a ? r : NAN;
}

/* 1 / (1 + e^-a) */
DEVICE float sigmoid_r1(float a)
{
    float e = exp_r1(-fabsf(a));
    return (a < 0.0f ? e : 1.0f) / (1.0f + e);
}

#endif
