/* Charts as inline SVG. Colours are CSS classes of the page: strokes and fills c0 .. c7, text and axes by its own
 * classes (recipes/report/style.css), so that one drawing serves light and dark. */
#ifndef RECIPES_SVG_H
#define RECIPES_SVG_H

#include <stdbool.h>
#include <stdio.h>

enum { SVG_COLORS = 8, SVG_SERIES = 24 };

typedef struct SvgSeries {
    const char *label; /* in tooltips */
    int color;
    const double *x, *y;
    int n;
    bool dots;                /* single points (evaluations) instead of a line with its running mean */
    const double *low, *high; /* [n] drawn as a band behind the line; NULL: none. With a band n is at most 240 */
} SvgSeries;

/* y against x with axes and gridlines; a noisy line is drawn faint with its running mean on top. percent: y is a
 * share. */
typedef struct SvgChart {
    const char *title;
    bool percent;
    SvgSeries series[SVG_SERIES];
    int n;
} SvgChart;
void svg_chart(FILE *out, const SvgChart *c);

/* One mark a label with an error bar: pass@1 of the stages. Values are shares, NAN is left out. A second value (general
 * quality, say) is drawn hollow beside it. */
typedef struct SvgMark {
    const char *label, *note;
    double value, error, second;
    int color;
} SvgMark;
void svg_marks(FILE *out, const SvgMark *marks, int n, const char *first_name, const char *second_name);

/* Horizontal stacked bars: row r is label + parts values[r * parts + i] (shares of 1), coloured by part. */
void svg_stacks(FILE *out, const char *const *rows, int n_rows, const char *const *parts, int n_parts,
                const double *values);

#endif
