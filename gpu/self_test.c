/* Asks the card at start-up whether a row's bits depend on the other rows, for every tile of the tensor-core products and for
 * attention: by construction they do not, if the hardware computes each row of mma.sync in one way. */
#include "gpu/self_test.h"

#include <stdlib.h>

/* MOST: of the values of an operand. */
enum { ROWS = 67, IN = 80, OUT = 96, HEAD = 32, MOST = OUT * OUT };

/* Blocks in device memory: operands of bf16 and what is computed, whole and in parts. */
typedef struct Lab {
    Backend *b;
    uint16_t *x, *w;
    int32_t *offsets;
    float *y, *lse;
    float whole[ROWS * OUT], part[ROWS * OUT];
} Lab;

static void fill_pattern(uint16_t *p, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        p[i] = (uint16_t)((seed >> 16 & 0x807fu) | (0x3e80u + (seed >> 8 & 0x80u))); /* +-(0.25 to 1) */
    }
}

static bool lab_open(Lab *l, Backend *b)
{
    uint16_t *pattern = malloc(MOST * sizeof *pattern);
    l->b = b;
    l->x = gpu_alloc(b, ROWS * OUT * sizeof *l->x), l->w = gpu_alloc(b, OUT * IN * sizeof *l->w);
    l->y = gpu_alloc(b, ROWS * OUT * sizeof *l->y), l->lse = gpu_alloc(b, ROWS * sizeof *l->lse);
    l->offsets = gpu_alloc(b, 2 * sizeof *l->offsets);
    bool good = pattern && l->x && l->w && l->y && l->lse && l->offsets;
    if (good) {
        fill_pattern(pattern, ROWS * OUT, 1);
        gpu_upload(b, l->x, pattern, ROWS * OUT * sizeof *pattern);
        gpu_wait(b, 0);
        fill_pattern(pattern, OUT * IN, 2);
        gpu_upload(b, l->w, pattern, OUT * IN * sizeof *pattern);
        gpu_wait(b, 0);
    }
    free(pattern);
    return good;
}

static void lab_close(Lab *l)
{
    gpu_free(l->b, l->x), gpu_free(l->b, l->w), gpu_free(l->b, l->y), gpu_free(l->b, l->lse);
    gpu_free(l->b, l->offsets);
}

/* y of rows [first, first + n). */
static void product(Lab *l, float *out, MmaTile tile, size_t first, size_t n)
{
    Mat x = mat_of(l->x + first * IN, DTYPE_BF16, n, IN), w = mat_of(l->w, DTYPE_BF16, OUT, IN);
    l->b->mma_tile = tile;
    gpu_linear_fwd(l->b, mat_f32(l->y, n, OUT), x, w, NULL, false);
    gpu_download(l->b, out, l->y, n * OUT * sizeof(float));
}

static bool products_agree(Lab *l)
{
    static const size_t sizes[] = {1, 2, 3, 5, 8, 13, 16, 33};
    MmaTile own = l->b->mma_tile;
    bool same = true;
    product(l, l->whole, MMA_BY_SIZE, 0, ROWS);
    for (int tile = MMA_BY_SIZE; tile <= MMA_WIDE; tile++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes && same; i++) {
            size_t n = sizes[i], first = ROWS - n;
            product(l, l->part, (MmaTile)tile, first, n);
            same = !memcmp(l->part, l->whole + first * OUT, n * OUT * sizeof(float));
        }
    l->b->mma_tile = own;
    return same;
}

/* One head over the first n rows of a sequence. */
static void attend(Lab *l, float *out, int32_t n)
{
    int32_t offsets[2] = {0, n};
    AttentionShape s = {1, 1, HEAD, 0, HEAD, 0.2f};
    HeadView q = {l->x, OUT, OUT, DTYPE_BF16};
    AttentionInputs in = {q, heads_from(q, HEAD), q, heads_from(q, 2 * HEAD)};
    gpu_upload(l->b, l->offsets, offsets, sizeof offsets);
    gpu_attention_fwd(l->b, s, heads_f32(l->y, HEAD, HEAD), l->lse, in, (SequenceRows){l->offsets, 1, n});
    gpu_download(l->b, out, l->y, (size_t)n * HEAD * sizeof(float));
}

static bool attention_agrees(Lab *l)
{
    static const int32_t lengths[] = {1, 2, 15, 16, 17, 33, 64, 65};
    attend(l, l->whole, ROWS);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        attend(l, l->part, lengths[i]);
        if (memcmp(l->part, l->whole, (size_t)lengths[i] * HEAD * sizeof(float))) return false;
    }
    return true;
}

bool gpu_self_test(Backend *b)
{
    static const Lab none;
    Lab *l = malloc(sizeof *l);
    if (!l) return false;
    *l = none;
    bool same = lab_open(l, b) && products_agree(l) && attention_agrees(l);
    l->b = b;
    lab_close(l);
    free(l);
    return same;
}
