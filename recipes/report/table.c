/* Tables: stages side by side, runs side by side, the student's two roads, the reward models. */
#include <math.h>
#include <string.h>

#include "recipes/run/progress.h"
#include "recipes/report/parts.h"
#include "recipes/report/svg.h"

/* ---- Marks ---- */

/* Mean over runs of a stage's value and its error: the evaluation's for one run, the spread over runs for several. */
static double over_runs(const ReportRun *runs, int n, const char *stage, const char *task, const char *key,
                        double *error)
{
    double sum = 0, squares = 0;
    int count = 0;
    for (int i = 0; i < n; i++) {
        double v = report_eval(&runs[i], stage, task, key);
        if (isnan(v)) continue;
        sum += v, squares += v * v, count++;
    }
    double mean = count ? sum / count : NAN;
    if (error && n == 1) *error = report_eval(&runs[0], stage, task, "se");
    else if (error) *error = count > 1 ? sqrt(fmax(squares - count * mean * mean, 0) / (count - 1) / count) : NAN;
    return mean;
}

void report_marks(FILE *out, const ReportRun *runs, int n)
{
    Column columns[REPORT_COLUMNS];
    SvgMark marks[REPORT_COLUMNS];
    int count = report_columns(&runs[0], columns, REPORT_COLUMNS);
    bool second = false;
    if (!count) return;
    for (int i = 0; i < count; i++) {
        double error = NAN;
        marks[i] = (SvgMark){columns[i].title, columns[i].note, 0, 0, NAN, columns[i].student ? 2 : 0};
        marks[i].value = over_runs(runs, n, columns[i].stage, "all", "pass@1", &error);
        marks[i].error = isnan(error) ? 0 : error;
        marks[i].second = over_runs(runs, n, columns[i].stage, NULL, "helpful", NULL);
        second = second || !isnan(marks[i].second);
    }
    fprintf(out,
            "<div class='card'><div class='key'><span><i class='c0'></i>pass@1 on held-out reasoning problems%s</span>",
            n > 1 ? ", mean of the runs &#177; its standard error" : " &#177; standard error");
    if (second) fputs("<span><i class='ring'></i>quality of helpful answers (hidden oracle)</span>", out);
    fputs("</div><div class='scroll'>", out);
    svg_marks(out, marks, count, "pass@1", "helpful");
    fputs("</div></div>\n", out);
}

/* ---- The stage table ---- */

static void open_row(FILE *out, const char *class, const char *label, const char *suffix)
{
    fprintf(out, "<tr%s%s%s><td>", class[0] ? " class='" : "", class, class[0] ? "'" : "");
    html_text(out, label);
    fprintf(out, "%s</td>", suffix);
}

static void open_cell(FILE *out, const Column *c, double bar)
{
    fprintf(out, "<td class='%s%s'", isnan(bar) ? "" : "v", c->student ? " student" : "");
    if (!isnan(bar)) fprintf(out, " style='--v:%.1f'", 100 * bar);
    fputc('>', out);
}

static void share_row(FILE *out, const ReportRun *r, const Column *c, int n, const char *label, const char *task,
                      const char *key, const char *class)
{
    bool any = false, bars = !strcmp(key, "pass@1");
    for (int i = 0; i < n; i++) any = any || !isnan(report_eval(r, c[i].stage, task, key));
    if (!any) return;
    open_row(out, class, label, "");
    for (int i = 0; i < n; i++) {
        double v = report_eval(r, c[i].stage, task, key), se = bars ? report_eval(r, c[i].stage, task, "se") : NAN;
        open_cell(out, &c[i], bars ? v : NAN);
        html_number(out, 100 * v, 1);
        if (!isnan(se) && !isnan(v)) fprintf(out, " <small>&#177;%.1f</small>", 100 * se);
        fputs("</td>", out);
    }
    fputs("</tr>\n", out);
}

/* A number of the stage's entry, with the entries of its parts ("reject_sft.samples") added; rivals stand for themselves. */
static double total_of(const ReportRun *r, const char *stage, const char *key)
{
    double sum = 0;
    bool any = false;
    size_t length = strlen(stage);
    for (int i = 0; i < r->n_stages; i++) {
        const char *name = r->stages[i];
        bool own = !strcmp(name, stage), part = !strncmp(name, stage, length) && !strcmp(name + length, ".samples");
        double v = own || part ? json_get_number(report_entry(r, name), key) : (double)NAN;
        if (isnan(v)) continue;
        sum += v;
        any = true;
    }
    return any ? sum : NAN;
}

static void cost_rows(FILE *out, const ReportRun *r, const Column *c, int n)
{
    static const struct {
        const char *label, *key;
    } rows[] = {{"time", "seconds"},
                {"tokens trained", "tokens_trained"},
                {"tokens sampled", "tokens_sampled"},
                {"steps", "steps"}};
    char time[24];
    for (int k = 0; k < 4; k++) {
        open_row(out, "", rows[k].label, "");
        for (int i = 0; i < n; i++) {
            double v = total_of(r, c[i].stage, rows[k].key);
            open_cell(out, &c[i], NAN);
            if (k == 0 && !isnan(v)) fputs(progress_time(v, time), out);
            else html_count(out, v);
            fputs("</td>", out);
        }
        fputs("</tr>\n", out);
    }
}

static void group_row(FILE *out, const char *text, int n)
{
    fprintf(out, "<tr class='group'><td colspan='%d'>%s</td></tr>\n", n + 1, text);
}

static void at_k_label(const ReportRun *r, const Column *c, int n, const char *prefix, char *out, size_t size)
{
    double k = NAN;
    for (int i = 0; i < n && isnan(k); i++) k = report_eval(r, c[i].stage, "all", "k");
    if (isnan(k)) snprintf(out, size, "%sk", prefix);
    else snprintf(out, size, "%s%.0f", prefix, k);
}

static void quality_rows(FILE *out, const ReportRun *r, const Column *c, int n)
{
    char label[32];
    at_k_label(r, c, n, "cons@", label, sizeof label);
    share_row(out, r, c, n, label, "all", "cons@", "");
    at_k_label(r, c, n, "pass@", label, sizeof label);
    share_row(out, r, c, n, label, "all", "pass@", "");
    group_row(out, "how it answers, %", n);
    share_row(out, r, c, n, "right format", "all", "format", "");
    share_row(out, r, c, n, "prompt's language", "all", "language", "");
    share_row(out, r, c, n, "language, Chinese prompts", "all", "language_zh", "");
    share_row(out, r, c, n, "cut off", "all", "truncated", "");
    share_row(out, r, c, n, "helpful (oracle)", NULL, "helpful", "");
    share_row(out, r, c, n, "safe", NULL, "safe", "");
    share_row(out, r, c, n, "refuses the harmless", NULL, "over_refusal", "");
}

static void length_row(FILE *out, const ReportRun *r, const Column *c, int n)
{
    open_row(out, "", "mean length, tokens", "");
    for (int i = 0; i < n; i++) {
        open_cell(out, &c[i], NAN);
        html_number(out, report_eval(r, c[i].stage, "all", "length"), 1);
        fputs("</td>", out);
    }
    fputs("</tr>\n", out);
}

static void header_row(FILE *out, const Column *c, int n, const char *first)
{
    fprintf(out, "<thead><tr><th>%s</th>", first);
    for (int i = 0; i < n; i++) {
        fprintf(out, "<th%s>", c[i].student ? " class='student'" : "");
        html_text(out, c[i].title);
        fputs("<small>", out);
        html_text(out, c[i].note);
        fputs("</small></th>", out);
    }
    fputs("</tr></thead>\n<tbody>\n", out);
}

static void stage_table(FILE *out, const ReportRun *r)
{
    Column c[REPORT_COLUMNS];
    int n = report_columns(r, c, REPORT_COLUMNS);
    if (!n) return;
    fputs("<div class='card scroll'><table>", out);
    header_row(out, c, n, "");
    group_row(out, "pass@1 on held-out problems, %", n);
    share_row(out, r, c, n, "all families", "all", "pass@1", "all");
    const Json *eval = json_get(report_entry(r, c[0].stage), "eval");
    for (size_t i = 0; i < json_count(eval); i++) {
        const Json *task;
        const char *name = json_member(eval, i, &task);
        if (strcmp(name, "all") && json_get(task, "pass@1")) share_row(out, r, c, n, name, name, "pass@1", "");
    }
    quality_rows(out, r, c, n);
    group_row(out, "what it cost", n);
    length_row(out, r, c, n);
    cost_rows(out, r, c, n);
    fputs("</tbody></table></div>\n", out);
}

static void side_by_side(FILE *out, const ReportRun *runs, int n)
{
    Column c[REPORT_COLUMNS];
    int count = report_columns(&runs[0], c, REPORT_COLUMNS);
    fputs("<div class='card scroll'><table>", out);
    header_row(out, c, count, "pass@1, %");
    for (int r = 0; r < n; r++) {
        open_row(out, "", runs[r].label, "");
        for (int i = 0; i < count; i++) {
            double v = report_eval(&runs[r], c[i].stage, "all", "pass@1"),
                   se = report_eval(&runs[r], c[i].stage, "all", "se");
            open_cell(out, &c[i], v);
            html_number(out, 100 * v, 1);
            if (!isnan(se) && !isnan(v)) fprintf(out, " <small>&#177;%.1f</small>", 100 * se);
            fputs("</td>", out);
        }
        fputs("</tr>\n", out);
    }
    open_row(out, "all", "mean of the runs", "");
    for (int i = 0; i < count; i++) {
        double error, v = over_runs(runs, n, c[i].stage, "all", "pass@1", &error);
        open_cell(out, &c[i], v);
        html_number(out, 100 * v, 1);
        if (!isnan(error)) fprintf(out, " <small>&#177;%.1f</small>", 100 * error);
        fputs("</td>", out);
    }
    fputs("</tr>\n</tbody></table></div>\n", out);
}

void report_tables(FILE *out, const ReportRun *runs, int n)
{
    Column c[REPORT_COLUMNS];
    if (!report_columns(&runs[0], c, REPORT_COLUMNS)) return;
    fputs("<h2>What every stage changed</h2>\n<p class='lead'>In the paper's shape: Zero is RL straight on the base; "
          "Dev1 the cold "
          "start, Dev2 reasoning RL, Dev3 SFT on rejection samples, R1 the RL for all scenarios.</p>\n",
          out);
    if (n > 1) side_by_side(out, runs, n);
    for (int i = 0; i < n; i++) {
        if (n > 1) fputs("<details><summary>", out), html_text(out, runs[i].label), fputs(", in full</summary>\n", out);
        stage_table(out, &runs[i]);
        if (n > 1) fputs("</details>\n", out);
    }
}

/* ---- The student's two roads ---- */

/* The highest learning rate of a unit's steps. */
static double peak_lr(const ReportRun *r, const char *stage)
{
    Points p = report_points(r, stage, "lr", false);
    double peak = NAN;
    for (int i = 0; i < p.n; i++)
        if (!(p.y[i] <= peak)) peak = p.y[i];
    report_points_free(&p);
    return peak;
}

static void road_row(FILE *out, const ReportRun *r, const char *stage, const char *label)
{
    open_row(out, "", label, "");
    double v = report_eval(r, stage, "all", "pass@1"), se = report_eval(r, stage, "all", "se");
    fputs("<td>", out);
    html_number(out, 100 * v, 1);
    if (!isnan(se)) fprintf(out, " <small>&#177;%.1f</small>", 100 * se);
    static const char *const keys[] = {"flops", "tokens_trained", "tokens_sampled", "seconds"};
    for (int i = 0; i < 4; i++) {
        fputs("</td><td>", out);
        html_count(out, json_get_number(report_entry(r, stage), keys[i]));
    }
    fputs("</td></tr>\n", out);
}

void report_student(FILE *out, const ReportRun *r)
{
    const char *distilled = NULL;
    for (int i = 0; i < r->n_stages; i++)
        if (strstr(r->stages[i], ".rival1") && report_entry(r, r->stages[i])) distilled = r->stages[i];
    if (!distilled) return;
    char stage[96], samples[120], label[80];
    snprintf(stage, sizeof stage, "%.*s", (int)strcspn(distilled, "."), distilled);
    snprintf(samples, sizeof samples, "%s.samples", stage);
    fputs("<h2>Distil, or reinforce the small one?</h2>\n<p class='lead'>The same student twice. RL may spend the "
          "FLOPs that "
          "distilling took, the teacher's sampling included; what training the teacher took is not counted.</p>\n",
          out);
    fputs("<div class='card scroll'><table><thead><tr><th></th><th>pass@1, %</th><th>FLOPs</th><th>trained</th>"
          "<th>sampled</th><th>seconds</th></tr></thead>\n<tbody>\n",
          out);
    road_row(out, r, stage, "distilled");
    for (int i = 0; i < r->n_stages; i++) {
        if (strncmp(r->stages[i], stage, strlen(stage)) || !strstr(r->stages[i], ".rival") ||
            !report_entry(r, r->stages[i]))
            continue;
        snprintf(label, sizeof label, "by RL, lr %.2g", peak_lr(r, r->stages[i]));
        road_row(out, r, r->stages[i], label);
    }
    if (report_entry(r, samples)) road_row(out, r, samples, "the teacher's samples");
    fputs("</tbody></table></div>\n", out);
}

void report_reward_models(FILE *out, const ReportRun *r)
{
    bool any = false;
    for (int i = 0; i < r->n_stages; i++) {
        double accuracy = json_get_number(report_entry(r, r->stages[i]), "heldout_accuracy");
        if (isnan(accuracy)) continue;
        if (!any) fputs("<h3>Reward models and preferences</h3>\n<p>Accuracy on held-out pairs and labels: ", out);
        fputs(any ? ", " : "", out);
        html_text(out, r->stages[i]);
        fprintf(out, " %.1f %%", 100 * accuracy);
        any = true;
    }
    if (any) fputs(".</p>\n", out);
}
