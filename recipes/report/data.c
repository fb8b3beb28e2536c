/* summary.json and metrics.jsonl of a run as numbers. */
#include "recipes/report/data.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/check.h"
#include "data/file.h"
#include "recipes/run/run_folder.h"

static void note_stage(ReportRun *r, const char *name)
{
    for (int i = 0; i < r->n_stages; i++)
        if (!strcmp(r->stages[i], name)) return;
    if (name[0] && r->n_stages < RUN_STAGES) r->stages[r->n_stages++] = name;
}

static char *path_of(const char *folder, const char *name)
{
    char *path;
    CHECK(asprintf(&path, "%s/%s", folder, name) > 0);
    return path;
}

static const char *last_part(const char *folder)
{
    const char *slash = strrchr(folder, '/');
    return slash && slash[1] ? slash + 1 : folder;
}

bool report_run_read(ReportRun *r, const char *folder, Status *st)
{
    memset(r, 0, sizeof *r);
    r->folder = folder;
    r->label = last_part(folder);
    char *summary = path_of(folder, "summary.json"), *recipe = path_of(folder, "recipe.yaml");
    Status ignored = {0};
    size_t n;
    r->recipe = file_read(recipe, &n, &ignored);
    r->summary = access(summary, F_OK) ? json_new_object() : json_read(summary, st);
    r->metrics = run_read_lines(folder, "metrics.jsonl");
    r->samples = run_read_lines(folder, "samples.jsonl");
    free(summary);
    free(recipe);
    const Json *stages = json_get(r->summary, "stages");
    for (size_t i = 0; i < json_count(stages); i++) note_stage(r, json_get_string(json_at(stages, i), "name", ""));
    for (size_t i = 0; i < json_count(r->metrics); i++)
        note_stage(r, json_get_string(json_at(r->metrics, i), "stage", ""));
    if (r->summary && (r->n_stages || r->recipe)) return true;
    report_run_free(r);
    return fail(st, "%s is no run folder: it has no recipe.yaml and no metrics.jsonl", folder);
}

void report_run_free(ReportRun *r)
{
    json_free(r->summary);
    json_free(r->metrics);
    json_free(r->samples);
    free(r->recipe);
    memset(r, 0, sizeof *r);
}

const Json *report_entry(const ReportRun *r, const char *stage)
{
    const Json *stages = json_get(r->summary, "stages");
    for (size_t i = 0; i < json_count(stages); i++)
        if (!strcmp(json_get_string(json_at(stages, i), "name", ""), stage)) return json_at(stages, i);
    return NULL;
}

/* "cons@" -> the value of cons@K with the largest K (pass@1 is not meant by "pass@" when another is there). */
static const Json *at_largest_k(const Json *task, const char *prefix)
{
    const Json *best = NULL;
    long largest = 0;
    for (size_t i = 0; i < json_count(task); i++) {
        const Json *v;
        const char *key = json_member(task, i, &v);
        if (strncmp(key, prefix, strlen(prefix))) continue;
        long k = strtol(key + strlen(prefix), NULL, 10);
        if (k > largest) largest = k, best = v;
    }
    return best;
}

double report_eval(const ReportRun *r, const char *stage, const char *task, const char *key)
{
    const Json *v = json_get(report_entry(r, stage), "eval");
    if (task) v = json_get(v, task);
    size_t n = strlen(key);
    v = n && key[n - 1] == '@' ? at_largest_k(v, key) : json_get(v, key);
    return json_number_or_nan(v);
}

/* ---- Columns ---- */

typedef struct StageTitle {
    const char *stage, *title, *note;
    bool student;
} StageTitle;

static const StageTitle titles[] = {
    {"base", "Base", "pretrained", false},
    {"zero", "Zero", "RL on the base", false},
    {"cold_start", "Dev1", "cold start", false},
    {"rl_reason", "Dev2", "reasoning RL", false},
    {"reject_sft", "Dev3", "rejection SFT", false},
    {"rl_all", "R1", "RL for all", false},
    {"student_base", "Student base", "pretrained", true},
    {"distill", "Student", "distilled", true},
};

static const StageTitle *title_of(const char *stage)
{
    for (size_t i = 0; i < sizeof titles / sizeof *titles; i++)
        if (!strcmp(titles[i].stage, stage)) return &titles[i];
    return NULL;
}

const char *report_title(const char *stage)
{
    const StageTitle *t = title_of(stage);
    return t ? t->title : stage;
}

static bool is_rival(const char *stage)
{
    return strstr(stage, ".rival") != NULL;
}

static const char *best_rival(const ReportRun *r, int *count)
{
    const char *best = NULL;
    *count = 0;
    for (int i = 0; i < r->n_stages; i++) {
        if (!is_rival(r->stages[i]) || isnan(report_eval(r, r->stages[i], "all", "pass@1"))) continue;
        (*count)++;
        if (!best || report_eval(r, r->stages[i], "all", "pass@1") > report_eval(r, best, "all", "pass@1"))
            best = r->stages[i];
    }
    return best;
}

int report_columns(const ReportRun *r, Column *out, int max)
{
    int n = 0, rivals;
    const char *best = best_rival(r, &rivals);
    for (int i = 0; i < r->n_stages && n < max; i++) {
        const char *stage = r->stages[i];
        if (!json_get(report_entry(r, stage), "eval") || (is_rival(stage) && stage != best)) continue;
        const StageTitle *t = title_of(stage);
        Column *c = &out[n++];
        *c = (Column){.stage = stage, .student = is_rival(stage) || (t && t->student)};
        snprintf(c->title, sizeof c->title, "%s", is_rival(stage) ? "Student" : report_title(stage));
        if (is_rival(stage) && rivals > 1) snprintf(c->note, sizeof c->note, "by RL, best of %d", rivals);
        else snprintf(c->note, sizeof c->note, "%s", is_rival(stage) ? "by RL" : t ? t->note : "");
    }
    return n;
}

/* ---- Series ---- */

/* The number at a '/'-separated path, NAN when there is none. */
static double number_at(const Json *line, const char *key)
{
    const Json *v = json_get(line, key);
    const char *slash = v ? NULL : strchr(key, '/');
    if (slash) {
        char head[80];
        snprintf(head, sizeof head, "%.*s", (int)(slash - key), key);
        const Json *below = json_get(line, head);
        return below ? number_at(below, slash + 1) : NAN;
    }
    return json_number_or_nan(v);
}

Points report_points(const ReportRun *r, const char *stage, const char *key, bool eval)
{
    size_t lines = json_count(r->metrics);
    Points p = {malloc((lines + 1) * sizeof(double)), malloc((lines + 1) * sizeof(double)), 0};
    CHECK(p.x && p.y);
    for (size_t i = 0; i < lines; i++) {
        const Json *line = json_at(r->metrics, i), *from = eval ? json_get(line, "eval") : line;
        if (!from || strcmp(json_get_string(line, "stage", ""), stage)) continue;
        double v = number_at(from, key);
        if (isnan(v)) continue;
        p.x[p.n] = json_number(json_get(line, "step"));
        p.y[p.n++] = v;
    }
    return p;
}

void report_points_free(Points *p)
{
    free(p->x);
    free(p->y);
    *p = (Points){0};
}

bool report_has(const ReportRun *r, const char *stage, const char *key)
{
    Points p = report_points(r, stage, key, false);
    bool any = p.n > 0;
    report_points_free(&p);
    return any;
}
