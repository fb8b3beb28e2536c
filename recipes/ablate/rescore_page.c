/* A rescoring on a page, in JSON and on a terminal. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "data/json.h"
#include "recipes/ablate/page.h"
#include "recipes/ablate/rescore.h"
#include "recipes/report/html.h"
#include "recipes/report/svg.h"

enum { EXAMPLES = 8, BINS = 9 };

/* The samples whose advantage changes most, those that change sign first; returns their number. */
static int examples(const Rescore *r, int out[EXAMPLES])
{
    int n = 0;
    bool *used = calloc((size_t)r->n + 1, sizeof *used);
    CHECK(used);
    while (n < EXAMPLES) {
        int best = -1;
        double most = 0;
        for (int i = 0; i < r->n; i++) {
            const Rescored *s = &r->list[i];
            double change = -s->was_advantage * s->now_advantage;
            if (!used[i] && change > most) most = change, best = i;
        }
        if (best < 0) break;
        for (int i = 0; i < r->n; i++) used[i] = used[i] || r->list[i].group == r->list[best].group; /* one a group */
        out[n++] = best;
    }
    free(used);
    return n;
}

/* ---- JSON ---- */

static Json *distribution_json(double mean, double sd, const double q[5], double truth, double flat, const int c[2][2])
{
    Json *o = json_new_object(), *quantiles = json_new_array(), *confusion = json_new_object();
    json_set(o, "mean", json_new_number(mean));
    json_set(o, "sd", json_new_number(sd));
    for (int i = 0; i < 5; i++) json_append(quantiles, json_new_number(q[i]));
    json_set(o, "quantiles", quantiles);
    json_set(o, "rank_correlation_with_truth", json_new_number(truth));
    json_set(o, "groups_without_variance", json_new_number(flat));
    json_set(confusion, "right_paid", json_new_int(c[1][1]));
    json_set(confusion, "right_unpaid", json_new_int(c[1][0]));
    json_set(confusion, "wrong_paid", json_new_int(c[0][1]));
    json_set(confusion, "wrong_unpaid", json_new_int(c[0][0]));
    json_set(o, "confusion", confusion);
    return o;
}

static Json *example_json(const Rescored *s)
{
    Json *o = json_new_object();
    json_set(o, "step", json_new_int(s->sample->step));
    json_set(o, "prompt", json_new_text(s->sample->prompt_text));
    json_set(o, "answer", json_new_text(s->sample->answer));
    json_set(o, "completion", json_new_text(s->sample->completion));
    json_set(o, "truth", json_new_number(s->truth));
    json_set(o, "reward_was", json_new_number(s->was));
    json_set(o, "reward_now", json_new_number(s->now));
    json_set(o, "advantage_was", json_new_number(s->was_advantage));
    json_set(o, "advantage_now", json_new_number(s->now_advantage));
    return o;
}

Json *rescore_json(const Rescore *r, const RescoreNumbers *n)
{
    Json *o = json_new_object(), *list = json_new_array();
    int shown[EXAMPLES], count = examples(r, shown);
    json_set(o, "samples", json_new_int(r->n));
    json_set(o, "groups", json_new_int(r->groups));
    json_set(o, "left_out", json_new_int(r->unknown));
    json_set(o, "program_calls", json_new_int(r->calls));
    json_set(o, "program_failures", json_new_int(r->failures));
    json_set(o, "was",
             distribution_json(n->was_mean, n->was_sd, n->was_quantiles, n->was_truth, n->was_flat, n->confusion[0]));
    json_set(o, "now",
             distribution_json(n->now_mean, n->now_sd, n->now_quantiles, n->now_truth, n->now_flat, n->confusion[1]));
    json_set(o, "rank_correlation_was_now", json_new_number(n->was_now));
    json_set(o, "advantages_that_change_sign", json_new_int(n->flipped));
    for (int i = 0; i < count; i++) json_append(list, example_json(&r->list[shown[i]]));
    json_set(o, "examples", list);
    return o;
}

/* ---- Terminal ---- */

void rescore_print(const Rescore *r, const RescoreNumbers *n)
{
    printf("%d samples in %d groups, steps %lld to %lld\n\n", r->n, r->groups, (long long)r->first_step,
           (long long)r->last_step);
    printf("%-40s %10s %10s\n", "", "stored", "now");
    printf("%-40s %10.3f %10.3f\n", "mean reward", n->was_mean, n->now_mean);
    printf("%-40s %10.3f %10.3f\n", "standard deviation", n->was_sd, n->now_sd);
    printf("%-40s %10.3f %10.3f\n", "rank correlation with the hidden truth", n->was_truth, n->now_truth);
    printf("%-40s %9.1f%% %9.1f%%\n", "groups without variance", 100 * n->was_flat, 100 * n->now_flat);
    printf("%-40s %10d %10d\n", "right answers with advantage above 0", n->confusion[0][1][1], n->confusion[1][1][1]);
    printf("%-40s %10d %10d\n", "right answers without", n->confusion[0][1][0], n->confusion[1][1][0]);
    printf("%-40s %10d %10d\n", "wrong answers with advantage above 0", n->confusion[0][0][1], n->confusion[1][0][1]);
    printf("%-40s %10d %10d\n", "wrong answers without", n->confusion[0][0][0], n->confusion[1][0][0]);
    printf("\nadvantages that change sign: %d of %d (%.1f %%); rank correlation of the two rewards %.3f\n", n->flipped,
           r->n, 100.0 * n->flipped / r->n, n->was_now);
    if (r->unknown) printf("%d samples left out: their problems could not be made again\n", r->unknown);
    if (r->failures) printf("%ld of %ld calls of the program failed\n", r->failures, r->calls);
}

/* ---- Page ---- */

static void histogram(FILE *out, const Rescore *r, bool now, const char *title)
{
    double low = INFINITY, high = -INFINITY;
    SvgMark marks[BINS];
    char labels[BINS][24];
    int count[BINS] = {0};
    for (int i = 0; i < r->n; i++) {
        double v = now ? r->list[i].now : r->list[i].was;
        low = fmin(low, v), high = fmax(high, v);
    }
    double width = high > low ? (high - low) / BINS : 1;
    for (int i = 0; i < r->n; i++) {
        int bin = (int)(((now ? r->list[i].now : r->list[i].was) - low) / width);
        count[bin < BINS ? bin : BINS - 1]++;
    }
    for (int b = 0; b < BINS; b++) {
        snprintf(labels[b], sizeof labels[b], "%.2f", low + (b + 0.5) * width);
        marks[b] = (SvgMark){labels[b], "", (double)count[b] / r->n, 0, NAN, now ? 1 : 0};
    }
    fprintf(out, "<div class='card'><figcaption>%s</figcaption><div class='scroll'>", title);
    svg_marks(out, marks, BINS, "share of samples", "");
    fputs("</div></div>\n", out);
}

static void row(FILE *out, const char *name, double was, double now, int digits)
{
    fprintf(out, "<tr><td>%s</td><td>", name);
    html_number(out, was, digits);
    fputs("</td><td>", out);
    html_number(out, now, digits);
    fputs("</td></tr>\n", out);
}

static void table(FILE *out, const RescoreNumbers *n)
{
    fputs("<div class='card scroll'><table><thead><tr><th></th><th>stored</th><th>now</th></tr></thead><tbody>\n", out);
    row(out, "mean reward", n->was_mean, n->now_mean, 3);
    row(out, "standard deviation", n->was_sd, n->now_sd, 3);
    row(out, "rank correlation with the hidden truth", n->was_truth, n->now_truth, 3);
    row(out, "groups without variance, %", 100 * n->was_flat, 100 * n->now_flat, 1);
    row(out, "right answers that are reinforced", n->confusion[0][1][1], n->confusion[1][1][1], 0);
    row(out, "right answers that are not", n->confusion[0][1][0], n->confusion[1][1][0], 0);
    row(out, "wrong answers that are reinforced", n->confusion[0][0][1], n->confusion[1][0][1], 0);
    row(out, "wrong answers that are not", n->confusion[0][0][0], n->confusion[1][0][0], 0);
    fputs("</tbody></table></div>\n", out);
}

static void example(FILE *out, const Rescored *s)
{
    fputs("<div class='card'><p class='prompt'>", out);
    html_text(out, s->sample->prompt_text);
    fputs(" <b>", out);
    html_text(out, s->sample->answer);
    fprintf(out, "</b></p><div class='sample'><span class='tag'>step %lld</span><span class='mono'>",
            (long long)s->sample->step);
    html_text(out, s->sample->completion);
    fprintf(out, "</span><span class='verdict %s'>", s->truth >= 1 ? "right" : "wrong");
    html_text(out, s->sample->reason);
    fprintf(out, "<br><small>reward %.2f &#8594; %.2f<br>advantage %+.2f &#8594; %+.2f</small></span></div></div>\n",
            s->was, s->now, s->was_advantage, s->now_advantage);
}

char *rescore_page(const Rescore *r, const RescoreNumbers *n, const char *title)
{
    char *text = NULL;
    size_t size = 0;
    int shown[EXAMPLES], count = examples(r, shown);
    FILE *out = open_memstream(&text, &size);
    CHECK(out);
    ablate_page_head(out, title);
    fprintf(out, "<p class='lead'>%d stored samples in %d groups (steps %lld to %lld) scored again", r->n, r->groups,
            (long long)r->first_step, (long long)r->last_step);
    if (r->unknown) fprintf(out, "; %d left out, for their problems could not be made again", r->unknown);
    if (r->failures) fprintf(out, "; %ld of %ld calls of the program failed", r->failures, r->calls);
    fputs(". The hidden truth is the task's verdict, of general prompts the oracle.</p>\n<h2>What is paid</h2>\n", out);
    table(out, n);
    histogram(out, r, false, "Stored rewards: share of samples by reward");
    histogram(out, r, true, "Rewards now: share of samples by reward");
    fprintf(out,
            "<h2>Who is taught otherwise</h2>\n<p class='lead'>%d of %d advantages change their sign (%.1f&#8201;%%). "
            "Those "
            "that change most, one a group:</p>\n",
            n->flipped, r->n, 100.0 * n->flipped / r->n);
    for (int i = 0; i < count; i++) example(out, &r->list[shown[i]]);
    ablate_page_foot(out, "r1 reward");
    CHECK(!fclose(out));
    return text;
}
