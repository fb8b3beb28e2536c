/* v16 in its plain form (tests are compiled for no special instruction set): accuracy against libm in double, edges,
 * tails, trees. That the other forms have its bits is what the op tests with forced instruction sets show. */
#include "tests/unit/unit.h"

#include <math.h>
#include <stdbool.h>

#include "cpu/kernels/simd/vec.h"

/* Distance of r from the true value in units of the last place of a float of that size. */
static double ulps(float r, double truth)
{
    if (isnan(truth)) return isnan(r) ? 0 : INFINITY;
    if (isinf((float)truth) || isinf(r)) return (float)truth == r ? 0 : INFINITY;
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
        for (int i = 0; i < 16; i++) worst = fmax(worst, ulps(y[i], truth((double)x[i])));
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
        for (int i = 0; i < 16; i++) assert_true(out[i] == (i < n ? in[i] : -7));
        v16_store(out, a);
        for (int i = 0; i < 16; i++) assert_true(out[i] == (i < n ? in[i] : 0));
        v16_store(out, v16_select(m16_first(n), v16_set1(1), v16_set1(2)));
        for (int i = 0; i < 16; i++) assert_true(out[i] == (i < n ? 1 : 2));
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
        for (int i = 0; i < 16; i++) x[i] = i == at ? -1.0f : -2.0f - (float)i;
        assert_true(v16_reduce_max(v16_load(x)) == -1.0f);
    }
    v16 square[16];
    for (int i = 0; i < 16; i++) {
        float row[16];
        for (int j = 0; j < 16; j++) row[j] = (float)(100 * i + j);
        square[i] = v16_load(row);
    }
    v16_transpose(square);
    for (int i = 0; i < 16; i++) {
        float row[16];
        v16_store(row, square[i]);
        for (int j = 0; j < 16; j++) assert_true(row[j] == (float)(100 * j + i));
    }
}

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The definition of the nearest bf16: of its two neighbours the nearer, of two as near the even one; in double, where the
 * neighbours and the distances are exact. What lies beyond the largest by half a step or more is infinite. */
static uint16_t nearest_bf16(float x)
{
    uint32_t bits = bits_of(x), sign = bits & 0x80000000u;
    uint16_t down = (uint16_t)(bits >> 16); /* towards 0 */
    if (isnan(x)) return 0x7fc0;
    if (isinf(x)) return down;
    double size = fabs((double)x), low = fabs((double)float_of((uint32_t)down << 16)), high = low;
    uint32_t up = ((uint32_t)down + 1) << 16;
    high = (up & 0x7f800000u) == 0x7f800000u ? 0x1p128 : fabs((double)float_of(up));
    if (size - low < high - size || (size - low == high - size && down % 2 == 0)) return down;
    return (uint16_t)((up | sign) >> 16);
}

/* A bf16 is exact as f32 and comes back as itself; NaN as a NaN. */
static void bf16_widens(void **state)
{
    (void)state;
    for (uint32_t half = 0; half < 65536; half += 16) {
        uint16_t in[16], out[16];
        float wide[16], rounded[16];
        for (uint32_t i = 0; i < 16; i++) in[i] = (uint16_t)(half + i);
        v16 v = v16_load_bf16(in);
        v16_store(wide, v);
        v16_store_bf16(out, v);
        v16_store(rounded, v16_round_bf16(v));
        for (int i = 0; i < 16; i++) {
            assert_int_equal(bits_of(wide[i]), (uint32_t)in[i] << 16);
            bool nan = isnan(wide[i]);
            assert_true(nan ? isnan(rounded[i]) : bits_of(rounded[i]) == bits_of(wide[i]));
            assert_true(nan ? (out[i] & 0x7fff) > 0x7f80 : out[i] == in[i]);
        }
    }
}

/* Around every bf16 of all sizes: exact values, the middle between two and its neighbours; every 9973rd float. */
static void check_round(float x)
{
    float in[16], out[16];
    uint16_t halves[16], want = nearest_bf16(x);
    v16_store(in, v16_set1(x));
    v16_store_bf16(halves, v16_load(in));
    v16_store(out, v16_round_bf16(v16_load(in)));
    for (int i = 0; i < 16; i += 15) {
        if (isnan(x) ? !isnan(out[i]) || (halves[i] & 0x7fff) <= 0x7f80
                     : halves[i] != want || bits_of(out[i]) != (uint32_t)want << 16)
            fail_msg("%.9g (%08x) becomes %04x and %.9g, not %04x", (double)x, bits_of(x), halves[i], (double)out[i],
                     want);
    }
}

static void bf16_rounds_to_nearest_even(void **state)
{
    (void)state;
    static const uint32_t tails[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
    for (uint32_t half = 0; half < 65536; half++)
        for (int i = 0; i < 6; i++) check_round(float_of(half << 16 | tails[i]));
    for (uint64_t bits = 0; bits < (uint64_t)1 << 32; bits += 99991) check_round(float_of((uint32_t)bits));
    assert_int_equal(nearest_bf16(3.38953139e38f), 0x7f7f); /* the largest bf16, itself */
    assert_int_equal(nearest_bf16(3.40282347e38f), 0x7f80); /* the largest float: infinite */
    assert_int_equal(nearest_bf16(-1e-45f), 0x8000);
    assert_int_equal(nearest_bf16(float_of(0x3f808000u)), 0x3f80);
    assert_int_equal(nearest_bf16(float_of(0x3f818000u)), 0x3f82);
}

static void bf16_tails(void **state)
{
    (void)state;
    for (int n = 0; n <= 16; n++) {
        uint16_t in[16], out[16];
        float wide[16];
        for (int i = 0; i < 16; i++) in[i] = (uint16_t)(0x3f80 + i), out[i] = 0xabcd;
        v16 v = v16_load_bf16_n(in, n);
        v16_store(wide, v);
        v16_store_bf16_n(out, v16_load_bf16(in), n);
        for (int i = 0; i < 16; i++) {
            assert_true(bits_of(wide[i]) == (i < n ? (uint32_t)in[i] << 16 : 0));
            assert_int_equal(out[i], i < n ? in[i] : 0xabcd);
        }
    }
}

/* Lane i of a pair has the first in its low half, as two neighbours of a bf16 row lie in memory. */
static void bf16_pairs(void **state)
{
    (void)state;
    uint16_t first[16], second[16], lanes[32];
    for (int i = 0; i < 16; i++) first[i] = (uint16_t)(0x3f00 + 7 * i), second[i] = (uint16_t)(0xbf00 + 5 * i);
    v16 pair = v16_pair(v16_load_bf16(first), v16_load_bf16(second));
    float raw[16], a[16], b[16];
    v16_store(raw, pair);
    memcpy(lanes, raw, sizeof lanes);
    v16_store(a, v16_firsts(pair));
    v16_store(b, v16_seconds(pair));
    for (int i = 0; i < 16; i++) {
        assert_int_equal(lanes[2 * i], first[i]);
        assert_int_equal(lanes[2 * i + 1], second[i]);
        assert_int_equal(bits_of(a[i]), (uint32_t)first[i] << 16);
        assert_int_equal(bits_of(b[i]), (uint32_t)second[i] << 16);
    }
}

/* The second product first, each rounded once: cases where the order or an extra rounding would show. */
static void bf16_dot(void **state)
{
    (void)state;
    static const float cases[][6] = {/* a0 a1 b0 b1 sum, what comes out */
                                     {1, 2, 3, 5, 7, 20},
                                     {0x1p30f, -0x1p30f, 1, 1, 1, 0}, /* 1 is lost in the second product */
                                     {-0x1p30f, 0x1p30f, 1, 1, 0x1p8f, 0x1p8f},
                                     {1, -0x1p24f, 1, 1, 0x1p24f, 1},
                                     {-0x1p24f, 1, 1, 1, 0x1p24f, 0}, /* 2^24 + 1 ties to 2^24 */
                                     {0, 0, 0, 0, -3, -3}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const float *k = cases[c];
        uint16_t a[2] = {nearest_bf16(k[0]), nearest_bf16(k[1])};
        float out[16];
        v16 b = v16_pair(v16_set1(k[2]), v16_set1(k[3]));
        v16_store(out, v16_dot(a, b, v16_set1(k[4])));
        for (int i = 0; i < 16; i++)
            if (out[i] != k[5]) fail_msg("case %zu: %.9g, want %.9g", c, (double)out[i], (double)k[5]);
    }
}

/* bits = (high << 16) + (int16) low, for every bit pattern, NaN too. */
static void split_halves(void **state)
{
    (void)state;
    for (uint64_t from = 0; from < (uint64_t)1 << 32; from += 16 * 4099) {
        float in[16], out[16];
        uint16_t high[16], low[16];
        for (uint32_t i = 0; i < 16; i++) in[i] = float_of((uint32_t)from + i * 4099);
        v16_store_split(high, low, v16_load(in));
        v16_store(out, v16_load_split(high, low));
        assert_memory_equal(in, out, sizeof in);
        for (int i = 0; i < 16; i++) {
            assert_int_equal(high[i], (bits_of(in[i]) + 0x8000u) >> 16);
            assert_int_equal(low[i], bits_of(in[i]) & 0xffff);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accurate_everywhere),
        cmocka_unit_test(edges),
        cmocka_unit_test(tails),
        cmocka_unit_test(trees),
        cmocka_unit_test(bf16_widens),
        cmocka_unit_test(bf16_rounds_to_nearest_even),
        cmocka_unit_test(bf16_tails),
        cmocka_unit_test(bf16_pairs),
        cmocka_unit_test(bf16_dot),
        cmocka_unit_test(split_halves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
