/* What became of the rows of files: used, left out and why, how often each is met, by stage. */
#include <string.h>

#include "recipes/report/parts.h"

static void cell(FILE *out, const Json *source, const char *key)
{
    const Json *v = json_get(source, key);
    fputs("<td class='n'>", out);
    if (v) html_number(out, json_number(v), strcmp(key, "times") ? 0 : 2);
    fputs("</td>", out);
}

static void row(FILE *out, const char *stage, const Json *source)
{
    static const char *const keys[] = {"rows", "skipped", "held_out", "too_long", "used_rows", "times", "without_gold"};
    fputs("<tr><td>", out);
    html_text(out, stage);
    fputs("</td><td>", out);
    html_text(out, json_get_string(source, "source", ""));
    fputs("</td>", out);
    for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) cell(out, source, keys[k]);
    fputs("</tr>\n", out);
}

void report_rows(FILE *out, const ReportRun *r)
{
    bool begun = false;
    for (int s = 0; s < r->n_stages; s++) {
        const Json *data = json_get(report_entry(r, r->stages[s]), "data");
        for (size_t i = 0; i < json_count(data); i++) {
            const Json *source = json_at(data, i);
            if (!json_get(source, "rows")) continue;
            if (!begun)
                fputs("<h2>Rows</h2>\n<p class='lead'>What became of the rows of files.</p>\n<div class='card "
                      "scroll'><table>"
                      "<thead><tr><th>stage</th><th>file</th><th>rows</th><th>broken</th><th>held out</th><th>too "
                      "long</th>"
                      "<th>used</th><th>each met</th><th>no gold answer</th></tr></thead><tbody>\n",
                      out);
            begun = true;
            row(out, r->stages[s], source);
        }
    }
    if (begun) fputs("</tbody></table></div>\n", out);
}
