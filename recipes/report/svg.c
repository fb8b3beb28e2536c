/* Charts as SVG. */
#include "recipes/report/svg.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "recipes/report/html.h"
#include "recipes/report/svg_axis.h"

/* ---- Lines ---- */

enum { WIDTH = 340, HEIGHT = 190, LEFT = 42, RIGHT = 10, TOP = 8, BOTTOM = 24, POINTS_MAX = 240 };

static void draw_axes(FILE *out, const SvgAxis *x, const SvgAxis *y, bool percent)
{
    for (double v = ceil(y->low / y->step - 1e-9) * y->step; v <= y->high + 1e-9 * y->step; v += y->step) {
        double at = svg_place(y, v);
        fprintf(out, "<line class='grid' x1='%d' x2='%d' y1='%.1f' y2='%.1f'/>", LEFT, WIDTH - RIGHT, at, at);
        fprintf(out, "<text class='tick' x='%d' y='%.1f' text-anchor='end'>", LEFT - 5, at + 3.5);
        svg_tick(out, v, percent);
        fputs("</text>", out);
    }
    for (double v = ceil(x->low / x->step - 1e-9) * x->step; v <= x->high + 1e-9 * x->step; v += x->step) {
        fprintf(out, "<text class='tick' x='%.1f' y='%d' text-anchor='middle'>", svg_place(x, v), HEIGHT - 8);
        svg_tick(out, v, false);
        fputs("</text>", out);
    }
}

static void widen(double v, double *low, double *high)
{
    if (v < *low) *low = v;
    if (v > *high) *high = v;
}

/* At most POINTS_MAX means of neighbours, so that long stages stay light. Returns their number. */
static int thin(const SvgSeries *s, double *x, double *y)
{
    int bucket = (s->n + POINTS_MAX - 1) / POINTS_MAX, n = 0;
    for (int i = 0; i < s->n; i += bucket) {
        int count = s->n - i < bucket ? s->n - i : bucket;
        x[n] = y[n] = 0;
        for (int k = 0; k < count; k++) x[n] += s->x[i + k] / count, y[n] += s->y[i + k] / count;
        n++;
    }
    return n;
}

static void draw_path(FILE *out, const char *class, int color, const SvgAxis *ax, const SvgAxis *ay, const double *x,
                      const double *y, int n)
{
    fprintf(out, "<path class='%s c%d' d='", class, color % SVG_COLORS);
    for (int i = 0; i < n; i++) fprintf(out, "%c%.1f %.1f", i ? 'L' : 'M', svg_place(ax, x[i]), svg_place(ay, y[i]));
    fputs("'/>", out);
}

/* Running mean over about a fifteenth of the points. */
static void smooth(const double *y, int n, double *out)
{
    int half = n / 30;
    for (int i = 0; i < n; i++) {
        int reach = half < i ? half : i;
        if (reach > n - 1 - i) reach = n - 1 - i;
        double sum = 0;
        for (int k = i - reach; k <= i + reach; k++) sum += y[k];
        out[i] = sum / (2 * reach + 1);
    }
}

/* From the lows to the highs and back. */
static void draw_band(FILE *out, const SvgSeries *s, const SvgAxis *ax, const SvgAxis *ay)
{
    fprintf(out, "<path class='band c%d' d='", s->color % SVG_COLORS);
    for (int i = 0; i < s->n; i++)
        fprintf(out, "%c%.1f %.1f", i ? 'L' : 'M', svg_place(ax, s->x[i]), svg_place(ay, s->low[i]));
    for (int i = s->n; i-- > 0;) fprintf(out, "L%.1f %.1f", svg_place(ax, s->x[i]), svg_place(ay, s->high[i]));
    fputs("Z'/>", out);
}

static void draw_line(FILE *out, const SvgSeries *s, const SvgAxis *ax, const SvgAxis *ay)
{
    double x[POINTS_MAX], y[POINTS_MAX], mean[POINTS_MAX];
    int n = thin(s, x, y);
    smooth(y, n, mean);
    fputs("<g>", out);
    if (s->low) draw_band(out, s, ax, ay);
    if (n >= 30 && !s->low) draw_path(out, "raw", s->color, ax, ay, x, y, n);
    draw_path(out, "line", s->color, ax, ay, x, n >= 30 && !s->low ? mean : y, n);
    fputs("<title>", out);
    html_text(out, s->label);
    fputs("</title></g>", out);
}

static void draw_dots(FILE *out, const SvgSeries *s, const SvgAxis *ax, const SvgAxis *ay, bool percent)
{
    for (int i = 0; i < s->n; i++) {
        fprintf(out, "<circle class='dot c%d' r='3' cx='%.1f' cy='%.1f'><title>", s->color % SVG_COLORS,
                svg_place(ax, s->x[i]), svg_place(ay, s->y[i]));
        html_text(out, s->label);
        fprintf(out, ", step %.0f: ", s->x[i]);
        svg_tick(out, s->y[i], percent);
        fputs("</title></circle>", out);
    }
}

void svg_chart(FILE *out, const SvgChart *c)
{
    double low = INFINITY, high = -INFINITY, first = INFINITY, last = -INFINITY;
    double x[POINTS_MAX], y[POINTS_MAX];
    for (int i = 0; i < c->n; i++) {
        const SvgSeries *s = &c->series[i];
        int n = s->dots ? 0 : thin(s, x, y);
        for (int k = 0; k < n; k++) widen(y[k], &low, &high);
        for (int k = 0; s->dots && k < s->n; k++) widen(s->y[k], &low, &high);
        for (int k = 0; k < s->n; k++) widen(s->x[k], &first, &last);
        for (int k = 0; s->low && k < s->n; k++) widen(s->low[k], &low, &high), widen(s->high[k], &low, &high);
    }
    if (!(last >= first)) return;
    SvgAxis ax = svg_axis(first, last, 5, false, LEFT, WIDTH - RIGHT);
    if (ax.step < 1) ax.step = 1; /* x counts steps */
    SvgAxis ay = svg_axis(low, high, 4, true, HEIGHT - BOTTOM, TOP);
    fputs("<figure><figcaption>", out);
    html_text(out, c->title);
    fprintf(out, "</figcaption><svg viewBox='0 0 %d %d' role='img'>", WIDTH, HEIGHT);
    draw_axes(out, &ax, &ay, c->percent);
    for (int i = 0; i < c->n; i++)
        if (!c->series[i].dots && c->series[i].n) draw_line(out, &c->series[i], &ax, &ay);
    for (int i = 0; i < c->n; i++)
        if (c->series[i].dots) draw_dots(out, &c->series[i], &ax, &ay, c->percent);
    fputs("</svg></figure>\n", out);
}

/* ---- Marks ---- */

enum { MARK_WIDTH = 104, MARK_HEIGHT = 300, MARK_LEFT = 48, MARK_TOP = 16, MARK_BOTTOM = 52 };

static void draw_mark(FILE *out, const SvgMark *m, double x, const SvgAxis *y, const char *first, const char *second)
{
    double at = svg_place(y, m->value), zero = svg_place(y, 0);
    fprintf(out, "<g><rect class='bar c%d' x='%.1f' y='%.1f' width='40' height='%.1f' rx='3'/>", m->color % SVG_COLORS,
            x - 20, at, zero - at);
    if (m->error > 0)
        fprintf(out, "<path class='error' d='M%.1f %.1fV%.1f'/>", x, svg_place(y, fmax(m->value - m->error, 0)),
                svg_place(y, m->value + m->error));
    fprintf(out, "<text class='value' x='%.1f' y='%.1f' text-anchor='middle'>%.1f</text>", x,
            svg_place(y, m->value + fmax(m->error, 0)) - 6, 100 * m->value);
    fputs("<title>", out);
    html_text(out, first);
    fprintf(out, " %.1f %% &#177; %.1f</title></g>", 100 * m->value, 100 * m->error);
    if (isnan(m->second)) return;
    fprintf(out, "<circle class='second' cx='%.1f' cy='%.1f' r='4.5'><title>", x + 30, svg_place(y, m->second));
    html_text(out, second);
    fprintf(out, " %.1f %%</title></circle>", 100 * m->second);
}

void svg_marks(FILE *out, const SvgMark *marks, int n, const char *first_name, const char *second_name)
{
    int width = MARK_LEFT + n * MARK_WIDTH;
    SvgAxis y = {0, 1, 0.2, MARK_HEIGHT - MARK_BOTTOM, MARK_TOP};
    fprintf(out, "<svg class='marks' viewBox='0 0 %d %d' style='max-width:%dpx' role='img'>", width, MARK_HEIGHT,
            width + width / 4);
    for (int i = 0; i <= 5; i++) {
        double at = svg_place(&y, 0.2 * i);
        fprintf(out, "<line class='grid' x1='%d' x2='%d' y1='%.1f' y2='%.1f'/>", MARK_LEFT, width, at, at);
        fprintf(out, "<text class='tick' x='%d' y='%.1f' text-anchor='end'>%d%%</text>", MARK_LEFT - 8, at + 4, 20 * i);
    }
    for (int i = 0; i < n; i++) {
        double x = MARK_LEFT + (i + 0.5) * MARK_WIDTH;
        if (!isnan(marks[i].value)) draw_mark(out, &marks[i], x, &y, first_name, second_name);
        fprintf(out, "<text class='label' x='%.1f' y='%d' text-anchor='middle'>", x, MARK_HEIGHT - 30);
        html_text(out, marks[i].label);
        fprintf(out, "</text><text class='tick' x='%.1f' y='%d' text-anchor='middle'>", x, MARK_HEIGHT - 14);
        html_text(out, marks[i].note);
        fputs("</text>", out);
    }
    fputs("</svg>\n", out);
}

/* ---- Stacks ---- */

enum { STACK_WIDTH = 1040, STACK_LEFT = 130, STACK_ROW = 30 };

void svg_stacks(FILE *out, const char *const *rows, int n_rows, const char *const *parts, int n_parts,
                const double *values)
{
    int height = n_rows * STACK_ROW + 22;
    SvgAxis x = {0, 1, 0.2, STACK_LEFT, STACK_WIDTH - 16};
    fprintf(out, "<svg class='stacks' viewBox='0 0 %d %d' role='img'>", STACK_WIDTH, height);
    for (int i = 0; i <= 5; i++) {
        double at = svg_place(&x, 0.2 * i);
        fprintf(out, "<line class='grid' x1='%.1f' x2='%.1f' y1='0' y2='%d'/>", at, at, height - 20);
        fprintf(out, "<text class='tick' x='%.1f' y='%d' text-anchor='middle'>%d%%</text>", at, height - 5, 20 * i);
    }
    for (int r = 0; r < n_rows; r++) {
        double sum = 0;
        fprintf(out, "<text class='label' x='%d' y='%d' text-anchor='end'>", STACK_LEFT - 10, r * STACK_ROW + 18);
        html_text(out, rows[r]);
        fputs("</text>", out);
        for (int i = 0; i < n_parts; i++) {
            double v = values[r * n_parts + i];
            if (!(v > 0)) continue;
            fprintf(out, "<rect class='part c%d' x='%.1f' y='%d' width='%.1f' height='%d'><title>", i % SVG_COLORS,
                    svg_place(&x, sum), r * STACK_ROW + 5, svg_place(&x, sum + v) - svg_place(&x, sum), STACK_ROW - 10);
            html_text(out, rows[r]);
            fputs(": ", out);
            html_text(out, parts[i]);
            fprintf(out, " %.1f %%</title></rect>", 100 * v);
            sum += v;
        }
    }
    fputs("</svg>\n", out);
}
