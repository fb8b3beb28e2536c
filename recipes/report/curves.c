/* Learning curves and the reasons of failed verdicts. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "recipes/report/parts.h"
#include "recipes/report/svg.h"

typedef struct Metric {
    const char *key, *title;
    bool percent;
    const char *eval; /* drawn as points on top: a path in the evaluations */
} Metric;

static const Metric rl_metrics[] = {
    {"pass@1", "Accuracy (line: training, points: held out)", true, "all/pass@1"},
    {"reward", "Reward", false, NULL},
    {"length", "Length of completions, tokens", false, NULL},
    {"entropy", "Entropy, nats a token", false, NULL},
    {"format", "Right format", true, NULL},
    {"language", "Reasoning in the prompt's language", true, NULL},
    {"thinks", "Non-empty think part", true, NULL},
    {"revisions", "Revisions in a thought", false, "all/revisions"},
    {"corrected", "Right after a revision", true, "all/corrected"},
    {"oracle", "Quality on general prompts (oracle)", false, NULL},
    {"zero_groups", "Groups without variance", true, NULL},
    {"truncated", "Cut off at the length limit", true, NULL},
    {"kl", "KL to the reference, nats a token", false, NULL},
    {"value_loss", "Critic: value loss", false, NULL},
    {"explained_variance", "Critic: variance of returns explained", true, NULL},
    {"grad_norm", "Gradient norm", false, NULL},
    {"gap", "Largest gap between sampler and trainer", false, NULL},
    {"tokens_per_s", "Tokens a second", false, NULL},
};
enum { RL_METRICS = sizeof rl_metrics / sizeof *rl_metrics };

/* Series of a chart own their points. */
typedef struct Chart {
    SvgChart svg;
    Points points[SVG_SERIES];
} Chart;

static void add_series(Chart *c, const ReportRun *r, const char *stage, const char *key, bool eval, const char *label,
                       int color)
{
    if (c->svg.n == SVG_SERIES) return;
    Points p = report_points(r, stage, key, eval);
    if (!p.n) {
        report_points_free(&p);
        return;
    }
    c->points[c->svg.n] = p;
    c->svg.series[c->svg.n++] = (SvgSeries){.label = label, .color = color, .x = p.x, .y = p.y, .n = p.n, .dots = eval};
}

static void finish(FILE *out, Chart *c)
{
    bool line = false;
    for (int i = 0; i < c->svg.n; i++) line = line || c->svg.series[i].n > 1;
    if (line) svg_chart(out, &c->svg);
    for (int i = 0; i < c->svg.n; i++) report_points_free(&c->points[i]);
    c->svg.n = 0;
}

static void key_item(FILE *out, int color, const char *label)
{
    fprintf(out, "<span><i class='c%d'></i>", color % SVG_COLORS);
    html_text(out, label);
    fputs("</span>", out);
}

static bool is_rl(const ReportRun *r, const char *stage)
{
    return report_has(r, stage, "reward");
}

static bool is_dpo(const ReportRun *r, const char *stage)
{
    return report_has(r, stage, "margin");
}

static bool is_rival(const char *stage)
{
    return strstr(stage, ".rival") != NULL;
}

/* One run: a chart a metric, a line a stage. The student's rivals have a group of their own with the first few
 * metrics. */
static void rl_of_one(FILE *out, const ReportRun *r, bool rivals)
{
    const char *stages[RUN_STAGES];
    int n = 0, metrics = rivals ? 3 : RL_METRICS;
    for (int i = 0; i < r->n_stages; i++)
        if (is_rl(r, r->stages[i]) && is_rival(r->stages[i]) == rivals) stages[n++] = r->stages[i];
    if (!n) return;
    fprintf(out, "<h3>%s</h3>\n<div class='key'>",
            rivals ? "The student by reinforcement learning" : "Reinforcement learning");
    for (int i = 0; i < n; i++) key_item(out, i, stages[i]);
    fputs("</div>\n<div class='charts'>\n", out);
    for (int m = 0; m < metrics; m++) {
        Chart c = {.svg = {.title = rl_metrics[m].title, .percent = rl_metrics[m].percent}};
        for (int i = 0; i < n; i++) {
            add_series(&c, r, stages[i], rl_metrics[m].key, false, stages[i], i);
            if (rl_metrics[m].eval) add_series(&c, r, stages[i], rl_metrics[m].eval, true, stages[i], i);
        }
        finish(out, &c);
    }
    fputs("</div>\n", out);
}

/* Several runs: for each stage a chart a metric, a line a run. */
static void rl_of_several(FILE *out, const ReportRun *runs, int n)
{
    for (int i = 0; i < runs[0].n_stages; i++) {
        const char *stage = runs[0].stages[i];
        if (!is_rl(&runs[0], stage) || is_rival(stage)) continue;
        fputs("<h3>", out);
        html_text(out, stage);
        fputs("</h3>\n<div class='key'>", out);
        for (int r = 0; r < n; r++) key_item(out, r, runs[r].label);
        fputs("</div>\n<div class='charts'>\n", out);
        for (int m = 0; m < RL_METRICS; m++) {
            Chart c = {.svg = {.title = rl_metrics[m].title, .percent = rl_metrics[m].percent}};
            for (int r = 0; r < n; r++) {
                add_series(&c, &runs[r], stage, rl_metrics[m].key, false, runs[r].label, r);
                if (rl_metrics[m].eval) add_series(&c, &runs[r], stage, rl_metrics[m].eval, true, runs[r].label, r);
            }
            finish(out, &c);
        }
        fputs("</div>\n", out);
    }
}

/* Stages that learn from text: loss, and accuracy where it was measured on the way. */
static void supervised(FILE *out, const ReportRun *runs, int n)
{
    bool open = false;
    for (int i = 0; i < runs[0].n_stages; i++) {
        const char *stage = runs[0].stages[i];
        if (is_rl(&runs[0], stage) || is_dpo(&runs[0], stage) || !report_has(&runs[0], stage, "loss")) continue;
        if (!open) fputs("<h3>Learning from text: loss, nats a token</h3>\n<div class='charts'>\n", out);
        open = true;
        char title[96];
        snprintf(title, sizeof title, "%.90s", stage);
        Chart c = {.svg = {.title = title}};
        for (int r = 0; r < n; r++) add_series(&c, &runs[r], stage, "loss", false, runs[r].label, r);
        finish(out, &c);
    }
    if (open) fputs("</div>\n", out);
}

/* Stages that learn from preference pairs. */
static void preferences(FILE *out, const ReportRun *runs, int n)
{
    static const Metric metrics[] = {{"accuracy", "pairs in the right order", true, NULL},
                                     {"margin", "margin, beta x log ratio", false, NULL},
                                     {"loss", "DPO loss", false, NULL}};
    bool open = false;
    for (int i = 0; i < runs[0].n_stages; i++) {
        const char *stage = runs[0].stages[i];
        if (!is_dpo(&runs[0], stage)) continue;
        if (!open) fputs("<h3>Learning from preference pairs</h3>\n<div class='charts'>\n", out);
        open = true;
        for (size_t m = 0; m < sizeof metrics / sizeof *metrics; m++) {
            char title[96];
            snprintf(title, sizeof title, "%.60s: %s", stage, metrics[m].title);
            Chart c = {.svg = {.title = title, .percent = metrics[m].percent}};
            for (int r = 0; r < n; r++) add_series(&c, &runs[r], stage, metrics[m].key, false, runs[r].label, r);
            finish(out, &c);
        }
    }
    if (open) fputs("</div>\n", out);
}

void report_curves(FILE *out, const ReportRun *runs, int n)
{
    bool any = false;
    for (int i = 0; i < runs[0].n_stages; i++) any = any || report_has(&runs[0], runs[0].stages[i], "loss");
    if (!any) return;
    fputs(
        "<h2>How it learned</h2>\n<p class='lead'>Faint lines are single steps, strong ones their running mean.</p>\n",
        out);
    if (n == 1) rl_of_one(out, &runs[0], false);
    else rl_of_several(out, runs, n);
    supervised(out, runs, n);
    preferences(out, runs, n);
    if (n == 1) rl_of_one(out, &runs[0], true);
}

/* ---- Reasons ---- */

enum { REASONS = 24 };

static int reason_index(const char **names, int *n, const char *name)
{
    for (int i = 0; i < *n; i++)
        if (!strcmp(names[i], name)) return i;
    if (*n == REASONS) return -1;
    names[*n] = name;
    return (*n)++;
}

static double count_all(const Json *reasons)
{
    double sum = 0;
    const Json *v;
    for (size_t i = 0; i < json_count(reasons); i++) json_member(reasons, i, &v), sum += json_number(v);
    return sum;
}

/* The most frequent reasons first; the rest beyond the colours is one part, "other". */
static int order_reasons(const char **names, int n, double *values, int rows)
{
    for (int i = 0; i < n; i++)
        for (int k = i + 1; k < n; k++) {
            double a = 0, b = 0;
            for (int r = 0; r < rows; r++) a += values[r * REASONS + i], b += values[r * REASONS + k];
            if (b <= a) continue;
            const char *name = names[i];
            names[i] = names[k], names[k] = name;
            for (int r = 0; r < rows; r++) {
                double v = values[r * REASONS + i];
                values[r * REASONS + i] = values[r * REASONS + k], values[r * REASONS + k] = v;
            }
        }
    if (n <= SVG_COLORS) return n;
    names[SVG_COLORS - 1] = "other";
    for (int r = 0; r < rows; r++)
        for (int i = SVG_COLORS; i < n; i++) values[r * REASONS + SVG_COLORS - 1] += values[r * REASONS + i];
    return SVG_COLORS;
}

void report_reasons(FILE *out, const ReportRun *r)
{
    Column columns[REPORT_COLUMNS];
    const char *names[REASONS], *rows[REPORT_COLUMNS];
    int n_columns = report_columns(r, columns, REPORT_COLUMNS), n = 0, n_rows = 0;
    double *values = calloc(REPORT_COLUMNS * REASONS, sizeof *values),
           *packed = calloc(REPORT_COLUMNS * REASONS, sizeof *packed);
    char labels[REPORT_COLUMNS][80];
    CHECK(values && packed);
    for (int i = 0; i < n_columns; i++) {
        const Json *reasons = json_get(json_get(json_get(report_entry(r, columns[i].stage), "eval"), "all"), "reasons"),
                   *v;
        double all = count_all(reasons);
        if (!(all > 0)) continue;
        for (size_t k = 0; k < json_count(reasons); k++) {
            const char *name = json_member(reasons, k, &v);
            int at = strcmp(name, "correct") ? reason_index(names, &n, name) : -1;
            if (at >= 0) values[n_rows * REASONS + at] = json_number(v) / all;
        }
        bool same = !strcmp(columns[i].title, "Student");
        snprintf(labels[n_rows], sizeof *labels, "%s%s%s", columns[i].title, same ? ", " : "",
                 same ? columns[i].note : "");
        if (strstr(columns[i].note, "by RL,")) snprintf(labels[n_rows], sizeof *labels, "Student, by RL");
        rows[n_rows] = labels[n_rows];
        n_rows++;
    }
    n = order_reasons(names, n, values, n_rows);
    for (int row = 0; row < n_rows; row++)
        for (int i = 0; i < n; i++) packed[row * n + i] = values[row * REASONS + i];
    if (n_rows && n) {
        fputs("<h2>Why answers were wrong</h2>\n<p class='lead'>Share of all held-out samples by the verifier's "
              "reason; what is missing "
              "to 100&#8201;% was right.</p>\n<div class='card'><div class='key'>",
              out);
        for (int i = 0; i < n; i++) key_item(out, i, names[i]);
        fputs("</div><div class='scroll'>", out);
        svg_stacks(out, rows, n_rows, names, n, packed);
        fputs("</div></div>\n", out);
    }
    free(values);
    free(packed);
}
