/* The binary file that `r1 score --out` writes. */
#include "recipes/cli/score_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"

const char *const score_part_names[SCORE_PARTS] = {"logits", "logprobs", "hidden", "router", "grad"};

typedef enum { KIND_EXPERT, KIND_DEVICE, KIND_COMM, KIND_SEQUENCE, KINDS } BalanceKind;
static const char *const balance_names[KINDS] = {"expert", "device", "comm", "sequence"};

static float alpha(const BalanceConfig *b, BalanceKind kind)
{
    const float alphas[KINDS] = {b->expert, b->device, b->comm, b->sequence};
    return alphas[kind];
}

static int length_of(const ScoreResult *r, int s)
{
    return r->batch->offsets[s + 1] - r->batch->offsets[s];
}

static void add(ScoreResult *r, StDtype dtype, int ndim, size_t rows, size_t cols, const char *format, int index)
{
    char name[64];
    uint64_t shape[2] = {rows, cols};
    snprintf(name, sizeof name, format, index);
    st_writer_add(r->writer, name, dtype, ndim, shape);
}

static bool put(ScoreResult *r, const void *data, const char *format, int index, Status *st)
{
    char name[64];
    snprintf(name, sizeof name, format, index);
    return st_writer_data(r->writer, name, data, st);
}

/* count values of 4 bytes that lie on the device. */
static bool put_from_device(ScoreResult *r, const void *data, size_t count, const char *format, int index, Status *st)
{
    Engine *e = &r->policy->engine;
    EngineMark mark = engine_mark(e);
    bool ok = put(r, engine_download(e, data, count * sizeof(float)), format, index, st);
    engine_release(e, mark);
    return ok;
}

static void declare_sequences(ScoreResult *r)
{
    for (int s = 0; s < r->batch->nseq; s++) {
        size_t T = (size_t)length_of(r, s);
        add(r, ST_I32, 1, T, 0, "ids.%d", s);
        if (r->parts & SCORE_LOGITS) add(r, ST_F32, 2, T, (size_t)r->policy->config.V, "logits.%d", s);
        if (r->parts & SCORE_LOGPROBS) add(r, ST_F32, 1, T - 1, 0, "logprobs.%d", s);
    }
    st_writer_add(r->writer, "nll", ST_F32, 0, NULL);
    if (!r->balance) return;
    st_writer_add(r->writer, "aux", ST_F32, 0, NULL);
    st_writer_add(r->writer, "total", ST_F32, 0, NULL);
}

static void declare_layer(ScoreResult *r, int l)
{
    const ModelConfig *c = &r->policy->config;
    size_t T = (size_t)length_of(r, 0), E = (size_t)c->E, K = (size_t)c->K;
    if (r->parts & SCORE_HIDDEN) add(r, ST_F32, 2, T, (size_t)c->C, "hidden.%d", l);
    if (!config_is_moe(c, l)) return;
    if (r->parts & SCORE_ROUTER) {
        add(r, ST_F32, 2, T, E, "router.%d.logits", l);
        add(r, ST_F32, 2, T, E, "router.%d.scores", l);
        add(r, ST_I32, 2, T, K, "router.%d.indices", l);
        add(r, ST_F32, 2, T, K, "router.%d.weights", l);
    }
    for (int k = 0; r->balance && k < KINDS; k++) {
        char format[32];
        snprintf(format, sizeof format, "%s.%%d", balance_names[k]);
        if (alpha(r->balance, (BalanceKind)k) > 0.0f) add(r, ST_F32, 1, (size_t)r->batch->nseq, 0, format, l);
    }
}

static void declare_gradients(ScoreResult *r)
{
    const ParamTable *t = &r->policy->engine.table;
    for (int i = 0; i < t->n; i++) {
        const Param *p = &t->params[i];
        char name[128];
        uint64_t shape[2] = {p->rows, p->cols};
        snprintf(name, sizeof name, "grad.%s", p->name);
        if (p->trained) st_writer_add(r->writer, name, ST_F32, p->ndim, shape);
    }
}

bool score_file_open(ScoreResult *r, const char *path, Status *st)
{
    r->writer = st_writer_open(path, st);
    if (!r->writer) return false;
    declare_sequences(r);
    for (int l = 0; l < r->policy->config.L; l++) declare_layer(r, l);
    if (r->parts & SCORE_GRAD) declare_gradients(r);
    return true;
}

static bool write_sequences(ScoreResult *r, Status *st)
{
    size_t V = (size_t)r->policy->config.V, C = (size_t)r->policy->config.C;
    const float *lp = r->lp;
    bool ok = true;
    for (int s = 0; s < r->batch->nseq && ok; s++) {
        size_t T = (size_t)length_of(r, s), from = (size_t)r->batch->offsets[s];
        ok = put(r, r->batch->ids + from, "ids.%d", s, st);
        if (ok && (r->parts & SCORE_LOGITS)) {
            Engine *e = &r->policy->engine;
            EngineMark mark = engine_mark(e);
            float *logits = arena_floats(&e->arena, T * V);
            head_logits(e, &r->policy->w, logits, r->tape.xn + from * C, T);
            ok = put_from_device(r, logits, T * V, "logits.%d", s, st);
            engine_release(e, mark);
        }
        if (ok && (r->parts & SCORE_LOGPROBS)) ok = put(r, lp, "logprobs.%d", s, st);
        lp += T - 1;
    }
    return ok;
}

static bool write_losses(ScoreResult *r, Status *st)
{
    float nll = (float)r->nll, aux = (float)r->aux, total = (float)(r->nll + r->aux);
    return st_writer_data(r->writer, "nll", &nll, st) &&
           (!r->balance ||
            (st_writer_data(r->writer, "aux", &aux, st) && st_writer_data(r->writer, "total", &total, st)));
}

/* The balance losses of one layer, each sequence alone. */
static bool write_balance(ScoreResult *r, int l, Status *st)
{
    int n = r->batch->nseq;
    float *values = calloc((size_t)n * KINDS, sizeof *values);
    CHECK(values != NULL);
    for (int s = 0; s < n; s++) {
        BalanceValues v = r->losses.values[l * n + s];
        const double kinds[KINDS] = {v.expert, v.device, v.comm, v.sequence};
        for (int k = 0; k < KINDS; k++) values[k * n + s] = (float)kinds[k];
    }
    bool ok = true;
    for (int k = 0; k < KINDS && ok; k++) {
        char format[32];
        snprintf(format, sizeof format, "%s.%%d", balance_names[k]);
        if (alpha(r->balance, (BalanceKind)k) > 0.0f) ok = put(r, values + k * n, format, l, st);
    }
    free(values);
    return ok;
}

static bool write_layer(ScoreResult *r, int l, Status *st)
{
    const ModelConfig *c = &r->policy->config;
    const Routing *t = &r->tape.routing[l];
    size_t T = (size_t)length_of(r, 0), E = T * (size_t)c->E, K = T * (size_t)c->K;
    if ((r->parts & SCORE_HIDDEN) && !put_from_device(r, r->tape.x[l + 1], T * (size_t)c->C, "hidden.%d", l, st))
        return false;
    if (!config_is_moe(c, l)) return true;
    if ((r->parts & SCORE_ROUTER) && !(put_from_device(r, t->logits, E, "router.%d.logits", l, st) &&
                                       put_from_device(r, t->scores, E, "router.%d.scores", l, st) &&
                                       put_from_device(r, t->idx, K, "router.%d.indices", l, st) &&
                                       put_from_device(r, t->weights, K, "router.%d.weights", l, st)))
        return false;
    return !r->balance || write_balance(r, l, st);
}

bool score_file_forward(ScoreResult *r, Status *st)
{
    bool ok = write_sequences(r, st) && write_losses(r, st);
    for (int l = 0; l < r->policy->config.L && ok; l++) ok = write_layer(r, l, st);
    return ok;
}

static bool write_gradient(ScoreResult *r, const Param *p, Status *st)
{
    Engine *e = &r->policy->engine;
    char name[128];
    snprintf(name, sizeof name, "grad.%s", p->name);
    EngineMark mark = engine_mark(e);
    const float *g = engine_download(e, r->policy->grads + p->state, p->count * sizeof *g);
    bool ok = st_writer_data(r->writer, name, g, st);
    engine_release(e, mark);
    return ok;
}

bool score_file_gradients(ScoreResult *r, Status *st)
{
    const ParamTable *t = &r->policy->engine.table;
    for (int part = 0; part < t->n_parts; part++) {
        const Part *its = &t->parts[part];
        keeper_need(r->policy->g.keeper, part, 1);
        for (int i = its->first; i < its->first + its->n; i++)
            if (t->params[i].trained && !write_gradient(r, &t->params[i], st)) return false;
        keeper_done(r->policy->g.keeper, part, 1);
    }
    return true;
}

bool score_file_close(ScoreResult *r, bool ok, Status *st)
{
    if (ok) return st_writer_close(r->writer, st);
    st_writer_abandon(r->writer);
    return false;
}
