/* One query row of one head against the pages of its sequence: exact and latent cache differ only in where a page has
 * its keys and values. Bits are those of attention over whole sequences (cpu/kernels/tiles/attention_tile.h). */
#ifndef GPU_KERNELS_ATTENTION_PAGES_CUH
#define GPU_KERNELS_ATTENTION_PAGES_CUH

#include "gpu/kernels/tiles/heads_f32.cuh"

enum { PAGE_THREADS = KEY_TILE };

DEVICE Row page_of(const CacheLayer &cache, CacheRow row, int i)
{
    Row base = {cache.base, cache.dtype == DTYPE_BF16};
    return row_from(base, (size_t)cache.pages[row.at + i] * cache.page_stride);
}

/* Element d of position j: key at k[d * dim + j * position], likewise the rope part and the values. */
typedef struct PageLayout {
    size_t k, rope, v; /* where they begin in a page */
    size_t dim, position, v_position;
    int Dn, Dr, Dv;
    float scale;
} PageLayout;

/* m, l, alpha of the row and e of the page, in shared memory. */
typedef struct PageState {
    float m, l, alpha, e[KEY_TILE];
} PageState;

/* The first half-warp turns scores into e^(s - m'). */
DEVICE void page_softmax(PageState *s, int limit)
{
    int lane = (int)threadIdx.x;
    if (lane < WARP) {
        float e[KEY_TILE / HALF_WARP], max = -INFINITY, sum = 0.0f, m = s->m;
        bool mine = lane < HALF_WARP;
        for (int g = 0; g < KEY_TILE / HALF_WARP; g++) {
            e[g] = mine && g * HALF_WARP + lane < limit ? s->e[g * HALF_WARP + lane] : -INFINITY;
            max = larger(max, e[g]);
        }
        max = half_max(max);
        float after = m > max ? m : max;
        for (int g = 0; g < KEY_TILE / HALF_WARP; g++) {
            e[g] = mine && g * HALF_WARP + lane < limit ? exp_r1(e[g] - after) : 0.0f;
            if (mine) s->e[g * HALF_WARP + lane] = e[g];
            sum += e[g];
        }
        sum = half_reduce_add(sum);
        __syncwarp(); /* all lanes have read m */
        if (lane == 0) s->alpha = exp_r1(m - after), s->l = fmaf(s->l, s->alpha, sum), s->m = after;
    }
    __syncthreads();
}

/* o [Dv] of the query q [Dn], q_rope [Dr], in shared memory as [Dn + Dr], for a row at row.pos. 64 threads: a key each
 * for scores, then every 64th value dimension; o is the accumulator between pages, each element its own thread's. */
DEVICE void attend_pages(float *o, const float *q, PageState *s, const CacheLayer &cache, CacheRow row, PageLayout p)
{
    int t = (int)threadIdx.x;
    if (t == 0) s->m = -INFINITY, s->l = 0.0f;
    for (int i = 0; i * KEY_TILE <= row.pos; i++) {
        Row page = page_of(cache, row, i);
        int limit = row.pos + 1 - i * KEY_TILE < KEY_TILE ? row.pos + 1 - i * KEY_TILE : KEY_TILE;
        if (t < limit) {
            Row k = row_from(page, p.k + (size_t)t * p.position),
                rope = row_from(page, p.rope + (size_t)t * p.position);
            float sum = 0.0f;
#pragma unroll 4
            for (int d = 0; d < p.Dn; d++) sum = fmaf(q[d], row_get(k, (size_t)d * p.dim), sum);
#pragma unroll 4
            for (int d = 0; d < p.Dr; d++) sum = fmaf(q[p.Dn + d], row_get(rope, (size_t)d * p.dim), sum);
            s->e[t] = sum * p.scale;
        }
        __syncthreads();
        page_softmax(s, limit);
        bool last = (i + 1) * KEY_TILE > row.pos;
        for (int d = t; d < p.Dv; d += PAGE_THREADS) {
            float acc = i == 0 ? 0.0f : o[d] * s->alpha;
#pragma unroll 4
            for (int j = 0; j < limit; j++)
                acc = fmaf(s->e[j], row_get(page, p.v + (size_t)j * p.v_position + (size_t)d), acc);
            o[d] = last ? acc * (1.0f / s->l) : acc;
        }
        __syncthreads();
    }
}

#endif
