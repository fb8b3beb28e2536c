/* Learning rates by step. */
#include "core/schedule.h"

#include <math.h>

#include "core/base/check.h"

const char *schedule_kind_name(int k)
{
    static const char *const names[] = {"constant", "linear", "cosine", "step"};
    return (size_t)k < sizeof names / sizeof *names ? names[k] : NULL;
}

static double step_rate(const Schedule *s, int64_t step)
{
    double rate = s->peak;
    for (int i = 0; i < 2; i++)
        if (step > llround(s->milestones[i] * (double)s->steps)) rate *= s->factor;
    return rate;
}

float schedule_rate(const Schedule *s, int64_t step)
{
    CHECK(step >= 1 && s->warmup >= 0);
    if (step <= s->warmup) return (float)((double)s->peak * (double)step / (double)s->warmup);
    double x = 1.0, peak = s->peak, last = s->last;
    if (s->steps == 1) return s->peak; /* its one step is the first, not the last */
    if (step < s->steps) x = (double)(step - s->warmup) / (double)(s->steps - s->warmup);
    switch (s->kind) {
    case SCHEDULE_LINEAR: return (float)(peak + (last - peak) * x);
    case SCHEDULE_COSINE: return (float)(last + (peak - last) * (0.5 + 0.5 * cos(M_PI * x)));
    case SCHEDULE_STEP: return (float)step_rate(s, step);
    case SCHEDULE_CONSTANT: break;
    }
    return s->peak;
}

int batch_at(const BatchRamp *b, int64_t step)
{
    CHECK(step >= 1);
    if (step > b->over) return b->to;
    return b->from + (int)((int64_t)(b->to - b->from) * (step - 1) / b->over);
}

int batch_largest(const BatchRamp *b)
{
    return b->from > b->to ? b->from : b->to;
}

double batch_sum(const BatchRamp *b, int64_t steps, int most)
{
    double sum = 0;
    int64_t ramp = steps < b->over ? steps : b->over;
    for (int64_t s = 1; s <= ramp; s++) sum += batch_at(b, s) < most ? batch_at(b, s) : most;
    return sum + (double)(steps - ramp) * (b->to < most ? b->to : most);
}

int64_t batch_steps(const BatchRamp *b, double sequences)
{
    double sum = 0;
    for (int64_t s = 1; s <= b->over; s++)
        if ((sum += batch_at(b, s)) >= sequences) return s;
    return b->over + (int64_t)ceil((sequences - sum) / b->to);
}
