/* Verdicts of ablations: calibrated on stored evaluations. tests/ablate/evals.txt has 14 trainings (micro's base on clean traces,
 * 280 steps, seeds 1 .. 14) a line; two digits a problem of 240 held-out ones: right answers among the first 8 samples, and among
 * the other 8. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"

#include "core/base/check.h"
#include "core/base/philox.h"
#include "recipes/ablate/stats.h"

enum { RUNS = 14, PROBLEMS = 240, MOST = 20000, SEEDS_MOST = 8 };

static double share[RUNS][2][PROBLEMS];

static int read_evals(void **state)
{
    (void)state;
    FILE *f = fopen("tests/ablate/evals.txt", "r");
    if (!f) return -1;
    for (int r = 0; r < RUNS; r++)
        for (int i = 0; i < 2 * PROBLEMS; i++) {
            int c = fgetc(f);
            if (c == '\n') c = fgetc(f);
            share[r][i % 2][i / 2] = (c - '0') / 8.0;
        }
    fclose(f);
    return 0;
}

typedef struct Lab {
    double values[SEEDS_MOST][MOST];
    const double *rows[SEEDS_MOST];
    int n[SEEDS_MOST];
} Lab;

/* n problems drawn with replacement; arms are the runs a[s] and b[s], each judged on one half of its samples, drawn by chance
 * problem by problem; planted is added. */
static Compared compare(Lab *lab, Rng *r, const int *a, const int *b, int seeds, int n, double planted)
{
    for (int s = 0; s < seeds; s++) {
        lab->rows[s] = lab->values[s];
        lab->n[s] = n;
        for (int i = 0; i < n; i++) {
            int p = (int)rng_below(r, PROBLEMS), half = (int)rng_below(r, 2);
            lab->values[s][i] = share[b[s]][half][p] - share[a[s]][1 - half][p] + planted;
        }
    }
    return stats_compare(&(Paired){seeds, lab->n, lab->rows}, 1);
}

static void shuffle(int *list, int n, Rng *r)
{
    for (int i = n - 1; i > 0; i--) {
        int k = (int)rng_below(r, (uint32_t)i + 1), other = list[i];
        list[i] = list[k], list[k] = other;
    }
}

/* Two arms that are the same recipe, trained with other seeds: what differs is chance. */
static int called_different(Lab *lab, int seeds, int comparisons)
{
    int called = 0;
    for (int t = 0; t < comparisons; t++) {
        Rng r = rng_stream(17, RNG_DATA, (uint32_t)seeds, (uint64_t)t);
        int runs[RUNS];
        for (int i = 0; i < RUNS; i++) runs[i] = i;
        shuffle(runs, RUNS, &r);
        Compared c = compare(lab, &r, runs, runs + seeds, seeds, 200, 0);
        called += stats_verdict(&c) != VERDICT_UNRESOLVED;
    }
    return called;
}

static void test_null(void **state)
{
    (void)state;
    Lab *lab = malloc(sizeof *lab);
    CHECK(lab);
    for (int seeds = 3; seeds <= 5; seeds++) {
        int called = called_different(lab, seeds, 200);
        print_message("%d seeds: %d of 200 null comparisons called different\n", seeds, called);
        assert_in_range(called, 4, 16);
    }
    free(lab);
}

/* The same models, judged on other samples, with 3 points planted: the recommended number of problems finds it. */
static void test_planted(void **state)
{
    (void)state;
    Lab *lab = malloc(sizeof *lab);
    CHECK(lab);
    for (int seeds = 3; seeds <= 5; seeds++) {
        int runs[SEEDS_MOST] = {2, 5, 7, 9, 11}, found = 0;
        Rng pilot = rng_stream(23, RNG_DATA, 0, 0);
        Compared first = compare(lab, &pilot, runs, runs, seeds, 200, 0);
        int n = stats_problems(first.problem_sd, 0, seeds, 0.03);
        assert_in_range(n, 10, MOST);
        for (int t = 0; t < 50; t++) {
            Rng r = rng_stream(29, RNG_DATA, (uint32_t)seeds, (uint64_t)t);
            shuffle(runs, 5, &r);
            double planted = t % 2 ? 0.03 : -0.03;
            Compared c = compare(lab, &r, runs, runs, seeds, n, planted);
            found += stats_verdict(&c) == (planted > 0 ? VERDICT_HIGHER : VERDICT_LOWER);
        }
        print_message("%d seeds: sd %.3f, %d problems recommended, %d of 50 planted differences found\n", seeds,
                      first.problem_sd, n, found);
        assert_in_range(found, 45, 50);
        assert_true(n < 4 || stats_resolvable(first.problem_sd, 0, seeds, n / 4) > 0.03);
    }
    free(lab);
}

static void test_holm(void **state)
{
    (void)state;
    Compared c[4] = {{.p = 0.01}, {.p = 0.04}, {.p = 0.03}, {.p = 0.005}};
    const double expected[4] = {0.03, 0.06, 0.06, 0.02}; /* Holm 1979, worked by hand */
    stats_holm(c, 4);
    for (int i = 0; i < 4; i++) assert_true(fabs(c[i].adjusted - expected[i]) < 1e-12);
    c[0] = (Compared){.p = 0.9};
    c[1] = (Compared){.p = 0.8};
    stats_holm(c, 2);
    assert_true(c[0].adjusted == 1 && c[1].adjusted == 1);
}

static void test_verdicts(void **state)
{
    (void)state;
    Compared higher = {.difference = 0.1, .low = 0.02, .high = 0.18, .adjusted = 0.01, .seeds = 3},
             lower = {.difference = -0.1, .low = -0.18, .high = -0.02, .adjusted = 0.01, .seeds = 3},
             open = {.difference = 0.02, .low = -0.02, .high = 0.06, .adjusted = 0.3, .seeds = 3},
             equal = {.adjusted = 1, .seeds = 3};
    assert_string_equal(stats_verdict_name(stats_verdict(&higher)), "higher");
    assert_string_equal(stats_verdict_name(stats_verdict(&lower)), "lower");
    assert_string_equal(stats_verdict_name(stats_verdict(&open)), "not resolved");
    assert_int_equal(stats_needs(&higher), 0);
    assert_int_equal(stats_needs(&open), 9); /* half-width 0.04 to 0.02: four times the seeds */
    assert_int_equal(stats_needs(&equal), -1);
    assert_int_equal(stats_problems(0.3, 0.05, 2, 0.03), 0); /* the seeds alone differ by more */
}

static void test_deterministic(void **state)
{
    (void)state;
    const double x[4] = {0.25, -0.125, 0.5, 0}, *rows[2] = {x, x + 1}, same[3] = {0, 0, 0}, *none[1] = {same};
    const int n[2] = {3, 3};
    const Paired d = {2, n, rows}, equal = {1, n, none};
    Compared a = stats_compare(&d, 1), b = stats_compare(&d, 1), other = stats_compare(&d, 2);
    assert_true(a.low == b.low && a.high == b.high && a.p == b.p);
    assert_true(a.low != other.low);
    Compared zero = stats_compare(&equal, 1);
    assert_true(zero.low == 0 && zero.high == 0 && zero.p == 1);
}

/* The deviation of problems is taken about each seed's own mean, with a degree of freedom less for each. */
static void test_pooled_deviation(void **state)
{
    (void)state;
    static const double low[] = {0, 1, 2}, high[] = {10, 12, 14, 12};
    const double *const rows[] = {low, high};
    static const int n[] = {3, 4};
    Compared c = stats_compare(&(Paired){2, n, rows}, 1);
    assert_float_equal(c.problem_sd, sqrt((2.0 + 8.0) / (2 + 3)), 1e-12);
    assert_float_equal(c.difference, (1.0 + 12.0) / 2, 1e-12);
}

/* Both ends of the interval leave out as much: of differences that lie alike about 0 it lies so too. */
static void test_both_ends(void **state)
{
    (void)state;
    enum { N = 400 };
    double values[N];
    const double *const rows[] = {values};
    static const int n[] = {N};
    for (int i = 0; i < N; i++) values[i] = (i % 2 ? 1 : -1) * (double)(1 + i / 2) / N;
    Compared c = stats_compare(&(Paired){1, n, rows}, 1);
    assert_true(c.low < 0 && c.high > 0 && fabs(c.low + c.high) < 0.05 * (c.high - c.low));
    for (int i = 0; i < N; i++) values[i] = 1 + 1e-3 * values[i];
    c = stats_compare(&(Paired){1, n, rows}, 1);
    assert_true(c.p > 0 && c.p <= 2.0 / STATS_DRAWS); /* that none of so many draws was below 0 says no more */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_null),      cmocka_unit_test(test_planted),       cmocka_unit_test(test_holm),
        cmocka_unit_test(test_verdicts),  cmocka_unit_test(test_deterministic), cmocka_unit_test(test_pooled_deviation),
        cmocka_unit_test(test_both_ends),
    };
    return cmocka_run_group_tests(tests, read_evals, NULL);
}
