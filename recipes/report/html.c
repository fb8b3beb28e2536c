/* Text and numbers of an HTML page. */
#include "recipes/report/html.h"

#include <math.h>

void html_text(FILE *out, const char *text)
{
    for (; *text; text++) {
        switch (*text) {
        case '&': fputs("&amp;", out); break;
        case '<': fputs("&lt;", out); break;
        case '>': fputs("&gt;", out); break;
        case '"': fputs("&quot;", out); break;
        default: fputc(*text, out);
        }
    }
}

void html_number(FILE *out, double v, int digits)
{
    if (isnan(v)) fputs("&#8211;", out);
    else fprintf(out, "%.*f", digits, v);
}

void html_count(FILE *out, double v)
{
    static const char *const units[] = {"", "k", "M", "G", "T", "P", "E"};
    int u = 0;
    if (isnan(v)) {
        fputs("&#8211;", out);
        return;
    }
    for (; fabs(v) >= 999.5 && u < 6; u++) v /= 1000;
    fprintf(out, u && fabs(v) < 99.95 ? "%.1f%s" : "%.0f%s", v, units[u]);
}
