/* Axes of charts: round steps, places, tick labels. */
#include "recipes/report/svg_axis.h"

#include <math.h>

/* A step of 1, 2 or 5 times a power of ten that gives at most `ticks` steps over the range. */
static double nice_step(double range, int ticks)
{
    double rough = range / ticks, power = pow(10, floor(log10(rough)));
    double m = rough / power;
    return power * (m <= 1 ? 1 : m <= 2 ? 2 : m <= 5 ? 5 : 10);
}

SvgAxis svg_axis(double low, double high, int ticks, bool round_out, double from, double to)
{
    if (!(high > low)) {
        high = low == 0 ? 1 : low + 0.5 * fabs(low);
        low = low == 0 ? 0 : low - 0.5 * fabs(low);
    }
    if (low > 0 && low < 0.5 * high) low = 0;
    SvgAxis a = {low, high, nice_step(high - low, ticks), from, to};
    if (round_out) {
        a.low = floor(low / a.step + 1e-9) * a.step;
        a.high = ceil(high / a.step - 1e-9) * a.step;
    }
    return a;
}

double svg_place(const SvgAxis *a, double v)
{
    return a->from + (v - a->low) / (a->high - a->low) * (a->to - a->from);
}

void svg_tick(FILE *out, double v, bool percent)
{
    double size = fabs(percent ? v * 100 : v);
    if (size < 1e-12) v = size = 0; /* no "-0" */
    if (percent) fprintf(out, "%.4g%%", v * 100);
    else if (size >= 1e6) fprintf(out, "%.3gM", v / 1e6);
    else if (size >= 1e4) fprintf(out, "%.3gk", v / 1e3);
    else if (size > 0 && size < 1e-3) fprintf(out, "%.1e", v);
    else fprintf(out, "%.4g", v);
}
