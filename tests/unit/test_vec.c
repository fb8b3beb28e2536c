/* v16 in its plain form (tests are compiled for no special instruction set): accuracy against libm in double, edges,
 * tails, trees. That the other forms have its bits is what the op tests with forced instruction sets show. */
#include "tests/unit/unit.h"

#include <math.h>

#include "cpu/kernels/vec.h"

/* Distance of r from the true value in units of the last place of a float of that size. */
static double ulps(float r, double truth)
{
    if (isnan(truth))
        return isnan(r) ? 0 : INFINITY;
    if (isinf((float)truth) || isinf(r))
        return (float)truth == r ? 0 : INFINITY;
    int e;
    frexp(truth, &e);
    return fabs(r - truth) / ldexp(1, e - 24 < -149 ? -149 : e - 24);
}

typedef v16 VecFunction(v16);

static v16 vec_exp(v16 a)
{
    return v16_exp(a);
}

static v16 vec_log(v16 a)
{
    return v16_log(a);
}

static v16 vec_sigmoid(v16 a)
{
    return v16_sigmoid(a);
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* Every `step`th float of all 2^32. */
static double worst_of_all(VecFunction *f, double (*truth)(double), uint64_t step)
{
    double worst = 0;
    for (uint64_t bits = 0; bits < (uint64_t)1 << 32;) {
        float x[16], y[16];
        for (int i = 0; i < 16; i++, bits += step) {
            uint32_t low = (uint32_t)bits;
            memcpy(&x[i], &low, sizeof low);
        }
        v16_store(y, f(v16_load(x)));
        for (int i = 0; i < 16; i++)
            worst = fmax(worst, ulps(y[i], truth((double)x[i])));
    }
    return worst;
}

static void accurate_everywhere(void **state)
{
    (void)state;
    assert_true(worst_of_all(vec_exp, exp, 10007) <= 1.1);
    assert_true(worst_of_all(vec_log, log, 10007) <= 0.8);
    assert_true(worst_of_all(vec_sigmoid, sigmoid, 10007) <= 2.1);
}

static float first_lane(VecFunction *f, float x)
{
    float y[16];
    v16_store(y, f(v16_set1(x)));
    return y[0];
}

static void edges(void **state)
{
    (void)state;
    assert_true(first_lane(vec_exp, 0) == 1 && first_lane(vec_exp, -0.0f) == 1);
    assert_true(first_lane(vec_exp, -INFINITY) == 0 && first_lane(vec_exp, INFINITY) == INFINITY);
    assert_true(first_lane(vec_exp, 88.72f) < INFINITY && first_lane(vec_exp, 88.73f) == INFINITY);
    assert_true(first_lane(vec_exp, -103.0f) > 0 && first_lane(vec_exp, -104.0f) == 0);
    assert_true(isnan(first_lane(vec_exp, NAN)) && isnan(first_lane(vec_log, NAN)));
    assert_true(first_lane(vec_log, 0) == -INFINITY && first_lane(vec_log, -0.0f) == -INFINITY);
    assert_true(first_lane(vec_log, INFINITY) == INFINITY && first_lane(vec_log, 1) == 0);
    assert_true(isnan(first_lane(vec_log, -1)) && isnan(first_lane(vec_log, -INFINITY)));
    assert_true(fabsf(first_lane(vec_log, 1e-45f) + 103.2789f) < 1e-4f);
    assert_true(first_lane(vec_sigmoid, -INFINITY) == 0 && first_lane(vec_sigmoid, INFINITY) == 1);
    float y[16];
    v16_store(y, v16_silu(v16_set1(2)));
    assert_true(fabsf(y[5] - 1.7615942f) < 1e-6f);
}

static void tails(void **state)
{
    (void)state;
    float in[16], out[16];
    for (int n = 0; n <= 16; n++) {
        for (int i = 0; i < 16; i++) {
            in[i] = (float)(i + 1);
            out[i] = -7;
        }
        v16 a = v16_load_n(in, n);
        v16_store_n(out, a, n);
        for (int i = 0; i < 16; i++)
            assert_true(out[i] == (i < n ? in[i] : -7));
        v16_store(out, a);
        for (int i = 0; i < 16; i++)
            assert_true(out[i] == (i < n ? in[i] : 0));
        v16_store(out, v16_select(m16_first(n), v16_set1(1), v16_set1(2)));
        for (int i = 0; i < 16; i++)
            assert_true(out[i] == (i < n ? 1 : 2));
    }
}

static void trees(void **state)
{
    (void)state;
    /* Large and small values: only (0 + 8), (1 + 9), ... keeps the small ones. */
    float in[16] = {1e8f, 3, 5, 7, 0, 0, 0, 0, -1e8f, 0, 0, 0, 0, 0, 0, 0.5f};
    assert_true(v16_reduce_add(v16_load(in)) == 15.5f);
    for (int at = 0; at < 16; at++) {
        float x[16];
        for (int i = 0; i < 16; i++)
            x[i] = i == at ? -1.0f : -2.0f - (float)i;
        assert_true(v16_reduce_max(v16_load(x)) == -1.0f);
    }
    v16 square[16];
    for (int i = 0; i < 16; i++) {
        float row[16];
        for (int j = 0; j < 16; j++)
            row[j] = (float)(100 * i + j);
        square[i] = v16_load(row);
    }
    v16_transpose(square);
    for (int i = 0; i < 16; i++) {
        float row[16];
        v16_store(row, square[i]);
        for (int j = 0; j < 16; j++)
            assert_true(row[j] == (float)(100 * j + i));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accurate_everywhere),
        cmocka_unit_test(edges),
        cmocka_unit_test(tails),
        cmocka_unit_test(trees),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
