/* Token dropping: which pairs a device drops, that they have no part in output and gradients, and the same bits however
 * layers are kept. */
#include "tests/unit/unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/batches.h"
#include "core/policy.h"
#include "recipes/model/machine.h"
#include "tests/tolerances.h"

enum { VOCAB = 31, N = 96, DEVICES = 2 };

static ModelConfig config(void)
{
    return (ModelConfig){.arch = ARCH_DEEPSEEK_V2,
                         .attention = ATTENTION_MLA,
                         .V = VOCAB,
                         .C = 24,
                         .L = 2,
                         .H = 2,
                         .Hkv = 2,
                         .Rkv = 12,
                         .Dn = 8,
                         .Dr = 4,
                         .Dv = 6,
                         .F = 40,
                         .E = 6,
                         .S = 1,
                         .K = 2,
                         .moe_F = 12,
                         .moe_freq = 1,
                         .n_group = 1,
                         .topk_group = 1,
                         .routed_scale = 1.0f,
                         .eps = 1e-6f,
                         .rope = {.theta = 10000.0f, .interleaved = true},
                         .max_positions = 256,
                         .init_std = 0.3f,
                         .bos = -1,
                         .eos = -1};
}

typedef struct Setup {
    Machine machine;
    Policy *policy;
    BatchBuilder batch;
    uint8_t kept[N];
    TokenDrop drop;
} Setup;

static void open_setup(Setup *s, size_t keep)
{
    Status st = {0};
    RuntimeOptions o = runtime_defaults();
    ModelConfig c = config();
    *s = (Setup){0};
    o.threads = 1;
    if (!config_validate(&c, &st) || !machine_open(&s->machine, &o, &st)) fail_msg("%s", st.text);
    s->policy = policy_new(machine_engine(&s->machine), &c, 3, NULL);
    s->policy->engine.keep_bytes = keep;
    policy_train_open(s->policy);
    for (int q = 0; q < 4; q++) {
        int32_t ids[N / 4];
        Rng r = rng_stream(4, RNG_DATA, 1, (uint64_t)q);
        for (int i = 0; i < N / 4; i++) ids[i] = (int32_t)rng_below(&r, VOCAB);
        batch_add(&s->batch, ids, N / 4, 1);
    }
    memset(s->kept, 1, N / 4); /* the first sequence */
}

static void close_setup(Setup *s)
{
    batch_free(&s->batch);
    policy_free(s->policy);
    machine_close(&s->machine);
}

static TrainOut gradients(Setup *s, float capacity)
{
    float weight[N];
    nll_weights_mean(weight, s->batch.targets, s->batch.m);
    NllLoss nll = {weight};
    Loss loss = nll_loss(&nll);
    s->drop = (TokenDrop){.capacity = capacity, .devices = DEVICES, .kept = s->kept};
    TrainStep task = {.batch = batch_view(&s->batch),
                      .predict = batch_predictions(&s->batch),
                      .inv_temperature = 1.0f,
                      .loss = &loss,
                      .drop = capacity > 0 ? &s->drop : NULL};
    TrainOut out;
    train_gradients(&s->policy->engine, &s->policy->w, &s->policy->g, &task, &out);
    return out;
}

/* Over its capacity a device has dropped the unprotected pairs of the lowest scores, and as many as it must. */
static void choice(void **state)
{
    (void)state;
    Setup s;
    open_setup(&s, (size_t)1 << 30);
    const int K = 2, E = 6;
    TrainOut out = gradients(&s, 0.8f);
    long dropped = 0;
    size_t cap = (size_t)ceil((double)0.8f * N * K / DEVICES);
    for (int l = 0; l < 2; l++) {
        const Routing *r = &out.routing[l];
        for (int device = 0; device < DEVICES; device++) {
            size_t sent = 0, computed = 0;
            float lowest = 2, highest = -1; /* kept, dropped */
            for (int p = 0; p < N * K; p++) {
                if (r->idx[p] / (E / DEVICES) != device) continue;
                float score = r->scores[p / K * E + r->idx[p]];
                bool goes = r->weights[p] == 0.0f;
                sent++;
                computed += !goes;
                assert_true(!goes || !s.kept[p / K]);
                if (!goes) assert_true(r->weights[p] == score);
                if (goes && score > highest) highest = score;
                if (!goes && !s.kept[p / K] && score < lowest) lowest = score;
            }
            assert_true(sent <= cap ? computed == sent : computed == cap);
            assert_true(highest <= lowest);
            dropped += (long)(sent - computed);
        }
    }
    assert_true(dropped == s.drop.dropped && s.drop.pairs == 2 * N * K && dropped > 40);
    double none = gradients(&s, 100.0f).loss;
    assert_true(s.drop.dropped == 0 && none == gradients(&s, 0).loss);
    memset(s.kept, 1, N);
    gradients(&s, 0.5f);
    assert_true(s.drop.dropped == 0);
    close_setup(&s);
}

static void differences(void **state)
{
    (void)state;
    Setup s;
    open_setup(&s, (size_t)1 << 30);
    const ParamTable *t = &s.policy->engine.table;
    gradients(&s, 0.8f);
    float *g = malloc(t->total * sizeof *g);
    assert_non_null(g);
    memcpy(g, s.policy->grads, t->total * sizeof *g);
    for (int i = 0; i < t->n; i++) {
        const Param *p = &t->params[i];
        if (p->expert > 1) continue;
        size_t at = p->offset; /* the coordinate with the largest gradient is measured best */
        for (size_t j = 0; j < p->count; j++)
            if (fabsf(g[p->offset + j]) > fabsf(g[at])) at = p->offset + j;
        float *w = &s.policy->weights.plain[at], before = *w, h = 5e-4f * fmaxf(fabsf(before), 0.3f);
        double value[2];
        long dropped[2];
        for (int side = 0; side < 2; side++) {
            *w = side ? before + h : before - h;
            policy_weights_changed(s.policy);
            value[side] = gradients(&s, 0.8f).loss;
            dropped[side] = s.drop.dropped;
        }
        float width = (before + h) - (before - h);
        *w = before;
        double slope = (value[1] - value[0]) / width;
        if (dropped[0] != dropped[1]) continue; /* another token crossed the border */
        if (!(fabs(slope - g[at]) <= 3 * TOL_DIFFERENCES * fmax(fabs(g[at]), 1e-2)))
            fail_msg("%s[%zu]: gradient %.6g, differences %.6g", p->name, at - p->offset, g[at], slope);
    }
    free(g);
    close_setup(&s);
}

static void recomputed(void **state)
{
    (void)state;
    Setup a, b;
    open_setup(&a, (size_t)1 << 30), open_setup(&b, 0);
    double x = gradients(&a, 0.8f).loss, y = gradients(&b, 0.8f).loss;
    assert_true(x == y && a.drop.dropped == b.drop.dropped);
    assert_memory_equal(a.policy->grads, b.policy->grads, a.policy->engine.table.total * sizeof(float));
    close_setup(&a), close_setup(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(choice), cmocka_unit_test(differences),
                                       cmocka_unit_test(recomputed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
