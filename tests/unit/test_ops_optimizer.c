/* AdamW, sum of squares, fill, and what the backend itself answers. */
#include "tests/unit/ops_lab.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/weight_block.h"
#include "cpu/cpu.h"

typedef struct Step {
    size_t n;
    float *g;
    AdamWArgs args;
} Step;

static void run_adamw(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const Step *s = t->in;
    ops->adamw(b, lab_at(t, out, 0), NULL, lab_at(t, out, 1), lab_at(t, out, 2), s->g, s->n, s->args);
}

static void reference_adamw(const Step *s, const float *was, double *w, double *m, double *v)
{
    AdamWArgs a = s->args;
    for (size_t i = 0; i < s->n; i++) {
        double g = (double)s->g[i] * (double)a.grad_scale, old = (double)was[i];
        m[i] = (double)a.beta1 * (double)was[s->n + i] + (1.0 - (double)a.beta1) * g;
        v[i] = (double)a.beta2 * (double)was[2 * s->n + i] + (1.0 - (double)a.beta2) * g * g;
        double step = m[i] / (double)a.correction1 / (sqrt(v[i] / (double)a.correction2) + (double)a.eps);
        w[i] = old - (double)a.lr * (step + (double)a.weight_decay * old);
    }
}

static void check_adamw(size_t n)
{
    Step s = {n,
              lab_random(n, 1),
              {.lr = 0.1f,
               .beta1 = 0.9f,
               .beta2 = 0.95f,
               .eps = 1e-6f,
               .weight_decay = 0.3f,
               .grad_scale = 0.25f,
               .correction1 = 0.19f,
               .correction2 = 0.0975f}};
    float *was = lab_random(3 * n, 2);
    double *w = malloc(n * sizeof(double)), *m = malloc(n * sizeof(double)), *v = malloc(n * sizeof(double));
    for (size_t i = 2 * n; i < 3 * n; i++) {
        was[i] = fabsf(was[i]) + 0.01f;
    }
    reference_adamw(&s, was, w, m, v);
    LabTrial t = {.run = run_adamw, .in = &s, .initial = was};
    lab_out(&t, 1, n, 0), lab_out(&t, 1, n, 0), lab_out(&t, 1, n, 0);
    float *out = lab_run(&t);
    lab_near("w", lab_mat(&t, out, 0), w, TOL_ELEMENT);
    lab_near("m", lab_mat(&t, out, 1), m, TOL_ELEMENT);
    lab_near("v", lab_mat(&t, out, 2), v, TOL_ELEMENT);
    free(out), free(was), free(s.g), free(w), free(m), free(v);
}

static void adamw(void **state)
{
    (void)state;
    check_adamw(1);
    check_adamw(31);
    check_adamw(20001);
}

/* Weights in two planes: the step of plain AdamW on what they stand for, bit for bit. Outputs: w, m, v of each; the planes
 * lie in w, one after the other. */
static void run_split(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const Step *s = t->in;
    size_t n = s->n;
    for (int i = 0; i < 2; i++) {
        float *w = lab_at(t, out, i);
        ops->adamw(b, w, i ? (uint16_t *)w + n : NULL, w + n, w + 2 * n, s->g, n, s->args);
    }
}

static void check_split(size_t n)
{
    float *was = lab_random(6 * n, 3), *g = lab_random(n, 4);
    Step s = {n,
              g,
              {.lr = 0.1f,
               .beta1 = 0.9f,
               .beta2 = 0.95f,
               .eps = 1e-6f,
               .weight_decay = 0.3f,
               .grad_scale = 0.25f,
               .correction1 = 0.19f,
               .correction2 = 0.0975f}};
    for (size_t i = 2 * n; i < 3 * n; i++) was[i] = fabsf(was[i]) + 0.01f;
    was[n / 2] = 0.0f;
    memcpy(was + 3 * n, was, 3 * n * sizeof(float));
    uint16_t *high = (uint16_t *)(was + 3 * n);
    split_values(high, high + n, was, n);
    LabTrial t = {.run = run_split, .in = &s, .initial = was};
    lab_out(&t, 1, 3 * n, 0), lab_out(&t, 1, 3 * n, 0);
    float *out = lab_run(&t), *plain = lab_at(&t, out, 0), *split = lab_at(&t, out, 1);
    assert_memory_not_equal(plain, was, n * sizeof(float));
    float *joined = malloc(n * sizeof *joined);
    high = (uint16_t *)split;
    join_values(joined, high, high + n, n);
    assert_memory_equal(joined, plain, n * sizeof(float));
    assert_memory_equal(split + n, plain + n, 2 * n * sizeof(float));
    free(out), free(was), free(g), free(joined);
}

static void adamw_split(void **state)
{
    (void)state;
    static const size_t sizes[] = {1,   15,  16,   17,
                                   112, 335, 9933, 20001}; /* the last ones: more than one thread's work */
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) check_split(sizes[i]);
}

/* The rule: in a block of 4,096, element i goes to sum i % 16; the 16 in order; the blocks in order. */
static void run_squares(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const Step *s = t->in;
    ops->sum_squares(b, (double *)lab_at(t, out, 0), s->g, s->n);
    ops->fill(b, lab_at(t, out, 1), s->n, 2.5f);
}

static void sum_squares_and_fill(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 4096, 4097, 100003};
    for (size_t i = 0; i < 5; i++) {
        Step s = {.n = sizes[i], .g = lab_random(sizes[i], 1)};
        LabTrial t = {.run = run_squares, .in = &s};
        lab_out(&t, 1, 2, 0), lab_out(&t, 1, s.n, 0);
        float *out = lab_run(&t);
        double got, want = 0.0;
        memcpy(&got, lab_at(&t, out, 0), sizeof got);
        for (size_t block = 0; block < s.n; block += 4096) {
            double lanes[16] = {0}, sum = 0.0;
            for (size_t j = block; j < s.n && j < block + 4096; j++) {
                lanes[(j - block) % 16] += (double)s.g[j] * (double)s.g[j];
            }
            for (int l = 0; l < 16; l++) {
                sum += lanes[l];
            }
            want += sum;
        }
        assert_true(got == want);
        for (size_t j = 0; j < s.n; j++) {
            assert_true(lab_at(&t, out, 1)[j] == 2.5f);
        }
        free(out), free(s.g);
    }
}

static void opens_or_says_why(void **state)
{
    (void)state;
    const Ops *ops;
    Status st = {0};
    assert_null(cpu_open(&(CpuOptions){.isa = "mmx"}, &ops, &st));
    assert_non_null(strstr(st.text, "\"mmx\" is unknown"));
    status_clear(&st);
    assert_null(cpu_open(&(CpuOptions){.matmul = "abacus"}, &ops, &st));
    assert_non_null(strstr(st.text, "\"abacus\" is not in this build"));
    assert_non_null(strstr(st.text, cpu_matmul_providers()));
    status_clear(&st);
    Backend *b = cpu_open(NULL, &ops, &st);
    assert_non_null(b);
    assert_int_equal(ops->abi, OPS_ABI);
    assert_true(ops->fault(b, &st) && !st.failed);
    ops->close(b);
}

/* Native bits do not depend on the instruction set: neither does the machine kind. */
static void machine_kinds(void **state)
{
    (void)state;
    const Ops *ops;
    Status st = {0};
    Backend *b = cpu_open(&(CpuOptions){.isa = "plain", .matmul = "native"}, &ops, &st);
    assert_string_equal(ops->machine_kind(b), lab_ops()->machine_kind(lab_backend()));
    assert_non_null(strstr(ops->describe(b), "plain"));
    assert_non_null(strstr(ops->describe(b), "native"));
    assert_non_null(strstr(ops->describe(b), "rows independent"));
    ops->close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adamw),
        cmocka_unit_test(adamw_split),
        cmocka_unit_test(sum_squares_and_fill),
        cmocka_unit_test(opens_or_says_why),
        cmocka_unit_test(machine_kinds),
    };
    return cmocka_run_group_tests(tests, lab_open, lab_close);
}
