/* Backward of attention: probabilities are computed again from lse, in two passes so that no sum has two owners (dk and dv by key
 * tile, dq by query tile; seven products instead of five). With p_ij = e^(s_ij - lse_i):
 *   dv_j = sum_i p_ij do_i,  ds_ij = p_ij (do_i . v_j - do_i . o_i) scale,  dq_i = sum_j ds_ij k_j,  dk_j = sum_i ds_ij q_i
 * Sums over queries run over the heads of a key head, then rows, sums over keys over positions, all ascending. */
#include "gpu/kernels/attention_mma.h"
#include "gpu/kernels/tiles/attention_backward.cuh"

/* BLOCK: on the diagonal the CPU's chains over queries begin where the block of 6 keys does (p is 0 before a key's own row). */
enum {
    P_AT = 2 * PIECE_FLOATS,
    DS_AT = P_AT + TILE * SCORE_ROW,
    BACKWARD_FLOATS = DS_AT + TILE * SCORE_ROW,
    BLOCK = 6
};

/* p and ds of 64 queries from `row` on against 64 keys from `key` on, into shared memory; a barrier before they are read
 * is the caller's. */
DEVICE void tile_gradients(const BackwardCall &c, float *shared, TileAt t, int head, int row, int key)
{
    int h = head / (c.s.H / c.s.Hkv), ty = (int)threadIdx.x / 8, tx = (int)threadIdx.x % 8;
    size_t n = (size_t)(t.start + row);
    TileRows q = tile_rows(c.in.q, n, head, t.length - row), dout = tile_rows(c.dout, n, head, t.length - row);
    TileKeys keys = tile_keys(c.in, t, key, h);
    float p[4][8], dots[4][8];
    tile_scores(p, c.s, q, keys.k, keys.k_rope, shared);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 8; j++) dots[i][j] = 0.0f;
    add_scores(dots, dout, keys.v, c.s.Dv, shared);
    for (int i = 0; i < 4; i++) {
        int r = 4 * ty + i;
        bool on = r < q.rows;
        size_t at = (n + (size_t)(on ? r : 0)) * (size_t)c.s.H + (size_t)head;
        float lse = c.lse[at], delta = c.delta[at];
        for (int j = 0; j < 8; j++) {
            float e = on && key + 8 * tx + j <= row + r ? exp_r1(p[i][j] - lse) : 0.0f;
            shared[P_AT + r * SCORE_ROW + 8 * tx + j] = e;
            shared[DS_AT + r * SCORE_ROW + 8 * tx + j] = e * (dots[i][j] - delta) * c.s.scale;
        }
    }
}

/* out[j][d] (+)= sum over r < rows of a[r][j] x[r][d] for 64 keys: the thread's four keys and four of 32 dimensions at a time. */
DEVICE void key_sums(float *out, size_t out_row, int keys, const float *a, TileRows x, int D, bool first, bool diagonal,
                     float *piece)
{
    int ty = (int)threadIdx.x / 8, tx = (int)threadIdx.x % 8;
    for (int d0 = 0; d0 < D; d0 += PIECE) {
        load_rows(piece, x, d0, D);
        __syncthreads();
        for (int i = 0; i < 4; i++) {
            int key = 4 * ty + i;
            if (key >= keys) break;
            float *to = out + (size_t)key * out_row + d0 + 4 * tx, acc[4];
#pragma unroll
            for (int c = 0; c < 4; c++) acc[c] = !first && d0 + 4 * tx + c < D ? to[c] : 0.0f;
            for (int r = diagonal ? key / BLOCK * BLOCK : 0; r < x.rows; r++)
#pragma unroll
                for (int c = 0; c < 4; c++)
                    acc[c] = fmaf(a[r * SCORE_ROW + key], piece[r * PIECE + 4 * tx + c], acc[c]);
#pragma unroll
            for (int c = 0; c < 4; c++)
                if (d0 + 4 * tx + c < D) to[c] = acc[c];
        }
        __syncthreads();
    }
}

/* Block: 64 keys of a key head (blockIdx.y); all its query heads, all query tiles from its own on. Bound: FFMA. */
__global__ void __launch_bounds__(TILE_THREADS) key_gradients(BackwardCall c)
{
    DSMEM(float, shared);
    const AttentionShape s = c.s;
    TileAt t = tile_at(c.offsets, c.nseq, (int)blockIdx.x);
    if (!t.any) return;
    int h = (int)blockIdx.y, share = s.H / s.Hkv, keys = t.length - t.first < TILE ? t.length - t.first : TILE;
    size_t n = (size_t)(t.start + t.first);
    float *dv = head_ptr(c.din.v, n, (size_t)h), *dk = s.Dn ? head_ptr(c.din.k, n, (size_t)h) : NULL;
    size_t rope_row = c.rope_parts ? (size_t)s.Dr : c.din.k_rope.row;
    float *dk_rope = !s.Dr          ? NULL
                     : c.rope_parts ? c.rope_parts + ((size_t)h * c.rows + n) * (size_t)s.Dr
                                    : head_ptr(c.din.k_rope, n, (size_t)h);
    for (int head = h * share; head < (h + 1) * share; head++)
        for (int row = t.first; row < t.length; row += TILE) {
            bool diagonal = row == t.first, first = head == h * share && diagonal;
            size_t at = (size_t)(t.start + row);
            TileRows q = tile_rows(c.in.q, at, head, t.length - row),
                     dout = tile_rows(c.dout, at, head, t.length - row);
            tile_gradients(c, shared, t, head, row, t.first);
            key_sums(dv, c.din.v.row, keys, shared + P_AT, dout, s.Dv, first, diagonal, shared);
            if (dk) key_sums(dk, c.din.k.row, keys, shared + DS_AT, q, s.Dn, first, diagonal, shared);
            if (dk_rope)
                key_sums(dk_rope, rope_row, keys, shared + DS_AT, tile_from(q, s.Dn), s.Dr, first, diagonal, shared);
        }
}

/* dq[r][d] (+)= sum over keys j up to the row's own of ds[r][j] k[j][d]. */
DEVICE void query_sums(float *dq, size_t dq_row, int rows, TileRows k, int D, int offset, bool first, float *shared)
{
    int ty = (int)threadIdx.x / 8, tx = (int)threadIdx.x % 8;
    for (int d0 = 0; d0 < D; d0 += PIECE) {
        load_rows(shared, k, d0, D);
        __syncthreads();
        for (int i = 0; i < 4; i++) {
            int r = 4 * ty + i, limit = offset + r + 1 < TILE ? offset + r + 1 : TILE;
            if (r >= rows) break;
            const float *ds = shared + DS_AT + r * SCORE_ROW;
            float *to = dq + (size_t)r * dq_row + d0 + 4 * tx, acc[4];
#pragma unroll
            for (int c = 0; c < 4; c++) acc[c] = !first && d0 + 4 * tx + c < D ? to[c] : 0.0f;
            for (int j = 0; j < limit; j++)
#pragma unroll
                for (int c = 0; c < 4; c++) acc[c] = fmaf(ds[j], shared[j * PIECE + 4 * tx + c], acc[c]);
#pragma unroll
            for (int c = 0; c < 4; c++)
                if (d0 + 4 * tx + c < D) to[c] = acc[c];
        }
        __syncthreads();
    }
}

/* Block: 64 queries of a head (blockIdx.y), all key tiles up to theirs. Bound: FFMA. */
__global__ void __launch_bounds__(TILE_THREADS, 3) query_gradients(BackwardCall c)
{
    DSMEM(float, shared);
    const AttentionShape s = c.s;
    TileAt t = tile_at(c.offsets, c.nseq, (int)blockIdx.x);
    if (!t.any) return;
    int head = (int)blockIdx.y, rows = t.length - t.first < TILE ? t.length - t.first : TILE;
    float *dq = head_ptr(c.din.q, (size_t)(t.start + t.first), (size_t)head);
    for (int key = 0; key <= t.first; key += TILE) {
        TileKeys keys = tile_keys(c.in, t, key, head / (s.H / s.Hkv));
        int offset = t.first - key;
        tile_gradients(c, shared, t, head, t.first, key);
        if (s.Dn) query_sums(dq, c.din.q.row, rows, keys.k, s.Dn, offset, key == 0, shared);
        if (s.Dr) query_sums(dq + s.Dn, c.din.q.row, rows, keys.k_rope, s.Dr, offset, key == 0, shared);
    }
}

void gpu_attention_bwd(Backend *b, AttentionShape s, AttentionInputs din, HeadView dout, HeadView o, const float *lse,
                       AttentionInputs in, SequenceRows seq)
{
    BackwardCall c = backward_call(s, din, dout, o, lse, in);
    CHECK(s.Hkv > 0 && s.H % s.Hkv == 0);
    CHECK(din.q.dtype == DTYPE_F32 && dout.dtype == DTYPE_F32);
    if (b->mma && in.q.dtype == DTYPE_BF16 && attention_mma_bwd(b, s, din, dout, o, lse, in, seq)) return;
    if (!backward_begin(b, &c, seq, 0)) return;
    size_t bytes = BACKWARD_FLOATS * sizeof(float);
    unsigned tiles = (unsigned)(seq.rows / TILE + seq.count);
    ALLOW_SHARED(key_gradients, bytes);
    ALLOW_SHARED(query_gradients, bytes);
    LAUNCH(key_gradients, dim3(tiles, (unsigned)s.Hkv), TILE_THREADS, bytes, b->stream, c);
    LAUNCH(query_gradients, dim3(tiles, (unsigned)s.H), TILE_THREADS, bytes, b->stream, c);
    backward_end(b, &c);
}
