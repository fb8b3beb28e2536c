/* Backward of attention without a T x T matrix (Dao et al., arXiv:2205.14135, algorithm 4): probabilities are
 * recomputed from lse, a panel of 64 query rows against a tile of 64 keys at a time. With p_ij = e^(s_ij - lse_i):
 *   dv_j = sum_i p_ij do_i,  ds_ij = scale * p_ij (do_i . v_j - do_i . o_i),
 *   dq_i = sum_j ds_ij k_j,  dk_j = sum_i ds_ij q_i
 * Sums over queries run over the heads that share the key head, then rows; sums over keys over positions; all
 * ascending. */
#include "cpu/internal.h"
#include "cpu/kernels/tiles/attention_pack.h"
#include "cpu/kernels/tiles/tile_product.h"

typedef struct BackwardCall {
    Backend *b;
    AttentionShape s;
    AttentionInputs din, in;
    HeadView dout, o;
    const float *lse;
    const int32_t *offsets;
    float *rope_parts; /* shared rope key: [Hkv][wave rows][Dr] gradients of each head; else NULL */
    size_t wave_first, wave_rows;
} BackwardCall;

/* Scratch of one (sequence, key head). Rows are padded to 16 columns, with zeros. */
typedef struct BackwardItem {
    int T, h;
    size_t start;             /* first row of the sequence */
    size_t k_row, v_row;      /* padded Dn + Dr and Dv */
    float *k_tiles, *v_tiles; /* [tiles][Dn + Dr][KEY_TILE], [tiles][Dv][KEY_TILE] */
    float *k, *dk, *dv;       /* [tiles * KEY_TILE][k_row or v_row] */
    float *q, *dq, *dout;     /* of one query head */
    float *lse, *delta;       /* of one query head; delta = do . o */
    float *p, *ds;            /* [KEY_TILE][KEY_TILE] */
} BackwardItem;

/* What item_begin takes for `longest` rows. */
size_t attention_bwd_scratch(AttentionShape s, size_t longest)
{
    size_t rows = ceil_div(longest, KEY_TILE) * KEY_TILE, tiles = rows * (size_t)(s.Dn + s.Dr + s.Dv);
    size_t wide = 4 * rows * round16(s.Dn + s.Dr), narrow = 2 * rows * round16(s.Dv);
    return (tiles + wide + narrow + 2 * rows + 2 * KEY_TILE * KEY_TILE) * sizeof(float);
}

static void clear(float *p, size_t floats)
{
    memset(p, 0, floats * sizeof *p);
}

static BackwardItem item_begin(const BackwardCall *c, int thread, size_t start, int T, int h)
{
    const AttentionShape s = c->s;
    BackwardItem it = {.T = T, .h = h, .start = start, .k_row = round16(s.Dn + s.Dr), .v_row = round16(s.Dv)};
    size_t tiles = (size_t)(T + KEY_TILE - 1) / KEY_TILE, rows = tiles * KEY_TILE;
    size_t k_tile = (size_t)(s.Dn + s.Dr) * KEY_TILE, v_tile = (size_t)s.Dv * KEY_TILE;
    float **const wide[] = {&it.k, &it.dk, &it.q, &it.dq}, **const narrow[] = {&it.dv, &it.dout};
    it.k_tiles = cpu_scratch(c->b, thread, tiles * k_tile);
    it.v_tiles = cpu_scratch(c->b, thread, tiles * v_tile);
    for (int i = 0; i < 4; i++) *wide[i] = cpu_scratch(c->b, thread, rows * it.k_row);
    for (int i = 0; i < 2; i++) *narrow[i] = cpu_scratch(c->b, thread, rows * it.v_row);
    it.lse = cpu_scratch(c->b, thread, rows);
    it.delta = cpu_scratch(c->b, thread, rows);
    it.p = cpu_scratch(c->b, thread, KEY_TILE * KEY_TILE);
    it.ds = cpu_scratch(c->b, thread, KEY_TILE * KEY_TILE);
    for (size_t i = 0; i < tiles; i++) {
        size_t at = i * KEY_TILE, n = start + at;
        int count = min_int(KEY_TILE, T - (int)at);
        pack_key_tile(it.k_tiles + i * k_tile, s, &c->in, n, count, h);
        pack_columns(it.v_tiles + i * v_tile, head_at(c->in.v, n, h), c->in.v.row, count, s.Dv);
    }
    if (it.k_row > (size_t)(s.Dn + s.Dr)) clear(it.k, rows * it.k_row);
    if (s.Dn) pack_rows(it.k, it.k_row, head_at(c->in.k, start, h), c->in.k.row, T, s.Dn);
    if (s.Dr) pack_rows(it.k + s.Dn, it.k_row, head_at(c->in.k_rope, start, h), c->in.k_rope.row, T, s.Dr);
    clear(it.dk, rows * it.k_row);
    clear(it.dv, rows * it.v_row);
    return it;
}

static void head_begin(const BackwardCall *c, BackwardItem *it, int head)
{
    const AttentionShape s = c->s;
    pack_rows_padded(it->q, it->k_row, head_at(c->in.q, it->start, head), c->in.q.row, it->T, s.Dn + s.Dr);
    pack_rows_padded(it->dout, it->v_row, head_at(c->dout, it->start, head), c->dout.row, it->T, s.Dv);
    clear(it->dq, (size_t)it->T * it->k_row);
    for (int t = 0; t < it->T; t++) {
        size_t n = it->start + (size_t)t;
        Row o = head_at(c->o, n, head);
        const float *dout = it->dout + (size_t)t * it->v_row;
        v16 sum = v16_zero();
        for (int i = 0; i < s.Dv; i += 16)
            sum = v16_fma(v16_load(dout + i), any_load(o, (size_t)i, row_lanes((size_t)(s.Dv - i))), sum);
        it->delta[t] = v16_reduce_add(sum);
        it->lse[t] = c->lse[n * (size_t)s.H + (size_t)head];
    }
}

/* Turns scores into p and do . v into ds, in place; p is 0 from lane `limit` on. */
static void row_gradients(float *p, float *ds, int groups, int limit, float lse, float delta, float scale)
{
    for (int g = 0; g < groups; g++, p += 16, ds += 16, limit -= 16) {
        v16 e = v16_exp(v16_sub(v16_load(p), v16_set1(lse)));
        if (limit < 16) e = v16_select(m16_first(limit), e, v16_zero());
        v16_store(p, e);
        v16_store(ds, v16_mul(v16_mul(e, v16_sub(v16_load(ds), v16_set1(delta))), v16_set1(scale)));
    }
}

/* p, ds and dq of `rows` query rows from position t on; `at` is the row in the panel, `tile` the first key. */
static void block_gradients(const BackwardCall *c, BackwardItem *it, int t, int at, int rows, int tile)
{
    const AttentionShape s = c->s;
    int limit[BLOCK_ROWS], groups = min_int(4, (t + rows - tile + 15) / 16);
    float *p = it->p + at * KEY_TILE, *ds = it->ds + at * KEY_TILE;
    const float *k = it->k_tiles + (size_t)tile * (size_t)(s.Dn + s.Dr), *v = it->v_tiles + (size_t)tile * (size_t)s.Dv;
    ScoreProduct scores = {
        p, it->q + (size_t)t * it->k_row, it->k_row, f32_row(k), f32_row(k), s.Dn + s.Dr, 0, s.scale, 0, 0};
    ScoreProduct dots = {ds, it->dout + (size_t)t * it->v_row, it->v_row, f32_row(v), f32_row(v), s.Dv, 0, 1.0f, 0, 0};
    tile_scores(&scores, rows, groups);
    tile_scores(&dots, rows, groups);
    for (int r = 0; r < rows; r++) {
        limit[r] = min_int(KEY_TILE, t + r + 1 - tile);
        row_gradients(p + r * KEY_TILE, ds + r * KEY_TILE, groups, limit[r], it->lse[t + r], it->delta[t + r], s.scale);
    }
    ValueProduct dq = {it->dq + (size_t)t * it->k_row,
                       it->k_row,
                       NULL,
                       ds,
                       f32_row(it->k + (size_t)tile * it->k_row),
                       it->k_row,
                       limit,
                       (int)it->k_row,
                       0};
    tile_values(&dq, rows);
}

/* Query rows [panel, panel + 64) against keys [tile, tile + 64), panel >= tile. */
static void panel_gradients(const BackwardCall *c, BackwardItem *it, int panel, int tile)
{
    int rows = min_int(KEY_TILE, it->T - panel), keys = min_int(KEY_TILE, it->T - tile);
    for (int at = 0; at < rows; at += BLOCK_ROWS)
        block_gradients(c, it, panel + at, at, min_int(BLOCK_ROWS, rows - at), tile);
    const float *dout = it->dout + (size_t)panel * it->v_row, *q = it->q + (size_t)panel * it->k_row;
    KeyProduct dv = {it->dv + (size_t)tile * it->v_row,
                     it->v_row,
                     it->p,
                     dout,
                     it->v_row,
                     0,
                     rows,
                     (int)it->v_row / 16,
                     panel == tile};
    KeyProduct dk = {it->dk + (size_t)tile * it->k_row,
                     it->k_row,
                     it->ds,
                     q,
                     it->k_row,
                     0,
                     rows,
                     (int)it->k_row / 16,
                     panel == tile};
    tile_keys(&dv, keys);
    tile_keys(&dk, keys);
}

static void item_end(const BackwardCall *c, const BackwardItem *it)
{
    const AttentionShape s = c->s;
    if (s.Dn) pack_rows(head_f32(c->din.k, it->start, it->h), c->din.k.row, f32_row(it->dk), it->k_row, it->T, s.Dn);
    if (s.Dr && c->rope_parts) {
        float *part = c->rope_parts + ((size_t)it->h * c->wave_rows + it->start - c->wave_first) * (size_t)s.Dr;
        pack_rows(part, (size_t)s.Dr, f32_row(it->dk + s.Dn), it->k_row, it->T, s.Dr);
    } else if (s.Dr) {
        pack_rows(head_f32(c->din.k_rope, it->start, it->h), c->din.k_rope.row, f32_row(it->dk + s.Dn), it->k_row,
                  it->T, s.Dr);
    }
    pack_rows(head_f32(c->din.v, it->start, it->h), c->din.v.row, f32_row(it->dv), it->v_row, it->T, s.Dv);
}

static void backward_item(const BackwardCall *c, int thread, int sequence, int h)
{
    int T = c->offsets[sequence + 1] - c->offsets[sequence], share = c->s.H / c->s.Hkv;
    ArenaMark mark = cpu_mark(c->b, thread);
    BackwardItem it = item_begin(c, thread, (size_t)c->offsets[sequence], T, h);
    for (int head = h * share; head < (h + 1) * share; head++) {
        head_begin(c, &it, head);
        for (int tile = 0; tile < T; tile += KEY_TILE)
            for (int panel = tile; panel < T; panel += KEY_TILE) panel_gradients(c, &it, panel, tile);
        pack_rows(head_f32(c->din.q, it.start, head), c->din.q.row, f32_row(it.dq), it.k_row, T, c->s.Dn + c->s.Dr);
    }
    item_end(c, &it);
    cpu_release(c->b, thread, mark);
}

static void backward_sequence(const BackwardCall *c, int thread, int sequence)
{
    int from = c->offsets[sequence], to = c->offsets[sequence + 1];
    touch_inputs(c->s, &c->in, from, to);
    touch_outputs(c->s, c->dout, from, to);
    touch_outputs(c->s, c->o, from, to);
    touch_inputs(c->s, &c->din, from, to);
    for (int h = 0; h < c->s.Hkv; h++) backward_item(c, thread, sequence, h);
}

/* dk_rope of row n: the heads' parts, added in ascending order. */
static void sum_rope_parts(const BackwardCall *c, size_t n)
{
    size_t Dr = (size_t)c->s.Dr;
    float *out = head_f32(c->din.k_rope, n, 0);
    for (size_t d = 0; d < Dr; d += 16) {
        int lanes = min_int(16, (int)(Dr - d));
        v16 sum = v16_zero();
        const float *part = c->rope_parts + (n - c->wave_first) * Dr + d;
        for (int h = 0; h < c->s.Hkv; h++, part += c->wave_rows * Dr) sum = v16_add(sum, v16_load_n(part, lanes));
        v16_store_n(out + d, sum, lanes);
    }
}

/* Tokens whose rope_parts are kept at once: waves of sequences bound their memory. */
enum { WAVE_TOKENS = 8192 };

/* The sequence after a wave that begins with `first`. */
static int wave_end(const BackwardCall *c, int first, int nseq)
{
    int end = first + 1;
    while (end < nseq && (!c->rope_parts || c->offsets[end + 1] - c->offsets[first] <= WAVE_TOKENS)) end++;
    return end;
}

static size_t longest_wave(const BackwardCall *c, int nseq)
{
    int32_t longest = min_int(WAVE_TOKENS, c->offsets[nseq] - c->offsets[0]);
    for (int i = 0; i < nseq; i++)
        longest = c->offsets[i + 1] - c->offsets[i] > longest ? c->offsets[i + 1] - c->offsets[i] : longest;
    return (size_t)longest;
}

static void run_wave(BackwardCall c, int team, int first, int end)
{
    c.wave_first = (size_t)c.offsets[first];
    int cuts = end - first >= 8 * team ? 1 : c.s.Hkv, items = (end - first) * cuts;
#pragma omp parallel num_threads(team)
    {
#pragma omp for schedule(dynamic, 1)
        for (int i = 0; i < items; i++) {
            if (cuts == 1) backward_sequence(&c, omp_get_thread_num(), first + i);
            else backward_item(&c, omp_get_thread_num(), first + i / cuts, i % cuts);
        }
        if (c.rope_parts)
#pragma omp for schedule(static)
            for (size_t n = c.wave_first; n < (size_t)c.offsets[end]; n++) sum_rope_parts(&c, n);
    }
}

/* One rope key for all heads: each head's share of its gradient waits in rope_parts, so that they are added in order. */
static bool shares_rope_key(AttentionShape s)
{
    return s.Dr > 0 && s.Hkv > 1;
}

static size_t rope_parts_floats(AttentionShape s, size_t wave_rows)
{
    return (size_t)s.Hkv * wave_rows * (size_t)s.Dr;
}

size_t attention_bwd_shared(AttentionShape s, size_t tokens, size_t longest)
{
    size_t wave = min_size(tokens, WAVE_TOKENS);
    if (!s.Dn || !shares_rope_key(s)) return 0;
    return rope_parts_floats(s, wave > longest ? wave : longest) * sizeof(float);
}

void cpu_attention_bwd(Backend *b, AttentionShape s, AttentionInputs din, HeadView dout, HeadView o, const float *lse,
                       AttentionInputs in, SequenceRows seq)
{
    const int32_t *offsets = seq.offsets;
    int nseq = seq.count;
    CHECK(s.Hkv > 0 && s.H % s.Hkv == 0);
    BackwardCall c = {.b = b, .s = s, .din = din, .in = in, .dout = dout, .o = o, .lse = lse, .offsets = offsets};
    double work = 0;
    for (int i = 0; i < nseq; i++) {
        double T = offsets[i + 1] - offsets[i];
        work += T * T * s.H * (s.Dn + s.Dr + s.Dv);
    }
    ArenaMark mark = cpu_mark(b, 0);
    if (shares_rope_key(s) && in.k_rope.head == 0) {
        c.wave_rows = longest_wave(&c, nseq);
        c.rope_parts = cpu_scratch(b, 0, rope_parts_floats(s, c.wave_rows));
    }
    for (int first = 0, end; first < nseq; first = end) {
        end = wave_end(&c, first, nseq);
        run_wave(c, cpu_team(b, work), first, end);
    }
    cpu_release(b, 0, mark);
}
