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
    FileBlock *rest; /* weights, then gradients; NULL: in memory */
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
    pool_show_also(policy_placing(p)->pool, &p->ref, p->reference);
}

/* The values of what lies apart, as the file and the new adapters have them. */
static float *read_trained(const LoadedModel *m, FileBlock *rest, Status *st)
{
    const ParamTable *t = &m->table;
    size_t bytes = t->state_total * sizeof(float);
    float *block = rest ? file_block_memory(rest) : memory_block(bytes);
    if (!block) {
        fail(st, "no memory for %.1f GB of trained weights", (double)bytes / 1e9);
        return NULL;
    }
    if (!rest) memset(block, 0, bytes);
    for (int i = 0; i < t->n; i++) {
        const Param *p = &t->params[i];
        if (!p->apart) continue;
        file_block_done(rest, p->count * sizeof(float));
        if (model_param_read(m, p, block + p->state, st) && model_rows_finite(m, p, 0, p->rows, block + p->state, st))
            continue;
        if (!rest) memory_free(block);
        return NULL;
    }
    return block;
}

static FileBlock *open_rest(const Machine *machine, const ParamTable *t, size_t resident, Status *st)
{
    return file_block_open(machine->options.state, 2 * t->state_total * sizeof(float), resident / 2, st);
}

/* The block is the policy's, which says what it is done with. */
static void lend(PlacedModel *model, Policy *p, float *trained)
{
    model->gradients_rest = part_rest_open(NULL, model->rest, &p->engine.table);
    p->lent = trained + p->engine.table.state_total;
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
    float *trained = NULL;
    bool apart = train || m->table.lora;
    bool ok = !train || (train_select(&p->engine.table, train, st) && train_select(&m->table, train, st));
    if (ok && apart) params_set_apart(&m->table);
    ok = ok && (!apart || !resident || (model->rest = open_rest(machine, &m->table, resident, st)));
    ok = ok && (!apart || (trained = read_trained(m, model->rest, st)));
    if (trained && model->rest) lend(model, p, trained);
    if (trained) policy_place_trained(p, trained);
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

static const LoadedModel *file_of(const PlacedSource *s)
{
    return policy_placed_file(s->policy);
}

/* p in the file's table, where its `apart` is said. */
static const Param *own(const PlacedSource *s, const Param *p)
{
    const ParamTable *t = &file_of(s)->table;
    return &t->params[params_find_name(t, p->name)];
}

static bool source_param(const void *from, const Param *p, float *out, Status *st)
{
    const PlacedSource *s = from;
    const Param *its = own(s, p);
    if (!its->apart) return model_param_read(file_of(s), its, out, st);
    memcpy(out, s->master->weights + its->state, its->count * sizeof *out);
    file_block_done(policy_rest(s->policy), its->count * sizeof *out);
    return true;
}

static const void *source_words(const void *from, const Param *p)
{
    const PlacedSource *s = from;
    const Param *its = own(s, p);
    return its->apart ? NULL : model_param_bf16(file_of(s), its);
}

static bool source_part(const void *from, const Param *p, size_t row, size_t n, float *out, Status *st)
{
    const PlacedSource *s = from;
    const Param *its = own(s, p);
    WeightSource file = model_source(file_of(s));
    if (!its->apart) return file.rows && file.rows(file.from, its, row, n, out, st);
    memcpy(out, s->master->weights + its->state + row * its->cols, n * its->cols * sizeof *out);
    file_block_done(policy_rest(s->policy), n * its->cols * sizeof *out);
    return true;
}

WeightSource placed_source(const PlacedSource *s)
{
    return (WeightSource){source_param, source_words, s, source_part};
}
