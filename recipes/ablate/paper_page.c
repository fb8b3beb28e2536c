/* Claims in JSON, on a terminal and on a page. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "recipes/ablate/page.h"
#include "recipes/ablate/paper.h"
#include "recipes/ablate/results.h"
#include "recipes/report/html.h"
#include "recipes/report/svg_forest.h"

Json *claim_json(const Claim *c)
{
    char side[256];
    Json *o = json_new_object(), *tests = json_new_array(), *seeds = json_new_array();
    json_set(o, "id", json_new_text(c->id));
    json_set(o, "source", json_new_text(c->source));
    json_set(o, "sentence", json_new_text(c->sentence));
    json_set(o, "reported", json_new_text(c->reported));
    json_set(o, "checked", json_new_text(c->checked));
    json_set(o, "recipe", json_new_text(c->ablation.recipe_file));
    for (int i = 0; i < c->ablation.n_seeds; i++) json_append(seeds, json_new_int(c->ablation.seeds[i]));
    json_set(o, "seeds", seeds);
    if (c->failure[0]) json_set(o, "failure", json_new_text(c->failure));
    json_set(o, "verdict", json_new_text(claim_verdict_name(claim_verdict(c))));
    for (int i = 0; i < c->n_tests; i++) {
        const ClaimTest *t = &c->tests[i];
        Json *test = json_new_object(), *ci = json_new_array();
        json_set(test, "a", json_new_text(claim_side_text(&t->a, side)));
        json_set(test, "b", json_new_text(claim_side_text(&t->b, side)));
        json_set(test, "expect", json_new_text(claim_expectation(t)));
        if (!t->expect) json_set(test, "within", json_new_number(t->within / claim_unit(t)));
        if (t->found.seeds && strcmp(t->a.metric, "weights")) { /* a hash has no mean */
            json_set(test, "a_mean", json_new_number(t->means[0]));
            json_set(test, "b_mean", json_new_number(t->means[1]));
        }
        json_set(test, "difference", json_new_number(t->found.difference));
        json_append(ci, json_new_number(t->found.low));
        json_append(ci, json_new_number(t->found.high));
        json_set(test, "ci95", ci);
        json_set(test, "p_adjusted", json_new_number(t->found.adjusted));
        const char *verdict = stats_verdict_name(stats_verdict(&t->found));
        if (!t->expect)
            verdict = (const char *const[]){"different", "not resolved", "equal"}[claim_test_verdict(t) + 1];
        if (t->expect == CLAIM_SHOWN) verdict = "shown";
        json_set(test, "verdict", json_new_text(verdict));
        json_append(tests, test);
    }
    json_set(o, "tests", tests);
    return o;
}

/* " (86.2)": the mean of a side; nothing for a hash. */
static const char *mean_text(const ClaimTest *t, int side, char out[32])
{
    out[0] = 0;
    if (strcmp(t->a.metric, "weights"))
        snprintf(out, 32, " (%.*f)", claim_unit(t) > 1 ? 1 : 2, claim_unit(t) * t->means[side]);
    return out;
}

void claim_print(const Claim *c, FILE *out)
{
    char a[256], b[256], verdict[96], expected[64], means[2][32];
    fprintf(out, "\n%s: %s\n  %s\n  %s\n  the paper: %s (checked: %s)\n", c->id, claim_verdict_name(claim_verdict(c)),
            c->sentence, c->source, c->reported, c->checked);
    for (int i = 0; i < c->n_tests; i++) {
        const ClaimTest *t = &c->tests[i];
        double unit = claim_unit(t);
        claim_side_text(&t->a, a), claim_side_text(&t->b, b);
        int digits = unit > 1 ? 1 : 2;
        fprintf(out, "  %s%s against %s%s: %+.*f [%+.*f, %+.*f]%s, expected %s: %s\n", b, mean_text(t, 1, means[1]), a,
                mean_text(t, 0, means[0]), digits, unit * t->found.difference, digits, unit * t->found.low, digits,
                unit * t->found.high, unit > 1 ? " points" : "", claim_expected(t, expected),
                claim_test_text(t, verdict));
    }
}

static void tests_forest(FILE *out, const Claim *c)
{
    SvgInterval rows[CLAIM_TESTS];
    char labels[CLAIM_TESTS][600], notes[CLAIM_TESTS][160], a[256], b[256], verdict[96], expected[64], mean[32];
    for (int percent = 1; percent >= 0; percent--) {
        int n = 0;
        for (int i = 0; i < c->n_tests; i++) {
            const ClaimTest *t = &c->tests[i];
            if ((claim_unit(t) > 1) != percent) continue;
            int v = claim_test_verdict(t);
            snprintf(labels[n], sizeof labels[n], "%s", claim_side_text(&t->b, b));
            fputs("<p><small>", out);
            html_text(out, b);
            fprintf(out, "%s against ", mean_text(t, 1, mean));
            html_text(out, claim_side_text(&t->a, a));
            fprintf(out, "%s: expected %s</small></p>\n", mean_text(t, 0, mean), claim_expected(t, expected));
            snprintf(notes[n], sizeof notes[n], "%s", claim_test_text(t, verdict));
            rows[n] =
                (SvgInterval){labels[n],    notes[n],      t->found.difference,
                              t->found.low, t->found.high, v == 0 || t->expect == CLAIM_SHOWN ? 7 : v > 0 ? 2 : 4};
            n++;
        }
        if (!n) continue;
        fputs("<div class='scroll'>", out);
        svg_forest(out, rows, n, percent);
        fputs("</div>\n", out);
    }
}

static void one_claim(FILE *out, const Claim *c)
{
    ClaimVerdict v = claim_verdict(c);
    fprintf(out, "<div class='card' id='%s'><h3>%s <small class='%s'>%s</small></h3>\n<p>", c->id, c->id,
            v == CLAIM_REPRODUCED ? "right"
            : v == CLAIM_OPPOSITE ? "wrong"
                                  : "tag",
            claim_verdict_name(v));
    html_text(out, c->sentence);
    fputs(" <span class='tag'>", out);
    html_text(out, c->source);
    fputs("</span></p>\n<p class='lead'>The paper: ", out);
    html_text(out, c->reported);
    fputs(" <small>(checked: ", out);
    html_text(out, c->checked);
    fprintf(out, ")</small>. Here: recipe %s until %s, %d seed%s.</p>\n", c->ablation.recipe_file, c->ablation.until,
            c->ablation.n_seeds, c->ablation.n_seeds == 1 ? "" : "s");
    if (c->failure[0]) {
        fputs("<p class='wrong'>It could not be run: ", out);
        html_text(out, c->failure);
        fputs(".</p>\n", out);
    }
    if (v != CLAIM_UNRUN) tests_forest(out, c);
    fputs("</div>\n", out);
}

char *claims_page(const Claim *list, int n, const char *command)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    int counts[4] = {0};
    CHECK(out);
    for (int i = 0; i < n; i++) counts[claim_verdict(&list[i])]++;
    ablate_page_head(out, n > 1 ? "Claims of the papers" : "A claim of the papers");
    fprintf(
        out,
        "<p class='lead'>%d reproduced, %d not reproduced at this size, %d not resolved, %d not run. Differences are "
        "paired by seed and problem, with 95&#8201;%% intervals; several tests of a claim are adjusted (Holm).</p>\n",
        counts[CLAIM_REPRODUCED], counts[CLAIM_OPPOSITE], counts[CLAIM_OPEN], counts[CLAIM_UNRUN]);
    for (int i = 0; i < n; i++) one_claim(out, &list[i]);
    fputs("<h2>To repeat it</h2>\n<pre class='command'>", out);
    html_text(out, command);
    fputs("</pre>\n", out);
    ablate_page_foot(out, "r1 paper");
    CHECK(!fclose(out));
    return text;
}
