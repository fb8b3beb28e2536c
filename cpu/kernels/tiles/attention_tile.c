/* Online softmax of a panel of query rows over key tiles. */
#include "cpu/kernels/tiles/attention_tile.h"

#include "cpu/kernels/tiles/attention_pack.h"

/* Scratch of a panel: copies of its queries, its accumulators, and one block's scores. m and l have a slot of 16 per
 * block, so that a block's rows are the lanes of one vector. */
typedef struct PanelState {
    float *q, *acc, *p, *m, *l;
    size_t q_row, acc_row;
} PanelState;

enum { PANEL_BLOCKS = PANEL_ROWS / BLOCK_ROWS };

size_t panel_work(AttentionShape s)
{
    return PANEL_ROWS * (round16(s.Dn + s.Dr) + round16(s.Dv)) + BLOCK_ROWS * KEY_TILE + 2 * 16 * PANEL_BLOCKS;
}

static PanelState panel_begin(const QueryPanel *panel, AttentionShape s, float *work)
{
    PanelState state = {.q_row = round16(s.Dn + s.Dr), .acc_row = round16(s.Dv)};
    state.p = work;
    state.m = state.p + BLOCK_ROWS * KEY_TILE;
    state.l = state.m + 16 * PANEL_BLOCKS;
    state.q = state.l + 16 * PANEL_BLOCKS;
    state.acc = state.q + PANEL_ROWS * state.q_row;
    for (int r = 0; r < panel->rows; r++) {
        pack_row(state.q + r * state.q_row, panel->q[r], s.Dn);
        pack_row(state.q + r * state.q_row + s.Dn, panel->q_rope[r], s.Dr);
        for (size_t i = 0; i < state.acc_row; i += 16) v16_store(state.acc + r * state.acc_row + i, v16_zero());
    }
    for (int i = 0; i * BLOCK_ROWS < 16 * panel->rows; i += 16) {
        v16_store(state.m + i, v16_set1(-INFINITY));
        v16_store(state.l + i, v16_zero());
    }
    return state;
}

/* The maximum of lanes below `limit`. */
static inline float row_maximum(const float *p, int groups, int limit)
{
    v16 max = v16_set1(-INFINITY);
    for (int g = 0; g < groups; g++, p += 16, limit -= 16) {
        v16 s = v16_load(p);
        if (limit < 16) s = v16_select(m16_first(limit), s, v16_set1(-INFINITY));
        max = v16_max(max, s);
    }
    return v16_reduce_max(max);
}

/* Replaces a row's scores by e^(s - m), 0 from lane `limit` on; gives their sums by lane. */
static inline v16 row_exponentials(float *p, int groups, int limit, float m)
{
    v16 sum = v16_zero();
    for (int g = 0; g < groups; g++, p += 16, limit -= 16) {
        v16 e = v16_exp(v16_sub(v16_load(p), v16_set1(m)));
        if (limit < 16) e = v16_select(m16_first(limit), e, v16_zero());
        v16_store(p, e);
        sum = v16_add(sum, e);
    }
    return sum;
}

/* One tile for the rows of one block; limit[r] of its keys are for row r, at most `longest`. */
static void block_attend(const PanelState *state, int first, int rows, AttentionShape s, const KeyTile *tile,
                         const int *limit, int longest)
{
    float *m = state->m + 16 * (first / BLOCK_ROWS), *l = state->l + 16 * (first / BLOCK_ROWS);
    float after[16] = {0}, sum[16] = {0}, alpha[16], sums[BLOCK_ROWS * VEC];
    int groups = (longest + 15) / 16;
    size_t row = (size_t)first;
    ScoreProduct scores = {.c = state->p,
                           .a = state->q + row * state->q_row,
                           .a_row = state->q_row,
                           .k = row_from(tile->k, row * tile->k_apart),
                           .k_rope = row_from(tile->k_rope, row * tile->rope_apart),
                           .Dn = s.Dn,
                           .Dr = s.Dr,
                           .scale = s.scale,
                           .k_apart = tile->k_apart,
                           .rope_apart = tile->rope_apart};
    tile_scores(&scores, rows, groups);
    /* Step by step for all rows: the steps of one row depend on each other, and their latency would show. */
    for (int r = 0; r < rows; r++) {
        float max = row_maximum(state->p + r * KEY_TILE, groups, limit[r]);
        after[r] = m[r] > max ? m[r] : max;
    }
    for (int r = 0; r < rows; r++)
        v16_store(sums + r * VEC, row_exponentials(state->p + r * KEY_TILE, groups, limit[r], after[r]));
    for (int r = 0; r < rows; r++) sum[r] = v16_reduce_add(v16_load(sums + r * VEC));
    v16 rescale = v16_exp(v16_sub(v16_load(m), v16_load(after)));
    v16_store(alpha, rescale);
    v16_store(m, v16_load(after));
    v16_store(l, v16_fma(v16_load(l), rescale, v16_load(sum)));
    ValueProduct values = {.c = state->acc + row * state->acc_row,
                           .c_row = state->acc_row,
                           .factor = alpha,
                           .a = state->p,
                           .b = row_from(tile->v, row * tile->v_apart),
                           .b_row = tile->v_row,
                           .limit = limit,
                           .width = tile->v_width,
                           .b_apart = tile->v_apart};
    tile_values(&values, rows);
}

static void panel_end(const QueryPanel *panel, const PanelState *state, int Dv)
{
    for (int first = 0; first < panel->rows; first += BLOCK_ROWS) {
        int slot = 16 * (first / BLOCK_ROWS), rows = min_int(BLOCK_ROWS, panel->rows - first);
        float lse[16], inverse[16];
        v16 l = v16_load(state->l + slot);
        v16_store(lse, v16_add(v16_load(state->m + slot), v16_log(l)));
        v16_store(inverse, v16_div(v16_set1(1.0f), l));
        for (int r = 0; r < rows; r++) {
            const float *acc = state->acc + (first + r) * state->acc_row;
            v16 scale = v16_set1(inverse[r]);
            for (int i = 0; i < Dv; i += 16)
                any_store(panel->o[first + r], (size_t)i, v16_mul(v16_load(acc + i), scale),
                          row_lanes((size_t)(Dv - i)));
            if (panel->lse[first + r]) *panel->lse[first + r] = lse[r];
        }
    }
}

void panel_attend(const QueryPanel *panel, AttentionShape s, KeyTileAt *tile_at, void *from, float *work)
{
    PanelState state = panel_begin(panel, s, work);
    int last = 0;
    for (int r = 0; r < panel->rows; r++) last = panel->pos[r] > last ? panel->pos[r] : last;
    for (int i = 0; i <= last / KEY_TILE; i++) {
        KeyTile tile = tile_at(from, i);
        for (int first = 0; first < panel->rows; first += BLOCK_ROWS) {
            int rows = min_int(BLOCK_ROWS, panel->rows - first), longest = 0, limit[BLOCK_ROWS];
            for (int r = 0; r < rows; r++) {
                int left = panel->pos[first + r] + 1 - i * KEY_TILE;
                limit[r] = left < 0 ? 0 : min_int(left, KEY_TILE);
                longest = limit[r] > longest ? limit[r] : longest;
            }
            if (longest > 0) block_attend(&state, first, rows, s, &tile, limit, longest);
        }
    }
    panel_end(panel, &state, s.Dv);
}
