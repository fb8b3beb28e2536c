/* Rows with a dot, a whisker and their numbers. */
#include "recipes/report/svg_forest.h"

#include <math.h>

#include "recipes/report/html.h"
#include "recipes/report/svg.h"
#include "recipes/report/svg_axis.h"

enum { WIDTH = 1060, LEFT = 290, RIGHT = 340, ROW = 34, FOOT = 24 };

static void draw_row(FILE *out, const SvgInterval *r, double y, const SvgAxis *x, double unit)
{
    int color = r->color % SVG_COLORS;
    fprintf(out, "<text class='label' x='%d' y='%.1f' text-anchor='end'>", LEFT - 14, y + 4.5);
    html_text(out, r->label);
    fprintf(out, "</text><path class='interval c%d' d='M%.1f %.1fH%.1fM%.1f %.1fv10M%.1f %.1fv10'/>", color,
            svg_place(x, r->low), y, svg_place(x, r->high), svg_place(x, r->low), y - 5, svg_place(x, r->high), y - 5);
    fprintf(out, "<circle class='dot c%d' r='5' cx='%.1f' cy='%.1f'/>", color, svg_place(x, r->value), y);
    fprintf(out, "<text class='value' x='%d' y='%.1f'>%+.1f</text>", WIDTH - RIGHT + 16, y - 3, unit * r->value);
    fprintf(out, "<text class='tick' x='%d' y='%.1f'>[%+.1f, %+.1f]</text>", WIDTH - RIGHT + 66, y - 3, unit * r->low,
            unit * r->high);
    fprintf(out, "<text class='tick' x='%d' y='%.1f'>", WIDTH - RIGHT + 16, y + 12);
    html_text(out, r->note);
    fputs("</text>", out);
}

void svg_forest(FILE *out, const SvgInterval *rows, int n, bool percent)
{
    double low = 0, high = 0, unit = percent ? 100 : 1;
    int height = n * ROW + FOOT;
    for (int i = 0; i < n; i++) low = fmin(low, rows[i].low), high = fmax(high, rows[i].high);
    double margin = fmax(0.06 * (high - low), percent ? 0.005 : 0.05);
    SvgAxis x = svg_axis(low - margin, high + margin, 8, true, LEFT, WIDTH - RIGHT);
    fprintf(out, "<svg class='stacks forest' viewBox='0 0 %d %d' role='img'>", WIDTH, height);
    for (double v = x.low; v <= x.high + 1e-9 * x.step; v += x.step) {
        double at = svg_place(&x, v);
        fprintf(out, "<line class='grid' x1='%.1f' x2='%.1f' y1='0' y2='%d'/>", at, at, height - FOOT);
        fprintf(out, "<text class='tick' x='%.1f' y='%d' text-anchor='middle'>%+.4g</text>", at, height - 6,
                fabs(v) < 1e-9 * x.step ? 0 : unit * v);
    }
    fprintf(out, "<line class='zero' x1='%.1f' x2='%.1f' y1='0' y2='%d'/>", svg_place(&x, 0), svg_place(&x, 0),
            height - FOOT);
    for (int i = 0; i < n; i++) draw_row(out, &rows[i], (i + 0.5) * ROW, &x, unit);
    fputs("</svg>\n", out);
}
