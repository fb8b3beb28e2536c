/* Learning rates: warm-up, the ends and the middle of every shape. */
#include "tests/unit/unit.h"

#include <math.h>

#include "core/schedule.h"
#include "recipes/stages/step.h"

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

/* A stage of one step trains at its learning rate, whatever the shape; of two, at the first and the last rate. */
static void short_stages(void **state)
{
    (void)state;
    for (int kind = SCHEDULE_CONSTANT; kind <= SCHEDULE_STEP; kind++) {
        Schedule s = {.kind = (ScheduleKind)kind,
                      .peak = 1,
                      .last = 0.2f,
                      .steps = 1,
                      .factor = 0.2f,
                      .milestones = {0.6f, 0.9f}};
        near(schedule_rate(&s, 1), 1);
        s.steps = 2;
        s.warmup = 1;
        near(schedule_rate(&s, 1), 1);
        near(schedule_rate(&s, 2), kind == SCHEDULE_CONSTANT ? 1 : 0.2);
    }
}

/* 2, 2, 3, 4, 4, 5, 6, 6, then 7: a batch that grows, its sums, and how many steps so many sequences take. */
static void batches(void **state)
{
    (void)state;
    BatchRamp b = {2, 7, 8}, same = {32, 32, 0}, down = {8, 2, 3};
    static const int want[] = {2, 2, 3, 3, 4, 5, 5, 6, 7, 7};
    double sum = 0, capped = 0;
    assert_int_equal(batch_steps(&b, 0.5), 1);
    for (int s = 1; s <= 10; s++) {
        assert_int_equal(batch_at(&b, s), want[s - 1]);
        sum += want[s - 1];
        capped += want[s - 1] < 5 ? want[s - 1] : 5;
        assert_true(batch_sum(&b, s, 1 << 20) == sum);
        assert_true(batch_sum(&b, s, 5) == capped);
        assert_int_equal(batch_steps(&b, sum), s);
        assert_int_equal(batch_steps(&b, sum + 0.5), s + 1);
    }
    assert_int_equal(batch_at(&same, 1), 32);
    assert_int_equal(batch_at(&same, 1000000), 32);
    assert_true(batch_sum(&same, 10, 1 << 20) == 320 && batch_sum(&same, 10, 7) == 70);
    assert_int_equal(batch_steps(&same, 320), 10);
    assert_int_equal(batch_steps(&same, 321), 11);
    assert_int_equal(batch_at(&down, 1), 8);
    assert_int_equal(batch_at(&down, 3), 4);
    assert_int_equal(batch_at(&down, 4), 2);
}

/* What a stage of a recipe makes of its keys: peak lr, lr_final as a share of it, the warm-up at most half of the steps. */
static void stages(void **state)
{
    (void)state;
    RecipeStage s = {.optim = {.lr = 2e-3, .lr_final = 0.2, .schedule = SCHEDULE_COSINE, .warmup = 20}};
    near(stage_rate(&s, 2e-3, 1, 100), 1e-4);
    near(stage_rate(&s, 2e-3, 20, 100), 2e-3);
    near(stage_rate(&s, 2e-3, 60, 100), 1.2e-3);
    near(stage_rate(&s, 2e-3, 100, 100), 4e-4);
    near(stage_rate(&s, 2e-3, 5, 10), 2e-3); /* warm-up of 5 */
    near(stage_rate(&s, 2e-3, 1, 10), 4e-4);
    near(stage_rate(&s, 2e-3, 10, 10), 4e-4);
    near(stage_rate(&s, 2e-3, 1, 1), 2e-3);
    near(stage_rate(&s, 1e-2, 100, 100), 2e-3); /* a rival's own lr has its own end */
    s.optim.schedule = SCHEDULE_STEP;
    s.optim.lr_final = 0.5;
    s.optim.milestones[0] = 0.5;
    s.optim.milestones[1] = 0.75;
    near(stage_rate(&s, 2e-3, 50, 100), 2e-3);
    near(stage_rate(&s, 2e-3, 51, 100), 1e-3);
    near(stage_rate(&s, 2e-3, 76, 100), 5e-4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(warmup),  cmocka_unit_test(shapes),
                                       cmocka_unit_test(steps),   cmocka_unit_test(short_stages),
                                       cmocka_unit_test(batches), cmocka_unit_test(stages)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
