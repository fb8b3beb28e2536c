/* What is trained read into a block of its own, the rest placed. */
#include "recipes/model/placed_policy.h"

#include <stdlib.h>
#include <string.h>

#include "checkpoints/part_rest.h"
#include "checkpoints/lora.h"
#include "core/base/check.h"
#include "core/base/memory.h"
#include "core/params_select.h"
#include "recipes/model/attached.h"
#include "recipes/model/train_select.h"

typedef struct PlacedModel {
    LoadedModel *file;
    Placing placing;
    FileBlock *rest; /* gradients, then weights; NULL: in memory */
    PartRest weights_rest, gradients_rest;
} PlacedModel;

static void placed_free(void *model)
{
    PlacedModel *p = model;
    placing_close(&p->placing);
    model_close(p->file);
    part_rest_close(&p->weights_rest);
    part_rest_close(&p->gradients_rest);
    file_block_close(p->rest);
    free(p);
}

static void show_reference(Policy *p)
{
    pool_show_also(policy_placing(p)->pool, &p->ref, &p->reference);
}

static bool read_finite(void *file, const Param *q, float *out, Status *st)
{
    return model_param_read(file, q, out, st) && model_rows_finite(file, q, 0, q->rows, out, st);
}

static bool read_trained(void *placed, const Param *q, float *out, Status *st)
{
    PlacedModel *model = placed;
    file_block_done(model->rest, q->count * sizeof(float));
    return read_finite(model->file, q, out, st);
}

static FileBlock *open_rest(const Machine *machine, const ParamTable *t, size_t resident, Status *st)
{
    size_t bytes = policy_lent_bytes(t, machine->options.dtype);
    return file_block_open(machine->options.state, bytes, resident / 2, st);
}

/* The block is the policy's, which says what it is done with. */
static void lend(PlacedModel *model, Policy *p)
{
    model->gradients_rest = part_rest_open(NULL, model->rest, &p->engine.table);
    p->lent_keeper = &model->gradients_rest.keeper;
}

Policy *placed_policy_open(const Machine *machine, LoadedModel *m, const RecipeNames *train, size_t work,
                           size_t resident, Status *st)
{
    PlacedModel *model = calloc(1, sizeof *model);
    CHECK(model);
    model->file = m;
    Policy *p = policy_placed(machine_engine(machine), &m->config);
    p->placer = model;
    p->free_placer = placed_free;
    p->show_reference = show_reference;
    policy_attach(p, m);
    bool apart = train || m->table.lora;
    bool ok = !train || (train_select(&p->engine.table, train, st) && train_select(&m->table, train, st));
    if (ok && apart) params_set_apart(&m->table);
    ok = ok && (!apart || !resident || (model->rest = open_rest(machine, &m->table, resident, st)));
    void *lent = model->rest ? file_block_memory(model->rest) : NULL;
    if (ok && lent) lend(model, p);
    ok = ok && (!apart || policy_place_trained(p, lent, read_trained, model, st));
    PlacingPlan plan;
    ok = ok && placing_open(&model->placing, &plan, machine, m, p, work, st);
    if (ok && model->rest) {
        model->weights_rest = part_rest_open(p->w.keeper, model->rest, &p->engine.table);
        weights_keep(&p->w, &model->weights_rest.keeper);
    }
    if (ok) return p;
    policy_free(p);
    return NULL;
}

Policy *frozen_policy_open(const Machine *machine, LoadedModel *m, Status *st)
{
    bool halves = machine->options.dtype == DTYPE_BF16 && !m->weights;
    if (halves) return policy_frozen(machine_engine(machine), &m->config, read_finite, m, st);
    if (!model_read_weights(m, st) || !model_finite(m, st)) return NULL;
    float *weights = m->weights;
    m->weights = NULL;
    return policy_new(machine_engine(machine), &m->config, 0, weights);
}

const Placing *policy_placing(const Policy *p)
{
    return p->placer ? &((const PlacedModel *)p->placer)->placing : NULL;
}

FileBlock *policy_rest(const Policy *p)
{
    return p->placer ? ((const PlacedModel *)p->placer)->rest : NULL;
}

const LoadedModel *policy_placed_file(const Policy *p)
{
    return ((const PlacedModel *)p->placer)->file;
}

/* p in the file's table; NULL: the policy has it itself. */
static const Param *in_file(const Policy *policy, const Param *p)
{
    if (!policy->placed || p->apart) return NULL;
    const ParamTable *t = &policy_placed_file(policy)->table;
    return &t->params[params_find_name(t, p->name)];
}

static bool source_param(const void *from, const Param *p, float *out, Status *st)
{
    const Param *its = in_file(from, p);
    if (its) return model_param_read(policy_placed_file(from), its, out, st);
    policy_weights_read(from, p, 0, p->count, out);
    file_block_done(policy_rest(from), p->count * sizeof *out);
    return true;
}

static const void *source_words(const void *from, const Param *p)
{
    const Param *its = in_file(from, p);
    return its ? model_param_bf16(policy_placed_file(from), its) : NULL;
}

static bool source_part(const void *from, const Param *p, size_t row, size_t n, float *out, Status *st)
{
    const Param *its = in_file(from, p);
    if (!its) {
        policy_weights_read(from, p, row * p->cols, n * p->cols, out);
        file_block_done(policy_rest(from), n * p->cols * sizeof *out);
        return true;
    }
    WeightSource file = model_source(policy_placed_file(from));
    return file.rows && file.rows(file.from, its, row, n, out, st);
}

WeightSource policy_source(const Policy *p)
{
    return (WeightSource){source_param, source_words, p, source_part};
}

static bool reference_param(const void *from, const Param *p, float *out, Status *st)
{
    (void)st;
    policy_reference_read(from, p, 0, p->count, out);
    return true;
}

WeightSource policy_reference_source(const Policy *p)
{
    return (WeightSource){.read = reference_param, .from = p};
}
