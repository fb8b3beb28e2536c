/* A team finds the faster number of threads, stays there, and comes back. The clock and the rates are made up. */
#include <math.h>

#include "cpu/team.h"
#include "tests/unit/unit.h"

/* A machine on which `size` threads do rate[size] multiply-adds a second. */
typedef struct Stage {
    double now, rate[17];
    double spent[17]; /* seconds by team size */
    unsigned noise;
} Stage;

static void run_ops(Team *t, Stage *m, double seconds, double op)
{
    for (double end = m->now + seconds; m->now < end;) {
        m->noise = m->noise * 1664525u + 1013904223u;
        double time = op * (0.5 + (double)(m->noise >> 8) / (1 << 24)); /* an op of a mean length of `op` */
        m->now += time;
        m->spent[t->size] += time;
        t->work += time * m->rate[t->size];
        if (--t->calls <= 0) team_look(t, m->now);
    }
}

static Team team_at(Stage *m, int threads)
{
    Team t;
    team_open(&t, threads, true);
    m->now = t.since;
    return t;
}

static void quiet_machine(void **state)
{
    (void)state;
    Stage m = {.rate = {0, 1.0, 1.3}};
    Team t = team_at(&m, 2);
    run_ops(&t, &m, 30, 1e-4);
    assert_int_equal(t.size == 2 || t.other, 1);
    assert_true(m.spent[1] < 0.03 * 30); /* what trying costs */
}

static void busy_then_quiet(void **state)
{
    (void)state;
    Stage m = {.rate = {0, 1.0, 0.5}};
    Team t = team_at(&m, 2);
    run_ops(&t, &m, 10, 1e-4);
    assert_true(m.spent[1] > 0.93 * 10);
    m.rate[2] = 1.8, m.spent[1] = 0;
    run_ops(&t, &m, 20, 1e-4);
    assert_true(m.spent[1] < 7.5); /* LONGEST_PAUSE and a trial */
}

/* From sixteen threads down to four, by halves. */
static void many_threads(void **state)
{
    (void)state;
    Stage m = {0};
    for (int n = 1; n <= 16; n++) m.rate[n] = n <= 5 ? n : 10.0 / n;
    Team t = team_at(&m, 16);
    run_ops(&t, &m, 20, 1e-4);
    assert_true(m.spent[4] > 0.8 * 20);
}

static void long_ops_and_given_numbers(void **state)
{
    (void)state;
    Stage m = {.rate = {0, 1.0, 0.5}};
    Team t = team_at(&m, 2);
    run_ops(&t, &m, 10, 5e-3); /* long ops are shared out by whoever is free */
    assert_true(m.spent[1] == 0);
    team_open(&t, 2, false);
    for (int i = 0; i < 1000; i++) assert_int_equal(team_size(&t, 1e6), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quiet_machine),
        cmocka_unit_test(busy_then_quiet),
        cmocka_unit_test(many_threads),
        cmocka_unit_test(long_ops_and_given_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
