/* Causal attention of whole sequences: online softmax over key tiles at absolute positions
 * (cpu/kernels/tiles/attention_tile.h). */
#include "gpu/kernels/attention_mma.h"
#include "gpu/kernels/tiles/attention_tile.cuh"

/* Shared memory of a block, in floats. */
enum {
    SCORES_AT = 2 * PIECE_FLOATS,
    M_AT = SCORES_AT + TILE * SCORE_ROW,
    L_AT = M_AT + TILE,
    ALPHA_AT = L_AT + TILE,
    FORWARD_FLOATS = ALPHA_AT + TILE
};

/* A tile's scores become e^(s - m'), 0 from the row's limit on; m, l and alpha of its rows follow. A half-warp a row; a
 * barrier is the caller's (add_values has one before it reads them). */
DEVICE void softmax_rows(float *shared, int first_row, int first_key)
{
    int lane = (int)threadIdx.x % HALF_WARP;
    for (int r = (int)threadIdx.x / HALF_WARP; r < TILE; r += TILE_THREADS / HALF_WARP) {
        float *p = shared + SCORES_AT + r * SCORE_ROW, e[TILE / HALF_WARP], max = -INFINITY, sum = 0.0f;
        int limit = first_row + r + 1 - first_key;
#pragma unroll
        for (int g = 0; g < TILE / HALF_WARP; g++) {
            e[g] = g * HALF_WARP + lane < limit ? p[g * HALF_WARP + lane] : -INFINITY;
            max = larger(max, e[g]);
        }
        max = half_max(max);
        float m = shared[M_AT + r], after = m > max ? m : max;
#pragma unroll
        for (int g = 0; g < TILE / HALF_WARP; g++) {
            e[g] = g * HALF_WARP + lane < limit ? exp_r1(e[g] - after) : 0.0f;
            p[g * HALF_WARP + lane] = e[g];
            sum += e[g];
        }
        sum = half_reduce_add(sum);
        __syncwarp(); /* all lanes have read m */
        if (lane == 0) {
            float alpha = exp_r1(m - after);
            shared[M_AT + r] = after;
            shared[ALPHA_AT + r] = alpha;
            shared[L_AT + r] = fmaf(shared[L_AT + r], alpha, sum);
        }
    }
}

/* o = o alpha + sum_j p_j v_j of a tile, for this thread's rows and dimensions; on the last tile (offset 0) then o / l.
 * offset: of the first query from the first key. */
DEVICE void add_values(float *shared, TileRows v, float *o, size_t o_row, int rows, int Dv, int offset, bool first)
{
    int ty = (int)threadIdx.x / 8, tx = (int)threadIdx.x % 8;
    const float *piece = shared + 4 * tx;
    for (int d0 = 0; d0 < Dv; d0 += PIECE) {
        load_rows(shared, v, d0, Dv);
        __syncthreads();
        for (int i = 0; i < 4; i++) {
            int r = 4 * ty + i, limit = offset + r + 1 < TILE ? offset + r + 1 : TILE;
            if (r >= rows) break;
            const float *p = shared + SCORES_AT + r * SCORE_ROW;
            float *out = o + (size_t)r * o_row + d0 + 4 * tx, acc[4];
            float alpha = shared[ALPHA_AT + r], inverse = 1.0f / shared[L_AT + r];
#pragma unroll
            for (int c = 0; c < 4; c++) acc[c] = !first && d0 + 4 * tx + c < Dv ? out[c] * alpha : 0.0f;
            for (int j = 0; j < limit; j++)
#pragma unroll
                for (int c = 0; c < 4; c++) acc[c] = fmaf(p[j], piece[j * PIECE + c], acc[c]);
#pragma unroll
            for (int c = 0; c < 4; c++)
                if (d0 + 4 * tx + c < Dv) out[c] = offset == 0 ? acc[c] * inverse : acc[c];
        }
        __syncthreads();
    }
}

/* Block: 64 queries of a head (blockIdx.y), all key tiles up to theirs. o is the accumulator between tiles. Bound: FFMA. */
__global__ void __launch_bounds__(TILE_THREADS, 3)
    attention(AttentionShape s, HeadView o, float *lse, AttentionInputs in, const int32_t *offsets, int nseq)
{
    DSMEM(float, shared);
    TileAt t = tile_at(offsets, nseq, (int)blockIdx.x);
    if (!t.any) return;
    int head = (int)blockIdx.y, h = head / (s.H / s.Hkv), ty = (int)threadIdx.x / 8, tx = (int)threadIdx.x % 8;
    size_t n = (size_t)(t.start + t.first);
    TileRows q = tile_rows(in.q, n, head, t.length - t.first);
    float *out = head_ptr(o, n, (size_t)head);
    for (int r = (int)threadIdx.x; r < TILE; r += TILE_THREADS) shared[M_AT + r] = -INFINITY, shared[L_AT + r] = 0.0f;
    for (int key = 0; key <= t.first; key += TILE) {
        TileKeys keys = tile_keys(in, t, key, h);
        float scores[4][8];
        tile_scores(scores, s, q, keys.k, keys.k_rope, shared);
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 8; j++) shared[SCORES_AT + (4 * ty + i) * SCORE_ROW + 8 * tx + j] = scores[i][j];
        __syncthreads();
        softmax_rows(shared, t.first, key);
        add_values(shared, keys.v, out, o.row, q.rows, s.Dv, t.first - key, key == 0);
    }
    for (int r = (int)threadIdx.x; r < q.rows; r += TILE_THREADS)
        lse[(n + (size_t)r) * (size_t)s.H + (size_t)head] = shared[M_AT + r] + log_r1(shared[L_AT + r]);
}

void gpu_attention_fwd(Backend *b, AttentionShape s, HeadView o, float *lse, AttentionInputs in, SequenceRows seq)
{
    CHECK(s.Hkv > 0 && s.H % s.Hkv == 0);
    if (seq.rows <= 0) return;
    if (b->mma && in.q.dtype == DTYPE_BF16 && attention_mma_fwd(b, s, o, lse, in, seq)) return;
    HeadView sums = heads_in_f32(b, o, (size_t)seq.rows, (size_t)s.H, (size_t)s.Dv);
    if (!sums.p) return;
    ALLOW_SHARED(attention, FORWARD_FLOATS * sizeof(float));
    dim3 grid((unsigned)(seq.rows / TILE + seq.count), (unsigned)s.H);
    LAUNCH(attention, grid, TILE_THREADS, FORWARD_FLOATS * sizeof(float), b->stream, s, sums, lse, in, seq.offsets,
           seq.count);
    heads_rounded(b, o, sums, (size_t)seq.rows, (size_t)s.H, (size_t)s.Dv);
}
