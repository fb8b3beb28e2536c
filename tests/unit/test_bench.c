/* How many sequences of a row `r1 bench --quick` has time for. */
#include "tests/unit/unit.h"

#include "recipes/bench/bench.h"

static int sequences(double row_seconds, bool large, double flops_of_one, int runs)
{
    static Bench b; /* large */
    BenchCase c = {.dtype = DTYPE_BF16, .sequences = 64, .large = large};
    b.row_seconds = row_seconds;
    b.peaks.flops[DTYPE_F32] = 1;
    b.peaks.flops[DTYPE_BF16] = 1e9;
    return bench_sequences(&b, &c, flops_of_one, runs);
}

static void fewer_where_slow(void **state)
{
    (void)state;
    assert_int_equal(sequences(5, true, 1e6, 1), 64);
    int once = sequences(5, true, 1e8, 1), twice = sequences(5, true, 1e8, 2);
    assert_true(once < 50 && once > 25); /* 50 at the peak, which no row reaches */
    assert_int_equal(twice, once / 2);
    assert_int_equal(sequences(5, true, 1e12, 1), 1);
}

static void whole_without_a_limit(void **state)
{
    (void)state;
    assert_int_equal(sequences(0, true, 1e12, 1), 64);
    assert_int_equal(sequences(5, false, 1e12, 1), 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(fewer_where_slow), cmocka_unit_test(whole_without_a_limit)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
