/* The latent cache (DeepSeek-V2 section 2.1.2, absorbed form): one key of Rkv + Dr values for all heads, whose first Rkv are the
 * value. */
#include "gpu/kernels/attention_mma.h"
#include "gpu/kernels/tiles/attention_pages.cuh"

/* Row r's latent and rope key go to row pos % 64 of its page. A warp a row. Bound: bytes. */
__global__ void __launch_bounds__(ROW_THREADS)
    write_latents(CacheLayer cache, const CacheRow *rows, int n, Mat z, HeadView k_rope, int Dr)
{
    size_t r = warp_row(), R = z.cols;
    if (r >= (size_t)n) return;
    CacheRow row = rows[r];
    Row to = row_from(page_of(cache, row, row.pos / KEY_TILE), (size_t)(row.pos % KEY_TILE) * (R + (size_t)Dr));
    for (size_t d = threadIdx.x % WARP; d < R + (size_t)Dr; d += WARP)
        row_put(to, d, d < R ? row_get(row_of(z, r), d) : row_get(head_row(k_rope, r, 0), d - R));
}

/* Block: one row, one head (blockIdx.y). Bound: bytes of the pages; all heads of a row read the same ones. */
__global__ void __launch_bounds__(PAGE_THREADS, 8)
    latent(AttentionShape s, int Rkv, HeadView u, HeadView qz, HeadView q_rope, CacheLayer cache, const CacheRow *rows)
{
    DSMEM(float, query);
    SMEM(PageState, state, [1]);
    size_t r = blockIdx.x, head = blockIdx.y, width = (size_t)(Rkv + s.Dr);
    for (int d = (int)threadIdx.x; d < Rkv + s.Dr; d += PAGE_THREADS)
        query[d] =
            d < Rkv ? row_get(head_row(qz, r, head), (size_t)d) : row_get(head_row(q_rope, r, head), (size_t)(d - Rkv));
    PageLayout p = {0, (size_t)Rkv, 0, 1, width, width, Rkv, s.Dr, Rkv, s.scale};
    __syncthreads();
    attend_pages(head_ptr(u, r, head), query, state, cache, rows[r], p);
}

void gpu_latent_write(Backend *b, CacheLayer cache, const CacheRow *rows, int n, Mat z, HeadView k_rope, int Dr)
{
    if (n > 0)
        LAUNCH(write_latents, ceil_div((size_t)n, WARP_ROWS), ROW_THREADS, 0, b->stream, cache, rows, n, z, k_rope, Dr);
}

void gpu_attention_latent(Backend *b, AttentionShape s, int Rkv, HeadView u, HeadView qz, HeadView q_rope,
                          CacheLayer cache, const CacheRow *rows, int n)
{
    if (n > 0 && b->mma && cache.dtype == DTYPE_BF16 && attention_mma_latent(b, s, Rkv, u, qz, q_rope, cache, rows, n))
        return;
    HeadView sums = n > 0 ? heads_in_f32(b, u, (size_t)n, (size_t)s.H, (size_t)Rkv) : u;
    size_t bytes = (size_t)(Rkv + s.Dr) * sizeof(float);
    if (n <= 0 || !sums.p) return;
    LAUNCH(latent, dim3((unsigned)n, (unsigned)s.H), PAGE_THREADS, bytes, b->stream, s, Rkv, sums, qz, q_rope, cache,
           rows);
    heads_rounded(b, u, sums, (size_t)n, (size_t)s.H, (size_t)Rkv);
}
