/* The optimizer's pass over weights; sums of squares; fill. */
#include "gpu/kernels/rows.cuh"

enum { EACH_THREADS = 256, SQUARES_BLOCK = 4096 };

/* Arguments as the CPU's vectors hold them. */
typedef struct AdamWNumbers {
    float scale, b1, b2, c1, c2, one_b1, one_b2, eps, lr, decay;
} AdamWNumbers;

/* Algorithm 2, lines 6-12 of Loshchilov & Hutter, with the decay multiplied by lr. The new w. */
DEVICE float adamw_step(float w, float *m, float *v, float g, AdamWNumbers a)
{
    g = g * a.scale;
    float mk = fmaf(a.b1, *m, a.one_b1 * g), vk = fmaf(a.b2, *v, a.one_b2 * g * g);
    float step = fmaf(a.decay, w, mk * a.c1 / (sqrtf(vk * a.c2) + a.eps));
    *m = mk, *v = vk;
    return fmaf(-a.lr, step, w);
}

/* A thread an element. low NULL: w is f32; else w is the high halves and low the lower ones (core/weight_block.h).
 * Bound: bytes (28 a parameter). */
__global__ void __launch_bounds__(EACH_THREADS)
    adamw(void *w, uint16_t *low, float *m, float *v, const float *g, size_t n, AdamWNumbers a)
{
    size_t i = (size_t)blockIdx.x * EACH_THREADS + threadIdx.x;
    if (i >= n) return;
    if (!low) {
        float *plain = (float *)w + i;
        *plain = adamw_step(*plain, m + i, v + i, g[i], a);
        return;
    }
    uint16_t *high = (uint16_t *)w + i;
    unsigned bits = ((unsigned)*high << 16) + (unsigned)(int)(int16_t)low[i];
    bits = __float_as_uint(adamw_step(__uint_as_float(bits), m + i, v + i, g[i], a));
    *high = (uint16_t)((bits + 0x8000u) >> 16);
    low[i] = (uint16_t)bits;
}

/* part[block] = the sum of squares of 4,096 elements in f64: 16 running sums, added in order. A half-warp a block. The
 * square of a float is exact in double. Bound: f64 additions where the card has few, else bytes. */
__global__ void __launch_bounds__(ROW_THREADS) square_parts(double *part, const float *x, size_t n)
{
    SMEM(double, sums, [ROW_THREADS]);
    size_t block = half_row(), from = block * SQUARES_BLOCK, to = from + SQUARES_BLOCK < n ? from + SQUARES_BLOCK : n;
    double sum = 0.0;
    for (size_t j = from + threadIdx.x % HALF_WARP; j < to; j += HALF_WARP) sum += (double)x[j] * (double)x[j];
    sums[threadIdx.x] = sum;
    __syncwarp();
    if (threadIdx.x % HALF_WARP != 0 || from >= n) return;
    double total = 0.0;
    for (int i = 0; i < HALF_WARP; i++) total += sums[threadIdx.x + i];
    part[block] = total;
}

/* *sum = part[0] + part[1] + ... One thread: the order is the CPU's. */
__global__ void add_squares(double *sum, const double *part, size_t blocks)
{
    double total = 0.0;
    for (size_t i = 0; i < blocks; i++) total += part[i];
    *sum = total;
}

__global__ void __launch_bounds__(EACH_THREADS) fill(float *x, size_t n, float value)
{
    size_t i = (size_t)blockIdx.x * EACH_THREADS + threadIdx.x;
    if (i < n) x[i] = value;
}

void gpu_adamw(Backend *b, void *w, uint16_t *low, float *m, float *v, const float *g, size_t n, AdamWArgs args)
{
    AdamWNumbers a = {
        args.grad_scale,   args.beta1, args.beta2, 1.0f / args.correction1, 1.0f / args.correction2, 1.0f - args.beta1,
        1.0f - args.beta2, args.eps,   args.lr,    args.weight_decay};
    if (n) LAUNCH(adamw, ceil_div(n, EACH_THREADS), EACH_THREADS, 0, b->stream, w, low, m, v, g, n, a);
}

void gpu_sum_squares(Backend *b, double *sum, const float *x, size_t n)
{
    size_t blocks = ceil_div(n, SQUARES_BLOCK);
    double *part = (double *)gpu_scratch(b, (blocks + 1) * sizeof(double));
    if (!part) return;
    if (n) LAUNCH(square_parts, ceil_div(blocks, HALF_ROWS), ROW_THREADS, 0, b->stream, part, x, n);
    LAUNCH(add_squares, 1, 1, 0, b->stream, sum, part, blocks);
}

void gpu_fill(Backend *b, float *x, size_t n, float value)
{
    if (n) LAUNCH(fill, ceil_div(n, EACH_THREADS), EACH_THREADS, 0, b->stream, x, n, value);
}
