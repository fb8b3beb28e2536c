/* Where a stage's problems come from, and the seeds of its draws. */
#include "recipes/run/sources.h"

#include <stdio.h>
#include <string.h>

#include "core/check.h"

static bool add_source(Run *r, const RecipeTask *t, CorpusSpec *out, Status *st)
{
    Source source = {.level_min = t->levels[0], .level_max = t->levels[1], .weight = (float)t->weight};
    if (t->file[0]) {
        for (int i = 0; i < r->n_datasets; i++)
            if (!strcmp(r->datasets[i]->path, t->file)) source.dataset = r->datasets[i];
        if (!source.dataset) {
            if (r->n_datasets == RUN_DATASETS) return fail(st, "a recipe may use at most %d files", RUN_DATASETS);
            Dataset *d = dataset_read(t->file, t->heldout, r->machine.options.skip_bad, st);
            if (!d) return false;
            if (d->skipped) fprintf(stderr, "%s: %d broken lines skipped\n", t->file, d->skipped);
            r->datasets[r->n_datasets++] = d;
            source.dataset = d;
        }
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
    double reasoning_sum = weight_sum(out), general_sum = weight_sum(&general);
    for (int i = 0; i < out->n_sources; i++) out->sources[i].weight *= (float)((1 - general_share) / reasoning_sum);
    for (int i = 0; i < general.n_sources && out->n_sources < CORPUS_MAX_SOURCES; i++) {
        general.sources[i].weight *= (float)(general_share / general_sum);
        out->sources[out->n_sources++] = general.sources[i];
    }
    return true;
}

uint32_t run_seed(const Run *r, const Unit *u)
{
    return r->recipe->seed * 2654435761u + hash_name(u->stage->name);
}

uint32_t unit_rng_stage(const Unit *u)
{
    return hash_name(u->name) & 0xff;
}
