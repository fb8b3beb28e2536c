/* Where a stage's problems come from, and the seeds of its draws. */
#include "recipes/run/sources.h"

#include <stdio.h>
#include <string.h>

#include "core/base/check.h"

/* A file is read once for every share that stages hold out of it. */
static const Dataset *open_dataset(Run *r, const RecipeTask *t, Status *st)
{
    for (int i = 0; i < r->n_datasets; i++)
        if (!strcmp(r->datasets[i]->path, t->file) && r->datasets[i]->heldout == t->heldout) return r->datasets[i];
    if (r->n_datasets == RUN_DATASETS) {
        fail(st, "a recipe may use at most %d files (one that is named with two `heldout` is two)", RUN_DATASETS);
        return NULL;
    }
    Dataset *d = dataset_read(t->file, t->heldout, r->machine.options.skip_bad, st);
    if (!d) return NULL;
    if (!dataset_judges(d, st)) {
        dataset_free(d);
        return NULL;
    }
    if (d->skipped) fprintf(stderr, "%s: %d broken lines skipped\n", t->file, d->skipped);
    return r->datasets[r->n_datasets++] = d;
}

static bool add_source(Run *r, const RecipeTask *t, CorpusSpec *out, Status *st)
{
    Source source = {.level_min = t->levels[0], .level_max = t->levels[1], .weight = (float)t->weight};
    if (t->file[0]) {
        source.dataset = open_dataset(r, t, st);
        if (!source.dataset) return false;
    } else {
        source.task = task_find(t->task[0] ? t->task : t->name);
        if (!source.task)
            return fail(st, "there is no task %s; `r1 data --list` names them", t->task[0] ? t->task : t->name);
        if (source.level_max > source.task->levels) source.level_max = source.task->levels;
    }
    CHECK(out->n_sources < CORPUS_MAX_SOURCES);
    out->sources[out->n_sources++] = source;
    return true;
}

static bool sources_of(Run *r, const RecipeTasks *tasks, CorpusSpec *out, Status *st)
{
    *out = (CorpusSpec){.zh_share = (float)r->recipe->zh_share};
    out->styles[STYLE_CLEAN] = 1;
    for (int i = 0; i < tasks->n; i++)
        if (!add_source(r, &tasks->list[i], out, st)) return false;
    return true;
}

bool run_reasoning(Run *r, const RecipeStage *s, CorpusSpec *out, Status *st)
{
    return sources_of(r, s ? recipe_tasks(r->recipe, s) : &r->recipe->tasks, out, st);
}

bool run_general(Run *r, CorpusSpec *out, Status *st)
{
    return sources_of(r, &r->recipe->general, out, st);
}

bool run_preferences(Run *r, const RecipeStage *s, CorpusSpec *out, Status *st)
{
    return sources_of(r, &s->preferences, out, st);
}

static double weight_sum(const CorpusSpec *c)
{
    double sum = 0;
    for (int i = 0; i < c->n_sources; i++) sum += (double)c->sources[i].weight;
    return sum;
}

bool run_mix(Run *r, const RecipeStage *s, double general_share, CorpusSpec *out, Status *st)
{
    CorpusSpec general;
    if (!run_reasoning(r, s, out, st) || !run_general(r, &general, st)) return false;
    if (general_share <= 0 || general.n_sources == 0) return true;
    if (out->n_sources + general.n_sources > CORPUS_MAX_SOURCES)
        return fail(
            st, "%s mixes %d tasks and %d general families; at most %d together: name fewer, or set general_share to 0",
            s ? s->name : "the recipe", out->n_sources, general.n_sources, CORPUS_MAX_SOURCES);
    double reasoning_sum = weight_sum(out), general_sum = weight_sum(&general);
    for (int i = 0; i < out->n_sources; i++) out->sources[i].weight *= (float)((1 - general_share) / reasoning_sum);
    for (int i = 0; i < general.n_sources; i++) {
        general.sources[i].weight *= (float)(general_share / general_sum);
        out->sources[out->n_sources++] = general.sources[i];
    }
    return true;
}

uint32_t run_seed(const Run *r, const Unit *u)
{
    return r->recipe->seed * 2654435761u + hash_name(u->stage->name);
}

uint32_t unit_rng_stage(const Run *r, const Unit *u)
{
    enum { STAGES = 256 }; /* core/base/philox.h: rng_token */
    bool taken[STAGES] = {false};
    for (const Unit *each = r->units;; each++) {
        uint32_t number = hash_name(each->name) % STAGES;
        while (taken[number]) number = (number + 1) % STAGES;
        taken[number] = true;
        if (each == u) return number;
    }
}

int run_documents(const CorpusSpec *c, int traces)
{
    enum { BUILT_IN = 400 };
    if (traces > 0) return traces;
    uint64_t epoch = corpus_epoch(c);
    return epoch > INT32_MAX ? INT32_MAX : epoch ? (int)epoch : BUILT_IN;
}
