/* Learning rates: warm-up, the ends and the middle of every shape. */
#include "tests/unit/unit.h"

#include <math.h>

#include "core/schedule.h"

static void near(float got, double want)
{
    if (fabs(got - want) > 1e-6 * fabs(want)) fail_msg("%.9g, want %.9g", (double)got, want);
}

static void warmup(void **state)
{
    (void)state;
    for (int kind = SCHEDULE_CONSTANT; kind <= SCHEDULE_STEP; kind++) {
        Schedule s = {.kind = (ScheduleKind)kind,
                      .peak = 4e-4f,
                      .last = 4e-5f,
                      .warmup = 10,
                      .steps = 110,
                      .factor = 0.316f,
                      .milestones = {0.6f, 0.9f}};
        near(schedule_rate(&s, 1), 4e-5);
        near(schedule_rate(&s, 5), 2e-4);
        near(schedule_rate(&s, 10), 4e-4);
        assert_true(schedule_rate(&s, 11) <= 4e-4f);
        assert_true(schedule_rate(&s, 1000) == schedule_rate(&s, 110));
        s.warmup = 0;
        assert_true(schedule_rate(&s, 1) > 3.9e-4f);
        s.steps = s.warmup = 3; /* nothing but warm-up */
        near(schedule_rate(&s, 3), 4e-4);
    }
}

static void shapes(void **state)
{
    (void)state;
    Schedule s = {.peak = 2, .last = 1, .warmup = 20, .steps = 120};
    near(schedule_rate(&s, 90), 2);
    s.kind = SCHEDULE_LINEAR;
    near(schedule_rate(&s, 70), 1.5);
    near(schedule_rate(&s, 120), 1);
    s.kind = SCHEDULE_COSINE;
    near(schedule_rate(&s, 70), 1.5);
    near(schedule_rate(&s, 45), 1.5 + 0.5 * cos(M_PI / 4));
    near(schedule_rate(&s, 120), 1);
}

static void steps(void **state)
{
    (void)state;
    Schedule s = {.kind = SCHEDULE_STEP, .peak = 1, .steps = 100, .factor = 0.316f, .milestones = {0.6f, 0.9f}};
    near(schedule_rate(&s, 60), 1);
    near(schedule_rate(&s, 61), 0.316);
    near(schedule_rate(&s, 90), 0.316);
    near(schedule_rate(&s, 91), 0.316 * 0.316);
    s.milestones[1] = 1;
    near(schedule_rate(&s, 100), 0.316);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(warmup), cmocka_unit_test(shapes), cmocka_unit_test(steps)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
