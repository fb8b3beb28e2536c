/* What both backward passes of attention, by fmaf and on tensor cores, begin and end with. */
#ifndef GPU_KERNELS_ATTENTION_BACKWARD_CUH
#define GPU_KERNELS_ATTENTION_BACKWARD_CUH

#include "gpu/kernels/tiles/attention_tile.cuh"

typedef struct BackwardCall {
    AttentionShape s;
    AttentionInputs din, in;
    HeadView dout, o;
    const float *lse, *delta; /* [N * H]; delta = do . o */
    float *rope_parts;        /* shared rope key: [Hkv][N][Dr] gradients of each head; else NULL */
    size_t rows;
    const int32_t *offsets;
    int nseq;
    char *extra; /* scratch beside it */
} BackwardCall;

/* delta = do . o in the order of one vector of 16. A half-warp a (row, head). Bound: bytes. */
static __global__ void __launch_bounds__(ROW_THREADS)
    output_dots(float *delta, HeadView dout, HeadView o, size_t rows, int H, int Dv)
{
    size_t i = half_row(), n = i / (size_t)H, h = i % (size_t)H;
    bool on = n < rows;
    float sum = 0.0f;
    for (int d = (int)threadIdx.x % HALF_WARP; on && d < Dv; d += HALF_WARP)
        sum = fmaf(head_ptr(dout, n, h)[d], row_get(head_row(o, n, h), (size_t)d), sum);
    sum = half_reduce_add(sum);
    if (on && threadIdx.x % HALF_WARP == 0) delta[i] = sum;
}

/* dk_rope of a row: the heads' parts, added in ascending order. A warp a row. Bound: bytes. */
static __global__ void __launch_bounds__(ROW_THREADS)
    sum_rope_parts(HeadView dk_rope, const float *parts, size_t rows, int Hkv, int Dr)
{
    size_t n = warp_row();
    if (n >= rows) return;
    for (int d = (int)threadIdx.x % WARP; d < Dr; d += WARP) {
        float sum = 0.0f;
        for (int h = 0; h < Hkv; h++) sum += parts[((size_t)h * rows + n) * (size_t)Dr + (size_t)d];
        head_ptr(dk_rope, n, 0)[d] = sum;
    }
}

static inline BackwardCall backward_call(AttentionShape s, AttentionInputs din, HeadView dout, HeadView o,
                                         const float *lse, AttentionInputs in)
{
    BackwardCall c = {};
    c.s = s, c.din = din, c.dout = dout, c.o = o, c.lse = lse, c.in = in;
    return c;
}

/* delta, and scratch for it, for the parts of a shared rope key and for `extra` bytes; false: no rows, or no memory. */
static inline bool backward_begin(Backend *b, BackwardCall *c, SequenceRows seq, size_t extra)
{
    const AttentionShape s = c->s;
    size_t rows = (size_t)seq.rows, dots = rows * (size_t)s.H;
    bool shared_rope = s.Dr && s.Hkv > 1 && c->in.k_rope.head == 0;
    size_t parts = shared_rope ? (size_t)s.Hkv * rows * (size_t)s.Dr : 0;
    size_t floats = ceil_div(dots + parts, 64) * 64; /* what follows lies at a multiple of 256 bytes */
    float *delta = rows ? (float *)gpu_scratch(b, floats * sizeof(float) + extra) : NULL;
    if (!delta) return false;
    c->delta = delta, c->rope_parts = shared_rope ? delta + dots : NULL, c->extra = (char *)(delta + floats);
    c->rows = rows, c->offsets = seq.offsets, c->nseq = seq.count;
    LAUNCH(output_dots, ceil_div(dots, HALF_ROWS), ROW_THREADS, 0, b->stream, delta, c->dout, c->o, rows, s.H, s.Dv);
    return true;
}

static inline void backward_end(Backend *b, const BackwardCall *c)
{
    if (c->rope_parts)
        LAUNCH(sum_rope_parts, ceil_div(c->rows, WARP_ROWS), ROW_THREADS, 0, b->stream, c->din.k_rope, c->rope_parts,
               c->rows, c->s.Hkv, c->s.Dr);
}

#endif
