/* The one softmax of a row, shared by head and sampler, so that their values agree bit for bit (cpu/kernels/simd/softmax.h). */
#ifndef GPU_KERNELS_SOFTMAX_CUH
#define GPU_KERNELS_SOFTMAX_CUH

#include "gpu/kernels/rows.cuh"

/* This lane's part of max_j x_j scale. */
DEVICE float lane_scaled_max(const float *x, size_t n, float scale, size_t lane, size_t lanes)
{
    float m = -INFINITY;
    EACH_FOUR(j, lane, lanes, n)
    {
        float4 v = scale4(load4(x, j, n), scale);
        m = larger(v.x, m);
        if (j + 1 < n) m = larger(v.y, m);
        if (j + 2 < n) m = larger(v.z, m);
        if (j + 3 < n) m = larger(v.w, m);
    }
    return m;
}

/* exp(x_j scale - max) of four elements, 0 behind the end. */
DEVICE float4 exp4(const float *x, size_t j, size_t n, float scale, float max)
{
    float4 v = scale4(load4(x, j, n), scale);
    return make_float4(exp_r1(v.x - max), j + 1 < n ? exp_r1(v.y - max) : 0.0f, j + 2 < n ? exp_r1(v.z - max) : 0.0f,
                       j + 3 < n ? exp_r1(v.w - max) : 0.0f);
}

/* sum_j exp(x_j scale - max) by a half-warp. */
DEVICE float half_exp_sum(const float *x, size_t n, float scale, float max)
{
    float4 s = make_float4(0, 0, 0, 0);
    EACH_FOUR(j, threadIdx.x % HALF_WARP, HALF_WARP, n) s = add4(s, exp4(x, j, n, scale, max));
    return half_sum(s);
}

#endif
