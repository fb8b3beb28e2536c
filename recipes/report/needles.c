/* Needles found, by length of the haystack and depth, after each stage that was evaluated on them. */
#include "recipes/report/parts.h"

/* One stage's grid: a row a length, a cell the darker the more were found. */
static void grid(FILE *out, const char *stage, const Json *g)
{
    const Json *lengths = json_get(g, "lengths"), *found = json_get(g, "found");
    size_t depths = json_count(json_at(found, 0));
    fputs("<h3>", out);
    html_text(out, report_title(stage));
    fputs("</h3>\n<table class='needles'><tr><th>digits</th>", out);
    for (size_t d = 0; d < depths; d++) fprintf(out, "<th>%zu-%zu %%</th>", 100 * d / depths, 100 * (d + 1) / depths);
    fputs("</tr>\n", out);
    for (size_t i = 0; i < json_count(lengths); i++) {
        fprintf(out, "<tr><th>%lld</th>", (long long)json_integer(json_at(lengths, i)));
        for (size_t d = 0; d < depths; d++) {
            const Json *cell = json_at(json_at(found, i), d);
            if (json_is_null_value(cell)) fputs("<td>-</td>", out);
            else
                fprintf(out, "<td style='background:rgba(46,125,50,%.2f)'>%.0f %%</td>", 0.6 * json_number(cell),
                        100 * json_number(cell));
        }
        fputs("</tr>\n", out);
    }
    fputs("</table>\n", out);
}

void report_needles(FILE *out, const ReportRun *r)
{
    bool any = false;
    for (int i = 0; i < r->n_stages; i++) {
        const Json *g = json_get(report_entry(r, r->stages[i]), "needle");
        if (!g) continue;
        if (!any)
            fputs("<h2>Needles in a haystack</h2>\n<p class='lead'>Numbers found, by digits around them and by how "
                  "deep they "
                  "lie.</p>\n",
                  out);
        any = true;
        grid(out, r->stages[i], g);
    }
}
