/* Rotary positions. */
#include "gpu/kernels/rows.cuh"

/* (a, c) -> (a cos - c sin, a sin + c cos) for pairs (2 i, 2 i + 1) or (i, i + Dr / 2) of every head, in place. A warp a row, a
 * pair a lane. Bound: bytes (8 an element). */
__global__ void __launch_bounds__(ROW_THREADS) rotate(HeadView x, const int32_t *pos, RopeArgs args, int n, int heads)
{
    size_t row = warp_row();
    int pairs = args.Dr / 2, step = args.interleaved ? 2 : 1, gap = args.interleaved ? 1 : pairs;
    if (row >= (size_t)n) return;
    const float *cos = args.cos + (size_t)pos[row] * (size_t)pairs, *sin = args.sin + (size_t)pos[row] * (size_t)pairs;
    float sign = args.inverse ? -1.0f : 1.0f;
    for (int k = (int)(threadIdx.x % WARP); k < heads * pairs; k += WARP) {
        int h = k / pairs, i = k % pairs;
        Row at = row_from(head_row(x, row, (size_t)h), (size_t)(i * step));
        float a = row_get(at, 0), c = row_get(at, (size_t)gap), s = sign * sin[i], co = cos[i];
        row_put(at, 0, fmaf(-c, s, a * co));
        row_put(at, (size_t)gap, fmaf(a, s, c * co));
    }
}

void gpu_rope(Backend *b, HeadView x, const int32_t *pos, RopeArgs args, int n, int heads)
{
    CHECK_EQ(args.Dr % 2, 0);
    if (n > 0) LAUNCH(rotate, ceil_div((size_t)n, WARP_ROWS), ROW_THREADS, 0, b->stream, x, pos, args, n, heads);
}
