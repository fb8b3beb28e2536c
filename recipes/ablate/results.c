/* Evaluations of arms and seeds as numbers. */
#include "recipes/ablate/results.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "recipes/run/run_folder.h"

const MetricKind ablate_metrics[METRICS] = {
    {"pass@1", true, 1},  {"cons@k", true, 1},     {"pass@k", true, 1},  {"format", true, 1}, {"language", true, 1},
    {"length", false, 0}, {"truncated", true, -1}, {"helpful", true, 1}, {"safe", true, 1},
};

int metric_index(const char *name)
{
    for (int i = 0; i < METRICS; i++)
        if (!strcmp(ablate_metrics[i].name, name)) return i;
    return -1;
}

/* ---- Reading ---- */

static const Json *entry_of(const RunResult *r, const char *unit)
{
    const Json *stages = json_get(r->summary, "stages");
    for (size_t i = 0; i < json_count(stages); i++)
        if (!strcmp(json_get_string(json_at(stages, i), "name", ""), unit)) return json_at(stages, i);
    return NULL;
}

static void read_run(RunResult *r, const char *folder, const char *unit)
{
    char path[FOLDER + 32], file[RECIPE_NAME + 16];
    Status ignored = {0};
    snprintf(path, sizeof path, "%s/summary.json", folder);
    r->summary = json_read(path, &ignored);
    if (!entry_of(r, unit)) return;
    snprintf(path, sizeof path, "%s/evals", folder);
    snprintf(file, sizeof file, "%s.jsonl", unit);
    r->rows = run_read_lines(path, file);
    if (json_count(r->rows)) return;
    json_free(r->rows);
    r->rows = NULL;
}

/* Values of a metric in the order of the rows that have it; NULL when none has. */
static double *values_of(const RunResult *r, int metric, int *n)
{
    size_t rows = json_count(r->rows);
    double *v = calloc(rows + 1, sizeof *v);
    CHECK(v);
    *n = 0;
    for (size_t i = 0; i < rows; i++) {
        double x = json_get_number(json_at(r->rows, i), ablate_metrics[metric].name);
        if (!isnan(x)) v[(*n)++] = x;
    }
    if (*n) return v;
    free(v);
    return NULL;
}

static double mean_se(const double *x, int n, double *se)
{
    double sum = 0, squares = 0;
    for (int i = 0; i < n; i++) sum += x[i];
    for (int i = 0; i < n; i++) squares += (x[i] - sum / n) * (x[i] - sum / n);
    *se = n > 1 ? sqrt(squares / (n - 1) / n) : NAN;
    return sum / n;
}

static void measure(Results *r, int arm, int metric)
{
    MetricResult *m = &r->metrics[arm][metric];
    double there[STATS_SEEDS], problems_se = NAN;
    int n = 0;
    for (int s = 0; s < r->ablation->n_seeds; s++) {
        int count;
        double *v = values_of(&r->runs[arm][s], metric, &count);
        m->per_seed[s] = v ? mean_se(v, count, &problems_se) : NAN;
        if (v) there[n++] = m->per_seed[s];
        free(v);
    }
    m->mean = m->se = NAN;
    if (n) m->mean = mean_se(there, n, &m->se);
    if (n == 1) m->se = problems_se;
}

/* Arm b minus arm 0, over the seeds that both have. */
static Compared compare(const Results *r, int b, int metric)
{
    double *d[STATS_SEEDS];
    const double *rows[STATS_SEEDS];
    int n[STATS_SEEDS], seeds = 0;
    for (int s = 0; s < r->ablation->n_seeds; s++) {
        int na = 0, nb = 0;
        double *x = values_of(&r->runs[0][s], metric, &na), *y = values_of(&r->runs[b][s], metric, &nb);
        for (int i = 0; x && y && i < nb && i < na; i++) y[i] -= x[i];
        free(x);
        if (x && y && na == nb) {
            rows[seeds] = d[seeds] = y;
            n[seeds++] = nb;
        } else {
            free(y);
        }
    }
    Compared c = {.p = 1, .adjusted = 1};
    if (seeds) c = stats_compare(&(Paired){seeds, n, rows}, 1);
    for (int s = 0; s < seeds; s++) free(d[s]);
    return c;
}

static void compare_all(Results *r)
{
    for (int m = 0; m < METRICS; m++) {
        Compared list[ARMS];
        int n = 0, arms[ARMS];
        for (int b = 1; b < r->ablation->n_arms; b++) {
            r->compared[b][m] = compare(r, b, m);
            if (r->compared[b][m].seeds) arms[n] = b, list[n++] = r->compared[b][m];
        }
        stats_holm(list, n);
        for (int i = 0; i < n; i++) r->compared[arms[i]][m] = list[i];
    }
}

Results *results_read(const Ablation *a)
{
    Results *r = calloc(1, sizeof *r);
    CHECK(r);
    r->ablation = a;
    for (int i = 0; i < a->n_arms; i++)
        for (int s = 0; s < a->n_seeds; s++) {
            char folder[FOLDER];
            arm_folder(a, &a->arms[i], a->seeds[s], folder);
            read_run(&r->runs[i][s], folder, a->until);
            r->finished += r->runs[i][s].rows != NULL;
        }
    for (int i = 0; i < a->n_arms; i++)
        for (int m = 0; m < METRICS; m++) measure(r, i, m);
    compare_all(r);
    return r;
}

void results_free(Results *r)
{
    for (int i = 0; r && i < ARMS; i++)
        for (int s = 0; s < STATS_SEEDS; s++) {
            json_free(r->runs[i][s].rows);
            json_free(r->runs[i][s].summary);
        }
    free(r);
}

/* ---- Writing ---- */

static Json *run_json(const Results *r, int arm, int s, int64_t counts[2])
{
    const Ablation *a = r->ablation;
    const RunResult *run = &r->runs[arm][s];
    const Json *stages = json_get(run->summary, "stages");
    Json *o = json_new_object(), *lists[2] = {json_new_array(), json_new_array()};
    char folder[FOLDER];
    arm_folder(a, &a->arms[arm], a->seeds[s], folder);
    json_set(o, "seed", json_new_int(a->seeds[s]));
    json_set(o, "folder", json_new_text(folder));
    json_set(o, "finished", json_new_bool(run->rows != NULL));
    const char *hash = json_get_string(entry_of(run, a->until), "weights_sha256", NULL);
    json_set(o, "weights_sha256", hash ? json_new_text(hash) : json_new_null());
    for (size_t i = 0; i < json_count(stages); i++) {
        const Json *e = json_at(stages, i);
        int which = json_get(e, "reused") != NULL;
        json_append(lists[which], json_new_text(json_get_string(e, "name", "")));
        counts[which]++;
    }
    json_set(o, "computed", lists[0]);
    json_set(o, "reused", lists[1]);
    return o;
}

static Json *metrics_json(const Results *r, int arm)
{
    Json *all = json_new_object();
    for (int m = 0; m < METRICS; m++) {
        const MetricResult *v = &r->metrics[arm][m];
        if (isnan(v->mean)) continue;
        Json *o = json_new_object(), *seeds = json_new_array();
        json_set(o, "mean", json_new_number(v->mean));
        json_set(o, "se", json_new_number(v->se));
        for (int s = 0; s < r->ablation->n_seeds; s++) json_append(seeds, json_new_number(v->per_seed[s]));
        json_set(o, "per_seed", seeds);
        json_set(all, ablate_metrics[m].name, o);
    }
    return all;
}

static Json *comparison_json(const Results *r, int b, int m)
{
    const Compared *c = &r->compared[b][m];
    Json *o = json_new_object(), *ci = json_new_array();
    json_set(o, "metric", json_new_text(ablate_metrics[m].name));
    json_set(o, "a", json_new_text(r->ablation->arms[0].name));
    json_set(o, "b", json_new_text(r->ablation->arms[b].name));
    json_set(o, "difference", json_new_number(c->difference));
    json_append(ci, json_new_number(c->low));
    json_append(ci, json_new_number(c->high));
    json_set(o, "ci95", ci);
    json_set(o, "p", json_new_number(c->p));
    json_set(o, "p_adjusted", json_new_number(c->adjusted));
    json_set(o, "verdict", json_new_text(stats_verdict_name(stats_verdict(c))));
    int needs = stats_needs(c);
    json_set(o, "needs", needs < 0 ? json_new_null() : json_new_int(needs));
    json_set(o, "seeds", json_new_int(c->seeds));
    json_set(o, "problems", json_new_int(c->problems));
    return o;
}

Json *results_json(const Results *r)
{
    const Ablation *a = r->ablation;
    Json *o = json_new_object(), *seeds = json_new_array(), *arms = json_new_array(), *list = json_new_array();
    int64_t counts[2] = {0, 0};
    json_set(o, "recipe", json_new_text(a->recipe));
    json_set(o, "until", json_new_text(a->until));
    json_set(o, "metric", json_new_text(a->metric));
    for (int s = 0; s < a->n_seeds; s++) json_append(seeds, json_new_int(a->seeds[s]));
    json_set(o, "seeds", seeds);
    for (int i = 0; i < a->n_arms; i++) {
        Json *arm = json_new_object(), *settings = json_new_array(), *runs = json_new_array();
        json_set(arm, "name", json_new_text(a->arms[i].name));
        for (int k = 0; k < a->n_shared; k++) json_append(settings, json_new_text(a->shared[k]));
        for (int k = 0; k < a->arms[i].n; k++) json_append(settings, json_new_text(a->arms[i].sets[k]));
        for (int k = 0; k < a->arms[i].n_options; k++) json_append(settings, json_new_text(a->arms[i].options[k]));
        for (int s = 0; s < a->n_seeds; s++) json_append(runs, run_json(r, i, s, counts));
        json_set(arm, "settings", settings);
        json_set(arm, "runs", runs);
        json_set(arm, "metrics", metrics_json(r, i));
        json_append(arms, arm);
    }
    json_set(o, "arms", arms);
    for (int m = 0; m < METRICS; m++)
        for (int b = 1; b < a->n_arms; b++)
            if (r->compared[b][m].seeds) json_append(list, comparison_json(r, b, m));
    json_set(o, "comparisons", list);
    Json *units = json_new_object();
    json_set(units, "computed", json_new_int(counts[0]));
    json_set(units, "reused", json_new_int(counts[1]));
    json_set(o, "units", units);
    return o;
}

char *results_csv(const Results *r)
{
    const Ablation *a = r->ablation;
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    CHECK(f);
    fputs("arm,seed,metric,value\n", f);
    for (int i = 0; i < a->n_arms; i++)
        for (int s = 0; s < a->n_seeds; s++)
            for (int m = 0; m < METRICS; m++) {
                double v = r->metrics[i][m].per_seed[s];
                if (!isnan(v)) fprintf(f, "%s,%u,%s,%.9g\n", a->arms[i].name, a->seeds[s], ablate_metrics[m].name, v);
            }
    CHECK(!fclose(f));
    return text;
}

const char *results_verdict(const Compared *c, char out[96])
{
    int needs = stats_needs(c);
    bool equal = c->difference == 0 && c->low == 0 && c->high == 0;
    if (!c->seeds) snprintf(out, 96, "not measured");
    else if (stats_verdict(c) != VERDICT_UNRESOLVED || equal)
        snprintf(out, 96, "%s", equal ? "not resolved (equal on every problem)" : stats_verdict_name(stats_verdict(c)));
    else if (needs < 0) snprintf(out, 96, "not resolved (more than 1000 seeds would)");
    else snprintf(out, 96, "not resolved (about %d more seed%s would)", needs, needs == 1 ? "" : "s");
    return out;
}

void results_print(const Results *r, FILE *out)
{
    const Ablation *a = r->ablation;
    int m = metric_index(a->metric);
    double unit = ablate_metrics[m].percent ? 100 : 1;
    char verdict[96];
    fprintf(out, "\n%s of %s, %d seed%s%s\n", a->metric, a->until, a->n_seeds, a->n_seeds == 1 ? "" : "s",
            ablate_metrics[m].percent ? ", in points" : "");
    fprintf(out, "%-32s %8s %7s %12s %20s  %s\n", "arm", "mean", "+- se", "difference", "95 % interval", "verdict");
    for (int i = 0; i < a->n_arms; i++) {
        const MetricResult *v = &r->metrics[i][m];
        const Compared *c = &r->compared[i][m];
        if (isnan(v->mean)) {
            fprintf(out, "%-32s %8s\n", a->arms[i].name, "-");
            continue;
        }
        fprintf(out, "%-32s %8.1f %7.1f", a->arms[i].name, unit * v->mean, unit * (isnan(v->se) ? 0 : v->se));
        if (c->seeds)
            fprintf(out, " %+12.1f   [%+7.1f, %+7.1f]  %s", unit * c->difference, unit * c->low, unit * c->high,
                    results_verdict(c, verdict));
        fputc('\n', out);
    }
}
