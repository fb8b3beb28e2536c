/* The gradient of one training step. */
#include "core/train.h"

#include "core/base/check.h"
#include "core/params_select.h"

static HeadOut head_out(Engine *e, const TrainStep *t)
{
    size_t M = (size_t)t->predict.M;
    HeadOut out = {.lp = arena_floats(&e->host, M), .loss = arena_floats(&e->host, M)};
    if (t->entropy || t->loss->needs_entropy) out.entropy = arena_floats(&e->host, M);
    if (t->reference) out.kl = arena_floats(&e->host, M);
    if (t->reference) out.ref_lp = t->reference_lp || !t->forward_kl ? t->reference_lp : arena_floats(&e->host, M);
    return out;
}

/* The reference policy's final states, kept in the arena while its layers' workspace is given back; those of one with an engine
 * of its own stay in that engine's arena. */
static const float *reference_states(Engine *e, const TrainStep *t)
{
    if (t->reference_engine) {
        Tape own;
        engine_reset(t->reference_engine);
        model_forward(t->reference_engine, t->reference, t->batch, TAPE_NONE, &own);
        return own.xn;
    }
    size_t count = (size_t)t->batch.N * (size_t)e->config->C;
    float *xn = arena_floats(&e->arena, count);
    EngineMark mark = engine_mark(e);
    Tape tape;
    model_forward(e, t->reference, t->batch, TAPE_NONE, &tape);
    e->ops->copy(e->backend, mat_f32(xn, (size_t)t->batch.N, (size_t)e->config->C),
                 mat_f32(tape.xn, (size_t)t->batch.N, (size_t)e->config->C));
    engine_release(e, mark);
    return xn;
}

/* Zeros, part by part where somebody keeps them. */
static void clear_gradients(Engine *e, const Weights *g)
{
    const ParamTable *table = &e->table;
    size_t end = 0, count;
    for (int part = 0; g->keeper && part < table->n_parts; part++) {
        size_t from = params_part_state(table, part, &count);
        if (!count) continue;
        keeper_need(g->keeper, part, 1);
        e->ops->fill(e->backend, g->block + end, from + count - end, 0.0f);
        keeper_done(g->keeper, part, 1);
        end = from + count;
    }
    e->ops->fill(e->backend, g->block + end, table->state_total - end, 0.0f);
}

void train_gradients(Engine *e, const Weights *w, const Weights *g, const TrainStep *t, TrainOut *out)
{
    CHECK(t->loss && t->predict.M > 0);
    engine_reset(e);
    size_t N = (size_t)t->batch.N, C = (size_t)e->config->C;
    clear_gradients(e, g);
    HeadRun head = {.predict = t->predict,
                    .inv_temperature = t->inv_temperature,
                    .loss = t->loss,
                    .reference = t->reference,
                    .reference_C = t->reference_engine ? (size_t)t->reference_engine->config->C : 0,
                    .forward_kl = t->forward_kl};
    out->rows = head_out(e, t);
    if (t->reference) head.reference_xn = reference_states(e, t);
    Tape tape;
    e->drop = t->drop;
    e->given = t->given;
    model_forward(e, w, t->batch, TAPE_BACKWARD, &tape);
    e->drop = NULL;
    e->given = NULL;
    out->balance = (BalanceLosses){0};
    bool balanced = model_balance_ask(e, &tape, t->balance, &out->balance);
    float *dxn = arena_floats(&e->arena, N * C);
    head_run(e, w, g, &head, tape.xn, N, dxn, &out->rows);
    if (balanced) balance_losses_finish(e, &t->batch, &out->balance);
    out->aux = balanced ? balance_losses_aux(&out->balance) : 0.0;
    out->loss = sum_in_blocks(out->rows.loss, t->predict.M);
    out->mtp = (MtpOut){0};
    e->mtp_ran = t->mtp > 0.0f && e->config->mtp > 0;
    if (e->mtp_ran) {
        EngineMark mark = engine_mark(e);
        MtpTask ahead = {t->batch, &t->predict, t->mtp, t->balance};
        mtp_gradients(e, w, g, &ahead, tape.xn, dxn, tape.routing, &out->mtp);
        engine_release(e, mark);
    }
    e->drop = t->drop;
    model_backward(e, w, g, &tape, dxn, balanced ? &out->balance : NULL);
    e->drop = NULL;
    out->routing = tape.routing;
}

void train_forward(Engine *e, const Weights *w, Batch batch, const Predictions *predict, float inv_temperature,
                   TapeKind kind, Tape *tape, HeadOut *out)
{
    HeadRun head = {.predict = *predict, .inv_temperature = inv_temperature};
    engine_reset(e);
    model_forward(e, w, batch, kind, tape);
    head_run(e, w, NULL, &head, tape->xn, (size_t)batch.N, NULL, out);
}

void train_log_probs(Engine *e, const Weights *w, Batch batch, const Predictions *predict, float inv_temperature,
                     float *lp, float *entropy)
{
    Tape tape;
    HeadOut out = {.lp = lp, .entropy = entropy};
    train_forward(e, w, batch, predict, inv_temperature, TAPE_NONE, &tape, &out);
}
