/* Learning rates over the steps of a stage: linear warm-up, then one of four shapes. */
#ifndef CORE_SCHEDULE_H
#define CORE_SCHEDULE_H

#include <stdint.h>

typedef enum { SCHEDULE_CONSTANT, SCHEDULE_LINEAR, SCHEDULE_COSINE, SCHEDULE_STEP } ScheduleKind;
/* "constant", ..., "step"; NULL after the last. */
const char *schedule_kind_name(int k);

typedef struct Schedule {
    ScheduleKind kind;
    float peak;
    float last;            /* linear, cosine: the rate of the last step */
    int64_t warmup, steps; /* warm-up steps are part of steps */
    float factor;        /* step: the rate is multiplied by it at each milestone (DeepSeek-V2: 0.316 at 0.6 and 0.9) */
    float milestones[2]; /* shares of steps, ascending; 1 or more: never reached */
} Schedule;

/* The rate of step 1 .. steps (later steps: as the last). One step alone has the peak.
 *   warm-up       peak * step / warmup
 *   x = (step - warmup) / (steps - warmup), in (0, 1]
 *   constant      peak
 *   linear        peak + (last - peak) x
 *   cosine        last + (peak - last) (1 + cos(pi x)) / 2
 *   step          peak * factor^(milestones with step > round(milestone * steps)) */
float schedule_rate(const Schedule *s, int64_t step);

/* Sequences of an update over the steps: a batch that grows (DeepSeek-V2, section 3.1.2; DeepSeek-V3, section 4.2). */
typedef struct BatchRamp {
    int from, to;
    int over; /* steps until `to` is reached; 0: always `to` */
} BatchRamp;

/* Of step 1 .. : from + (to - from) (step - 1) / over, rounded down, then to. */
int batch_at(const BatchRamp *b, int64_t step);
int batch_largest(const BatchRamp *b);
/* Of steps 1 .. `steps` together, none counted with more than `most`; and the smallest number of steps that has at least so
 * many. */
double batch_sum(const BatchRamp *b, int64_t steps, int most);
int64_t batch_steps(const BatchRamp *b, double sequences);

#endif
