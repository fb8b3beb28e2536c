/* The optimizer's walk over the table, on a naive op table: norm, clipping, decay, what stays untouched, refusal. */
#include "tests/unit/unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/optimizer.h"
#include "core/base/philox.h"

struct Backend {
    int changed;
    bool broken;
    WeightBlock w; /* seen: calls that element i of the high plane, or of what is f32, was in; + 100 with a decay */
    int *seen, *seen_planes; /* NULL: not looked at */
};

static bool naive_fault(Backend *b, Status *st)
{
    return b->broken ? fail(st, "broken") : true;
}

static void naive_changed(Backend *b)
{
    b->changed++;
}

static void naive_squares(Backend *b, double *sum, const float *x, size_t n)
{
    (void)b;
    *sum = 0;
    for (size_t i = 0; i < n; i++) *sum += (double)x[i] * x[i];
}

static void naive_adamw(Backend *b, void *at, uint16_t *low, float *m, float *v, const float *g, size_t n, AdamWArgs a)
{
    uint16_t *high = at;
    float *w = low ? malloc(n * sizeof *w) : at;
    size_t first = low ? (size_t)(high - b->w.high) : (size_t)(w - b->w.plain);
    int *seen = low ? b->seen_planes : b->seen;
    for (size_t i = 0; seen && i < n; i++) seen[first + i] += 1 + (a.weight_decay != 0 ? 100 : 0);
    if (low) assert_ptr_equal(low - b->w.low, high - b->w.high);
    if (low) join_values(w, high, low, n);
    for (size_t i = 0; i < n; i++) {
        double d = (double)g[i] * a.grad_scale;
        m[i] = (float)(a.beta1 * m[i] + (1.0 - a.beta1) * d);
        v[i] = (float)(a.beta2 * v[i] + (1.0 - a.beta2) * d * d);
        w[i] -= (float)(a.lr * (m[i] / a.correction1 / (sqrt(v[i] / a.correction2) + a.eps) + a.weight_decay * w[i]));
    }
    if (low) split_values(high, low, w, n), free(w);
}

static const Ops naive = {.abi = OPS_ABI,
                          .fault = naive_fault,
                          .weights_changed = naive_changed,
                          .sum_squares = naive_squares,
                          .adamw = naive_adamw};

/* The blocks of a small MoE model with router bias; gradients at random, zero in the padding. */
typedef struct Fixture {
    ParamTable t;
    float *w, *m, *v, *g;
    Backend b;
} Fixture;

static Fixture fixture(void)
{
    ModelConfig c = {.arch = ARCH_DEEPSEEK_V3,
                     .attention = ATTENTION_MLA,
                     .V = 11,
                     .C = 5,
                     .L = 2,
                     .H = 3,
                     .Hkv = 3,
                     .Rkv = 3,
                     .Dn = 3,
                     .Dr = 2,
                     .Dv = 1,
                     .F = 7,
                     .E = 5,
                     .S = 1,
                     .K = 2,
                     .moe_F = 3,
                     .first_dense = 1,
                     .moe_freq = 1,
                     .topk = TOPK_NOAUX,
                     .n_group = 1,
                     .topk_group = 1,
                     .init_std = 0.5f};
    Fixture f = {.t = params_build(&c)};
    f.w = calloc(4 * f.t.total, sizeof *f.w);
    f.m = f.w + f.t.total, f.v = f.m + f.t.total, f.g = f.v + f.t.total;
    params_init(&f.t, &c, f.w, 1);
    for (int i = 0; i < f.t.n; i++)
        rng_fill_normal(f.g + f.t.params[i].offset, f.t.params[i].count, 0.3f, 2, f.t.params[i].name);
    return f;
}

static void fixture_free(Fixture *f)
{
    params_free(&f->t);
    free(f->w);
}

static bool step(Fixture *f, DType dtype, const OptimizerConfig *c, int number, double *norm, Status *st)
{
    Ops ops = naive;
    ops.device = device_of_host(SIZE_MAX);
    Engine e = {.ops = &ops, .backend = &f->b, .table = f->t, .dtype = dtype, .arena = arena_of(&ops.device, &f->b)};
    if (dtype == DTYPE_F32) f->b.w.plain = f->w;
    ParamBlocks blocks = {.w = f->b.w, .m = f->m, .v = f->v, .g = f->g};
    bool ok = optimizer_step(&e, &blocks, c, (AdamWStep){number, 1e-2f}, norm, st);
    arena_free(&e.arena);
    return ok;
}

/* One parameter's step in f64 from zero moments, after `steps` equal gradients. */
static double expected(double w, double g, bool decay, const OptimizerConfig *c, double lr, int steps)
{
    double m = 0, v = 0;
    for (int k = 1; k <= steps; k++) {
        m = c->beta1 * m + (1 - c->beta1) * g;
        v = c->beta2 * v + (1 - c->beta2) * g * g;
        double step = m / (1 - pow(c->beta1, k)) / (sqrt(v / (1 - pow(c->beta2, k))) + c->eps);
        w -= lr * (step + (decay ? c->weight_decay * w : 0));
    }
    return w;
}

static void check_steps(float max_norm, int steps)
{
    Fixture f = fixture();
    size_t bytes = f.t.total * sizeof(float);
    float *before = malloc(bytes);
    memcpy(before, f.w, bytes);
    OptimizerConfig c = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.1f, .max_norm = max_norm};
    Status st = {0};
    double norm, square = 0;
    for (int i = 0; i < f.t.n; i++)
        for (size_t k = 0; f.t.params[i].trained && k < f.t.params[i].count; k++)
            square += pow(f.g[f.t.params[i].offset + k], 2);
    for (int k = 1; k <= steps; k++) assert_true(step(&f, DTYPE_F32, &c, k, &norm, &st));
    assert_true(fabs(norm - sqrt(square)) < 1e-9 * norm && norm > 1);
    assert_int_equal(f.b.changed, steps);

    double scale = max_norm > 0 ? fmin(1, max_norm / (norm + 1e-6)) : 1;
    size_t end = 0;
    for (int i = 0; i < f.t.n; i++) {
        const Param *p = &f.t.params[i];
        for (; end < p->offset; end++) assert_true(f.w[end] == 0 && f.m[end] == 0 && f.v[end] == 0);
        end += p->count;
        for (size_t k = p->offset; k < end; k++) {
            double want = p->trained ? expected(before[k], f.g[k] * scale, p->decay, &c, 1e-2f, steps) : before[k];
            if (fabs(f.w[k] - want) > 2e-7 * steps) fail_msg("%s: %.9g, want %.9g", p->name, (double)f.w[k], want);
            if (!p->trained) assert_true(f.m[k] == 0 && f.v[k] == 0);
            /* AdamW itself hardly sees the scale of gradients: its first moment shows the clipping. */
            double m = p->trained ? (1 - pow(c.beta1, steps)) * scale * f.g[k] : 0;
            if (fabs(f.m[k] - m) > 1e-6 * fabs(m)) fail_msg("%s: moment %.9g, want %.9g", p->name, (double)f.m[k], m);
        }
    }
    free(before);
    fixture_free(&f);
}

static void unclipped(void **state)
{
    (void)state;
    check_steps(0.0f, 1);
    check_steps(1e9f, 3);
}

static void clipped(void **state)
{
    (void)state;
    check_steps(0.25f, 3);
}

/* In bf16: the f32 step to the bit on weights in planes; every trained parameter is in one call, in the planes or beside
 * them, and nothing else but padding is. */
static void split_weights(void **state)
{
    (void)state;
    Fixture f = fixture(), s = fixture();
    const ParamTable *t = &s.t;
    size_t total = t->total;
    OptimizerConfig c = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.1f, .max_norm = 1.0f};
    Status st = {0};
    s.b.w = (WeightBlock){calloc(total, 2), calloc(total, 2), calloc(t->plain_total, sizeof(float))};
    for (int i = 0; i < t->n; i++)
        weight_write(&s.b.w, &t->params[i], t->params[i].offset, 0, t->params[i].count, s.w + t->params[i].offset);
    for (int k = 1; k <= 3; k++) {
        s.b.seen = calloc(t->plain_total, sizeof(int)), s.b.seen_planes = calloc(total, sizeof(int));
        assert_true(step(&f, DTYPE_F32, &c, k, NULL, &st));
        assert_true(step(&s, DTYPE_BF16, &c, k, NULL, &st));
        for (int i = 0; i < t->n; i++) {
            const Param *p = &t->params[i];
            int want = !p->trained ? 0 : 1 + (p->decay ? 100 : 0);
            const int *seen = p->split ? s.b.seen_planes + p->offset : s.b.seen + p->plain;
            for (size_t j = 0; j < p->count; j++)
                if (seen[j] != want) fail_msg("%s: %d, want %d", p->name, seen[j], want);
            for (size_t j = 0; !p->split && j < p->count; j++) assert_int_equal(s.b.seen_planes[p->offset + j], 0);
        }
        free(s.b.seen), free(s.b.seen_planes);
    }
    for (int i = 0; i < t->n; i++)
        weight_read(&s.b.w, &t->params[i], t->params[i].offset, 0, t->params[i].count, s.w + t->params[i].offset);
    assert_memory_equal(s.w, f.w, 3 * total * sizeof(float)); /* m and v too */
    free(s.b.w.high), free(s.b.w.low), free(s.b.w.plain);
    fixture_free(&f), fixture_free(&s);
}

static void refusal(void **state)
{
    (void)state;
    const float poison[] = {NAN, INFINITY, 0.0f};
    for (int k = 0; k < 3; k++) {
        Fixture f = fixture();
        size_t bytes = 3 * f.t.total * sizeof(float); /* w, m, v */
        float *before = malloc(bytes);
        memcpy(before, f.w, bytes);
        f.b.broken = k == 2;
        if (k < 2) f.g[f.t.params[f.t.n - 1].offset] = poison[k];
        OptimizerConfig c = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.1f, .max_norm = 1.0f};
        Status st = {0};
        assert_false(step(&f, DTYPE_F32, &c, 1, NULL, &st));
        assert_true(st.failed);
        assert_non_null(strstr(st.text, k == 2 ? "broken" : "gradient norm"));
        assert_memory_equal(f.w, before, bytes);
        assert_int_equal(f.b.changed, 0);
        free(before);
        fixture_free(&f);
    }
}

/* A vector that is not trained in front of one that is: each keeps its own rule. */
static void untrained_vector(void **state)
{
    (void)state;
    ModelConfig c = {.arch = ARCH_QWEN3,
                     .attention = ATTENTION_GQA,
                     .V = 11,
                     .C = 5,
                     .L = 1,
                     .H = 2,
                     .Hkv = 1,
                     .Dr = 4,
                     .Dv = 4,
                     .F = 7,
                     .qk_norm = true,
                     .init_std = 0.5f};
    Fixture f = {.t = params_build(&c)};
    f.w = calloc(4 * f.t.total, sizeof *f.w);
    f.m = f.w + f.t.total, f.v = f.m + f.t.total, f.g = f.v + f.t.total;
    for (int i = 0; i < f.t.n; i++)
        for (size_t k = 0; k < f.t.params[i].count; k++) f.g[f.t.params[i].offset + k] = 1.0f;
    int still = params_find(&f.t, PARAM_Q_NORM, 0, -1);
    assert_int_equal(params_find(&f.t, PARAM_K_NORM, 0, -1), still + 1);
    f.t.params[still].trained = false;
    OptimizerConfig o = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f};
    Status st = {0};
    assert_true(step(&f, DTYPE_F32, &o, 1, NULL, &st));
    for (int i = 0; i < f.t.n; i++) {
        const Param *p = &f.t.params[i];
        for (size_t k = p->offset; k < p->offset + p->count; k++)
            if ((f.w[k] != 0) != p->trained) fail_msg("%s was %strained", p->name, p->trained ? "not " : "");
    }
    fixture_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(unclipped), cmocka_unit_test(clipped),
                                       cmocka_unit_test(split_weights), cmocka_unit_test(refusal),
                                       cmocka_unit_test(untrained_vector)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
