/* Rows moved, added, brought to their experts and back. */
#include "gpu/kernels/rows.cuh"

/* y[i] = x[rows[i]], or x[i] where rows is NULL. A warp a row. Bound: bytes. */
__global__ void __launch_bounds__(ROW_THREADS) copy_rows(Mat y, Mat x, const int32_t *rows)
{
    size_t i = warp_row();
    if (i >= y.rows) return;
    Row from = row_of(x, rows ? (size_t)rows[i] : i), to = row_of(y, i);
    EACH_FOUR(j, threadIdx.x % WARP, WARP, y.cols) store4(to, j, y.cols, load4(from, j, y.cols));
}

/* y += x. A warp a row. Bound: bytes. */
__global__ void __launch_bounds__(ROW_THREADS) add_rows(Mat y, Mat x)
{
    size_t n = warp_row();
    if (n >= y.rows) return;
    const float *from = row_ptr(x, n);
    float *to = row_ptr(y, n);
    EACH_FOUR(j, threadIdx.x % WARP, WARP, y.cols)
    store4(to, j, y.cols, add4(load4(to, j, y.cols), load4(from, j, y.cols)));
}

/* y *= a. A warp a row. Bound: bytes. */
__global__ void __launch_bounds__(ROW_THREADS) scale_rows(Mat y, float a)
{
    size_t n = warp_row();
    if (n >= y.rows) return;
    float *out = row_ptr(y, n);
    EACH_FOUR(j, threadIdx.x % WARP, WARP, y.cols) store4(out, j, y.cols, scale4(load4(out, j, y.cols), a));
}

/* dx[n] += sum over k ascending of dy[slot[n K + k]]. A warp a token: every sum has one owner. Bound: bytes. */
__global__ void __launch_bounds__(ROW_THREADS) sum_slots(Mat dx, Mat dy, const int32_t *slot, int K)
{
    size_t n = warp_row(), C = dx.cols;
    if (n >= dx.rows) return;
    float *out = row_ptr(dx, n);
    EACH_FOUR(j, threadIdx.x % WARP, WARP, C)
    {
        float4 sum = make_float4(0, 0, 0, 0);
        for (int k = 0; k < K; k++) sum = add4(sum, load4(row_ptr(dy, (size_t)slot[n * (size_t)K + (size_t)k]), j, C));
        store4(out, j, C, add4(load4(out, j, C), sum));
    }
}

/* y[n] += sum over k ascending of weights[n, k] x[slot[n K + k]] (+ shared[n]). A warp a token. Bound: bytes. */
__global__ void __launch_bounds__(ROW_THREADS) combine(Mat y, Mat x, const int32_t *slot, Mat weights, Mat shared)
{
    size_t n = warp_row(), C = y.cols, K = weights.cols;
    if (n >= y.rows) return;
    float *out = row_ptr(y, n);
    const float *w = row_ptr(weights, n);
    EACH_FOUR(j, threadIdx.x % WARP, WARP, C)
    {
        float4 sum = make_float4(0, 0, 0, 0);
        for (size_t k = 0; k < K; k++) {
            float4 v = load4(row_of(x, (size_t)slot[n * K + k]), j, C);
            sum = fma4(make_float4(w[k], w[k], w[k], w[k]), v, sum);
        }
        if (shared.p) sum = add4(sum, load4(row_of(shared, n), j, C));
        store4(out, j, C, add4(load4(out, j, C), sum));
    }
}

/* dx[slot] = weight dy[n], dweights[n, k] = dy[n] . x[slot]. A half-warp a pair (n, k). Bound: bytes. */
__global__ void __launch_bounds__(ROW_THREADS)
    combine_grad(Mat dx, Mat dweights, Mat dy, Mat x, const int32_t *slot, Mat weights)
{
    size_t pair = half_row(), K = weights.cols, C = dy.cols, lane = threadIdx.x % HALF_WARP;
    bool on = pair < dy.rows * K;
    size_t n = on ? pair / K : 0, k = on ? pair % K : 0, at = on ? (size_t)slot[pair] : 0;
    const float *d = row_ptr(dy, n);
    float dot = half_dot(f32_row(d), row_of(x, at), on ? C : 0);
    if (!on) return;
    if (lane == 0) row_ptr(dweights, n)[k] = dot;
    float w = row_ptr(weights, n)[k], *out = row_ptr(dx, at);
    EACH_FOUR(j, lane, HALF_WARP, C) store4(out, j, C, scale4(load4(d, j, C), w));
}

void gpu_gather_rows(Backend *b, Mat y, Mat x, const int32_t *rows)
{
    CHECK_EQ(y.cols, x.cols);
    if (y.rows) LAUNCH(copy_rows, ceil_div(y.rows, WARP_ROWS), ROW_THREADS, 0, b->stream, y, x, rows);
}

void gpu_copy(Backend *b, Mat y, Mat x)
{
    CHECK_EQ(y.rows, x.rows);
    gpu_gather_rows(b, y, x, NULL);
}

void gpu_add(Backend *b, Mat y, Mat x)
{
    check_f32(y), check_f32(x);
    CHECK_EQ(y.rows, x.rows);
    CHECK_EQ(y.cols, x.cols);
    if (y.rows) LAUNCH(add_rows, ceil_div(y.rows, WARP_ROWS), ROW_THREADS, 0, b->stream, y, x);
}

void gpu_scale(Backend *b, Mat y, float a)
{
    check_f32(y);
    if (y.rows) LAUNCH(scale_rows, ceil_div(y.rows, WARP_ROWS), ROW_THREADS, 0, b->stream, y, a);
}

void gpu_scatter_add_rows(Backend *b, Mat dx, Mat dy, const int32_t *slot, int K)
{
    check_f32(dx), check_f32(dy);
    CHECK_EQ(dx.cols, dy.cols);
    if (dx.rows) LAUNCH(sum_slots, ceil_div(dx.rows, WARP_ROWS), ROW_THREADS, 0, b->stream, dx, dy, slot, K);
}

void gpu_combine_fwd(Backend *b, Mat y, Mat x, const int32_t *slot, Mat weights, Mat shared)
{
    check_f32(y), check_f32(weights);
    CHECK_EQ(y.cols, x.cols);
    CHECK_EQ(weights.rows, y.rows);
    if (y.rows) LAUNCH(combine, ceil_div(y.rows, WARP_ROWS), ROW_THREADS, 0, b->stream, y, x, slot, weights, shared);
}

void gpu_combine_bwd(Backend *b, Mat dx, Mat dweights, Mat dy, Mat x, const int32_t *slot, Mat weights)
{
    check_f32(dx), check_f32(dweights), check_f32(dy), check_f32(weights);
    CHECK_EQ(dx.cols, dy.cols);
    CHECK_EQ(x.cols, dy.cols);
    CHECK_EQ(dweights.cols, weights.cols);
    size_t pairs = dy.rows * weights.cols;
    if (pairs)
        LAUNCH(combine_grad, ceil_div(pairs, HALF_ROWS), ROW_THREADS, 0, b->stream, dx, dweights, dy, x, slot, weights);
}
