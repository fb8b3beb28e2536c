/* Learning curves of an ablation: the mean over seeds, with the band from the lowest to the highest. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "recipes/ablate/page.h"
#include "recipes/report/data.h"
#include "recipes/report/html.h"
#include "recipes/report/svg.h"
#include "recipes/run/run_folder.h"

enum { POINTS = 120 };

typedef struct CurveKey {
    const char *key, *title;
    bool percent, eval;
} CurveKey;

static const CurveKey keys[] = {
    {"all/pass@1", "Held-out accuracy", true, true},
    {"pass@1", "Training accuracy", true, false},
    {"reward", "Reward", false, false},
    {"length", "Length of completions, tokens", false, false},
    {"entropy", "Entropy, nats a token", false, false},
    {"format", "Right format", true, false},
    {"language", "Reasoning in the prompt's language", true, false},
    {"kl", "KL to the reference, nats a token", false, false},
    {"loss", "Loss", false, false},
};

typedef struct Band {
    double x[POINTS], mean[POINTS], low[POINTS], high[POINTS];
    int n;
} Band;

/* Step i of every seed, in at most POINTS buckets of neighbouring steps. */
static void add_bucket(Band *b, const Points *seeds, int n_seeds, int from, int to)
{
    double x = 0, low = INFINITY, high = -INFINITY, sum = 0;
    int count = 0;
    for (int s = 0; s < n_seeds; s++) {
        double mean = 0;
        int n = 0;
        for (int i = from; i < to && i < seeds[s].n; i++) mean += seeds[s].y[i], x = seeds[s].x[i], n++;
        if (!n) continue;
        mean /= n;
        sum += mean;
        low = fmin(low, mean);
        high = fmax(high, mean);
        count++;
    }
    if (!count) return;
    b->x[b->n] = x;
    b->mean[b->n] = sum / count;
    b->low[b->n] = low;
    b->high[b->n++] = high;
}

static void make_band(Band *b, const Points *seeds, int n_seeds)
{
    int longest = 0;
    for (int s = 0; s < n_seeds; s++) longest = seeds[s].n > longest ? seeds[s].n : longest;
    int bucket = (longest + POINTS - 1) / POINTS;
    b->n = 0;
    for (int i = 0; i < longest; i += bucket) add_bucket(b, seeds, n_seeds, i, i + bucket);
}

/* One chart, a line with its band for every arm. */
static void chart(FILE *out, const Results *r, ReportRun *const runs[ARMS], const CurveKey *k)
{
    const Ablation *a = r->ablation;
    Band *bands = calloc(ARMS, sizeof *bands);
    SvgChart c = {.title = k->title, .percent = k->percent};
    CHECK(bands);
    for (int i = 0; i < a->n_arms && c.n < SVG_SERIES; i++) {
        Points seeds[STATS_SEEDS];
        int n = 0;
        for (int s = 0; s < a->n_seeds; s++)
            if (runs[i][s].metrics) seeds[n++] = report_points(&runs[i][s], a->until, k->key, k->eval);
        make_band(&bands[i], seeds, n);
        for (int s = 0; s < n; s++) report_points_free(&seeds[s]);
        Band *b = &bands[i];
        if (b->n > 1)
            c.series[c.n++] = (SvgSeries){.label = a->arms[i].name,
                                          .color = i,
                                          .x = b->x,
                                          .y = b->mean,
                                          .n = b->n,
                                          .low = b->low,
                                          .high = b->high};
    }
    if (c.n) svg_chart(out, &c);
    free(bands);
}

void ablate_curves(FILE *out, const Results *r)
{
    const Ablation *a = r->ablation;
    ReportRun *runs[ARMS] = {NULL};
    char folder[FOLDER];
    bool any = false;
    for (int i = 0; i < a->n_arms; i++) {
        runs[i] = calloc(STATS_SEEDS, sizeof *runs[i]);
        CHECK(runs[i]);
        for (int s = 0; s < a->n_seeds; s++) {
            arm_folder(a, &a->arms[i], a->seeds[s], folder);
            runs[i][s].metrics = run_read_lines(folder, "metrics.jsonl");
            any = any || json_count(runs[i][s].metrics);
        }
    }
    if (any) {
        fputs("<h2>How they learned</h2>\n<p class='lead'>Mean over seeds; the band reaches from the lowest to the "
              "highest "
              "seed.</p>\n<div class='key'>",
              out);
        for (int i = 0; i < a->n_arms; i++) {
            fprintf(out, "<span><i class='c%d'></i>", i % SVG_COLORS);
            html_text(out, a->arms[i].name);
            fputs("</span>", out);
        }
        fputs("</div>\n<div class='charts'>\n", out);
        for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) chart(out, r, runs, &keys[k]);
        fputs("</div>\n", out);
    }
    for (int i = 0; i < a->n_arms; i++) {
        for (int s = 0; s < a->n_seeds; s++) json_free(runs[i][s].metrics);
        free(runs[i]);
    }
}
