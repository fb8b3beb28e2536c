/* Tables of cos and sin: angles, the multiplier, far positions. */
#include "tests/unit/unit.h"

#include <math.h>

#include "core/rope_table.h"

static void angles(void **state)
{
    (void)state;
    ModelConfig c = {.Dr = 8, .rope = {.theta = 10000}};
    RopeTable t = rope_table_build(&c, 100001);
    assert_int_equal(t.positions, 100001);
    assert_int_equal(t.half, 4);
    const int positions[] = {0, 1, 77, 100000};
    for (int k = 0; k < 4; k++)
        for (int i = 0; i < 4; i++) {
            double angle = positions[k] * pow(10000, -2.0 * i / 8);
            size_t at = (size_t)positions[k] * 4 + (size_t)i;
            assert_true(fabs(t.cos[at] - cos(angle)) < 1e-7 && fabs(t.sin[at] - sin(angle)) < 1e-7);
        }
    rope_table_free(&t);
    assert_null(t.cos);
}

static void multiplier(void **state)
{
    (void)state;
    ModelConfig c = {.Dr = 4,
                     .rope = {.theta = 100,
                              .scaling = ROPE_YARN,
                              .factor = 4,
                              .beta_fast = 32,
                              .beta_slow = 1,
                              .original_positions = 64}};
    RopeTable t = rope_table_build(&c, 2);
    assert_true(fabs(t.cos[0] - (1 + 0.1 * log(4))) < 1e-6 && t.sin[0] == 0.0f);
    rope_table_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(angles), cmocka_unit_test(multiplier)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
