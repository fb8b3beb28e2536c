/* Outputs of attention are sums until the last key: where they end as bf16 they are kept as f32 in scratch, and rounded once. */
#ifndef GPU_KERNELS_HEADS_F32_CUH
#define GPU_KERNELS_HEADS_F32_CUH

#include "gpu/kernels/rows.cuh"

/* y[n, h] = x[n, h], D values. A warp a (row, head). Bound: bytes. */
static __global__ void __launch_bounds__(ROW_THREADS) copy_heads(HeadView y, HeadView x, size_t n, size_t H, size_t D)
{
    size_t i = warp_row();
    if (i >= n * H) return;
    Row to = head_row(y, i / H, i % H), from = head_row(x, i / H, i % H);
    EACH_FOUR(j, threadIdx.x % WARP, WARP, D) store4(to, j, D, load4(from, j, D));
}

/* o itself where it is f32, else scratch of its shape; p is NULL where there is not that much. */
static inline HeadView heads_in_f32(Backend *b, HeadView o, size_t n, size_t H, size_t D)
{
    if (o.dtype == DTYPE_F32) return o;
    HeadView sums = {gpu_scratch(b, n * H * D * sizeof(float)), H * D, D, DTYPE_F32};
    return sums;
}

static inline void heads_rounded(Backend *b, HeadView o, HeadView sums, size_t n, size_t H, size_t D)
{
    if (o.dtype != DTYPE_F32)
        LAUNCH(copy_heads, ceil_div(n * H, WARP_ROWS), ROW_THREADS, 0, b->stream, o, sums, n, H, D);
}

#endif
