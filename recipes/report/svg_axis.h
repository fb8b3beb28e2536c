/* An axis of a chart. */
#ifndef RECIPES_REPORT_SVG_AXIS_H
#define RECIPES_REPORT_SVG_AXIS_H

#include <stdbool.h>
#include <stdio.h>

typedef struct SvgAxis {
    double low, high, step; /* in data */
    double from, to;        /* in the drawing */
} SvgAxis;

/* From the data's range to round numbers, in at most about `ticks` steps of 1, 2 or 5 times a power of ten; a range
 * that starts near zero starts at it. round_out: low and high become multiples of the step. */
SvgAxis svg_axis(double low, double high, int ticks, bool round_out, double from, double to);
/* Where a value lies in the drawing. */
double svg_place(const SvgAxis *a, double v);
/* "40%", "1.5k", "2.0e-05". */
void svg_tick(FILE *out, double v, bool percent);

#endif
