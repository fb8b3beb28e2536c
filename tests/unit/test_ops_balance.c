/* Sorting by expert, sums and gradients of the balance losses, V3's bias, products a head: against naive loops and by bits. */
#include "tests/unit/ops_lab.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/philox.h"

enum { E = 10, K = 3, N = 77, SEQUENCES = 4, DEVICES = 5 };

static const int32_t offsets[SEQUENCES + 1] = {0, 1, 41, 60, N};

typedef struct Case {
    float scores[N * E];
    int32_t idx[N * K];
    double slope[SEQUENCES * E], frequency[SEQUENCES * E];
    float bias[E];
    bool normalised;
} Case;

/* Scores in (0, 1), some of them equal; choices ascending; expert 0 has none and expert 1 many. */
static void fill(Case *x)
{
    Rng rng = rng_stream(5, RNG_DATA, 1, 0);
    for (int i = 0; i < N * E; i++) x->scores[i] = (float)rng_range(&rng, 1, 12) / 13.0f;
    for (int t = 0; t < N; t++)
        for (int k = 0, first = 1; k < K; k++) {
            first = k == 0 && t % 2 ? 1 : rng_range(&rng, first, E - K + k);
            x->idx[t * K + k] = first++;
        }
    for (int i = 0; i < SEQUENCES * E; i++) {
        x->slope[i] = rng_double(&rng) - 0.3;
        x->frequency[i] = 2 * rng_double(&rng);
    }
    for (int i = 0; i < E; i++) x->bias[i] = (float)rng_double(&rng);
}

static void run_sort(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const Case *x = t->in;
    ops->sort_experts(b, (int32_t *)lab_at(t, out, 0), (int32_t *)lab_at(t, out, 1), (int32_t *)lab_at(t, out, 2),
                      x->idx, N, E, K);
}

static void sort(void **state)
{
    (void)state;
    static Case x;
    fill(&x);
    LabTrial t = {.run = run_sort, .in = &x};
    lab_out(&t, 1, E + 1, 0), lab_out(&t, 1, N * K, 0), lab_out(&t, 1, N * K, 0);
    float *out = lab_run(&t);
    const int32_t *first = (int32_t *)lab_at(&t, out, 0), *slot = (int32_t *)lab_at(&t, out, 1),
                  *rows = (int32_t *)lab_at(&t, out, 2);
    int at = 0;
    for (int e = 0; e < E; e++) {
        assert_int_equal(first[e], at);
        for (int i = 0; i < N * K; i++)
            if (x.idx[i] == e) {
                assert_int_equal(slot[i], at);
                assert_int_equal(rows[at++], i / K);
            }
    }
    assert_int_equal(first[E], N * K);
    assert_true(first[1] == 0 && first[2] > N / 3);
    free(out);
}

/* Doubles and counts one after the other. */
static void run_sums(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const Case *x = t->in;
    double score[SEQUENCES * E];
    int32_t count[SEQUENCES * E], reached[SEQUENCES * DEVICES] = {0};
    BalanceShape s = {E, K, DEVICES, x->normalised};
    ops->balance_sums(b, (BalanceSums){score, count, x->normalised ? NULL : reached}, s,
                      mat_f32((float *)x->scores, N, E), x->normalised ? NULL : x->idx, offsets, SEQUENCES);
    ops->device.wait(b, 0); /* it writes into arrays of this function */
    memcpy(lab_at(t, out, 0), score, sizeof score);
    memcpy(lab_at(t, out, 1), count, sizeof count);
    memcpy(lab_at(t, out, 2), reached, sizeof reached);
}

static double total(const float *row)
{
    double sum = 1e-20;
    for (int i = 0; i < E; i++) sum += row[i];
    return sum;
}

/* Whether i is among the K best of a row: fewer than K others go before it. */
static bool among_best(const float *row, int i)
{
    int before = 0;
    for (int j = 0; j < E; j++) before += row[j] > row[i] || (row[j] == row[i] && j < i);
    return before < K;
}

static void sums_of(bool normalised)
{
    static Case x;
    fill(&x);
    x.normalised = normalised;
    LabTrial t = {.run = run_sums, .in = &x};
    lab_out(&t, 1, 2 * SEQUENCES * E, 0), lab_out(&t, 1, SEQUENCES * E, 0), lab_out(&t, 1, SEQUENCES * DEVICES, 0);
    float *out = lab_run(&t);
    double score[SEQUENCES * E];
    memcpy(score, lab_at(&t, out, 0), sizeof score);
    const int32_t *count = (int32_t *)lab_at(&t, out, 1), *reached = (int32_t *)lab_at(&t, out, 2);
    for (int q = 0; q < SEQUENCES; q++) {
        double want[E] = {0};
        int counted[E] = {0}, devices[DEVICES] = {0};
        for (int n = offsets[q]; n < offsets[q + 1]; n++) {
            const float *row = x.scores + n * E;
            bool on[DEVICES] = {false};
            for (int i = 0; i < E; i++) {
                want[i] += normalised ? row[i] / total(row) : row[i];
                counted[i] += normalised && among_best(row, i);
            }
            for (int k = 0; k < K && !normalised; k++) {
                counted[x.idx[n * K + k]]++;
                on[x.idx[n * K + k] / (E / DEVICES)] = true;
            }
            for (int d = 0; d < DEVICES; d++) devices[d] += on[d];
        }
        for (int i = 0; i < E; i++) {
            assert_true(score[q * E + i] == want[i]);
            assert_int_equal(count[q * E + i], counted[i]);
        }
        for (int d = 0; d < DEVICES; d++) assert_int_equal(reached[q * DEVICES + d], devices[d]);
    }
    free(out);
}

static void sums(void **state)
{
    (void)state;
    sums_of(false);
    sums_of(true);
}

static void run_grad(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    static const int32_t rows[E + 1] = {0, 3, 3, 6, 10, 12, 15, 18, 21, 24, 30};
    const Case *x = t->in;
    BalanceSlopes s = {x->slope, x->normalised ? x->frequency : NULL, x->normalised ? 0.25 : 0.0};
    ops->balance_grad(b, lab_mat(t, out, 0), s, mat_f32((float *)x->scores, N, E), offsets, SEQUENCES);
    memcpy(lab_at(t, out, 1), x->bias, sizeof x->bias);
    ops->bias_update(b, lab_at(t, out, 1), rows, E, 0.125f);
}

static void grad_and_bias(void **state)
{
    (void)state;
    static Case x;
    fill(&x);
    for (int with = 0; with < 2; with++) {
        x.normalised = with;
        LabTrial t = {.run = run_grad, .in = &x};
        lab_out(&t, N, E, 3), lab_out(&t, 1, E, 0);
        float *out = lab_run(&t), *bias = lab_at(&t, out, 1);
        for (int q = 0; q < SEQUENCES; q++)
            for (int n = offsets[q]; n < offsets[q + 1]; n++) {
                const float *row = x.scores + n * E;
                double sum = total(row), mean = 0, T = offsets[q + 1] - offsets[q];
                for (int i = 0; i < E; i++) mean += x.frequency[q * E + i] * row[i] / sum;
                for (int i = 0; i < E; i++) {
                    double want = x.slope[q * E + i];
                    if (with) want += 0.25 * (x.frequency[q * E + i] - mean) / sum;
                    double got = mat_row(lab_mat(&t, out, 0), (size_t)n)[i];
                    if (fabs(got - want / SEQUENCES / T) > 1e-7) fail_msg("row %d, expert %d: %g", n, i, got);
                }
            }
        const float change[E] = {0, 1, 0, -1, 1, 0, 0, 0, 0, -1}; /* loads 3 0 3 4 2 3 3 3 3 6, mean 3 */
        for (int i = 0; i < E; i++) assert_true(bias[i] == x.bias[i] + 0.125f * change[i]);
        free(out);
    }
}

enum { HEADS = 3, ROWS = 21, STEP = 11, FIRST = 4, OUT = 6, IN = 19 };

typedef struct HeadsCase {
    float *w, *x;
    bool transposed, apart;
} HeadsCase;

static void run_heads(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const HeadsCase *c = t->in;
    size_t from = c->transposed ? OUT : IN, to = c->transposed ? IN : OUT;
    HeadView y = heads_f32(lab_at(t, out, 0), t->outs[0].stride, to), x = heads_f32(c->x, HEADS * from, from);
    Mat w = mat_f32(c->w, HEADS * STEP, IN);
    if (!c->apart) {
        ops->heads_product(b, y, x, w, (HeadRows){HEADS, STEP, FIRST, OUT}, ROWS, c->transposed);
        return;
    }
    for (size_t h = 0; h < HEADS; h++) {
        Mat head = mat_rows(w, h * STEP + FIRST, OUT),
            in = {c->x + h * from, DTYPE_F32, ROWS, from, HEADS * from, false};
        Mat o = {lab_at(t, out, 0) + h * to, DTYPE_F32, ROWS, to, t->outs[0].stride, false};
        if (c->transposed) ops->linear_bwd_x(b, o, in, head, false);
        else ops->linear_fwd(b, o, in, head, NULL, false);
    }
}

static void heads(void **state)
{
    (void)state;
    for (int transposed = 0; transposed < 2; transposed++) {
        HeadsCase c = {lab_random(HEADS * STEP * IN, 1), lab_random((size_t)ROWS * HEADS * IN, 2), transposed, false};
        size_t cols = HEADS * (transposed ? IN : OUT);
        LabTrial t = {.run = run_heads, .in = &c};
        lab_out(&t, ROWS, cols, 5);
        float *together = lab_run(&t);
        c.apart = true;
        float *apart = lab_run(&t);
        for (size_t n = 0; n < ROWS; n++)
            assert_memory_equal(mat_row(lab_mat(&t, together, 0), n), mat_row(lab_mat(&t, apart, 0), n),
                                cols * sizeof(float));
        free(together), free(apart), free(c.w), free(c.x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sort), cmocka_unit_test(sums), cmocka_unit_test(grad_and_bias),
                                       cmocka_unit_test(heads)};
    return cmocka_run_group_tests(tests, lab_open, lab_close);
}
