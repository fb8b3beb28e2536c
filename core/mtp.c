/* Modules of multi-token prediction: shifted batches, their blocks, their losses, the way back. */
#include "core/mtp.h"

#include <string.h>

#include "core/base/check.h"

/* M_k's input and output of n rows. */
typedef struct Joint {
    float *emb, *h;           /* [n, C] what is normed */
    void *both;               /* [n, 2C] of the engine's dtype: the normed halves */
    float *rstd_emb, *rstd_h; /* [n] */
    float *x;                 /* [n, C] the block's residual stream */
} Joint;

/* One module on its shifted batch. Arrays lie on the device but for those of batch and predict. */
typedef struct Depth {
    int layer;
    Batch batch; /* ids: of the tokens k ahead */
    Predictions predict;
    const int32_t *from; /* [N] row one module less deep */
    const int32_t *back; /* [N before] this depth's row of each of those, N where it has none */
    size_t before;       /* rows one module less deep */
    const int32_t *ids, *offsets, *pos;
    Joint joint;
    LayerActs acts;
    Routing *routing;
    float *y, *xn, *rstd; /* [N, C], [N, C], [N] */
    float *dxn;           /* [N, C] */
    HeadOut head;
    BalanceLosses balance;
    bool balanced;
} Depth;

static size_t width(const Engine *e)
{
    return (size_t)e->config->C;
}

/* ---- Batches ---- */

/* target[n]: what row n of the step's batch predicts one token ahead, -1 where that does not count. */
static int32_t *targets_by_row(Engine *e, const MtpTask *t)
{
    int32_t *target = arena_ints(&e->host, (size_t)t->batch.N);
    for (int n = 0; n < t->batch.N; n++) target[n] = -1;
    for (int i = 0; i < t->predict->M; i++) target[t->predict->rows[i]] = t->predict->targets[i];
    return target;
}

/* The rows of depth k: i = 0 .. T - k - 2 of every sequence of T tokens, which have both a token k and one k + 1 ahead. */
static void shift(Engine *e, const MtpTask *t, int k, const int32_t *target, const Batch *before, Depth *d)
{
    Arena *a = &e->host;
    size_t most = (size_t)before->N, rows = 0, m = 0;
    int32_t *ids = arena_ints(a, most), *from = arena_ints(a, most), *back = arena_ints(a, most);
    int32_t *pos = arena_ints(a, most), *offsets = arena_ints(a, (size_t)t->batch.nseq + 1);
    int32_t *predicting = arena_ints(a, most), *targets = arena_ints(a, most);
    int nseq = 0, old = 0; /* the sequence's first row one module less deep */
    offsets[0] = 0;
    for (int s = 0; s < t->batch.nseq; s++) {
        int first = t->batch.offsets[s], T = t->batch.offsets[s + 1] - first;
        int had = k == 1 ? T : T - k > 0 ? T - k : 0, has = T - k - 1 > 0 ? T - k - 1 : 0;
        for (int i = 0; i < had; i++) back[old + i] = -1;
        for (int i = 0; i < has; i++, rows++) {
            ids[rows] = t->batch.ids[first + i + k];
            from[rows] = old + i;
            back[old + i] = (int32_t)rows;
            pos[rows] = i;
            if (target[first + i + k] < 0) continue;
            predicting[m] = (int32_t)rows;
            targets[m++] = target[first + i + k];
        }
        old += had;
        if (has) offsets[++nseq] = (int32_t)rows;
    }
    for (size_t i = 0; i < most; i++)
        if (back[i] < 0) back[i] = (int32_t)rows;
    d->batch = (Batch){(int)rows, nseq, ids, offsets};
    d->predict = (Predictions){(int)m, predicting, targets};
    d->before = most;
    d->from = engine_upload_ints(e, from, rows);
    d->back = engine_upload_ints(e, back, most);
    d->ids = engine_upload_ints(e, ids, rows);
    d->pos = engine_upload_ints(e, pos, rows);
    d->offsets = engine_upload_ints(e, offsets, (size_t)nseq + 1);
}

/* ---- Forward ---- */

/* Room for n rows; h is the caller's. */
static Joint joint_alloc(Engine *e, size_t n)
{
    size_t C = width(e);
    Joint j = {.emb = arena_floats(&e->arena, n * C), .rstd_emb = arena_floats(&e->arena, n)};
    j.rstd_h = arena_floats(&e->arena, n);
    j.both = arena_alloc(&e->arena, 2 * n * C * dtype_size(e->dtype));
    j.x = arena_floats(&e->arena, n * C);
    return j;
}

/* (21) */
static void joint_fwd(Engine *e, const Weights *w, const LayerWeights *m, Joint *j, const int32_t *ids, size_t n)
{
    size_t C = width(e);
    const Ops *ops = e->ops;
    Mat both = mat_of(j->both, e->dtype, n, 2 * C), emb = mat_f32(j->emb, n, C), h = mat_f32(j->h, n, C);
    ops->embed_fwd(e->backend, emb, w->embed, ids);
    ops->rmsnorm_fwd(e->backend, mat_cols(both, 0, C), j->rstd_emb, emb, m->enorm, e->config->eps);
    ops->rmsnorm_fwd(e->backend, mat_cols(both, C, C), j->rstd_h, h, m->hnorm, e->config->eps);
    ops->linear_fwd(e->backend, mat_f32(j->x, n, C), both, m->eh_proj, NULL, false);
}

float *mtp_forward_rows(Engine *e, const Weights *w, const int32_t *ids, const float *h, const Rows *rows)
{
    size_t n = (size_t)rows->n, C = width(e);
    int layer = e->config->L;
    const LayerWeights *m = &w->layers[layer];
    float *xn = arena_floats(&e->arena, n * C);
    EngineMark mark = engine_mark(e);
    Joint j = joint_alloc(e, n);
    LayerActs acts;
    Routing routing = {0};
    bool moe = config_is_moe(e->config, layer);
    float *y = arena_floats(&e->arena, n * C), *rstd = arena_floats(&e->arena, n);
    engine_reach(e, rows->reach);
    j.h = (float *)h;
    keeper_need(w->keeper, 0, 1); /* the embedding */
    keeper_need(w->keeper, m->part, 1);
    joint_fwd(e, w, m, &j, ids, n);
    keeper_done(w->keeper, 0, 1);
    layer_acts_alloc(e, layer, n, &acts);
    if (moe) routing_alloc(e, n, &routing);
    attention_block_fwd(e, m, &acts.attention, layer, j.x, rows);
    ffn_block_fwd(e, m, &acts.ffn, moe ? &routing : NULL, y, acts.attention.h, n);
    e->ops->rmsnorm_fwd(e->backend, mat_f32(xn, n, C), rstd, mat_f32(y, n, C), m->mtp_norm, e->config->eps);
    keeper_done(w->keeper, m->part, 1);
    engine_release(e, mark);
    return xn;
}

static int longest(const Batch *b)
{
    int most = 0;
    for (int s = 0; s < b->nseq; s++)
        if (b->offsets[s + 1] - b->offsets[s] > most) most = b->offsets[s + 1] - b->offsets[s];
    return most;
}

static Rows rows_of(const Depth *d)
{
    return (Rows){
        .n = d->batch.N, .reach = longest(&d->batch), .pos = d->pos, .offsets = d->offsets, .nseq = d->batch.nseq};
}

/* (21, 22), and the norm before the head. */
static void depth_fwd(Engine *e, const Weights *w, Depth *d, const float *before)
{
    size_t n = (size_t)d->batch.N, C = width(e);
    const LayerWeights *m = &w->layers[d->layer];
    bool moe = config_is_moe(e->config, d->layer);
    Rows rows = rows_of(d);
    d->joint = joint_alloc(e, n);
    d->joint.h = arena_floats(&e->arena, n * C);
    e->ops->gather_rows(e->backend, mat_f32(d->joint.h, n, C), mat_f32((float *)before, d->before, C), d->from);
    joint_fwd(e, w, m, &d->joint, d->ids, n);
    layer_acts_alloc(e, d->layer, n, &d->acts);
    if (moe) routing_alloc(e, n, d->routing);
    d->y = arena_floats(&e->arena, n * C);
    attention_block_fwd(e, m, &d->acts.attention, d->layer, d->joint.x, &rows);
    ffn_block_fwd(e, m, &d->acts.ffn, moe ? d->routing : NULL, d->y, d->acts.attention.h, n);
    d->xn = arena_floats(&e->arena, n * C);
    d->rstd = arena_floats(&e->arena, n);
    e->ops->rmsnorm_fwd(e->backend, mat_f32(d->xn, n, C), d->rstd, mat_f32(d->y, n, C), m->mtp_norm, e->config->eps);
}

/* (23, 24), with the gradient by the normed states in dxn. */
static double depth_loss(Engine *e, const Weights *w, const Weights *g, Depth *d, float weight)
{
    size_t n = (size_t)d->batch.N, M = (size_t)d->predict.M;
    d->dxn = arena_floats(&e->arena, n * width(e));
    if (!M) {
        e->ops->fill(e->backend, d->dxn, n * width(e), 0.0f);
        return 0.0;
    }
    float *weights = arena_floats(&e->host, M);
    for (size_t i = 0; i < M; i++) weights[i] = weight / (float)M;
    NllLoss nll = {weights};
    Loss loss = nll_loss(&nll);
    HeadRun head = {.predict = d->predict, .inv_temperature = 1.0f, .loss = &loss};
    d->head = (HeadOut){.lp = arena_floats(&e->host, M), .loss = arena_floats(&e->host, M)};
    head_run(e, w, g, &head, d->xn, n, d->dxn, &d->head);
    return sum_in_blocks(d->head.loss, (int)M);
}

/* ---- Backward ---- */

/* Through (21): gradients of the embedding, and by what was one module less deep into dbefore [before, C]. */
static void joint_bwd(Engine *e, const Weights *w, const Weights *g, const Depth *d, Mat dx, float *dbefore)
{
    size_t n = dx.rows, C = width(e);
    const LayerWeights *m = &w->layers[d->layer], *gm = &g->layers[d->layer];
    const Ops *ops = e->ops;
    Backend *b = e->backend;
    const Joint *j = &d->joint;
    Mat both = mat_of(j->both, e->dtype, n, 2 * C), emb = mat_f32(j->emb, n, C), h = mat_f32(j->h, n, C);
    Mat dboth = mat_f32(arena_floats(&e->arena, 2 * n * C), n, 2 * C);
    Mat demb = mat_f32(arena_floats(&e->arena, n * C), n, C);
    Mat dh = mat_f32(arena_floats(&e->arena, (n + 1) * C), n, C); /* a row of zeros for those without one here */
    weight_grad(e, gm->eh_proj, NULL, dx, both);
    ops->linear_bwd_x(b, dboth, dx, m->eh_proj, false);
    ops->rmsnorm_bwd(b, demb, gm->enorm, mat_cols(dboth, 0, C), emb, m->enorm, j->rstd_emb, false);
    ops->rmsnorm_bwd(b, dh, gm->hnorm, mat_cols(dboth, C, C), h, m->hnorm, j->rstd_h, false);
    if (g->embed.p) ops->embed_bwd(b, g->embed, demb, d->ids);
    float *rows = dh.p;
    ops->fill(b, rows + n * C, C, 0.0f);
    ops->scatter_add_rows(b, mat_f32(dbefore, d->before, C), mat_f32(rows, n + 1, C), d->back, 1);
}

static void depth_bwd(Engine *e, const Weights *w, const Weights *g, Depth *d, float *dbefore)
{
    size_t n = (size_t)d->batch.N, C = width(e);
    const LayerWeights *m = &w->layers[d->layer], *gm = &g->layers[d->layer];
    Routing *r = config_is_moe(e->config, d->layer) ? d->routing : NULL;
    Rows rows = rows_of(d);
    EngineMark mark = engine_mark(e);
    Mat dx = mat_f32(arena_floats(&e->arena, n * C), n, C);
    e->ops->rmsnorm_bwd(e->backend, dx, gm->mtp_norm, mat_f32(d->dxn, n, C), mat_f32(d->y, n, C), m->mtp_norm, d->rstd,
                        false);
    if (r && d->balanced) balance_losses_grad(e, &d->balance, d->layer, n, r);
    ffn_block_bwd(e, m, gm, &d->acts.ffn, r, dx.p, d->acts.attention.h, n);
    attention_block_bwd(e, m, gm, &d->acts.attention, dx.p, d->joint.x, &rows);
    joint_bwd(e, w, g, d, dx, dbefore);
    if (r) r->dscores = NULL;
    engine_release(e, mark);
}

static void depth_balance(Engine *e, const MtpTask *t, Depth *d)
{
    if (!t->balance || !balance_on(t->balance) || !config_is_moe(e->config, d->layer)) return;
    balance_losses_ask(e, t->balance, &d->batch, d->offsets, d->routing, (LayerRange){d->layer, 1}, &d->balance);
    d->balanced = true;
}

void mtp_gradients(Engine *e, const Weights *w, const Weights *g, const MtpTask *t, const float *xn, float *dxn,
                   Routing *routing, MtpOut *out)
{
    CHECK(!w->keeper && !g->keeper); /* modules have no place in a keeper's order of layers */
    const ModelConfig *c = e->config;
    Depth *depths = arena_alloc(&e->host, (size_t)c->mtp * sizeof *depths);
    memset(depths, 0, (size_t)c->mtp * sizeof *depths);
    const int32_t *target = targets_by_row(e, t);
    *out = (MtpOut){0};
    int used = 0;
    for (; used < c->mtp; used++) {
        Depth *d = &depths[used];
        d->layer = c->L + used;
        d->routing = &routing[d->layer];
        shift(e, t, used + 1, target, used ? &depths[used - 1].batch : &t->batch, d);
        if (!d->batch.N) break;
        depth_fwd(e, w, d, used ? depths[used - 1].xn : xn);
        depth_balance(e, t, d);
        double weighted = depth_loss(e, w, g, d, t->weight / (float)c->mtp);
        if (d->balanced) {
            balance_losses_finish(e, &d->batch, &d->balance);
            out->aux += balance_losses_aux(&d->balance);
        }
        out->depth[used] = weighted * c->mtp / (double)t->weight;
        out->loss += weighted;
    }
    while (used-- > 0) depth_bwd(e, w, g, &depths[used], used ? depths[used - 1].dxn : dxn);
}
