/* The order of layers, forward and backward. */
#include "core/model.h"

#include "core/base/check.h"

/* On the device. */
static const int32_t *positions(Engine *e, const Batch *b)
{
    int32_t *pos = arena_ints(&e->host, (size_t)b->N);
    for (int s = 0; s < b->nseq; s++)
        for (int32_t i = b->offsets[s]; i < b->offsets[s + 1]; i++) pos[i] = i - b->offsets[s];
    return engine_upload_ints(e, pos, (size_t)b->N);
}

static int longest(const Batch *b)
{
    int most = 0;
    for (int s = 0; s < b->nseq; s++)
        if (b->offsets[s + 1] - b->offsets[s] > most) most = b->offsets[s + 1] - b->offsets[s];
    return most;
}

static void embed(Engine *e, const Weights *w, float *x, const int32_t *ids, size_t n)
{
    keeper_need(w->keeper, 0, 1);
    e->ops->embed_fwd(e->backend, mat_f32(x, n, (size_t)e->config->C), w->embed, ids);
    keeper_done(w->keeper, 0, 1);
}

/* One layer: interior a, y = layer(x). */
static void layer_fwd(Engine *e, const Weights *w, int l, LayerActs *a, Routing *r, float *y, const float *x,
                      const Rows *rows)
{
    bool moe = config_is_moe(e->config, l);
    attention_block_fwd(e, &w->layers[l], &a->attention, l, x, rows);
    ffn_block_fwd(e, &w->layers[l], &a->ffn, moe ? r : NULL, y, a->attention.h, (size_t)rows->n);
}

static void tape_open(Engine *e, Batch batch, TapeKind kind, Tape *t)
{
    size_t L = (size_t)e->config->L, row = (size_t)batch.N * (size_t)e->config->C;
    Arena *arena = &e->arena;
    *t = (Tape){.batch = batch, .kind = kind};
    t->pos = positions(e, &batch);
    t->ids = engine_upload_ints(e, batch.ids, (size_t)batch.N);
    t->offsets = engine_upload_ints(e, batch.offsets, (size_t)batch.nseq + 1);
    t->x = arena_alloc(&e->host, (L + 1) * sizeof *t->x);
    t->acts = arena_alloc(&e->host, L * sizeof *t->acts);
    t->kept = arena_alloc(&e->host, L * sizeof *t->kept);
    t->routing = arena_alloc(&e->host, (size_t)config_blocks(e->config) * sizeof *t->routing);
    int lowest = e->table.lowest_trained;
    for (size_t l = 0; l <= L; l++) {
        bool passed = kind == TAPE_NONE || (kind == TAPE_BACKWARD && (int)l < lowest);
        t->x[l] = passed && l > 1 ? t->x[l - 2] : arena_floats(arena, row);
    }
    for (size_t l = 0; l < L; l++) {
        t->routing[l] = (Routing){0};
        t->kept[l] = false;
        if (kind == TAPE_NONE || !config_is_moe(e->config, (int)l)) continue;
        routing_alloc(e, (size_t)batch.N, &t->routing[l]);
        routing_give(e, (int)l, (size_t)batch.N, &t->routing[l]);
    }
    for (int l = e->config->L; l < config_blocks(e->config); l++) t->routing[l] = (Routing){0};
    t->xn = arena_floats(arena, row);
    t->rstd = arena_floats(arena, (size_t)batch.N);
}

/* Which layers keep their interior: the first ones that backward visits, as many as fit. */
static void choose_kept(Engine *e, Tape *t)
{
    size_t used = 0;
    e->layers_kept = 0;
    for (int l = engine_lowest(e); l < e->config->L; l++) {
        size_t bytes = layer_acts_bytes(e->config, l, (size_t)t->batch.N, e->dtype);
        if (used + bytes > e->keep_bytes) break;
        used += bytes;
        t->kept[l] = true;
        layer_acts_alloc(e, l, (size_t)t->batch.N, &t->acts[l]);
        e->layers_kept++;
    }
}

static void final_norm(Engine *e, const Weights *w, float *xn, float *rstd, const float *x, size_t n)
{
    size_t C = (size_t)e->config->C;
    keeper_need(w->keeper, w->last_part, 1);
    e->ops->rmsnorm_fwd(e->backend, mat_f32(xn, n, C), rstd, mat_f32((float *)x, n, C), w->norm, e->config->eps);
    keeper_done(w->keeper, w->last_part, 1);
}

static Rows rows_of(const Tape *t)
{
    return (Rows){
        .n = t->batch.N, .reach = longest(&t->batch), .pos = t->pos, .offsets = t->offsets, .nseq = t->batch.nseq};
}

void model_forward(Engine *e, const Weights *w, Batch batch, TapeKind kind, Tape *t)
{
    CHECK(batch.N > 0 && batch.nseq > 0);
    tape_open(e, batch, kind, t);
    if (kind == TAPE_BACKWARD) choose_kept(e, t);
    Rows rows = rows_of(t);
    engine_reach(e, rows.reach);
    keeper_sweep(w->keeper, kind == TAPE_BACKWARD ? SWEEP_TRAIN : SWEEP_FORWARD);
    embed(e, w, t->x[0], t->ids, (size_t)batch.N);
    for (int l = 0; l < e->config->L; l++) {
        EngineMark mark = engine_mark(e);
        if (!t->kept[l]) layer_acts_alloc(e, l, (size_t)batch.N, &t->acts[l]);
        if (kind == TAPE_NONE && config_is_moe(e->config, l)) {
            routing_alloc(e, (size_t)batch.N, &t->routing[l]);
            routing_give(e, l, (size_t)batch.N, &t->routing[l]);
        }
        keeper_need(w->keeper, w->layers[l].part, 1);
        layer_fwd(e, w, l, &t->acts[l], &t->routing[l], t->x[l + 1], t->x[l], &rows);
        keeper_done(w->keeper, w->layers[l].part, 1);
        engine_release(e, mark);
    }
    final_norm(e, w, t->xn, t->rstd, t->x[e->config->L], (size_t)batch.N);
}

static void layer_bwd(Engine *e, const Weights *w, const Weights *g, Tape *t, int l, const BalanceLosses *balance,
                      float *dx, const Rows *rows)
{
    size_t N = (size_t)t->batch.N;
    bool moe = config_is_moe(e->config, l);
    LayerActs *a = &t->acts[l];
    Routing *r = moe ? &t->routing[l] : NULL;
    EngineMark mark = engine_mark(e);
    keeper_need(w->keeper, w->layers[l].part, 1);
    keeper_need(g->keeper, w->layers[l].part, 1);
    if (!t->kept[l]) {
        layer_acts_alloc_again(e, l, N, a);
        float *y =
            arena_floats(&e->arena, N * (size_t)e->config->C); /* x[l + 1], or a part of it, which dx does not need */
        layer_fwd(e, w, l, a, r, y, t->x[l], rows);
    }
    if (moe && balance) balance_losses_grad(e, balance, l, N, r);
    ffn_block_bwd(e, &w->layers[l], &g->layers[l], &a->ffn, r, dx, a->attention.h, N);
    attention_block_bwd(e, &w->layers[l], &g->layers[l], &a->attention, dx, t->x[l], rows);
    keeper_done(w->keeper, w->layers[l].part, 1);
    keeper_done(g->keeper, w->layers[l].part, 1);
    engine_release(e, mark);
}

void model_backward(Engine *e, const Weights *w, const Weights *g, Tape *t, float *dxn, const BalanceLosses *balance)
{
    CHECK(t->kind == TAPE_BACKWARD);
    size_t N = (size_t)t->batch.N, C = (size_t)e->config->C;
    EngineMark mark = engine_mark(e);
    Mat dx = mat_f32(arena_floats(&e->arena, N * C), N, C);
    Rows rows = rows_of(t);
    keeper_need(w->keeper, w->last_part, 1);
    keeper_need(g->keeper, w->last_part, 1);
    e->ops->rmsnorm_bwd(e->backend, dx, g->norm, mat_f32(dxn, N, C), mat_f32(t->x[e->config->L], N, C), w->norm,
                        t->rstd, false);
    keeper_done(w->keeper, w->last_part, 1);
    keeper_done(g->keeper, w->last_part, 1);
    for (int l = e->config->L - 1; l >= engine_lowest(e); l--) layer_bwd(e, w, g, t, l, balance, dx.p, &rows);
    keeper_need(g->keeper, 0, 1);
    if (g->embed.p) e->ops->embed_bwd(e->backend, g->embed, dx, t->ids);
    keeper_done(g->keeper, 0, 1);
    engine_release(e, mark);
}

bool model_balance_ask(Engine *e, const Tape *t, const BalanceConfig *config, BalanceLosses *out)
{
    if (!config || !balance_on(config) || !e->config->E) return false;
    balance_losses_ask(e, config, &t->batch, t->offsets, t->routing, (LayerRange){0, e->config->L}, out);
    return true;
}

bool model_balance(Engine *e, const Tape *t, const BalanceConfig *config, BalanceLosses *out)
{
    if (!model_balance_ask(e, t, config, out)) return false;
    balance_losses_finish(e, &t->batch, out);
    return true;
}

static void keep_routes(Engine *e, const Rows *rows, int l, const Routing *r)
{
    size_t each = (size_t)rows->n * (size_t)e->config->K;
    e->ops->device.copy(e->backend, rows->routes + (size_t)moe_before(e->config, l) * each, r->idx,
                        each * sizeof *r->idx);
}

float *model_forward_rows(Engine *e, const Weights *w, const int32_t *ids, const Rows *rows)
{
    size_t n = (size_t)rows->n, C = (size_t)e->config->C;
    Arena *arena = &e->arena;
    float *xn = arena_floats(arena, n * C), *rstd = arena_floats(arena, n);
    float *x = arena_floats(arena, n * C), *y = arena_floats(arena, n * C);
    engine_reach(e, rows->reach);
    keeper_sweep(w->keeper, SWEEP_DECODE);
    embed(e, w, x, ids, n);
    for (int l = 0; l < e->config->L; l++) {
        EngineMark mark = engine_mark(e);
        LayerActs acts;
        Routing routing = {0};
        layer_acts_alloc(e, l, n, &acts);
        if (config_is_moe(e->config, l)) routing_alloc(e, n, &routing);
        keeper_need(w->keeper, w->layers[l].part, 1);
        layer_fwd(e, w, l, &acts, &routing, y, x, rows);
        keeper_done(w->keeper, w->layers[l].part, 1);
        if (rows->routes && config_is_moe(e->config, l)) keep_routes(e, rows, l, &routing);
        engine_release(e, mark);
        float *swap = x;
        x = y;
        y = swap;
    }
    final_norm(e, w, xn, rstd, x, n);
    return xn;
}
