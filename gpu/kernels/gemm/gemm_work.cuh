/* What a block of a product multiplies: one matrix, one of a batch, or an expert's rows. */
#ifndef GPU_KERNELS_GEMM_WORK_CUH
#define GPU_KERNELS_GEMM_WORK_CUH

#include "gpu/kernels/rows.cuh"

#include "gpu/kernels/gemm/gemm.h"

/* Rows [0, M) of a and c from here, K steps. first (not TN): which row of the call's a and c that is. */
typedef struct Work {
    const void *a, *b;
    void *c;
    int M, K;
    bool any;
    int first;
} Work;

/* Element i of a matrix of that type; HALF: of either, else f32. */
template <bool HALF> DEVICE char *element(const void *p, DType type, size_t i)
{
    return (char *)p + i * (HALF && type == DTYPE_BF16 ? 2 : 4);
}

DEVICE void *list_at(MatrixList l, int i)
{
    return l.table ? l.table[i] : l.base + i * l.step;
}

/* The expert and rows of row tile `slot`: expert e's tiles begin at slot offsets[e] / BM + e, so that no count is
 * needed on the host; a surplus slot has no rows. */
template <bool HALF> DEVICE Work expert_rows(const GemmCall &g, int slot, int BM)
{
    int low = 0, high = g.experts - 1;
    while (low < high) {
        int mid = (low + high + 1) / 2;
        if (g.offsets[mid] / BM + mid <= slot) low = mid;
        else high = mid - 1;
    }
    int first = g.offsets[low] + (slot - g.offsets[low] / BM - low) * BM, end = g.offsets[low + 1];
    Work w = {element<HALF>(g.a, g.a_type, (size_t)first * g.lda),
              list_at(g.list, low),
              element<HALF>(g.c, g.c_type, (size_t)first * g.ldc),
              end - first,
              g.K,
              first < end,
              first};
    return w;
}

/* blockIdx: row tile, column tile, expert (TN) or member of the batch. */
template <int FORM, bool HALF> DEVICE Work work_of(const GemmCall &g, int BM)
{
    int tile = (int)blockIdx.x, z = (int)blockIdx.z;
    if (FORM == GEMM_TN && g.offsets) {
        int from = g.offsets[z], to = g.offsets[z + 1];
        Work w = {element<HALF>(g.a, g.a_type, (size_t)from * g.lda + (size_t)tile * BM),
                  element<HALF>(g.b, g.b_type, (size_t)from * g.ldb),
                  (float *)list_at(g.list, z) + (size_t)tile * BM * g.ldc,
                  g.M - tile * BM,
                  to - from,
                  to > from,
                  0};
        return w;
    }
    if (g.offsets) return expert_rows<HALF>(g, tile, BM);
    size_t a_first = (size_t)tile * BM * (FORM == GEMM_TN ? 1 : g.lda);
    Work w = {element<HALF>(g.a, g.a_type, (size_t)z * g.a_step + a_first),
              element<HALF>(g.b, g.b_type, (size_t)z * g.b_step),
              element<HALF>(g.c, g.c_type, (size_t)z * g.c_step + (size_t)tile * BM * g.ldc),
              g.M - tile * BM,
              g.K,
              true,
              tile * BM};
    return w;
}

/* Blocks for tiles of BM x BN. */
static inline dim3 work_grid(GemmForm form, const GemmCall &g, int BM, int BN)
{
    size_t tiles = ceil_div((size_t)g.M, (size_t)BM), z = (size_t)(g.batch > 0 ? g.batch : 1);
    if (g.offsets && form == GEMM_TN) z = (size_t)g.experts;
    if (g.offsets && form != GEMM_TN) tiles = (size_t)(g.M / BM) + (size_t)g.experts;
    return dim3((unsigned)tiles, (unsigned)ceil_div((size_t)g.N, (size_t)BN), (unsigned)z);
}

#endif
