/* The latent cache on tensor cores: 16 heads of a row are the 16 rows of a product, a page is read once for all of them. */
#include "gpu/kernels/attention_mma.h"
#include "gpu/kernels/tiles/attention_pages.cuh"
#include "gpu/kernels/tiles/flash.cuh"

enum { LATENT_WARPS = 4, LATENT_THREADS = LATENT_WARPS * WARP, LATENT_HEADS = 16 };

/* Latents of up to R values, with the rope key up to R + 64. */
template <int R_> struct LatentShape {
    static constexpr int R = R_, D = R + 64, CH = D / CHUNK, HALVES = (LATENT_HEADS + TILE) * D + LATENT_HEADS * TILE,
                         PART = R / LATENT_WARPS, BYTES = HALVES * 2 + 2 * LATENT_WARPS * LATENT_HEADS * 4;
};

typedef struct LatentCall {
    AttentionShape s;
    int Rkv;
    HeadView u, qz, q_rope;
    CacheLayer cache;
    const CacheRow *rows;
    bool whole;
} LatentCall;

/* This thread's two heads of the block: sums of all warps, added in their order. */
DEVICE void add_warps(float (&to)[2], const float *parts)
{
    int mine = (int)threadIdx.x % WARP / 4;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float sum = parts[mine + 8 * h];
        for (int w = 1; w < LATENT_WARPS; w++) sum += parts[w * LATENT_HEADS + mine + 8 * h];
        to[h] = sum;
    }
}

/* Scores of a warp's 16 keys become e^(scale s - m'); p [16][64], max and sum of the page go through shared memory. */
DEVICE void latent_softmax(float (&s)[2][4], float (&m)[2], float (&l)[2], float (&alpha)[2], uint16_t *ps,
                           float *parts, int limit, float scale)
{
    int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP, mine = lane / 4;
    float *sums = parts + LATENT_WARPS * LATENT_HEADS, max[2] = {-INFINITY, -INFINITY}, sum[2] = {0.0f, 0.0f};
#pragma unroll
    for (int j = 0; j < 2; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            int key = 16 * warp + 8 * j + lane % 4 * 2 + (e & 1);
            s[j][e] = key < limit ? s[j][e] * scale : -INFINITY;
            max[e / 2] = larger(s[j][e], max[e / 2]);
        }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        max[h] = quad_max(max[h]);
        if (lane % 4 == 0) parts[warp * LATENT_HEADS + mine + 8 * h] = max[h];
    }
    __syncthreads();
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float after = m[h];
        for (int w = 0; w < LATENT_WARPS; w++) after = larger(parts[w * LATENT_HEADS + mine + 8 * h], after);
        alpha[h] = exp_r1(m[h] - after);
        m[h] = after;
    }
#pragma unroll
    for (int j = 0; j < 2; j++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            s[j][e] = s[j][e] == -INFINITY ? 0.0f : exp_r1(s[j][e] - m[e / 2]);
            sum[e / 2] += s[j][e];
        }
#pragma unroll
        for (int h = 0; h < 2; h++)
            *(uint32_t *)(chunk_at<TILE / CHUNK>(ps, mine + 8 * h, 2 * warp + j) + lane % 4 * 2) =
                pack_bf16(s[j][2 * h], s[j][2 * h + 1]);
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        sum[h] = quad_sum(sum[h]);
        if (lane % 4 == 0) sums[warp * LATENT_HEADS + mine + 8 * h] = sum[h];
    }
    __syncthreads();
    add_warps(sum, sums);
#pragma unroll
    for (int h = 0; h < 2; h++) l[h] = fmaf(l[h], alpha[h], sum[h]);
}

/* Block: one row, 16 heads (blockIdx.y); a warp has 16 keys of a page for the scores, a quarter of the values. Bound:
 * bytes of the pages. */
template <class L> __global__ void __launch_bounds__(LATENT_THREADS, 1) flash_latent(LatentCall c)
{
    DSMEM(uint16_t, shared);
    uint16_t *qs = shared, *kv = qs + LATENT_HEADS * L::D, *ps = kv + TILE * L::D;
    float *parts = (float *)(ps + LATENT_HEADS * TILE), acc[L::PART / 8][4] = {}, m[2] = {-INFINITY, -INFINITY},
          l[2] = {0.0f, 0.0f};
    size_t r = blockIdx.x;
    int first = (int)blockIdx.y * LATENT_HEADS, heads = c.s.H - first < LATENT_HEADS ? c.s.H - first : LATENT_HEADS;
    int width = c.Rkv + c.s.Dr, warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    CacheRow row = c.rows[r];
    head_tile<LATENT_HEADS, L::CH, LATENT_THREADS>(qs, head_row(c.qz, r, (size_t)first), c.qz.head, c.Rkv,
                                                   head_row(c.q_rope, r, (size_t)first), c.q_rope.head, width, heads,
                                                   false);
    for (int i = 0; i * TILE <= row.pos; i++) {
        int limit = row.pos + 1 - i * TILE < TILE ? row.pos + 1 - i * TILE : TILE;
        head_tile<TILE, L::CH, LATENT_THREADS>(kv, page_of(c.cache, row, i), (size_t)width, width, limit, c.whole);
        copy_async_commit();
        copy_async_wait<0>();
        __syncthreads();
        float s[2][4] = {}, alpha[2];
#pragma unroll 4
        for (int k = 0; k < L::D / 16; k++) {
            uint32_t a[4], b[4];
            a_rows<L::CH>(a, qs, 0, 16 * k);
            b_rows<L::CH>(b, kv, 16 * warp, 16 * k);
            mma_16x16(s[0], s[1], a, b);
        }
        latent_softmax(s, m, l, alpha, ps, parts, limit, c.s.scale);
#pragma unroll
        for (int d = 0; d < L::PART / 8; d++)
#pragma unroll
            for (int e = 0; e < 4; e++) acc[d][e] *= alpha[e / 2];
#pragma unroll
        for (int k = 0; k < TILE / 16; k++) {
            uint32_t a[4];
            a_rows<TILE / CHUNK>(a, ps, 0, 16 * k);
#pragma unroll
            for (int d = 0; d < L::PART / 16; d++) {
                uint32_t b[4];
                b_columns<L::CH>(b, kv, warp * L::PART + 16 * d, 16 * k);
                mma_16x16(acc[2 * d], acc[2 * d + 1], a, b);
            }
        }
        __syncthreads(); /* all have read the page and the squares */
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int head = lane / 4 + 8 * h;
        float inverse = 1.0f / l[h];
        if (head >= heads) continue;
        Row u = head_row(c.u, r, (size_t)(first + head));
#pragma unroll
        for (int d = 0; d < L::PART / 8; d++)
            put_pair(u, warp * L::PART + 8 * d + lane % 4 * 2, c.Rkv, acc[d][2 * h] * inverse,
                     acc[d][2 * h + 1] * inverse);
    }
}

template <class L> static bool launch_latent(Backend *b, const LatentCall &c, int n)
{
    dim3 grid((unsigned)n, (unsigned)ceil_div((size_t)c.s.H, LATENT_HEADS));
    ALLOW_SHARED(flash_latent<L>, L::BYTES);
    LAUNCH(flash_latent<L>, grid, LATENT_THREADS, L::BYTES, b->stream, c);
    return true;
}

bool attention_mma_latent(Backend *b, AttentionShape s, int Rkv, HeadView u, HeadView qz, HeadView q_rope,
                          CacheLayer cache, const CacheRow *rows, int n)
{
    bool whole = cache.dtype == DTYPE_BF16 && (uintptr_t)cache.base % 16 == 0 && cache.page_stride % CHUNK == 0 &&
                 (Rkv + s.Dr) % CHUNK == 0;
    LatentCall c = {s, Rkv, u, qz, q_rope, cache, rows, whole};
    if (s.Dr > 64 || Rkv > 512) return false;
    return Rkv <= 64 ? launch_latent<LatentShape<64>>(b, c, n) : launch_latent<LatentShape<512>>(b, c, n);
}
