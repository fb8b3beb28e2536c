/* The page: head, sections in order, one HTML file. */
#include "recipes/report/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "recipes/run/progress.h"
#include "recipes/report/parts.h"
#include "recipes/run/run_folder.h"
#include "recipes/report/svg.h"

/* ---- The head ---- */

static double sum_of(const ReportRun *r, const char *key)
{
    const Json *stages = json_get(r->summary, "stages");
    double sum = 0;
    for (size_t i = 0; i < json_count(stages); i++) {
        double v = json_get_number(json_at(stages, i), key);
        if (!isnan(v)) sum += v;
    }
    return sum;
}

static void fact(FILE *out, const char *name, const char *text)
{
    if (!text || !text[0]) return;
    fprintf(out, "<div><dt>%s</dt><dd>", name);
    html_text(out, text);
    fputs("</dd></div>\n", out);
}

static void count_fact(FILE *out, const char *name, double v)
{
    if (!(v > 0)) return;
    fprintf(out, "<div><dt>%s</dt><dd>", name);
    html_count(out, v);
    fputs("</dd></div>\n", out);
}

/* The largest model of the run. */
static double parameters(const ReportRun *r)
{
    double most = 0;
    for (int i = 0; i < r->n_stages; i++) {
        most = fmax(most, json_get_number(report_entry(r, r->stages[i]), "parameters")); /* NAN: passed over */
    }
    return most;
}

static void facts(FILE *out, const ReportRun *r)
{
    char seed[24] = "", time[24], recipe[20];
    double s = json_get_number(r->summary, "seed");
    if (!isnan(s)) snprintf(seed, sizeof seed, "%.0f", s);
    snprintf(recipe, sizeof recipe, "%.12s", json_get_string(r->summary, "recipe_sha256", ""));
    fputs("<dl class='facts'>\n", out);
    count_fact(out, "parameters", parameters(r));
    fact(out, "work", progress_time(sum_of(r, "seconds"), time));
    count_fact(out, "tokens trained", sum_of(r, "tokens_trained"));
    count_fact(out, "tokens sampled", sum_of(r, "tokens_sampled"));
    fact(out, "seed", seed);
    fact(out, "recipe sha256", recipe);
    fact(out, "machine kind", json_get_string(r->summary, "machine", ""));
    fputs("</dl>\n", out);
}

/* The value of a top-level text key in a resolved recipe, without its quotes. */
static void recipe_title(const ReportRun *r, char *out, size_t size)
{
    const char *line = r->recipe && !strncmp(r->recipe, "title: ", 7) ? r->recipe + 7 : NULL;
    out[0] = 0;
    if (!line) return;
    size_t n = strcspn(line, "\n");
    if (n >= 2 && line[0] == '"') line++, n -= 2;
    snprintf(out, size, "%.*s", (int)n, line);
}

static void head(FILE *out, const ReportRun *runs, int n)
{
    char title[160];
    recipe_title(&runs[0], title, sizeof title);
    if (!title[0] || n > 1) snprintf(title, sizeof title, n > 1 ? "%d runs compared" : "A run of r1", n);
    fputs("<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><meta name='viewport' "
          "content='width=device-width,"
          "initial-scale=1'><title>",
          out);
    html_text(out, title);
    fprintf(out, "</title>\n<style>\n%s</style></head>\n<body><main>\n<h1>", report_style);
    html_text(out, title);
    fputs("</h1>\n", out);
    for (int i = 0; i < n; i++) {
        fputs("<p class='lead'>", out);
        html_text(out, runs[i].label);
        fputs("</p>\n", out);
        facts(out, &runs[i]);
    }
}

/* ---- The rest that needs no file of its own ---- */

static void one_warning(FILE *out, const ReportRun *r, const Json *line, bool name_run)
{
    const Json *w = json_get(line, "warning");
    fputs("<div class='warning'><p><b>", out);
    html_text(out, json_get_string(w, "name", ""));
    fputs("</b> <small>", out);
    if (name_run) html_text(out, r->label), fputs(", ", out);
    html_text(out, json_get_string(line, "stage", ""));
    fprintf(out, ", step %.0f</small></p><p>", json_number(json_get(line, "step")));
    html_text(out, json_get_string(w, "what", ""));
    fputs(": ", out);
    html_text(out, json_get_string(w, "evidence", ""));
    fputs(".</p><p><small>Try: ", out);
    html_text(out, json_get_string(w, "try", ""));
    fputs(".</small></p></div>\n", out);
}

void report_warnings(FILE *out, const ReportRun *runs, int n)
{
    int count = 0;
    for (int r = 0; r < n; r++)
        for (size_t i = 0; i < json_count(runs[r].metrics); i++) {
            const Json *line = json_at(runs[r].metrics, i);
            if (!json_get(line, "warning")) continue;
            if (!count++) fputs("<h2>Warnings</h2>\n<p class='lead'>Raised while it ran.</p>\n", out);
            one_warning(out, &runs[r], line, n > 1);
        }
}

static void hashes(FILE *out, const ReportRun *r)
{
    bool any = false;
    for (int i = 0; i < r->n_stages; i++) any = any || json_get(report_entry(r, r->stages[i]), "weights_sha256");
    if (!any) return;
    fputs("<details><summary>SHA-256 of the weights after each stage</summary>\n<pre>", out);
    for (int i = 0; i < r->n_stages; i++) {
        const char *hash = json_get_string(report_entry(r, r->stages[i]), "weights_sha256", "");
        if (!hash[0]) continue;
        html_text(out, hash);
        fputs("  ", out);
        html_text(out, r->stages[i]);
        fputc('\n', out);
    }
    fputs("</pre></details>\n", out);
}

static void foot(FILE *out, const ReportRun *runs, int n)
{
    fputs("<h2>To repeat it</h2>\n<p class='lead'>A run is a function of recipe, seed and machine kind.</p>\n", out);
    for (int i = 0; i < n; i++) {
        if (n > 1) fputs("<h3>", out), html_text(out, runs[i].label), fputs("</h3>\n", out);
        hashes(out, &runs[i]);
        if (!runs[i].recipe) continue;
        fputs("<details><summary>The resolved recipe</summary>\n<pre>", out);
        html_text(out, runs[i].recipe);
        fputs("</pre></details>\n", out);
    }
    fputs("<footer>Written by <code>r1 report</code>.</footer>\n</main></body></html>\n", out);
}

static void of_one(FILE *out, const ReportRun *r)
{
    report_student(out, r);
    report_reward_models(out, r);
    report_rows(out, r);
}

static void page(FILE *out, const ReportRun *runs, int n)
{
    head(out, runs, n);
    report_marks(out, runs, n);
    report_tables(out, runs, n);
    if (n == 1) of_one(out, &runs[0]);
    report_warnings(out, runs, n);
    report_curves(out, runs, n);
    for (int i = 0; i < n; i++) {
        if (n > 1) {
            fputs("<h2 class='run'>", out);
            html_text(out, runs[i].label);
            fputs("</h2>\n", out);
            of_one(out, &runs[i]);
        }
        report_needles(out, &runs[i]);
        report_reasons(out, &runs[i]);
        report_samples(out, &runs[i]);
    }
    foot(out, runs, n);
}

bool report_write(const char *const *folders, int n, const char *out, Status *st)
{
    CHECK(n >= 1 && n <= REPORT_RUNS);
    ReportRun runs[REPORT_RUNS] = {0};
    bool ok = true;
    for (int i = 0; ok && i < n; i++) ok = report_run_read(&runs[i], folders[i], st);
    char *text = NULL, *path = NULL;
    size_t size = 0;
    if (ok) {
        FILE *f = open_memstream(&text, &size);
        CHECK(f);
        page(f, runs, n);
        CHECK(!fclose(f));
        CHECK(asprintf(&path, "%s/%s", folders[0], n > 1 ? "compare.html" : "report.html") > 0);
        ok = run_write_file(out ? out : path, text, size, st);
    }
    for (int i = 0; i < n; i++) report_run_free(&runs[i]);
    free(text);
    free(path);
    return ok;
}
