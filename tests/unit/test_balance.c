/* Balance losses: the reference values of tests/golden, gradients by central differences, the mean over sequences, and
 * V3's bias. */
#include "tests/unit/unit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/hf/safetensors.h"
#include "core/losses/balance.h"
#include "core/batch.h"
#include "core/base/philox.h"
#include "tests/unit/ops_lab.h"

/* The values of a layer, mean over sequences, and with d their gradient by the scores, as core puts ops and formulas together. */
static BalanceValues layer(const BalanceConfig *b, const ModelConfig *c, const Batch *batch, const float *scores,
                           const int32_t *idx, float *d)
{
    size_t n = (size_t)batch->nseq, e = (size_t)c->E, D = (size_t)(b->devices > 0 ? b->devices : 1);
    double *sums = calloc(4 * n * e, sizeof *sums);
    int32_t *counts = calloc(n * (2 * e + D), sizeof *counts);
    BalanceSums chosen = {sums, counts, counts + 2 * n * e}, best = {sums + n * e, counts + n * e, NULL};
    double *slope = sums + 2 * n * e, *frequency = sums + 3 * n * e;
    Mat s = mat_f32((float *)scores, (size_t)batch->N, e);
    lab_ops()->balance_sums(lab_backend(), chosen, (BalanceShape){c->E, c->K, (int)D, false}, s, idx, batch->offsets,
                            batch->nseq);
    lab_ops()->balance_sums(lab_backend(), best, (BalanceShape){c->E, c->K, 0, true}, s, NULL, batch->offsets,
                            batch->nseq);
    BalanceValues *values = calloc(n, sizeof *values);
    for (size_t q = 0; q < n; q++) {
        BalanceSums one = {sums + q * e, counts + q * e, counts + 2 * n * e + q * D},
                    other = {sums + (n + q) * e, counts + (n + q) * e, NULL};
        values[q] = balance_values(b, c, batch->offsets[q + 1] - batch->offsets[q], &one, &other, slope + q * e,
                                   frequency + q * e);
    }
    BalanceSlopes slopes = {balance_of_choices(b) ? slope : NULL, frequency, b->sequence};
    if (d)
        lab_ops()->balance_grad(lab_backend(), mat_f32(d, (size_t)batch->N, e), slopes, s, batch->offsets, batch->nseq);
    BalanceValues mean = balance_mean(values, batch->nseq);
    free(sums), free(counts), free(values);
    return mean;
}

static StFile *open_golden(const char *folder, const char *file)
{
    char path[128];
    snprintf(path, sizeof path, "tests/golden/%s/%s.safetensors", folder, file);
    Status st = {0};
    StFile *f = st_open(path, &st);
    if (!f) fail_msg("%s", st.text);
    return f;
}

static const StTensor *find(const StFile *f, const char *format, int layer)
{
    char name[96];
    snprintf(name, sizeof name, format, layer);
    const StTensor *t = st_find(f, name);
    if (!t) fail_msg("no %s", name);
    return t;
}

/* The value of the first sequence, the one whose router the fixture holds. */
static void near_first(const StFile *f, const char *format, int layer, double got)
{
    float want = ((const float *)find(f, format, layer)->data)[0];
    if (!(fabs(got - want) <= 3e-6 * want))
        fail_msg("%s of layer %d: %.9g, want %.9g", format, layer, got, (double)want);
}

static void check_golden(const char *folder, BalanceConfig b)
{
    StFile *f = open_golden(folder, "expected"), *g = open_golden(folder, "expected_balance");
    ModelConfig c = {.E = 16, .K = 4};
    Status st = {0};
    assert_true(balance_on(&b) && balance_validate(&b, &c, &st));
    for (int l = 1; l <= 2; l++) {
        const StTensor *scores = find(f, "router.%d.scores", l), *idx = find(f, "router.%d.indices", l);
        int32_t offsets[2] = {0, (int32_t)scores->shape[0]};
        Batch batch = {.N = offsets[1], .nseq = 1, .offsets = offsets};
        BalanceValues v = layer(&b, &c, &batch, scores->data, idx->data, NULL);
        if (b.expert != 0.0f) near_first(g, "expert.%d", l, v.expert);
        if (b.device != 0.0f) near_first(g, "device.%d", l, v.device);
        if (b.comm != 0.0f) near_first(g, "comm.%d", l, v.comm);
        if (b.sequence != 0.0f) near_first(g, "sequence.%d", l, v.sequence);
    }
    st_close(f);
    st_close(g);
}

static void golden(void **state)
{
    (void)state;
    check_golden("v2_lite", (BalanceConfig){.expert = 1, .device = 1, .comm = 1, .devices = 4, .limit = 2});
    check_golden("v2_full", (BalanceConfig){.expert = 1, .device = 1, .comm = 1, .devices = 4, .limit = 2});
    check_golden("v3", (BalanceConfig){.sequence = 1});
}

static void update_bias(float *bias, const int32_t *counts, int experts, float rate)
{
    int32_t offsets[17] = {0};
    for (int i = 0; i < experts; i++) offsets[i + 1] = offsets[i] + counts[i];
    lab_ops()->bias_update(lab_backend(), bias, offsets, experts, rate);
}

static void golden_bias(void **state)
{
    (void)state;
    StFile *f = open_golden("v3", "model"), *g = open_golden("v3", "expected_balance");
    for (int l = 1; l <= 2; l++) {
        float bias[16];
        memcpy(bias, find(f, "model.layers.%d.mlp.gate.e_score_correction_bias", l)->data, sizeof bias);
        update_bias(bias, find(g, "counts.%d", l)->data, 16, 0.001f);
        const float *want = find(g, "bias_after.%d", l)->data;
        for (int i = 0; i < 16; i++) assert_true(fabsf(bias[i] - want[i]) <= 1e-8f);
    }
    st_close(f);
    st_close(g);
    float bias[3] = {0};
    update_bias(bias, (int32_t[]){4, 2, 3}, 3, 0.5f);
    assert_true(bias[0] == -0.5f && bias[1] == 0.5f && bias[2] == 0.0f);
}

enum { E = 12, K = 3, N = 40 };

/* Sequences of 1, 30 and 9 tokens. The scores of a token are E different multiples of 0.05, shuffled, so that a small
 * step changes no choice; a third of the tokens choose experts 0 .. K - 1. */
typedef struct Case {
    ModelConfig c;
    int32_t offsets[4], idx[N * K];
    Batch batch;
    float scores[N * E], d[N * E];
} Case;

static void fill(Case *x)
{
    *x = (Case){.c = {.E = E, .K = K}, .offsets = {0, 1, 31, N}};
    x->batch = (Batch){.N = N, .nseq = 3, .offsets = x->offsets};
    Rng rng = rng_stream(3, RNG_DATA, 1, 0);
    for (int t = 0; t < N; t++) {
        float *s = x->scores + t * E;
        for (int i = 0; i < E; i++) {
            int j = (int)rng_below(&rng, (uint32_t)i + 1);
            s[i] = s[j];
            s[j] = 0.05f * (float)(i + 1);
        }
        for (int k = 0, first = 0; k < K; k++) {
            first = t % 3 == 0 ? k : rng_range(&rng, first, E - K + k);
            x->idx[t * K + k] = first++;
        }
    }
}

static double aux(Case *x, const BalanceConfig *b, float *d)
{
    BalanceValues v = layer(b, &x->c, &x->batch, x->scores, x->idx, d);
    return balance_aux(b, &v);
}

static void gradients(void **state)
{
    (void)state;
    static Case x;
    fill(&x);
    const BalanceConfig configs[] = {
        {.expert = 0.3f},
        {.device = 0.4f, .devices = 4},
        {.comm = 0.5f, .devices = 3, .limit = 2},
        {.sequence = 0.6f},
        {.expert = 0.3f, .device = 0.4f, .comm = 0.5f, .sequence = 0.6f, .devices = 6, .limit = 2}};
    for (size_t k = 0; k < sizeof configs / sizeof *configs; k++) {
        const BalanceConfig *b = &configs[k];
        for (int i = 0; i < N * E; i++) x.d[i] = NAN; /* written, not added to */
        aux(&x, b, x.d);
        double largest = 0;
        for (int i = 0; i < N * E; i++) {
            float keep = x.scores[i], up = keep + 1e-3f, down = keep - 1e-3f;
            x.scores[i] = up;
            double above = aux(&x, b, NULL);
            x.scores[i] = down;
            double want = (above - aux(&x, b, NULL)) / ((double)up - down);
            x.scores[i] = keep;
            if (!(fabs(x.d[i] - want) <= 1e-6 * (1 + fabs(want))))
                fail_msg("config %zu, score %d: %.8g, want %.8g", k, i, (double)x.d[i], want);
            largest = fmax(largest, fabs(want));
        }
        assert_true(largest > 1e-2);
    }
}

/* A layer's value is the plain mean of its sequences', whatever their lengths. */
static void sequences(void **state)
{
    (void)state;
    static Case x;
    fill(&x);
    BalanceConfig b = {.expert = 1, .device = 1, .comm = 1, .sequence = 1, .devices = 2, .limit = 1};
    BalanceValues all = layer(&b, &x.c, &x.batch, x.scores, x.idx, NULL), sum = {0};
    for (int s = 0; s < 3; s++) {
        int32_t offsets[2] = {0, x.offsets[s + 1] - x.offsets[s]};
        Batch one = {.N = offsets[1], .nseq = 1, .offsets = offsets};
        BalanceValues v = layer(&b, &x.c, &one, x.scores + x.offsets[s] * E, x.idx + x.offsets[s] * K, NULL);
        sum.expert += v.expert / 3, sum.device += v.device / 3, sum.comm += v.comm / 3, sum.sequence += v.sequence / 3;
    }
    assert_true(fabs(all.expert - sum.expert) < 1e-12 && fabs(all.device - sum.device) < 1e-12);
    assert_true(fabs(all.comm - sum.comm) < 1e-12 && fabs(all.sequence - sum.sequence) < 1e-12);
}

/* Perfect balance under a softmax gives exactly 1 (V2: L = alpha). */
static void balanced(void **state)
{
    (void)state;
    static Case x;
    fill(&x);
    int32_t offsets[2] = {0, 4};
    x.batch = (Batch){.N = 4, .nseq = 1, .offsets = offsets};
    for (int i = 0; i < 4 * E; i++) x.scores[i] = 1.0f / E;
    for (int i = 0; i < 4 * K; i++) x.idx[i] = i; /* token t goes to experts 3t .. 3t + 2: one device of four */
    BalanceConfig b = {.expert = 1, .device = 1, .comm = 1, .devices = 4, .limit = 1};
    BalanceValues v = layer(&b, &x.c, &x.batch, x.scores, x.idx, NULL);
    assert_true(fabs(v.expert - 1) < 1e-6 && fabs(v.device - 1) < 1e-6 && fabs(v.comm - 1) < 1e-6);
    assert_true(v.sequence == 0);
}

static void refuses(BalanceConfig b, int experts)
{
    ModelConfig c = {.E = experts, .K = 2};
    Status st = {0};
    assert_false(balance_validate(&b, &c, &st));
    assert_true(st.failed);
}

static void validation(void **state)
{
    (void)state;
    refuses((BalanceConfig){.expert = 1}, 0);
    refuses((BalanceConfig){.device = 1}, 8);
    refuses((BalanceConfig){.device = 1, .devices = 3}, 8);
    refuses((BalanceConfig){.comm = 1, .devices = 4}, 8);
    refuses((BalanceConfig){.comm = 1, .devices = 4, .limit = 5}, 8);
    ModelConfig dense = {.E = 0};
    BalanceConfig off = {0};
    Status st = {0};
    assert_true(balance_validate(&off, &dense, &st) && !balance_on(&off));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden),    cmocka_unit_test(golden_bias), cmocka_unit_test(gradients),
        cmocka_unit_test(sequences), cmocka_unit_test(balanced),    cmocka_unit_test(validation),
    };
    return cmocka_run_group_tests(tests, lab_open, lab_close);
}
