#include "core/head.h"

#include "core/check.h"

typedef struct Chunk {
    void *x, *ref_x;             /* [chunk, C] of the engine's dtype: the policy's, the reference's */
    float *logits, *ref_logits;  /* [chunk, V] */
    float *dlp, *dentropy, *dkl; /* [chunk] */
    int32_t *at;                 /* [chunk] places of the targets in the reference's logits */
} Chunk;

static void logits_of(Engine *e, const Weights *w, Mat logits, Mat x)
{
    e->ops->linear_fwd(e->backend, logits, x, w->head, NULL, false);
}

void head_logits(Engine *e, const Weights *w, float *logits, const float *xn, size_t rows)
{
    ArenaMark mark = arena_mark(&e->arena);
    Mat x = engine_as(e, e->dtype, mat_f32((float *)xn, rows, (size_t)e->config->C));
    logits_of(e, w, mat_f32(logits, rows, (size_t)e->config->V), x);
    arena_release(&e->arena, mark);
}

static Chunk chunk_open(Engine *e, size_t rows, bool reference)
{
    size_t C = (size_t)e->config->C, V = (size_t)e->config->V;
    Arena *a = &e->arena;
    size_t x_bytes = rows * C * dtype_size(e->dtype);
    Chunk k = {.x = arena_alloc(a, x_bytes), .logits = arena_floats(a, rows * V)};
    if (reference) {
        k.ref_x = arena_alloc(a, x_bytes);
        k.ref_logits = arena_floats(a, rows * V);
        k.at = arena_ints(a, rows);
    }
    k.dlp = arena_floats(a, rows);
    k.dentropy = arena_floats(a, rows);
    k.dkl = arena_floats(a, rows);
    return k;
}

void head_spread(Engine *e, float *dxn, float *dx, size_t N, const int32_t *rows, int M)
{
    size_t C = (size_t)e->config->C;
    int32_t *from = arena_ints(&e->arena, N);
    for (size_t n = 0; n < N; n++) from[n] = M;
    for (int i = 0; i < M; i++) from[rows[i]] = i;
    e->ops->fill(e->backend, dx + (size_t)M * C, C, 0.0f);
    e->ops->gather_rows(e->backend, mat_f32(dxn, N, C), mat_f32(dx, (size_t)M + 1, C), from);
}

/* What one call of head_run works on. */
typedef struct HeadCall {
    Engine *e;
    const Weights *w, *g; /* g: NULL without a gradient */
    const HeadRun *head;
    const float *xn; /* [N, C] */
    size_t N;
    float *dx; /* [M + 1, C] gradient of the compact rows */
    HeadOut *out;
} HeadCall;

/* x and logits of rows [from, from + x.rows) of the predictions under w. */
static void chunk_logits(const HeadCall *r, const Weights *w, const float *xn, size_t from, Mat x, Mat logits)
{
    r->e->ops->gather_rows(r->e->backend, x, mat_f32((float *)xn, r->N, x.cols), r->head->predict.rows + from);
    logits_of(r->e, w, logits, x);
}

/* ref_lp[i] = log q[i, targets[i]]; logq [n, V]. */
static void pick_targets(const HeadCall *r, float *ref_lp, Mat logq, const int32_t *targets, int32_t *at)
{
    size_t n = logq.rows, V = logq.cols;
    CHECK(n * V <= INT32_MAX);
    for (size_t i = 0; i < n; i++) at[i] = (int32_t)(i * V) + (targets[i] < 0 ? 0 : targets[i]);
    r->e->ops->gather_rows(r->e->backend, mat_f32(ref_lp, n, 1), mat_f32(logq.p, n * V, 1), at);
}

/* Rows [from, from + n) of the predictions: statistics, loss, and with g the gradient into dx. */
static void run_chunk(const HeadCall *r, const Chunk *k, size_t from, size_t n)
{
    const HeadRun *t = r->head;
    const Ops *ops = r->e->ops;
    Backend *b = r->e->backend;
    size_t C = (size_t)r->e->config->C, V = (size_t)r->e->config->V;
    const int32_t *targets = t->predict.targets + from;
    Mat x = mat_of(k->x, r->e->dtype, n, C), logits = mat_f32(k->logits, n, V), ref = mat_f32(k->ref_logits, n, V);
    const Mat *reference = t->reference ? &ref : NULL;
    chunk_logits(r, r->w, r->xn, from, x, logits);
    if (reference) chunk_logits(r, t->reference, t->reference_xn, from, mat_of(k->ref_x, r->e->dtype, n, C), ref);
    float *lp = r->out->lp + from, *entropy = r->out->entropy ? r->out->entropy + from : NULL,
          *kl = reference ? r->out->kl + from : NULL;
    ops->head_stats(b, logits, lp, entropy, kl, targets, t->inv_temperature, reference);
    if (reference && r->out->ref_lp) pick_targets(r, r->out->ref_lp + from, ref, targets, k->at);
    r->e->chunks_run++;
    if (!t->loss) return;
    LossRows rows = {.first = (int)from, .n = (int)n, .lp = lp, .entropy = entropy, .kl = kl};
    LossGrads grads = {.loss = r->out->loss + from,
                       .dlp = k->dlp,
                       .dentropy = t->loss->needs_entropy ? k->dentropy : NULL,
                       .dkl = t->loss->needs_kl ? k->dkl : NULL};
    t->loss->eval(t->loss->ctx, &rows, &grads);
    if (!r->g) return;
    HeadGrads by = {grads.dlp, grads.dentropy, entropy, grads.dkl, kl};
    ops->head_grad(b, logits, targets, t->inv_temperature, by, reference);
    ops->linear_bwd_w(b, r->g->head, NULL, logits, x);
    ops->linear_bwd_x(b, mat_f32(r->dx + from * C, n, C), logits, r->w->head, false);
}

void head_run(Engine *e, const Weights *w, const Weights *g, const HeadRun *t, const float *xn, size_t N, float *dxn,
              HeadOut *out)
{
    CHECK(!t->loss || ((!t->loss->needs_entropy || out->entropy) && (!t->loss->needs_kl || (out->kl && t->reference))));
    size_t M = (size_t)t->predict.M, C = (size_t)e->config->C, chunk = (size_t)e->chunk < M ? (size_t)e->chunk : M;
    ArenaMark mark = arena_mark(&e->arena);
    HeadCall r = {.e = e, .w = w, .g = g, .head = t, .xn = xn, .N = N, .out = out};
    if (g) r.dx = arena_floats(&e->arena, (M + 1) * C);
    Chunk k = chunk_open(e, chunk, t->reference != NULL);
    HeadRun measure = *t;
    measure.loss = NULL;
    for (int pass = t->loss && t->loss->prepare ? 0 : 1; pass < 2; pass++) {
        r.head = pass == 0 ? &measure : t;
        for (size_t from = 0; from < M; from += chunk) run_chunk(&r, &k, from, M - from < chunk ? M - from : chunk);
        if (pass == 0) t->loss->prepare(t->loss->ctx, out->lp, t->predict.M);
    }
    if (g) head_spread(e, dxn, r.dx, N, t->predict.rows, t->predict.M);
    arena_release(&e->arena, mark);
}
