/* h = silu(g) u and its gradient. */
#include "gpu/kernels/rows.cuh"

/* h = g sigmoid(g) u. A warp a row, four columns a lane. Bound: bytes (12 an element). */
__global__ void __launch_bounds__(ROW_THREADS) swiglu(Mat h, Mat gu)
{
    size_t n = warp_row(), F = h.cols;
    if (n >= h.rows) return;
    Row g = row_of(gu, n), u = row_from(g, F), out = row_of(h, n);
    EACH_FOUR(j, threadIdx.x % WARP, WARP, F)
    {
        float4 a = load4(g, j, F), b = load4(u, j, F);
        store4(out, j, F,
               make_float4(a.x * sigmoid_r1(a.x) * b.x, a.y * sigmoid_r1(a.y) * b.y, a.z * sigmoid_r1(a.z) * b.z,
                           a.w * sigmoid_r1(a.w) * b.w));
    }
}

/* With s = sigmoid(g): dg = dh s u (1 + g (1 - s)), du = dh s g. A warp a row. Bound: bytes (20 an element). */
__global__ void __launch_bounds__(ROW_THREADS) swiglu_grad(Mat dgu, Mat dh, Mat gu)
{
    size_t n = warp_row(), F = dh.cols;
    if (n >= dh.rows) return;
    Row g = row_of(gu, n), u = row_from(g, F);
    const float *d = row_ptr(dh, n);
    float *dg = row_ptr(dgu, n), *du = dg + F;
    for (size_t j = threadIdx.x % WARP; j < F; j += WARP) {
        float gj = row_get(g, j), uj = row_get(u, j), s = sigmoid_r1(gj), ds = d[j] * s;
        dg[j] = ds * uj * fmaf(gj, 1.0f - s, 1.0f);
        du[j] = ds * gj;
    }
}

void gpu_swiglu_fwd(Backend *b, Mat h, Mat gu)
{
    CHECK_EQ(gu.cols, 2 * h.cols);
    CHECK_EQ(gu.rows, h.rows);
    if (h.rows) LAUNCH(swiglu, ceil_div(h.rows, WARP_ROWS), ROW_THREADS, 0, b->stream, h, gu);
}

void gpu_swiglu_bwd(Backend *b, Mat dgu, Mat dh, Mat gu)
{
    check_f32(dgu), check_f32(dh);
    CHECK_EQ(gu.cols, 2 * dh.cols);
    CHECK_EQ(dgu.cols, gu.cols);
    CHECK_EQ(dgu.rows, dh.rows);
    if (dh.rows) LAUNCH(swiglu_grad, ceil_div(dh.rows, WARP_ROWS), ROW_THREADS, 0, b->stream, dgu, dh, gu);
}
