/* Reward models and critics: values, losses and gradients of a scalar head. */
#include "core/scalar_head.h"

#include "core/base/check.h"
#include "core/head.h"

/* The last token of every sequence. */
static int32_t *last_rows(Engine *e, const Batch *batch)
{
    int32_t *last = arena_ints(&e->host, (size_t)batch->nseq);
    for (int i = 0; i < batch->nseq; i++) last[i] = batch->offsets[i + 1] - 1;
    return last;
}

/* x [n, C]: the final states of those rows; rows on the host. */
static Mat gather(Engine *e, const float *xn, size_t N, const int32_t *rows, size_t n)
{
    size_t C = (size_t)e->config->C;
    Mat x = mat_f32(arena_floats(&e->arena, n * C), n, C);
    e->ops->gather_rows(e->backend, x, mat_f32((float *)xn, N, C), engine_upload_ints(e, rows, n));
    return x;
}

/* value[i] = score . x[i], on the host. */
static void values_of(Engine *e, const Weights *w, float *value, Mat x)
{
    float *there = e->ops->device.host ? value : arena_floats(&e->arena, x.rows);
    keeper_need(w->keeper, w->last_part, 1);
    e->ops->linear_fwd(e->backend, mat_f32(there, x.rows, 1), x, w->score, NULL, false);
    keeper_done(w->keeper, w->last_part, 1);
    e->ops->device.download(e->backend, value, there, x.rows * sizeof *value);
}

static void values_at(Engine *e, const Weights *w, Batch batch, const int32_t *rows, int n, float *value)
{
    Tape tape;
    model_forward(e, w, batch, TAPE_NONE, &tape);
    values_of(e, w, value, gather(e, tape.xn, (size_t)batch.N, rows, (size_t)n));
}

void scalar_values(Engine *e, const Weights *w, Batch batch, float *value)
{
    engine_reset(e);
    values_at(e, w, batch, last_rows(e, &batch), batch.nseq, value);
}

void scalar_row_values(Engine *e, const Weights *w, Batch batch, const int32_t *rows, int n, float *value)
{
    engine_reset(e);
    values_at(e, w, batch, rows, n, value);
}

/* A loss on the values of n rows of a batch: `losses` numbers, whose sum it is, and its derivative by each value. */
typedef struct RowsLoss {
    const int32_t *rows;
    int n, losses;
    void (*eval)(void *ctx, float *loss, float *dvalue, const float *value);
    void *ctx;
} RowsLoss;

static void rows_gradients(Engine *e, const Weights *w, const Weights *g, const Batch *batch, const RowsLoss *l,
                           const BalanceConfig *config, ScalarOut *out)
{
    size_t N = (size_t)batch->N, C = (size_t)e->config->C, k = (size_t)l->n;
    e->ops->fill(e->backend, g->block, e->table.state_total, 0.0f);
    Tape tape;
    float *value = arena_floats(&e->host, k), *dvalue = arena_floats(&e->host, k), *loss = arena_floats(&e->host, k);
    float *dxn = arena_floats(&e->arena, N * C), *dx = arena_floats(&e->arena, (k + 1) * C);
    model_forward(e, w, *batch, TAPE_BACKWARD, &tape);
    BalanceLosses balance;
    bool balanced = model_balance_ask(e, &tape, config, &balance);
    Mat x = gather(e, tape.xn, N, l->rows, k);
    values_of(e, w, value, x);
    l->eval(l->ctx, loss, dvalue, value);
    Mat dv = mat_f32((float *)engine_upload(e, dvalue, k * sizeof *dvalue), k, 1);
    keeper_need(w->keeper, w->last_part, 1);
    keeper_need(g->keeper, w->last_part, 1); /* finished at the norm, in model_backward */
    weight_grad(e, g->score, NULL, dv, x);
    e->ops->linear_bwd_x(e->backend, mat_f32(dx, k, C), dv, w->score, false);
    keeper_done(w->keeper, w->last_part, 1);
    head_spread(e, dxn, dx, N, l->rows, l->n);
    if (balanced) balance_losses_finish(e, batch, &balance);
    model_backward(e, w, g, &tape, dxn, balanced ? &balance : NULL);
    *out = (ScalarOut){.loss = sum_in_blocks(loss, l->losses), .routing = tape.routing};
}

typedef struct Judged {
    const float *label;
    int n;
} Judged;

static void judge(void *ctx, float *loss, float *dvalue, const float *value)
{
    const Judged *j = ctx;
    if (j->label) pointwise_loss(loss, dvalue, value, j->label, 1.0f / (float)j->n, j->n);
    else pairwise_loss(loss, dvalue, dvalue + j->n, value, value + j->n, 1.0f / (float)j->n, j->n);
}

void scalar_gradients(Engine *e, const Weights *w, const Weights *g, const ScalarStep *step, ScalarOut *out)
{
    const Batch *batch = &step->batch;
    Judged j = {step->label, step->label ? batch->nseq : batch->nseq / 2};
    CHECK(step->label || batch->nseq % 2 == 0);
    engine_reset(e);
    RowsLoss loss = {last_rows(e, batch), batch->nseq, j.n, judge, &j};
    rows_gradients(e, w, g, batch, &loss, step->balance, out);
}

typedef struct Valued {
    const ValueStep *step;
    int cut;
} Valued;

static void evaluate(void *ctx, float *loss, float *dvalue, const float *value)
{
    Valued *v = ctx;
    v->cut = value_loss(loss, dvalue, value, &v->step->loss, v->step->n);
}

void value_gradients(Engine *e, const Weights *w, const Weights *g, const ValueStep *step, ScalarOut *out)
{
    Valued v = {step, 0};
    engine_reset(e);
    RowsLoss loss = {step->rows, step->n, step->n, evaluate, &v};
    rows_gradients(e, w, g, &step->batch, &loss, step->balance, out);
    out->cut = v.cut;
}
