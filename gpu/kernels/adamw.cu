/* The optimizer's pass over weights; sums of squares; fill. */
#include <stdlib.h>

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

/* An array of a list, with the number of its first block of SQUARES_BLOCK. */
typedef struct SquaresRun {
    const float *x;
    size_t n, first;
} SquaresRun;

/* The array that a block is of. */
DEVICE int run_of(const SquaresRun *list, int count, size_t block)
{
    int low = 0, high = count - 1;
    while (low < high) {
        int mid = (low + high + 1) / 2;
        if (list[mid].first <= block) low = mid;
        else high = mid - 1;
    }
    return low;
}

/* part[block] = the sum of squares of 4,096 elements in f64: 16 running sums, added in order. A half-warp a block. The
 * square of a float is exact in double. list NULL: all blocks are of `one`. Bound: f64 additions where the card has few, else
 * bytes. */
__global__ void __launch_bounds__(ROW_THREADS)
    square_parts(double *part, SquaresRun one, const SquaresRun *list, int count, size_t blocks)
{
    SMEM(double, sums, [ROW_THREADS]);
    size_t block = half_row();
    if (list && block < blocks) one = list[run_of(list, count, block)];
    const float *x = one.x;
    size_t n = block < blocks ? one.n : 0, from = block < blocks ? (block - one.first) * SQUARES_BLOCK : 0,
           to = from + SQUARES_BLOCK < n ? from + SQUARES_BLOCK : n;
    double sum = 0.0;
    for (size_t j = from + threadIdx.x % HALF_WARP; j < to; j += HALF_WARP) sum += (double)x[j] * (double)x[j];
    sums[threadIdx.x] = sum;
    __syncwarp();
    if (threadIdx.x % HALF_WARP != 0 || from >= n) return;
    double total = 0.0;
    for (int i = 0; i < HALF_WARP; i++) total += sums[threadIdx.x + i];
    part[block] = total;
}

/* sum[i] = the parts of array i, in order: a thread an array, the order is the CPU's. list NULL: there is one. */
__global__ void add_squares(double *sum, const double *part, const SquaresRun *list, int count, size_t blocks)
{
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= count) return;
    size_t from = list ? list[i].first : 0, to = list && i + 1 < count ? list[i + 1].first : blocks;
    double total = 0.0;
    for (size_t k = from; k < to; k++) total += part[k];
    sum[i] = total;
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
    SquaresRun one = {x, n, 0};
    const SquaresRun *none = NULL;
    if (!part) return;
    if (n) LAUNCH(square_parts, ceil_div(blocks, HALF_ROWS), ROW_THREADS, 0, b->stream, part, one, none, 1, blocks);
    LAUNCH(add_squares, 1, 1, 0, b->stream, sum, part, none, 1, blocks);
}

void gpu_sum_squares_list(Backend *b, double *sums, const FloatRun *list, int count)
{
    if (count <= 0) return;
    size_t blocks = 0, bytes = (size_t)count * sizeof(SquaresRun);
    SquaresRun *here = (SquaresRun *)malloc(bytes), none = {};
    for (int i = 0; here && i < count; i++) {
        SquaresRun run = {list[i].x, list[i].n, blocks};
        here[i] = run;
        blocks += ceil_div(list[i].n, SQUARES_BLOCK);
    }
    const SquaresRun *there = (const SquaresRun *)gpu_table(b, here, bytes);
    free(here);
    double *part = there ? (double *)gpu_scratch(b, (blocks + 1) * sizeof(double)) : NULL;
    if (!part) return;
    if (blocks)
        LAUNCH(square_parts, ceil_div(blocks, HALF_ROWS), ROW_THREADS, 0, b->stream, part, none, there, count, blocks);
    LAUNCH(add_squares, ceil_div((size_t)count, ROW_THREADS), ROW_THREADS, 0, b->stream, sums, part, there, count,
           blocks);
}

void gpu_fill(Backend *b, float *x, size_t n, float value)
{
    if (n) LAUNCH(fill, ceil_div(n, EACH_THREADS), EACH_THREADS, 0, b->stream, x, n, value);
}
