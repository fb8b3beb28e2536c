/* Stored moments: the codes, the two ops against plain formulas on every instruction set, thread count and the emulated GPU; why
 * second moments in bf16 are rounded at random; and training that goes on with them. */
#include "tests/unit/ops_lab.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/philox.h"
#include "core/moments.h"

/* The map of dynamic tree quantisation as it is published, sorted: for i = 0 .. 6, at 10^(i - 6), the middles of 2^i (signed) or
 * 2^(i + 1) equal parts of [0.1, 1]; 0; 1; signed: the middles' negatives. */
static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void published(double out[MOMENT_CODES], bool is_signed)
{
    int n = 0;
    for (int i = 0; i < 7; i++) {
        int parts = 1 << (is_signed ? i : i + 1);
        for (int k = 0; k < parts; k++) {
            double low = 0.1 + 0.9 * k / parts, high = 0.1 + 0.9 * (k + 1) / parts,
                   x = pow(10, i - 6) * (low + high) / 2;
            out[n++] = x;
            if (is_signed) out[n++] = -x;
        }
    }
    out[n++] = 0;
    out[n++] = 1;
    assert_int_equal(n, MOMENT_CODES);
    qsort(out, MOMENT_CODES, sizeof *out, ascending);
}

static void codes(void **state)
{
    (void)state;
    double want[MOMENT_CODES];
    for (int s = 0; s < 2; s++) {
        published(want, s);
        for (int k = 0; k < MOMENT_CODES; k++) {
            double got = (double)moment_codes()->value[s][k];
            if (fabs(got - want[k]) > 1e-7 * fabs(want[k])) fail_msg("%d %d: %.9g, want %.9g", s, k, got, want[k]);
            if (k) assert_true(got > (double)moment_codes()->border[s][k - 1]);
            if (k + 1 < MOMENT_CODES) assert_true(got < (double)moment_codes()->border[s][k]);
        }
    }
}

/* ---- The ops ---- */

typedef struct Case {
    MomentForm form;
    size_t n, cut; /* narrowed in two calls where cut > 0, a multiple of a block */
    const float *m, *v;
    MomentRounding rounding;
} Case;

/* Outputs: stored m, stored v (f32s that hold moment_bytes), m and v widened again. */
static void round_trip(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const Case *c = t->in;
    void *m = lab_at(t, out, 0), *v = lab_at(t, out, 1);
    size_t parts[3] = {0, c->cut, c->n};
    for (int i = c->cut ? 0 : 1; i < 2; i++) {
        size_t from = i && c->cut ? parts[1] : 0, to = i ? c->n : parts[1];
        MomentRounding r = c->rounding;
        r.first += from;
        StoredMoments s = moments_view(c->form, m, v, c->n, from);
        ops->moments_narrow(b, s, c->m + from, c->v + from, to - from, r);
        ops->moments_widen(b, lab_at(t, out, 2) + from, lab_at(t, out, 3) + from, s, to - from);
    }
}

/* Blocks of very different sizes, zeros among them; a block of zeros; one of a single value. */
static void fill_case(float *m, float *v, size_t n)
{
    static const float sizes[] = {1.0f, 1e-30f, 1e15f, 0.0f, 3e-8f};
    float *x = lab_random(n, 5), *y = lab_random(n, 6);
    for (size_t i = 0; i < n; i++) {
        float size = sizes[i / MOMENT_BLOCK % 5];
        m[i] = i % 7 == 3 ? 0.0f : x[i] * size * (i % 3 ? 1.0f : 1e-4f);
        v[i] = i % 11 == 3 ? 0.0f : y[i] * y[i] * size * (i % 3 ? 1.0f : 1e-12f);
    }
    free(x), free(y);
}

/* Whether code k is the nearest to x / scale; a tie may go either way. */
static void expect_nearest(const char *what, int k, double x, double scale, bool is_signed)
{
    const float *value = moment_codes()->value[is_signed];
    double unit = scale > 0 ? x / scale : 0, got = fabs(unit - (double)value[k]), best = got;
    for (int i = 0; i < MOMENT_CODES; i++) best = fmin(best, fabs(unit - (double)value[i]));
    if (!is_signed && x > 0 && k == 1 && unit < (double)value[1]) return; /* never down to zero */
    if (!is_signed && x > 0) assert_true(k > 0);
    if (got > best + 1e-7) fail_msg("%s: code %d of %g", what, k, unit);
}

static void expect_codes(const Case *c, const LabTrial *t, float *out)
{
    const uint8_t *m = (const void *)lab_at(t, out, 0), *v = (const void *)lab_at(t, out, 1);
    StoredMoments s = moments_view(c->form, lab_at(t, out, 0), lab_at(t, out, 1), c->n, 0);
    for (size_t i = 0; i < c->n; i++) {
        size_t from = i / MOMENT_BLOCK * MOMENT_BLOCK;
        double most = 0, root = 0;
        for (size_t j = from; j < from + MOMENT_BLOCK && j < c->n; j++) {
            most = fmax(most, fabs((double)c->m[j]));
            root = fmax(root, sqrt((double)c->v[j]));
        }
        assert_true((double)s.m_scale[i / MOMENT_BLOCK] == most &&
                    (double)s.v_scale[i / MOMENT_BLOCK] == (double)(float)root);
        expect_nearest("m", m[i], (double)c->m[i], most, true);
        expect_nearest("v", v[i], sqrt((double)c->v[i]), root, false);
        const MomentCodes *codes = moment_codes();
        float r = codes->value[0][v[i]] * s.v_scale[i / MOMENT_BLOCK];
        assert_true(lab_at(t, out, 2)[i] == codes->value[1][m[i]] * s.m_scale[i / MOMENT_BLOCK]);
        assert_true(lab_at(t, out, 3)[i] == r * r);
        assert_true((c->v[i] > 0.0f) == (lab_at(t, out, 3)[i] > 0.0f) || c->v[i] < 1e-30f);
    }
}

static void expect_halves(const Case *c, const LabTrial *t, float *out)
{
    const uint16_t *m = (const void *)lab_at(t, out, 0), *v = (const void *)lab_at(t, out, 1);
    for (size_t i = 0; i < c->n; i++) {
        uint64_t index = (c->rounding.first + i) / 8;
        uint32_t counter[4] = {(uint32_t)index, (uint32_t)(index >> 32), c->rounding.tensor, c->rounding.step}, word[4],
                 bits;
        philox4x32(word, counter, c->rounding.key);
        memcpy(&bits, c->v + i, sizeof bits);
        bits += word[i % 8 / 2] >> (i % 2 ? 16 : 0) & 0xffff;
        assert_int_equal(m[i], lab_round(c->m[i]));
        assert_int_equal(v[i], bits >> 16);
        assert_true(lab_at(t, out, 2)[i] == lab_widen(m[i]) && lab_at(t, out, 3)[i] == lab_widen(v[i]));
    }
}

static void check(MomentForm form, size_t n, size_t cut)
{
    float *m = malloc(n * sizeof *m), *v = malloc(n * sizeof *v);
    fill_case(m, v, n);
    Case c = {form, n, cut, m, v, {{7, 5}, 0x12345678u, 3, 1u << 20}};
    LabTrial t = {.run = round_trip, .in = &c};
    size_t stored = moment_bytes(form, n) / sizeof(float);
    lab_out(&t, 1, stored, 0), lab_out(&t, 1, stored, 0), lab_out(&t, 1, n, 0), lab_out(&t, 1, n, 0);
    float *out = lab_run(&t);
    if (form == MOMENTS_8BIT) expect_codes(&c, &t, out);
    else expect_halves(&c, &t, out);
    free(out), free(m), free(v);
}

static void ops_everywhere(void **state)
{
    (void)state;
    for (int form = MOMENTS_BF16; form <= MOMENTS_8BIT; form++) {
        check((MomentForm)form, 1, 0);
        check((MomentForm)form, 255, 0);
        check((MomentForm)form, 257, 0);
        check((MomentForm)form, 1283, 0);
        check((MomentForm)form, 1283, 768); /* the same formulas hold whatever the cut */
        check((MomentForm)form, 20001, 0);
    }
}

static void sizes(void **state)
{
    (void)state;
    assert_int_equal(moment_bytes(MOMENTS_F32, 4096), 16384);
    assert_int_equal(moment_bytes(MOMENTS_BF16, 4096), 8192);
    assert_int_equal(moment_bytes(MOMENTS_8BIT, 4096), 4096 + 64);
    assert_int_equal(moment_bytes(MOMENTS_8BIT, 1 << 20), (1 << 20) + (1 << 20) / 64);
    assert_int_equal(moment_bytes(MOMENTS_8BIT, 4097), 4160 + 128);
}

/* ---- Why at random ---- */

/* 3,000 updates without a gradient at beta2 = 0.999 from 1: e^-3. To the nearest bf16 it stays at 1. */
static void second_moments_fall(void **state)
{
    (void)state;
    enum { N = 2048, STEPS = 3000 };
    float m[N] = {0}, v[N], nearest = 1.0f;
    uint16_t stored_m[N], stored_v[N];
    double mean = 0;
    for (int i = 0; i < N; i++) v[i] = 1.0f;
    StoredMoments s = moments_view(MOMENTS_BF16, stored_m, stored_v, N, 0);
    for (int step = 1; step <= STEPS; step++) {
        for (int i = 0; i < N; i++) v[i] *= 0.999f;
        nearest = lab_widen(lab_round(nearest * 0.999f));
        MomentRounding r = {{1, 5}, 2, (uint32_t)step, 0};
        lab_ops()->moments_narrow(lab_backend(), s, m, v, N, r);
        lab_ops()->moments_widen(lab_backend(), m, v, s, N);
    }
    for (int i = 0; i < N; i++) mean += (double)v[i] / N;
    assert_true(nearest == 1.0f);
    /* one value's deviation is about 6 % here; the mean's a fiftieth of that */
    if (fabs(mean / exp(-3) - 1) > 0.01) fail_msg("%g, want %g", mean, exp(-3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes),
        cmocka_unit_test(sizes),
        cmocka_unit_test(ops_everywhere),
        cmocka_unit_test(second_moments_fall),
    };
    return cmocka_run_group_tests(tests, lab_open, lab_close);
}
