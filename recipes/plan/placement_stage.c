/* The placement of a stage of a run: the same search, on the model's files or by sizes alone. */
#include <stdlib.h>

#include "checkpoints/file_block.h"
#include "core/base/check.h"
#include "core/params_select.h"
#include "recipes/model/train_select.h"
#include "recipes/plan/placement.h"
#include "recipes/plan/plan_as.h"

/* With adapters where the config has some and the file none. */
static void take_adapters(LoadedModel *m, const ModelConfig *config)
{
    if (!config->lora.rank || m->config.lora.rank) return;
    m->config.lora = config->lora;
    params_free(&m->table);
    m->table = params_build(&m->config);
}

LoadedModel *placement_file(const Machine *machine, const char *name, const ModelConfig *config,
                            const RecipeNames *train, Status *st)
{
    LoadedModel *m = model_open_as(name, 0, machine->options.base, MODEL_IN_PLACE, st);
    if (!m) return NULL;
    take_adapters(m, config);
    if (train && !train_select(&m->table, train, st)) {
        fail_prefix(st, "%s", name);
        model_close(m);
        return NULL;
    }
    if (train || m->table.lora) params_set_apart(&m->table);
    return m;
}

/* Kept rates; what is missing of them is assumed. */
static void know_rates(Rates *rates, const Machine *m, const LoadedModel *file, size_t request)
{
    RateKeys keys;
    rates_assume(rates, m);
    rates_keys(&keys, m, file, NULL, request);
    rates_load(rates, &keys);
}

static void to_plan(Plan *out, const Placement *p, const Machine *m, const PlanWork *w, const Rates *rates)
{
    const PlacingPlan *f = &p->fit;
    const Beside *b = &p->beside;
    size_t margin = placing_margin(f->budget);
    *out = (Plan){.process = b->process,
                  .weights = b->state + margin + f->trunk + f->staging + f->slot * (size_t)(f->slots + f->pinned),
                  .packed = b->scratch,
                  .kept = p->kept,
                  .workspace = f->work - margin - b->process - b->state - b->scratch - b->cache - b->others - p->kept,
                  .cache = b->cache,
                  .beside = b->others,
                  .total = f->total,
                  .budget = f->budget,
                  .lowest = b->lowest,
                  .layers = p->model.layers,
                  .layers_kept = p->layers_kept,
                  .keep_bytes = p->keep_bytes,
                  .trained = b->trained,
                  .count = b->count,
                  .flops = p->cost.flops,
                  .placed = true,
                  .experts = f->experts,
                  .experts_stay = f->pinned,
                  .ring = f->slots,
                  .chunk = w->trains ? p->chunk : 0,
                  .placed_work = f->work - margin,
                  .resident = b->resident,
                  .sample_seconds = p->sampling,
                  .sample_step = p->model.sampling.compute,
                  .sample_slots = p->model.sampling.slots,
                  .assumed = rates->cpu_assumed || rates->disk_assumed};
    if (w->trains) {
        out->step_tokens = p->cost.tokens;
        out->step_seconds = p->cost.seconds;
        out->step_compute = p->cost.compute;
        out->step_bytes = p->cost.bytes;
    }
    for (int i = 0; i < w->n_rollouts; i++) {
        size_t token = kv_cache_token_bytes(w->config, w->rollouts[i].cache, m->options.dtype);
        if (token > out->cache_token) out->cache_token = token;
    }
}

static bool place(Plan *out, const Machine *m, const LoadedModel *file, const PlacingSizes *s, const PlanWork *w,
                  const char *what, Status *st)
{
    PlacingPlan sizes;
    Rates rates;
    size_t least = 0;
    Placement *p = calloc(1, sizeof *p);
    CHECK(p);
    bool ok = placing_fill(&sizes, m, file, s, st);
    if (ok) {
        know_rates(&rates, m, file, sizes.slot);
        ok = placement_make(p, m, file, s, w, &rates, &least, st);
    }
    if (ok || least) to_plan(out, p, m, w, &rates);
    out->least = least;
    free(p);
    return ok || fail_prefix(st, "%s", what);
}

bool placement_stage(Plan *out, const Machine *m, const LoadedModel *file, const PlanWork *w, const char *what,
                     Status *st)
{
    Form form = m->options.dtype == DTYPE_BF16 ? FORM_BF16 : FORM_F32;
    PaperSource paper;
    PlacingSizes s = {0};
    bool named = file->origin == MODEL_KNOWN; /* it has no files */
    Reader *reader = named ? NULL : reader_open(file, form, PLACING_THREADS, st);
    if (!reader && !named) return fail_prefix(st, "%s", what);
    if (named) paper_source(&paper, &file->table, form), s.source = &paper.source;
    else s = (PlacingSizes){reader_source(reader), reader_memory(reader), 0};
    *out = (Plan){0};
    bool ok = place(out, m, file, &s, w, what, st);
    if (!ok && out->least && w->trains && m->options.state) {
        PlanWork with = *w;
        Plan on_disk = {0};
        Status second = {0};
        with.resident = file_block_most();
        ok = place(&on_disk, m, file, &s, &with, what, &second);
        if (ok || (on_disk.least && on_disk.least < out->least)) {
            *out = on_disk;
            *st = second;
        }
    }
    reader_close(reader);
    return ok;
}
