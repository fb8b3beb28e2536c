/* Reward models: values, losses and gradients of a scalar head. */
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

/* x [nseq, C]: the final states of those rows; last on the host. */
static Mat gather_last(Engine *e, const float *xn, size_t N, const int32_t *last, int nseq)
{
    size_t C = (size_t)e->config->C, n = (size_t)nseq;
    Mat x = mat_f32(arena_floats(&e->arena, n * C), n, C);
    e->ops->gather_rows(e->backend, x, mat_f32((float *)xn, N, C), engine_upload_ints(e, last, n));
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

void scalar_values(Engine *e, const Weights *w, Batch batch, float *value)
{
    engine_reset(e);
    Tape tape;
    const int32_t *last = last_rows(e, &batch);
    model_forward(e, w, batch, TAPE_NONE, &tape);
    Mat x = gather_last(e, tape.xn, (size_t)batch.N, last, batch.nseq);
    values_of(e, w, value, x);
}

void scalar_gradients(Engine *e, const Weights *w, const Weights *g, const ScalarStep *step, ScalarOut *out)
{
    Batch batch = step->batch;
    size_t N = (size_t)batch.N, C = (size_t)e->config->C, k = (size_t)batch.nseq;
    int n = step->label ? batch.nseq : batch.nseq / 2;
    CHECK(step->label || batch.nseq % 2 == 0);
    engine_reset(e);
    e->ops->fill(e->backend, g->block, e->table.state_total, 0.0f);
    Tape tape;
    const int32_t *last = last_rows(e, &batch);
    float *value = arena_floats(&e->host, k), *dvalue = arena_floats(&e->host, k), *loss = arena_floats(&e->host, k);
    float *dxn = arena_floats(&e->arena, N * C), *dx = arena_floats(&e->arena, (k + 1) * C);
    model_forward(e, w, batch, TAPE_BACKWARD, &tape);
    Mat x = gather_last(e, tape.xn, N, last, batch.nseq);
    values_of(e, w, value, x);
    if (step->label) pointwise_loss(loss, dvalue, value, step->label, 1.0f / (float)n, n);
    else pairwise_loss(loss, dvalue, dvalue + n, value, value + n, 1.0f / (float)n, n);
    Mat dv = mat_f32((float *)engine_upload(e, dvalue, k * sizeof *dvalue), k, 1);
    keeper_need(w->keeper, w->last_part, 1);
    keeper_need(g->keeper, w->last_part, 1); /* finished at the norm, in model_backward */
    weight_grad(e, g->score, NULL, dv, x);
    e->ops->linear_bwd_x(e->backend, mat_f32(dx, k, C), dv, w->score, false);
    keeper_done(w->keeper, w->last_part, 1);
    head_spread(e, dxn, dx, N, last, batch.nseq);
    BalanceLosses balance;
    bool balanced = model_balance(e, &tape, step->balance, &balance);
    model_backward(e, w, g, &tape, dxn, balanced ? &balance : NULL);
    *out = (ScalarOut){.loss = sum_in_blocks(loss, n), .routing = tape.routing};
}
