/* A forest plot: differences with their intervals around zero. */
#ifndef RECIPES_REPORT_SVG_FOREST_H
#define RECIPES_REPORT_SVG_FOREST_H

#include <stdbool.h>
#include <stdio.h>

typedef struct SvgInterval {
    const char *label, *note; /* left of it; right of it */
    double value, low, high;
    int color;
} SvgInterval;

/* One row an interval, a dashed line at zero. percent: values are shares, shown as points of 100. */
void svg_forest(FILE *out, const SvgInterval *rows, int n, bool percent);

#endif
