/* attention_fwd: contract in core/ops/ops.h. Keys and values of a (sequence, key head) are packed into tiles of 64 positions
 * once, then panels of query rows walk them (tiles/attention_tile.h). */
#include <math.h>

#include "cpu/internal.h"
#include "cpu/kernels/tiles/attention_pack.h"
#include "cpu/kernels/tiles/attention_tile.h"

/* Keys and values of one sequence and key head, packed tile after tile. */
typedef struct PackedKeys {
    float *k, *v; /* [tiles][D][KEY_TILE], [tiles][KEY_TILE][v_row] */
    size_t k_tile, v_row;
    int Dn;
} PackedKeys;

static KeyTile packed_tile(void *from, int i)
{
    const PackedKeys *p = from;
    const float *k = p->k + (size_t)i * p->k_tile;
    return (KeyTile){.k = f32_row(k),
                     .k_rope = f32_row(k + (size_t)p->Dn * KEY_TILE),
                     .v = f32_row(p->v + (size_t)i * KEY_TILE * p->v_row),
                     .v_row = p->v_row,
                     .v_width = (int)p->v_row};
}

/* Positions [0, T) of the sequence that starts at row `start`. */
static PackedKeys pack_sequence(Backend *b, int thread, AttentionShape s, const AttentionInputs *in, int start, int T,
                                int h)
{
    size_t tiles = (size_t)(T + KEY_TILE - 1) / KEY_TILE;
    PackedKeys p = {.k_tile = (size_t)(s.Dn + s.Dr) * KEY_TILE, .v_row = round16(s.Dv), .Dn = s.Dn};
    p.k = cpu_scratch(b, thread, tiles * p.k_tile);
    p.v = cpu_scratch(b, thread, tiles * KEY_TILE * p.v_row);
    for (int t = 0; t < T; t += KEY_TILE) {
        int rows = min_int(KEY_TILE, T - t);
        size_t n = (size_t)start + (size_t)t;
        pack_key_tile(p.k + (size_t)(t / KEY_TILE) * p.k_tile, s, in, n, rows, h);
        pack_rows_padded(p.v + (size_t)t * p.v_row, p.v_row, head_at(in->v, n, h), in->v.row, rows, s.Dv);
    }
    return p;
}

/* One call's arguments, and how its work is cut: by sequence, or every (sequence, key head) into `parts` ranges of
 * queries. */
typedef struct ForwardCall {
    Backend *b;
    AttentionShape s;
    HeadView o;
    float *lse;
    AttentionInputs in;
    const int32_t *offsets;
    bool by_sequence;
    int parts;
} ForwardCall;

/* Position where part i of a sequence of T begins: equal areas of the triangle, on tile borders. */
static int part_begin(int T, int i, int parts)
{
    if (i == parts) return T;
    return (int)((double)T * sqrt((double)i / parts)) / KEY_TILE * KEY_TILE;
}

/* Rows are (position, head of the group), heads of a position side by side: they share the key tiles. */
static void attend_range(const ForwardCall *c, int thread, int start, int h, int from, int to, PackedKeys *keys)
{
    const AttentionShape s = c->s;
    int share = s.H / s.Hkv, rows = (to - from) * share;
    float *work = cpu_scratch(c->b, thread, panel_work(s));
    for (int first = 0; first < rows; first += PANEL_ROWS) {
        QueryPanel panel;
        panel.rows = min_int(PANEL_ROWS, rows - first);
        for (int r = 0; r < panel.rows; r++) {
            int t = from + (first + r) / share, head = h * share + (first + r) % share;
            size_t n = (size_t)start + (size_t)t;
            panel.pos[r] = t;
            panel.q[r] = head_at(c->in.q, n, head);
            panel.q_rope[r] = row_from(panel.q[r], (size_t)s.Dn);
            panel.o[r] = head_at(c->o, n, head);
            panel.lse[r] = c->lse + n * (size_t)s.H + (size_t)head;
        }
        panel_attend(&panel, s, packed_tile, keys, work);
    }
}

static void forward_part(const ForwardCall *c, int thread, int sequence, int h, int part)
{
    int start = c->offsets[sequence], T = c->offsets[sequence + 1] - start;
    int from = part_begin(T, part, c->parts), to = part_begin(T, part + 1, c->parts);
    if (from == to) return;
    ArenaMark mark = cpu_mark(c->b, thread);
    PackedKeys keys = pack_sequence(c->b, thread, c->s, &c->in, start, to, h);
    attend_range(c, thread, start, h, from, to, &keys);
    cpu_release(c->b, thread, mark);
}

static void forward_sequence(const ForwardCall *c, int thread, int sequence)
{
    touch_inputs(c->s, &c->in, c->offsets[sequence], c->offsets[sequence + 1]);
    for (int h = 0; h < c->s.Hkv; h++) forward_part(c, thread, sequence, h, 0);
}

void cpu_attention_fwd(Backend *b, AttentionShape s, HeadView o, float *lse, AttentionInputs in, SequenceRows seq)
{
    const int32_t *offsets = seq.offsets;
    int nseq = seq.count;
    CHECK(s.Hkv > 0 && s.H % s.Hkv == 0);
    double work = 0;
    for (int i = 0; i < nseq; i++) {
        double T = offsets[i + 1] - offsets[i];
        work += T * T * s.H * (s.Dn + s.Dr + s.Dv) / 2;
    }
    int team = cpu_team(b, work);
    ForwardCall c = {b, s, o, lse, in, offsets, nseq >= 8 * team, team > 1 && nseq * s.Hkv < 4 * team ? 4 : 1};
    int cuts = c.by_sequence ? 1 : s.Hkv * c.parts;
#pragma omp parallel for num_threads(team) schedule(dynamic, 1)
    for (int i = 0; i < nseq * cuts; i++) {
        if (c.by_sequence) forward_sequence(&c, omp_get_thread_num(), i);
        else forward_part(&c, omp_get_thread_num(), i / cuts, i % cuts / c.parts, i % c.parts);
    }
}
