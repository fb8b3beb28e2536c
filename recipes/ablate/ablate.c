/* Plan, runs, verdicts, files. */
#include "recipes/ablate/ablate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/check.h"
#include "recipes/ablate/budget.h"
#include "recipes/ablate/page.h"
#include "recipes/run/run_folder.h"

void ablate_source(Ablation *a, const char *recipe)
{
    struct stat info;
    a->recipe = recipe;
    snprintf(a->recipe_file, sizeof a->recipe_file, "%s", recipe);
    if (stat(recipe, &info) || !S_ISDIR(info.st_mode)) return;
    snprintf(a->recipe_file, sizeof a->recipe_file, "%.1000s/recipe.yaml", recipe);
}

bool ablate_folder(const char *path, Status *st)
{
    char part[FOLDER];
    for (size_t i = 1; i <= strlen(path); i++) {
        if (path[i] && path[i] != '/') continue;
        snprintf(part, sizeof part, "%.*s", (int)i, path);
        if (mkdir(part, 0777) && errno != EEXIST)
            return fail(st, "cannot create the folder %s: %s; choose another with --out", part, strerror(errno));
    }
    return true;
}

static bool write_text(const Ablation *a, const char *name, char *text, Status *st)
{
    char path[FOLDER + 32];
    snprintf(path, sizeof path, "%s/%s", a->out, name);
    bool ok = run_write_file(path, text, strlen(text), st);
    free(text);
    return ok;
}

bool ablate_write(const Ablation *a, const Sharing *sharing, const char *command, Results **results, Status *st)
{
    Results *r = results_read(a);
    Json *o = results_json(r);
    json_set(o, "command", json_new_text(command));
    if (sharing->jobs) {
        Json *s = json_new_object();
        json_set(s, "jobs", json_new_int(sharing->jobs));
        json_set(s, "threads", json_new_int(sharing->threads));
        json_set(s, "seconds_side_by_side", json_new_number(sharing->beside));
        json_set(s, "seconds_one_after_the_other", json_new_number(sharing->after));
        json_set(o, "sharing", s);
    }
    bool ok = write_text(a, "ablate.json", json_write(o, true), st) &&
              write_text(a, "ablate.csv", results_csv(r), st) &&
              write_text(a, "ablate.html", ablate_page(r, command), st);
    json_free(o);
    if (results && ok) *results = r;
    else results_free(r);
    return ok;
}

static void print(const Ablation *a, const Results *r, bool json)
{
    if (json) {
        Json *o = results_json(r);
        char *text = json_write(o, true);
        puts(text);
        free(text);
        json_free(o);
        return;
    }
    results_print(r, stdout);
    Json *o = results_json(r);
    const Json *units = json_get(o, "units");
    printf("\n%lld units computed, %lld reused; page: %s/ablate.html\n",
           (long long)json_integer(json_get(units, "computed")), (long long)json_integer(json_get(units, "reused")),
           a->out);
    json_free(o);
}

bool ablate(Ablation *a, const AblateOptions *o, const volatile int *cancel, Status *st)
{
    Sharing sharing = {0};
    Status run = {0};
    Results *r = NULL;
    if (!arms_check(a, st) || !ablate_folder(a->out, st)) return false;
    if (o->minutes > 0 && !budget_plan(a, o->minutes, o->schedule.jobs, &sharing, cancel, st)) return false;
    schedule_run(a, &o->schedule, &sharing, cancel, &run);
    if (!sharing.begun) return fail(st, "%s", run.text);
    if (!ablate_write(a, &sharing, o->command, &r, st)) return false;
    if (r->finished || !run.failed) print(a, r, o->json);
    results_free(r);
    if (!run.failed) return true;
    if (*cancel) return fail(st, "interrupted; what is done is kept. Go on with: %s", o->command);
    return fail(st, "%s; the other runs are kept. Go on with: %s", run.text, o->command);
}
