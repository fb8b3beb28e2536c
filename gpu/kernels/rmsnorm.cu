/* RMS norm over rows, or over every head of a row. */
#include "gpu/kernels/parts.cuh"

/* What a norm's backward reads; row i of [n * heads] is head i % heads of row i / heads. */
typedef struct NormRows {
    HeadView dy, x;
    const float *w, *rstd;
    size_t n, heads, D;
} NormRows;

/* rstd = (mean(x^2) + eps)^-1/2, y = w (x rstd). A half-warp a head, four columns a lane. Bound: bytes (8 an element; the second
 * read of x comes from the first cache). */
__global__ void __launch_bounds__(ROW_THREADS)
    norm(HeadView y, float *rstd, HeadView x, const float *w, float eps, size_t n, size_t heads, size_t D)
{
    size_t i = half_row(), lane = threadIdx.x % HALF_WARP;
    bool on = i < n * heads;
    size_t width = on ? D : 0;
    Row in = head_row(x, on ? i / heads : 0, on ? i % heads : 0);
    float r = 1.0f / sqrtf(half_dot(in, in, width) / (float)D + eps);
    if (!on) return;
    Row out = head_row(y, i / heads, i % heads);
    EACH_FOUR(j, lane, HALF_WARP, D)
    {
        float4 v = scale4(load4(in, j, D), r), g = load4(w, j, D);
        store4(out, j, D, make_float4(g.x * v.x, g.y * v.y, g.z * v.z, g.w * v.w));
    }
    if (lane == 0) rstd[i] = r;
}

/* xhat rstd-scaled: dx = rstd (w dy - xhat mean(w dy xhat)). A half-warp a head. dx may be dy. Bound: bytes. */
__global__ void __launch_bounds__(ROW_THREADS) norm_grad(HeadView dx, NormRows g, bool add)
{
    size_t i = half_row(), lane = threadIdx.x % HALF_WARP, D = g.D;
    bool on = i < g.n * g.heads;
    size_t n = on ? i / g.heads : 0, h = on ? i % g.heads : 0;
    const float *dy = head_ptr(g.dy, n, h);
    Row x = head_row(g.x, n, h);
    float *out = head_ptr(dx, n, h);
    float4 s = make_float4(0, 0, 0, 0);
    EACH_FOUR(j, lane, HALF_WARP, on ? D : 0)
    {
        float4 w = load4(g.w, j, D), d = load4(dy, j, D);
        s = fma4(make_float4(w.x * d.x, w.y * d.y, w.z * d.z, w.w * d.w), load4(x, j, D), s);
    }
    float r = on ? g.rstd[i] : 0.0f, c = half_sum(s) * r / (float)D;
    if (!on) return;
    for (size_t j0 = 4 * lane; j0 < D; j0 += 4 * HALF_WARP)
        for (size_t j = j0; j < j0 + 4 && j < D; j++) {
            float xhat = row_get(x, j) * r, d = r * fmaf(-xhat, c, g.w[j] * dy[j]);
            out[j] = add ? out[j] + d : d;
        }
}

/* part[block][j] = sum over the block's tokens, then heads, in order, of dy xhat. A thread a column, blockIdx.y the block of
 * TOKEN_BLOCK tokens. Bound: bytes. */
__global__ void __launch_bounds__(ROW_THREADS) norm_weight_parts(float *part, NormRows g)
{
    size_t j = (size_t)blockIdx.x * ROW_THREADS + threadIdx.x, from = (size_t)blockIdx.y * TOKEN_BLOCK;
    if (j >= g.D) return;
    size_t to = from + TOKEN_BLOCK < g.n ? from + TOKEN_BLOCK : g.n;
    float sum = 0.0f;
    for (size_t n = from; n < to; n++)
        for (size_t h = 0; h < g.heads; h++)
            sum = fmaf(head_ptr(g.dy, n, h)[j], row_get(head_row(g.x, n, h), j) * g.rstd[n * g.heads + h], sum);
    part[(size_t)blockIdx.y * g.D + j] = sum;
}

static HeadView rows_as_heads(Mat m)
{
    HeadView v = {m.p, m.stride, 0, m.dtype};
    return v;
}

static void norm_fwd(Backend *b, HeadView y, float *rstd, HeadView x, const float *w, float eps, size_t n, size_t heads,
                     size_t D)
{
    if (n) LAUNCH(norm, ceil_div(n * heads, HALF_ROWS), ROW_THREADS, 0, b->stream, y, rstd, x, w, eps, n, heads, D);
}

static void norm_bwd(Backend *b, HeadView dx, float *dw, NormRows g, bool add)
{
    CHECK(dx.dtype == DTYPE_F32 && g.dy.dtype == DTYPE_F32);
    size_t blocks = ceil_div(g.n, TOKEN_BLOCK), columns = ceil_div(g.D, ROW_THREADS);
    float *part = g.n ? (float *)gpu_scratch(b, blocks * g.D * sizeof(float)) : NULL;
    if (!part) return;
    /* dw first: dx may overwrite dy */
    LAUNCH(norm_weight_parts, dim3((unsigned)columns, (unsigned)blocks), ROW_THREADS, 0, b->stream, part, g);
    LAUNCH(add_parts, columns, ROW_THREADS, 0, b->stream, dw, part, blocks, g.D);
    LAUNCH(norm_grad, ceil_div(g.n * g.heads, HALF_ROWS), ROW_THREADS, 0, b->stream, dx, g, add);
}

void gpu_rmsnorm_fwd(Backend *b, Mat y, float *rstd, Mat x, const float *w, float eps)
{
    CHECK_EQ(y.rows, x.rows);
    CHECK_EQ(y.cols, x.cols);
    norm_fwd(b, rows_as_heads(y), rstd, rows_as_heads(x), w, eps, x.rows, 1, x.cols);
}

void gpu_rmsnorm_bwd(Backend *b, Mat dx, float *dw, Mat dy, Mat x, const float *w, const float *rstd, bool add_dx)
{
    CHECK_EQ(dx.rows, x.rows);
    CHECK_EQ(dy.rows, x.rows);
    CHECK_EQ(dx.cols, x.cols);
    CHECK_EQ(dy.cols, x.cols);
    NormRows g = {rows_as_heads(dy), rows_as_heads(x), w, rstd, x.rows, 1, x.cols};
    norm_bwd(b, rows_as_heads(dx), dw, g, add_dx);
}

void gpu_headnorm_fwd(Backend *b, HeadView y, float *rstd, HeadView x, HeadNorm norm, float eps)
{
    norm_fwd(b, y, rstd, x, norm.w, eps, (size_t)norm.n, (size_t)norm.heads, (size_t)norm.D);
}

void gpu_headnorm_bwd(Backend *b, HeadView dx, float *dw, HeadView dy, HeadView x, HeadNorm norm, const float *rstd)
{
    NormRows g = {dy, x, norm.w, rstd, (size_t)norm.n, (size_t)norm.heads, (size_t)norm.D};
    norm_bwd(b, dx, dw, g, false);
}
