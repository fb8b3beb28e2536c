/* Random numbers: known answers of Philox4x32-10 (the authors' Random123 test vectors), ranges, moments, independence. */
#include "tests/unit/unit.h"

#include <math.h>
#include <stdlib.h>

#include "core/base/philox.h"

static void known_answer(const uint32_t counter[4], const uint32_t key[2], const uint32_t want[4])
{
    uint32_t out[4];
    philox4x32(out, counter, key);
    assert_memory_equal(out, want, sizeof out);
}

static void test_known_answers(void **state)
{
    (void)state;
    uint32_t ones = 0xFFFFFFFFu;
    known_answer((uint32_t[4]){0}, (uint32_t[2]){0}, (uint32_t[4]){0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u});
    known_answer((uint32_t[4]){ones, ones, ones, ones}, (uint32_t[2]){ones, ones},
                 (uint32_t[4]){0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu});
    known_answer((uint32_t[4]){0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u},
                 (uint32_t[2]){0xa4093822u, 0x299f31d0u},
                 (uint32_t[4]){0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u});
}

static void test_output_may_be_the_counter(void **state)
{
    (void)state;
    uint32_t block[4] = {0};
    philox4x32(block, block, (uint32_t[2]){0});
    assert_int_equal(block[0], 0x6627e8d5u);
    assert_int_equal(block[3], 0x9b00dbd8u);
}

static void test_uniform_is_below_one(void **state)
{
    (void)state;
    assert_true(philox_uniform(0) == 0.0f);
    assert_true(philox_uniform(0xFFu) == 0.0f);
    assert_true(philox_uniform(0x80000000u) == 0.5f);
    assert_true(philox_uniform(0xFFFFFFFFu) == 1.0f - 0x1p-24f);
}

static void test_token_depends_on_every_coordinate(void **state)
{
    (void)state;
    float u[] = {
        rng_token(1, RNG_ROLLOUT, 2, 3, 4, 5, 6), rng_token(2, RNG_ROLLOUT, 2, 3, 4, 5, 6),
        rng_token(1, RNG_EVAL, 2, 3, 4, 5, 6),    rng_token(1, RNG_ROLLOUT, 3, 3, 4, 5, 6),
        rng_token(1, RNG_ROLLOUT, 2, 4, 4, 5, 6), rng_token(1, RNG_ROLLOUT, 2, 3, 5, 5, 6),
        rng_token(1, RNG_ROLLOUT, 2, 3, 4, 6, 6), rng_token(1, RNG_ROLLOUT, 2, 3, 4, 5, 7),
    };
    for (size_t i = 0; i < sizeof u / sizeof *u; i++)
        for (size_t j = 0; j < i; j++) assert_true(u[i] != u[j]);
    assert_true(u[0] == rng_token(1, RNG_ROLLOUT, 2, 3, 4, 5, 6));
}

static void test_stream_walks_the_blocks_in_order(void **state)
{
    (void)state;
    Rng r = rng_stream(7, RNG_DATA, 8, (uint64_t)10 << 32 | 9);
    for (uint32_t block = 0; block < 3; block++) {
        uint32_t want[4];
        philox4x32(want, (uint32_t[4]){block, 8, 9, 10}, (uint32_t[2]){7, RNG_DATA});
        for (int i = 0; i < 4; i++) assert_int_equal(rng_u32(&r), want[i]);
    }
    Rng copy = r;
    assert_int_equal(rng_u32(&r), rng_u32(&copy));
}

static void test_below_keeps_its_bounds(void **state)
{
    (void)state;
    const uint32_t sizes[] = {1, 2, 3, 7, 1000, 0x80000001u, 0xFFFFFFFFu};
    Rng r = rng_stream(1, RNG_DATA, 2, 3);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int i = 0; i < 1000; i++) assert_true(rng_below(&r, sizes[s]) < sizes[s]);
}

/* Of 3 * 2^30 values the low half would come with probability 5/8, not 1/2, if 2^32 were folded without rejection. */
static void test_below_is_fair(void **state)
{
    (void)state;
    enum { DRAWS = 70000, SIZE = 7 };
    int seen[SIZE] = {0}, low = 0;
    Rng r = rng_stream(1, RNG_DATA, 2, 4);
    for (int i = 0; i < DRAWS; i++) seen[rng_below(&r, SIZE)]++;
    for (int i = 0; i < SIZE; i++) assert_true(abs(seen[i] - DRAWS / SIZE) < 5 * 93); /* 93: standard deviation */
    for (int i = 0; i < DRAWS; i++) low += rng_below(&r, 0xC0000000u) < 0x60000000u;
    assert_true(abs(low - DRAWS / 2) < 5 * 133);
}

static void test_range_includes_both_ends(void **state)
{
    (void)state;
    int seen[5] = {0};
    Rng r = rng_stream(1, RNG_DATA, 2, 5);
    for (int i = 0; i < 1000; i++) {
        int x = rng_range(&r, -2, 2);
        assert_in_range(x + 2, 0, 4);
        seen[x + 2]++;
    }
    for (int i = 0; i < 5; i++) assert_true(seen[i] > 0);
    assert_int_equal(rng_range(&r, 4, 4), 4);
}

static void test_double_is_uniform(void **state)
{
    (void)state;
    enum { DRAWS = 100000 };
    double sum = 0, squares = 0;
    Rng r = rng_stream(1, RNG_DATA, 2, 6);
    for (int i = 0; i < DRAWS; i++) {
        double x = rng_double(&r);
        assert_true(x >= 0.0 && x < 1.0);
        sum += x;
        squares += x * x;
    }
    assert_true(fabs(sum / DRAWS - 0.5) < 5 * 0.2887 / sqrt(DRAWS));
    assert_true(fabs(squares / DRAWS - 1.0 / 3) < 5 * 0.2981 / sqrt(DRAWS));
}

static void test_normal_moments(void **state)
{
    (void)state;
    enum { COUNT = 200001 };
    float *x = malloc(COUNT * sizeof *x);
    rng_fill_normal(x, COUNT, 0.5f, 11, "model.norm.weight");
    double m1 = 0, m2 = 0, m3 = 0, m4 = 0, neighbours = 0;
    for (int i = 0; i < COUNT; i++) {
        double z = x[i] / 0.5;
        m1 += z / COUNT, m2 += z * z / COUNT, m3 += z * z * z / COUNT, m4 += z * z * z * z / COUNT;
        if (i) neighbours += z * x[i - 1] / 0.5 / COUNT;
    }
    double se = 5 / sqrt(COUNT); /* five standard errors of a mean with variance 1 */
    assert_true(fabs(m1) < se);
    assert_true(fabs(m2 - 1) < se * sqrt(2));
    assert_true(fabs(m3) < se * sqrt(15));
    assert_true(fabs(m4 - 3) < se * sqrt(96));
    assert_true(fabs(neighbours) < se);
    free(x);
}

/* A longer tensor begins with the same values; nothing is written behind n. */
static void test_normal_values_do_not_depend_on_n(void **state)
{
    (void)state;
    float whole[64], part[65];
    rng_fill_normal(whole, 64, 1.0f, 3, "a");
    for (size_t n = 0; n <= 64; n++) {
        for (size_t i = 0; i < 65; i++) part[i] = 99.0f;
        rng_fill_normal(part, n, 1.0f, 3, "a");
        assert_memory_equal(part, whole, n * sizeof *part);
        for (size_t i = n; i < 65; i++) assert_true(part[i] == 99.0f);
    }
}

static void test_normal_is_keyed_by_name_and_seed(void **state)
{
    (void)state;
    float a[8], b[8], c[8];
    rng_fill_normal(a, 8, 1.0f, 3, "layers.0.q");
    rng_fill_normal(b, 8, 1.0f, 3, "layers.1.q");
    rng_fill_normal(c, 8, 1.0f, 4, "layers.0.q");
    for (int i = 0; i < 8; i++) assert_true(a[i] != b[i] && a[i] != c[i]);
}

static void test_hash_is_fnv1a(void **state)
{
    (void)state;
    assert_int_equal(hash_name(""), 0x811c9dc5u);
    assert_int_equal(hash_name("a"), 0xe40c292cu);
    assert_int_equal(hash_name("foobar"), 0xbf9cf968u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_output_may_be_the_counter),
        cmocka_unit_test(test_uniform_is_below_one),
        cmocka_unit_test(test_token_depends_on_every_coordinate),
        cmocka_unit_test(test_stream_walks_the_blocks_in_order),
        cmocka_unit_test(test_below_keeps_its_bounds),
        cmocka_unit_test(test_below_is_fair),
        cmocka_unit_test(test_range_includes_both_ends),
        cmocka_unit_test(test_double_is_uniform),
        cmocka_unit_test(test_normal_moments),
        cmocka_unit_test(test_normal_values_do_not_depend_on_n),
        cmocka_unit_test(test_normal_is_keyed_by_name_and_seed),
        cmocka_unit_test(test_hash_is_fnv1a),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
