/* The output head in chunks: statistics, loss, gradient. */
#include "core/head.h"

#include <string.h>

#include "core/base/check.h"

/* What ops compute of every row of a chunk; kl and ref_lp with a reference. */
enum { LP, ENTROPY, KL, REF_LP, STATS, IN_FLIGHT_MOST = 2 };

/* An array of each; NULL: it is not asked for. */
typedef struct Stats {
    float *of[STATS];
} Stats;

/* Rows [from, from + n) of the predictions, and their memory. */
typedef struct Chunk {
    size_t from, n;
    void *x, *ref_x;             /* [chunk, C] of the engine's dtype: the policy's, the reference's */
    float *logits, *ref_logits;  /* [chunk, V] */
    float *stats, *stats_landed; /* [STATS, chunk] on the device, on the host; NULL where ops write to HeadOut itself */
    uint64_t ticket;             /* of the download of one into the other */
} Chunk;

/* maxima: where the largest of every MAXIMA_COLUMNS go; NULL: nobody asks. */
static void logits_of(Engine *e, const Weights *w, Mat logits, float *maxima, Mat x)
{
    if (maxima) e->ops->logits_fwd(e->backend, logits, maxima, x, w->head);
    else e->ops->linear_fwd(e->backend, logits, x, w->head, NULL, false);
}

void head_logits(Engine *e, const Weights *w, float *logits, const float *xn, size_t rows)
{
    EngineMark mark = engine_mark(e);
    Mat x = engine_as(e, e->dtype, mat_f32((float *)xn, rows, (size_t)e->config->C));
    keeper_need(w->keeper, w->head_part, 1);
    logits_of(e, w, mat_f32(logits, rows, (size_t)e->config->V), NULL, x);
    keeper_done(w->keeper, w->head_part, 1);
    engine_release(e, mark);
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
    float *dlp, *dentropy, *dkl; /* [chunk] on the host, of the chunk whose loss is evaluated */
    int32_t *at;                 /* [chunk] on the host */
} HeadCall;

static size_t reference_width(const HeadCall *r)
{
    return r->head->reference_C ? r->head->reference_C : (size_t)r->e->config->C;
}

/* Memory of n chunks of `rows` rows. */
static void chunks_open(HeadCall *r, Chunk *k, int n, size_t rows)
{
    Engine *e = r->e;
    Arena *a = &e->arena;
    size_t C = (size_t)e->config->C, V = (size_t)e->config->V;
    bool apart = !e->ops->device.host;
    float *landing = apart ? engine_landing(e, &e->head, (size_t)n * STATS * rows * sizeof *landing) : NULL;
    for (int i = 0; i < n; i++) {
        k[i] = (Chunk){.x = arena_alloc(a, rows * C * dtype_size(e->dtype)), .logits = arena_floats(a, rows * V)};
        if (r->head->reference) {
            k[i].ref_x = arena_alloc(a, rows * reference_width(r) * dtype_size(e->dtype));
            k[i].ref_logits = arena_floats(a, rows * V);
        }
        if (apart) k[i].stats = arena_floats(a, STATS * rows), k[i].stats_landed = landing + (size_t)i * STATS * rows;
    }
    r->dlp = arena_floats(&e->host, rows);
    r->dentropy = arena_floats(&e->host, rows);
    r->dkl = arena_floats(&e->host, rows);
    r->at = arena_ints(&e->host, rows);
}

/* A chunk's statistics in the caller's arrays. */
static Stats stats_out(const HeadCall *r, const Chunk *k)
{
    const HeadOut *o = r->out;
    bool reference = r->head->reference != NULL;
    Stats s = {{o->lp, o->entropy, reference ? o->kl : NULL, reference ? o->ref_lp : NULL}};
    for (int i = 0; i < STATS; i++)
        if (s.of[i]) s.of[i] += k->from;
    return s;
}

/* The same one after the other in a block of [STATS, n]; floats: how many that are. */
static Stats stats_in(const HeadCall *r, const Chunk *k, float *block, size_t *floats)
{
    Stats s = stats_out(r, k);
    *floats = 0;
    for (int i = 0; i < STATS; i++)
        if (s.of[i]) s.of[i] = block + *floats, *floats += k->n;
    return s;
}

/* Where ops write them. */
static Stats stats_there(const HeadCall *r, const Chunk *k)
{
    size_t floats;
    return k->stats ? stats_in(r, k, k->stats, &floats) : stats_out(r, k);
}

/* Asks for what ops wrote; fetch then waits for it and brings it to the caller's arrays. */
static void fetch_later(const HeadCall *r, Chunk *k)
{
    size_t floats;
    if (!k->stats) return;
    stats_in(r, k, k->stats, &floats);
    k->ticket = r->e->ops->device.download_later(r->e->backend, k->stats_landed, k->stats, floats * sizeof *k->stats);
}

static void fetch(const HeadCall *r, const Chunk *k)
{
    size_t floats;
    if (!k->stats) return;
    Stats landed = stats_in(r, k, k->stats_landed, &floats), to = stats_out(r, k);
    r->e->ops->device.wait(r->e->backend, k->ticket);
    for (int i = 0; i < STATS; i++)
        if (to.of[i]) memcpy(to.of[i], landed.of[i], k->n * sizeof(float));
}

/* x and logits of a chunk's rows under w; their maxima, in the arena, where the backend finds them on the way. */
static const float *chunk_logits(const HeadCall *r, const Chunk *k, const Weights *w, const float *xn, Mat x,
                                 Mat logits)
{
    Engine *e = r->e;
    size_t groups = (logits.cols + MAXIMA_COLUMNS - 1) / MAXIMA_COLUMNS;
    float *maxima = e->ops->logits_fwd ? arena_floats(&e->arena, logits.rows * groups) : NULL;
    e->ops->gather_rows(e->backend, x, mat_f32((float *)xn, r->N, x.cols), r->rows + k->from);
    logits_of(e, w, logits, maxima, x);
    return maxima;
}

/* ref_lp[i] = log q[i, targets[i]]; logq [n, V]; targets on the host. */
static void pick_targets(const HeadCall *r, float *ref_lp, Mat logq, const int32_t *targets)
{
    size_t n = logq.rows, V = logq.cols;
    CHECK(n * V <= INT32_MAX);
    for (size_t i = 0; i < n; i++) r->at[i] = (int32_t)(i * V) + (targets[i] < 0 ? 0 : targets[i]);
    r->e->ops->gather_rows(r->e->backend, mat_f32(ref_lp, n, 1), mat_f32(logq.p, n * V, 1),
                           engine_upload_ints(r->e, r->at, n));
}

static Mat chunk_x(const HeadCall *r, const Chunk *k)
{
    return mat_of(k->x, r->e->dtype, k->n, (size_t)r->e->config->C);
}

static Mat chunk_rows(const HeadCall *r, const Chunk *k, float *logits)
{
    return mat_f32(logits, k->n, (size_t)r->e->config->V);
}

/* KL(policy || reference), or with the two in each other's place KL(reference || policy); log-probs of the targets under both. */
static void chunk_stats(const HeadCall *r, const Chunk *k, Mat logits, const Mat *reference, HeadMaxima known)
{
    const HeadRun *t = r->head;
    const int32_t *targets = r->targets + k->from, *on_host = t->predict.targets + k->from;
    const Ops *ops = r->e->ops;
    Stats s = stats_there(r, k);
    if (reference && t->forward_kl) {
        Mat q = *reference;
        CHECK(!s.of[ENTROPY] && s.of[REF_LP]);
        ops->head_stats(r->e->backend, q, (HeadStats){s.of[REF_LP], NULL, s.of[KL]}, targets, t->inv_temperature,
                        &logits, (HeadMaxima){known.ref, known.logits});
        pick_targets(r, s.of[LP], logits, on_host);
        return;
    }
    ops->head_stats(r->e->backend, logits, (HeadStats){s.of[LP], s.of[ENTROPY], s.of[KL]}, targets, t->inv_temperature,
                    reference, known);
    if (s.of[REF_LP]) pick_targets(r, s.of[REF_LP], *reference, on_host);
}

/* First half of a chunk: products and statistics, queued. */
static void chunk_issue(const HeadCall *r, Chunk *k, size_t from, size_t n)
{
    const HeadRun *t = r->head;
    Engine *e = r->e;
    k->from = from, k->n = n;
    Mat logits = chunk_rows(r, k, k->logits), ref = chunk_rows(r, k, k->ref_logits);
    EngineMark mark = engine_mark(e);
    HeadMaxima known = {.logits = chunk_logits(r, k, r->w, r->xn, chunk_x(r, k), logits)};
    if (t->reference)
        known.ref =
            chunk_logits(r, k, t->reference, t->reference_xn, mat_of(k->ref_x, e->dtype, n, reference_width(r)), ref);
    chunk_stats(r, k, logits, t->reference ? &ref : NULL, known);
    engine_release(e, mark);
    fetch_later(r, k);
    e->chunks_run++;
}

static const float *send(const HeadCall *r, const float *by_row, size_t n)
{
    return by_row ? engine_upload(r->e, by_row, n * sizeof *by_row) : NULL;
}

/* Second half: the loss of the chunk's rows on the host, and with g its gradient into dx. */
static void chunk_finish(const HeadCall *r, const Chunk *k)
{
    Engine *e = r->e;
    const HeadRun *t = r->head;
    fetch(r, k);
    if (!t->loss) return;
    Stats out = stats_out(r, k), there = stats_there(r, k);
    LossRows rows = {
        .first = (int)k->from, .n = (int)k->n, .lp = out.of[LP], .entropy = out.of[ENTROPY], .kl = out.of[KL]};
    LossGrads grads = {.loss = r->out->loss + k->from,
                       .dlp = r->dlp,
                       .dentropy = t->loss->needs_entropy ? r->dentropy : NULL,
                       .dkl = t->loss->needs_kl ? r->dkl : NULL};
    t->loss->eval(t->loss->ctx, &rows, &grads);
    if (!r->g) return;
    EngineMark mark = engine_mark(e);
    Mat x = chunk_x(r, k), logits = chunk_rows(r, k, k->logits), ref = chunk_rows(r, k, k->ref_logits);
    HeadGrads by = {.entropy = there.of[ENTROPY], .kl = there.of[KL], .forward = t->forward_kl};
    by.dlp = send(r, grads.dlp, k->n), by.dentropy = send(r, grads.dentropy, k->n), by.dkl = send(r, grads.dkl, k->n);
    e->ops->head_grad(e->backend, logits, r->targets + k->from, t->inv_temperature, by, t->reference ? &ref : NULL);
    weight_grad(e, r->g->head, NULL, logits, x);
    e->ops->linear_bwd_x(e->backend, mat_f32(r->dx + k->from * x.cols, k->n, x.cols), logits, r->w->head, false);
    engine_release(e, mark);
}

/* All chunks in order. Where the device holds two, the next one's products are queued before the host waits for this one's
 * statistics, so that it has something to do while the loss is evaluated; gradients are added in the same order. */
static void run_chunks(const HeadCall *r, Chunk *k, size_t in_flight, size_t rows)
{
    size_t M = (size_t)r->head->predict.M, chunks = M ? (M + rows - 1) / rows : 0, issued = 0;
    for (size_t i = 0; i < chunks; i++) {
        for (; issued < chunks && issued < i + in_flight; issued++) {
            size_t from = issued * rows;
            chunk_issue(r, &k[issued % in_flight], from, M - from < rows ? M - from : rows);
        }
        chunk_finish(r, &k[i % in_flight]);
    }
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
    Chunk k[IN_FLIGHT_MOST];
    int in_flight = chunk < M ? e->ops->device.in_flight : 1;
    CHECK(in_flight >= 1 && in_flight <= IN_FLIGHT_MOST);
    chunks_open(&r, k, in_flight, chunk);
    HeadRun measure = *t;
    measure.loss = NULL;
    Keeper *keepers[] = {w->keeper, g ? g->keeper : NULL, t->reference ? t->reference->keeper : NULL};
    for (int i = 0; i < 3; i++) keeper_need(keepers[i], w->head_part, 1);
    for (int pass = t->loss && t->loss->prepare ? 0 : 1; pass < 2; pass++) {
        r.head = pass == 0 ? &measure : t;
        run_chunks(&r, k, (size_t)in_flight, chunk);
        if (pass == 0) t->loss->prepare(t->loss->ctx, out->lp, t->predict.M);
    }
    /* A gradient of the head is finished where its part's last one is: at the norm, or when tied at the embedding. */
    for (int i = 0; i < 3; i++)
        if (i != 1) keeper_done(keepers[i], w->head_part, 1);
    if (g) head_spread(e, dxn, r.dx, N, t->predict.rows, t->predict.M);
    engine_release(e, mark);
}
