/* The output head in chunks: statistics, loss, gradient. */
#include "core/head.h"

#include "core/base/check.h"

/* Memory of a chunk. What ops write of a row, lp to ref_lp, is here unless they write to HeadOut itself. */
typedef struct Chunk {
    void *x, *ref_x;                   /* [chunk, C] of the engine's dtype: the policy's, the reference's */
    float *logits, *ref_logits;        /* [chunk, V] */
    float *lp, *entropy, *kl, *ref_lp; /* [chunk] on the device */
    float *dlp, *dentropy, *dkl;       /* [chunk] on the host */
    int32_t *at;                       /* [chunk] on the host */
} Chunk;

static void logits_of(Engine *e, const Weights *w, Mat logits, Mat x)
{
    e->ops->linear_fwd(e->backend, logits, x, w->head, NULL, false);
}

void head_logits(Engine *e, const Weights *w, float *logits, const float *xn, size_t rows)
{
    EngineMark mark = engine_mark(e);
    Mat x = engine_as(e, e->dtype, mat_f32((float *)xn, rows, (size_t)e->config->C));
    keeper_need(w->keeper, w->head_part, 1);
    logits_of(e, w, mat_f32(logits, rows, (size_t)e->config->V), x);
    keeper_done(w->keeper, w->head_part, 1);
    engine_release(e, mark);
}

/* reference_C: width of the reference; 0: none */
static Chunk chunk_open(Engine *e, size_t rows, size_t reference_C)
{
    size_t C = (size_t)e->config->C, V = (size_t)e->config->V;
    Arena *a = &e->arena;
    size_t x_bytes = rows * C * dtype_size(e->dtype);
    Chunk k = {.x = arena_alloc(a, x_bytes), .logits = arena_floats(a, rows * V)};
    if (reference_C) {
        k.ref_x = arena_alloc(a, rows * reference_C * dtype_size(e->dtype));
        k.ref_logits = arena_floats(a, rows * V);
        k.at = arena_ints(&e->host, rows);
    }
    if (!e->ops->device.host)
        k.lp = arena_floats(a, 4 * rows), k.entropy = k.lp + rows, k.kl = k.entropy + rows, k.ref_lp = k.kl + rows;
    k.dlp = arena_floats(&e->host, rows);
    k.dentropy = arena_floats(&e->host, rows);
    k.dkl = arena_floats(&e->host, rows);
    return k;
}

void head_spread(Engine *e, float *dxn, float *dx, size_t N, const int32_t *rows, int M)
{
    size_t C = (size_t)e->config->C;
    int32_t *from = arena_ints(&e->host, N);
    for (size_t n = 0; n < N; n++) from[n] = M;
    for (int i = 0; i < M; i++) from[rows[i]] = i;
    e->ops->fill(e->backend, dx + (size_t)M * C, C, 0.0f);
    e->ops->gather_rows(e->backend, mat_f32(dxn, N, C), mat_f32(dx, (size_t)M + 1, C), engine_upload_ints(e, from, N));
}

/* What one call of head_run works on. */
typedef struct HeadCall {
    Engine *e;
    const Weights *w, *g; /* g: NULL without a gradient */
    const HeadRun *head;
    const int32_t *rows, *targets; /* [M] the predictions', on the device */
    const float *xn;               /* [N, C] */
    size_t N;
    float *dx; /* [M + 1, C] gradient of the compact rows */
    HeadOut *out;
} HeadCall;

/* x and logits of rows [from, from + x.rows) of the predictions under w. */
static void chunk_logits(const HeadCall *r, const Weights *w, const float *xn, size_t from, Mat x, Mat logits)
{
    r->e->ops->gather_rows(r->e->backend, x, mat_f32((float *)xn, r->N, x.cols), r->rows + from);
    logits_of(r->e, w, logits, x);
}

/* ref_lp[i] = log q[i, targets[i]]; logq [n, V]; targets on the host, at: room for n. */
static void pick_targets(const HeadCall *r, float *ref_lp, Mat logq, const int32_t *targets, int32_t *at)
{
    size_t n = logq.rows, V = logq.cols;
    CHECK(n * V <= INT32_MAX);
    for (size_t i = 0; i < n; i++) at[i] = (int32_t)(i * V) + (targets[i] < 0 ? 0 : targets[i]);
    r->e->ops->gather_rows(r->e->backend, mat_f32(ref_lp, n, 1), mat_f32(logq.p, n * V, 1),
                           engine_upload_ints(r->e, at, n));
}

/* What head_stats wrote of n rows, to the host's array (or nothing: it wrote there). */
static void fetch(const HeadCall *r, float *to, const float *from, size_t n)
{
    if (to) r->e->ops->device.download(r->e->backend, to, from, n * sizeof *to);
}

static const float *send(const HeadCall *r, const float *by_row, size_t n)
{
    return by_row ? engine_upload(r->e, by_row, n * sizeof *by_row) : NULL;
}

/* The loss of a chunk's rows, and with g its gradient into dx. by: what head_stats left on the device. */
static void chunk_loss(const HeadCall *r, const Chunk *k, size_t from, Mat x, Mat logits, const Mat *reference,
                       HeadGrads by)
{
    Engine *e = r->e;
    const HeadRun *t = r->head;
    size_t n = x.rows;
    LossRows rows = {.first = (int)from, .n = (int)n, .lp = r->out->lp + from};
    if (by.entropy) rows.entropy = r->out->entropy + from;
    if (by.kl) rows.kl = r->out->kl + from;
    LossGrads grads = {.loss = r->out->loss + from,
                       .dlp = k->dlp,
                       .dentropy = t->loss->needs_entropy ? k->dentropy : NULL,
                       .dkl = t->loss->needs_kl ? k->dkl : NULL};
    t->loss->eval(t->loss->ctx, &rows, &grads);
    if (!r->g) return;
    by.dlp = send(r, grads.dlp, n), by.dentropy = send(r, grads.dentropy, n), by.dkl = send(r, grads.dkl, n);
    e->ops->head_grad(e->backend, logits, r->targets + from, t->inv_temperature, by, reference);
    weight_grad(e, r->g->head, NULL, logits, x);
    e->ops->linear_bwd_x(e->backend, mat_f32(r->dx + from * x.cols, n, x.cols), logits, r->w->head, false);
}

static size_t reference_width(const HeadCall *r)
{
    return r->head->reference_C ? r->head->reference_C : (size_t)r->e->config->C;
}

/* Where a chunk's statistics go, on the device. */
typedef struct StatsOut {
    float *lp, *entropy, *kl, *ref_lp;
} StatsOut;

/* KL(policy || reference), or with the two in each other's place KL(reference || policy); log-probs of the targets under both. */
static void chunk_stats(const HeadCall *r, const Chunk *k, size_t from, Mat logits, const Mat *reference, StatsOut out)
{
    const HeadRun *t = r->head;
    const int32_t *targets = r->targets + from, *on_host = t->predict.targets + from;
    const Ops *ops = r->e->ops;
    if (reference && t->forward_kl) {
        Mat q = *reference;
        CHECK(!out.entropy && out.ref_lp);
        ops->head_stats(r->e->backend, q, out.ref_lp, NULL, out.kl, targets, t->inv_temperature, &logits);
        pick_targets(r, out.lp, logits, on_host, k->at);
        return;
    }
    ops->head_stats(r->e->backend, logits, out.lp, out.entropy, out.kl, targets, t->inv_temperature, reference);
    if (out.ref_lp) pick_targets(r, out.ref_lp, *reference, on_host, k->at);
}

/* Rows [from, from + n) of the predictions: statistics, loss, and with g the gradient into dx. */
static void run_chunk(const HeadCall *r, const Chunk *k, size_t from, size_t n)
{
    Engine *e = r->e;
    const HeadRun *t = r->head;
    size_t C = (size_t)e->config->C, V = (size_t)e->config->V;
    Mat x = mat_of(k->x, e->dtype, n, C), logits = mat_f32(k->logits, n, V), ref = mat_f32(k->ref_logits, n, V);
    const Mat *reference = t->reference ? &ref : NULL;
    chunk_logits(r, r->w, r->xn, from, x, logits);
    if (reference)
        chunk_logits(r, t->reference, t->reference_xn, from, mat_of(k->ref_x, e->dtype, n, reference_width(r)), ref);
    float *lp = r->out->lp + from, *entropy = r->out->entropy ? r->out->entropy + from : NULL,
          *kl = reference ? r->out->kl + from : NULL,
          *ref_lp = reference && r->out->ref_lp ? r->out->ref_lp + from : NULL;
    bool apart = !e->ops->device.host;
    float *lp_there = apart ? k->lp : lp, *entropy_there = apart && entropy ? k->entropy : entropy,
          *kl_there = apart && kl ? k->kl : kl, *ref_lp_there = apart && ref_lp ? k->ref_lp : ref_lp;
    EngineMark mark = engine_mark(e);
    chunk_stats(r, k, from, logits, reference, (StatsOut){lp_there, entropy_there, kl_there, ref_lp_there});
    fetch(r, lp, lp_there, n), fetch(r, entropy, entropy_there, n);
    fetch(r, kl, kl_there, n), fetch(r, ref_lp, ref_lp_there, n);
    e->chunks_run++;
    if (t->loss)
        chunk_loss(r, k, from, x, logits, reference,
                   (HeadGrads){.entropy = entropy_there, .kl = kl_there, .forward = t->forward_kl});
    engine_release(e, mark);
}

void head_run(Engine *e, const Weights *w, const Weights *g, const HeadRun *t, const float *xn, size_t N, float *dxn,
              HeadOut *out)
{
    CHECK(!t->loss || ((!t->loss->needs_entropy || out->entropy) && (!t->loss->needs_kl || (out->kl && t->reference))));
    size_t M = (size_t)t->predict.M, C = (size_t)e->config->C, chunk = (size_t)e->chunk < M ? (size_t)e->chunk : M;
    EngineMark mark = engine_mark(e);
    HeadCall r = {.e = e, .w = w, .g = g, .head = t, .xn = xn, .N = N, .out = out};
    r.rows = engine_upload_ints(e, t->predict.rows, M);
    r.targets = engine_upload_ints(e, t->predict.targets, M);
    if (g) r.dx = arena_floats(&e->arena, (M + 1) * C);
    Chunk k = chunk_open(e, chunk, t->reference ? reference_width(&r) : 0);
    HeadRun measure = *t;
    measure.loss = NULL;
    Keeper *keepers[] = {w->keeper, g ? g->keeper : NULL, t->reference ? t->reference->keeper : NULL};
    for (int i = 0; i < 3; i++) keeper_need(keepers[i], w->head_part, 1);
    for (int pass = t->loss && t->loss->prepare ? 0 : 1; pass < 2; pass++) {
        r.head = pass == 0 ? &measure : t;
        for (size_t from = 0; from < M; from += chunk) run_chunk(&r, &k, from, M - from < chunk ? M - from : chunk);
        if (pass == 0) t->loss->prepare(t->loss->ctx, out->lp, t->predict.M);
    }
    /* A gradient of the head is finished where its part's last one is: at the norm, or when tied at the embedding. */
    for (int i = 0; i < 3; i++)
        if (i != 1) keeper_done(keepers[i], w->head_part, 1);
    if (g) head_spread(e, dxn, r.dx, N, t->predict.rows, t->predict.M);
    engine_release(e, mark);
}
