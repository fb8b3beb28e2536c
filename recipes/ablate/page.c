/* The page of an ablation: verdicts, matrix, answers. */
#include "recipes/ablate/page.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "recipes/report/html.h"
#include "recipes/report/svg_forest.h"

enum { PROBLEMS_SHOWN = 8 };

/* ---- Frame ---- */

void ablate_page_head(FILE *out, const char *title)
{
    fputs("<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><meta name='viewport' "
          "content='width=device-width,initial-scale=1'><title>",
          out);
    html_text(out, title);
    fprintf(out, "</title>\n<style>\n%s</style></head>\n<body><main>\n<h1>", report_style);
    html_text(out, title);
    fputs("</h1>\n", out);
}

void ablate_page_foot(FILE *out, const char *by)
{
    fprintf(out, "<footer>Written by <code>%s</code>.</footer>\n</main></body></html>\n", by);
}

/* ---- Verdicts ---- */

void ablate_forest(FILE *out, const Results *r, int metric)
{
    const Ablation *a = r->ablation;
    SvgInterval rows[ARMS];
    char verdicts[ARMS][96];
    int n = 0;
    for (int i = 1; i < a->n_arms; i++) {
        const Compared *c = &r->compared[i][metric];
        if (!c->seeds) continue;
        StatsVerdict v = stats_verdict(c);
        results_verdict(c, verdicts[n]);
        rows[n] = (SvgInterval){.label = a->arms[i].name,
                                .note = verdicts[n],
                                .value = c->difference,
                                .low = c->low,
                                .high = c->high,
                                .color = v == VERDICT_UNRESOLVED ? 7
                                         : v == VERDICT_HIGHER   ? 2
                                                                 : 4};
        n++;
    }
    if (!n) {
        fputs("<p class='lead'>No two arms have an evaluation of the same seed yet.</p>\n", out);
        return;
    }
    fprintf(out, "<div class='card'><figcaption>%s: difference to ", ablate_metrics[metric].name);
    html_text(out, a->arms[0].name);
    fputs(", with 95&#8201;% interval</figcaption><div class='scroll'>", out);
    svg_forest(out, rows, n, ablate_metrics[metric].percent);
    fputs("</div></div>\n", out);
}

/* ---- Matrix ---- */

static void matrix_cell(FILE *out, const Results *r, int arm, int m)
{
    const MetricResult *v = &r->metrics[arm][m];
    double unit = ablate_metrics[m].percent ? 100 : 1;
    char verdict[96];
    StatsVerdict sign = arm && r->compared[arm][m].seeds ? stats_verdict(&r->compared[arm][m]) : VERDICT_UNRESOLVED;
    bool good = sign != VERDICT_UNRESOLVED && (int)sign == ablate_metrics[m].up,
         bad = sign != VERDICT_UNRESOLVED && (int)sign == -ablate_metrics[m].up;
    fprintf(out, "<td title='%s'>",
            arm ? results_verdict(&r->compared[arm][m], verdict) : "what the others are compared with");
    if (good) fputs("<span class='right'>", out);
    if (bad) fputs("<span class='wrong'>", out);
    html_number(out, unit * v->mean, 1);
    if (sign != VERDICT_UNRESOLVED) fputs(sign == VERDICT_HIGHER ? "&#8201;&#9650;" : "&#8201;&#9660;", out);
    if (good || bad) fputs("</span>", out);
    if (!isnan(v->se)) fprintf(out, " <small>&#177;%.1f</small>", unit * v->se);
    fputs("</td>", out);
}

static bool is_measured(const Results *r, int m)
{
    for (int i = 0; i < r->ablation->n_arms; i++)
        if (!isnan(r->metrics[i][m].mean)) return true;
    return false;
}

void ablate_matrix(FILE *out, const Results *r)
{
    const Ablation *a = r->ablation;
    fputs("<div class='card scroll'><table><thead><tr><th>arm</th>", out);
    for (int m = 0; m < METRICS; m++)
        if (is_measured(r, m))
            fprintf(out, "<th>%s<small>%s</small></th>", ablate_metrics[m].name,
                    ablate_metrics[m].percent ? "%" : "tokens");
    fputs("</tr></thead><tbody>\n", out);
    for (int i = 0; i < a->n_arms; i++) {
        fputs("<tr><td>", out);
        html_text(out, a->arms[i].name);
        fputs("</td>", out);
        for (int m = 0; m < METRICS; m++)
            if (is_measured(r, m)) matrix_cell(out, r, i, m);
        fputs("</tr>\n", out);
    }
    fputs("</tbody></table></div>\n", out);
}

/* ---- Answers ---- */

typedef struct Contrast {
    size_t row;
    double spread;
} Contrast;

static int by_spread(const void *a, const void *b)
{
    const Contrast *x = a, *y = b;
    if (x->spread != y->spread) return x->spread < y->spread ? 1 : -1;
    return x->row < y->row ? -1 : x->row > y->row;
}

static double share_at(const Results *r, int arm, int s, size_t row)
{
    const Json *line = json_at(r->runs[arm][s].rows, row);
    double v = json_get_number(line, "pass@1");
    if (isnan(v)) v = json_get_number(line, "helpful");
    return isnan(v) ? json_get_number(line, "safe") : v;
}

/* The problems on which arms differ most under the seed, and how far. Returns their number; the list is the
 * caller's. */
static size_t contrasts(const Results *r, int s, Contrast **list)
{
    size_t rows = json_count(r->runs[0][s].rows), n = 0;
    *list = calloc(rows + 1, sizeof **list);
    CHECK(*list);
    for (size_t i = 0; i < rows; i++) {
        double low = INFINITY, high = -INFINITY;
        for (int k = 0; k < r->ablation->n_arms; k++) {
            double v = i < json_count(r->runs[k][s].rows) ? share_at(r, k, s, i) : (double)NAN;
            if (!isnan(v)) low = fmin(low, v), high = fmax(high, v);
        }
        if (high > low) (*list)[n++] = (Contrast){i, high - low};
    }
    qsort(*list, n, sizeof **list, by_spread);
    return n;
}

static void one_answer(FILE *out, const Results *r, int arm, int s, size_t row)
{
    const Json *line = json_at(r->runs[arm][s].rows, row);
    if (!line) return;
    const char *reason = json_get_string(line, "reason", "");
    double share = share_at(r, arm, s, row);
    fputs("<div class='sample'><span class='tag'>", out);
    html_text(out, r->ablation->arms[arm].name);
    fputs("</span><span class='mono'>", out);
    html_text(out, json_get_string(line, "completion", ""));
    fprintf(out, "</span><span class='verdict %s'>", strcmp(reason, "correct") ? "wrong" : "right");
    html_text(out, reason);
    fprintf(out, "<br><small>%.0f&#8201;%% over all samples</small></span></div>\n", 100 * share);
}

void ablate_answers(FILE *out, const Results *r)
{
    const Ablation *a = r->ablation;
    int s = 0;
    while (s < a->n_seeds && !r->runs[0][s].rows) s++;
    if (s == a->n_seeds) return;
    Contrast *list;
    size_t n = contrasts(r, s, &list);
    if (n) {
        fprintf(out,
                "<h2>Answers where arms differ</h2>\n<p class='lead'>Seed %u: the held-out problems on which the arms' "
                "shares of right answers lie furthest apart (%zu of %zu differ); the first sample of each.</p>\n",
                a->seeds[s], n, json_count(r->runs[0][s].rows));
        for (size_t i = 0; i < n && i < PROBLEMS_SHOWN; i++) {
            const Json *line = json_at(r->runs[0][s].rows, list[i].row);
            fputs("<div class='card'><p class='prompt'>", out);
            html_text(out, json_get_string(line, "prompt", ""));
            fputs(" <b>", out);
            html_text(out, json_get_string(line, "answer", ""));
            fputs("</b></p>\n", out);
            for (int k = 0; k < a->n_arms; k++) one_answer(out, r, k, s, list[i].row);
            fputs("</div>\n", out);
        }
    }
    free(list);
}

/* ---- The page ---- */

static void arms_list(FILE *out, const Results *r)
{
    const Ablation *a = r->ablation;
    fputs("<h2>Arms</h2>\n<div class='card scroll'><table><thead><tr><th>arm</th><th class='left'>settings</th>"
          "<th class='left'>runs</th></tr></thead><tbody>\n",
          out);
    for (int i = 0; i < a->n_arms; i++) {
        fputs("<tr><td>", out);
        html_text(out, a->arms[i].name);
        fputs("</td><td class='left mono'>", out);
        if (!a->arms[i].n && !a->arms[i].n_options) fputs("<small>the recipe as it is</small>", out);
        for (int k = 0; k < a->arms[i].n; k++) html_text(out, a->arms[i].sets[k]), fputs("<br>", out);
        for (int k = 0; k < a->arms[i].n_options; k++) html_text(out, a->arms[i].options[k]), fputs("<br>", out);
        fputs("</td><td class='left'>", out);
        for (int s = 0; s < a->n_seeds; s++) {
            if (!r->runs[i][s].rows) {
                fprintf(out, "<small>seed %u: not yet</small> ", a->seeds[s]);
                continue;
            }
            fputs("<a href='", out);
            html_text(out, a->arms[i].name);
            fprintf(out, "-s%u/report.html'>seed %u</a> ", a->seeds[s], a->seeds[s]);
        }
        fputs("</td></tr>\n", out);
    }
    fputs("</tbody></table></div>\n", out);
}

static void lead(FILE *out, const Results *r)
{
    const Ablation *a = r->ablation;
    int problems = 0;
    for (int i = 1; i < a->n_arms && !problems; i++) problems = r->compared[i][metric_index(a->metric)].problems;
    fputs("<p class='lead'>Stage ", out);
    html_text(out, a->until);
    fprintf(out,
            ", %d arm%s under %d seed%s: %d of %d runs finished. All arms meet the same held-out problems and random "
            "numbers; differences are paired by problem and seed",
            a->n_arms, a->n_arms == 1 ? "" : "s", a->n_seeds, a->n_seeds == 1 ? "" : "s", r->finished,
            a->n_arms * a->n_seeds);
    if (problems) fprintf(out, " (%d problems a seed)", problems);
    fputs(", intervals hold the spread of both, and verdicts on several arms are adjusted (Holm).</p>\n", out);
}

char *ablate_page(const Results *r, const char *command)
{
    const Ablation *a = r->ablation;
    char *text = NULL, title[160];
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    CHECK(out);
    snprintf(title, sizeof title, "Ablation of %.60s: %.30s", a->recipe, a->metric);
    ablate_page_head(out, title);
    lead(out, r);
    fputs("<h2>Verdict</h2>\n", out);
    ablate_forest(out, r, metric_index(a->metric));
    fputs("<h2>Every metric</h2>\n<p class='lead'>Mean over seeds &#177; its standard error; &#9650; higher or &#9660; "
          "lower "
          "than the first arm (coloured where more is better or worse).</p>\n",
          out);
    ablate_matrix(out, r);
    ablate_curves(out, r);
    ablate_answers(out, r);
    arms_list(out, r);
    fputs("<h2>To repeat it</h2>\n<p class='lead'>Click to mark, then copy this command.</p>\n<pre class='command'>",
          out);
    html_text(out, command);
    fputs("</pre>\n", out);
    ablate_page_foot(out, "r1 ablate");
    CHECK(!fclose(out));
    return text;
}
