/* Steps of metrics.jsonl through the detectors of recipes/run/warnings.c. */
#include "recipes/ablate/doctor.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/base/check.h"
#include "recipes/config/recipe_load.h"
#include "recipes/run/progress.h"
#include "recipes/run/run_folder.h"

/* The stage of a unit's name: "distill" of "distill.rival1". */
static const RecipeStage *stage_of(const Recipe *r, const char *unit)
{
    char name[RECIPE_NAME];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(unit, "."), unit);
    return recipe_stage(r, name);
}

/* A line of the metrics as what the detectors are fed while a run goes on (recipes/stages/rl_report.c). */
static StepStats stats_of(const Json *line, const RecipeRl *rl)
{
    int64_t step = json_integer(json_get(line, "step"));
    bool updated = !isnan(json_get_number(line, "gap")); /* else entropy was estimated and KL not measured */
    double every = rl->reference_reset > 0 ? rl->reference_reset : (double)INT64_MAX;
    return (StepStats){.step = step,
                       .zero_groups = json_get_number(line, "zero_groups"),
                       .truncated = json_get_number(line, "truncated"),
                       .entropy = json_get_number(line, updated ? "entropy" : "surprise"),
                       .accuracy = json_get_number(line, "pass@1"),
                       .format = json_get_number(line, "format"),
                       .language = json_get_number(line, "language"),
                       .think = json_get_number(line, "thinks"),
                       .rm = json_get_number(line, "rm"),
                       .oracle = json_get_number(line, "oracle"),
                       .kl = rl->beta > 0 && updated ? json_get_number(line, "kl_exact") : (double)NAN,
                       .beta = rl->beta,
                       .reference_age = fmod((double)(step - 1), every)};
}

static bool was_told(const Json *lines, const char *stage, int64_t step, WarningKind kind)
{
    for (size_t i = 0; i < json_count(lines); i++) {
        const Json *line = json_at(lines, i), *w = json_get(line, "warning");
        if (w && json_integer(json_get(line, "step")) == step && !strcmp(json_get_string(line, "stage", ""), stage) &&
            !strcmp(json_get_string(w, "name", ""), warning_name(kind)))
            return true;
    }
    return false;
}

static void look_at(Diagnosis *d, Warnings *w, const Json *lines, const Json *line, const RecipeRl *rl)
{
    Warning fired[WARN_KINDS];
    StepStats s = stats_of(line, rl);
    const char *stage = json_get_string(line, "stage", "");
    int n = warnings_step(w, &s, fired);
    d->steps++;
    for (int i = 0; i < n && d->n < DOCTOR_FINDINGS; i++) {
        Finding *f = &d->list[d->n++];
        *f = (Finding){.warning = fired[i], .told = was_told(lines, stage, s.step, fired[i].kind)};
        snprintf(f->stage, sizeof f->stage, "%.90s", stage);
    }
}

bool diagnose(const char *run, Diagnosis *d, Status *st)
{
    char path[4096], stage[96] = "";
    *d = (Diagnosis){0};
    snprintf(path, sizeof path, "%s/recipe.yaml", run);
    if (access(path, F_OK)) return fail(st, "%s is no run folder: it has no recipe.yaml", run);
    Recipe *recipe = recipe_load(path, NULL, 0, st);
    if (!recipe) return false;
    Json *lines = run_read_lines(run, "metrics.jsonl");
    Warnings *w = warnings_new();
    for (size_t i = 0; i < json_count(lines); i++) {
        const Json *line = json_at(lines, i);
        const char *name = json_get_string(line, "stage", "");
        const RecipeStage *s = stage_of(recipe, name);
        d->age = fmax(0, (double)time(NULL) - json_number(json_get(line, "wall")));
        if (!s || !json_get(line, "reward")) continue;
        if (strcmp(name, stage)) {
            warnings_stage(w);
            snprintf(stage, sizeof stage, "%.90s", name);
            d->stages++;
        }
        look_at(d, w, lines, line, &s->rl);
    }
    warnings_free(w);
    json_free(lines);
    free(recipe);
    return d->steps ? true : fail(st, "%s has no step of an rl stage yet; the warnings are about those", run);
}

Json *diagnosis_json(const Diagnosis *d)
{
    Json *o = json_new_object(), *list = json_new_array();
    json_set(o, "rl_stages", json_new_int(d->stages));
    json_set(o, "steps", json_new_int(d->steps));
    json_set(o, "seconds_since_last_step", json_new_number(d->age));
    for (int i = 0; i < d->n; i++) {
        Json *w = warning_json(&d->list[i].warning);
        json_set(w, "stage", json_new_text(d->list[i].stage));
        json_set(w, "step", json_new_int(d->list[i].warning.step));
        json_set(w, "told_by_the_run", json_new_bool(d->list[i].told));
        json_append(list, w);
    }
    json_set(o, "warnings", list);
    return o;
}

void diagnosis_print(const Diagnosis *d)
{
    char time[24];
    printf("%d steps of %d rl stage%s, the last line %s ago\n", d->steps, d->stages, d->stages == 1 ? "" : "s",
           progress_time(d->age, time));
    for (int i = 0; i < d->n; i++) {
        const Finding *f = &d->list[i];
        printf("\n%s, step %lld: %s%s\n  %s.\n  %s.\n  Try: %s.\n", f->stage, (long long)f->warning.step,
               warning_name(f->warning.kind), f->told ? "" : " (the run did not say so)", f->warning.evidence,
               warning_what(f->warning.kind), warning_try(f->warning.kind));
    }
    if (!d->n) printf("no warning\n");
}
