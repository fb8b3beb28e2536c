/* The parameter table: counts of released models (docs/model.md 11), slabs, look-ups, initial values. */
#include "tests/unit/unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/params.h"

static ModelConfig deepseek(void)
{
    return (ModelConfig){.arch = ARCH_DEEPSEEK_V2,
                         .attention = ATTENTION_MLA,
                         .Rkv = 512,
                         .Dn = 128,
                         .Dr = 64,
                         .Dv = 128,
                         .moe_freq = 1,
                         .n_group = 1,
                         .topk_group = 1,
                         .routed_scale = 1,
                         .eps = 1e-6f,
                         .init_std = 0.02f,
                         .max_positions = 163840,
                         .rope = {.theta = 10000, .interleaved = true}};
}

static ModelConfig v2_lite(void)
{
    ModelConfig c = deepseek();
    c.V = 102400, c.C = 2048, c.L = 27, c.H = c.Hkv = 16, c.F = 10944;
    c.E = 64, c.S = 2, c.K = 6, c.moe_F = 1408, c.first_dense = 1;
    return c;
}

static ModelConfig v2(void)
{
    ModelConfig c = deepseek();
    c.V = 102400, c.C = 5120, c.L = 60, c.H = c.Hkv = 128, c.Rq = 1536, c.F = 12288;
    c.E = 160, c.S = 2, c.K = 6, c.moe_F = 1536, c.first_dense = 1;
    c.topk = TOPK_GROUP_MAX, c.n_group = 8, c.topk_group = 3;
    return c;
}

static ModelConfig v3(void)
{
    ModelConfig c = deepseek();
    c.arch = ARCH_DEEPSEEK_V3;
    c.V = 129280, c.C = 7168, c.L = 61, c.H = c.Hkv = 128, c.Rq = 1536, c.F = 18432;
    c.E = 256, c.S = 1, c.K = 8, c.moe_F = 2048, c.first_dense = 3;
    c.topk = TOPK_NOAUX, c.score = SCORE_SIGMOID, c.n_group = 8, c.topk_group = 4;
    return c;
}

static ModelConfig dense(Arch arch, int V, int C, int F, int L, int H, int Hkv, int D)
{
    return (ModelConfig){.arch = arch,
                         .attention = ATTENTION_GQA,
                         .V = V,
                         .C = C,
                         .L = L,
                         .H = H,
                         .Hkv = Hkv,
                         .Dr = D,
                         .Dv = D,
                         .qkv_bias = arch == ARCH_QWEN2,
                         .qk_norm = arch == ARCH_QWEN3,
                         .F = F,
                         .tied = true,
                         .eps = 1e-6f,
                         .init_std = 0.02f,
                         .max_positions = 4096,
                         .rope = {.theta = 10000}};
}

/* A small model with every odd size: F * C is no multiple of 16. */
static ModelConfig odd(void)
{
    ModelConfig c = deepseek();
    c.V = 11, c.C = 5, c.L = 3, c.H = c.Hkv = 3, c.Rkv = 3, c.Dn = 3, c.Dr = 2, c.Dv = 1, c.F = 7;
    c.E = 5, c.S = 3, c.K = 2, c.moe_F = 3, c.first_dense = 1, c.topk = TOPK_NOAUX;
    return c;
}

static void expect_counts(ModelConfig c, size_t count, size_t active)
{
    Status st = {0};
    if (!config_validate(&c, &st)) fail_msg("%s", st.text);
    ParamTable t = params_build(&c);
    if (t.count != count) fail_msg("%s, width %d: %zu parameters, want %zu", arch_name(c.arch), c.C, t.count, count);
    if (t.active != active) fail_msg("%s, width %d: %zu active, want %zu", arch_name(c.arch), c.C, t.active, active);
    params_free(&t);
}

static void counts(void **state)
{
    (void)state;
    expect_counts(v2_lite(), 15706484224, 2661150208);
    expect_counts(v2(), 235741434880, 21375800320);
    expect_counts(v3(), 671026419200, 37552297472);
    expect_counts(dense(ARCH_QWEN2, 151936, 896, 4864, 24, 14, 2, 64), 494032768, 494032768);
    expect_counts(dense(ARCH_QWEN2, 151936, 1536, 8960, 28, 12, 2, 128), 1543714304, 1543714304);
    expect_counts(dense(ARCH_QWEN3, 151936, 1024, 3072, 28, 16, 8, 128), 596049920, 596049920);
    expect_counts(dense(ARCH_LLAMA, 49152, 576, 1536, 30, 9, 3, 64), 134515008, 134515008);
}

static bool inside_slab(ParamKind kind)
{
    return kind == PARAM_UP || kind == PARAM_DOWN || kind == PARAM_SHARED_UP || kind == PARAM_SHARED_DOWN ||
           kind == PARAM_EXPERT_UP || kind == PARAM_EXPERT_DOWN || kind == PARAM_KV_A || kind == PARAM_K ||
           kind == PARAM_V || kind == PARAM_K_BIAS || kind == PARAM_V_BIAS || kind == PARAM_UP_BIAS;
}

static void offsets(void **state)
{
    (void)state;
    ModelConfig c = odd();
    ParamTable t = params_build(&c);
    size_t end = 0, sum = 0;
    for (int i = 0; i < t.n; i++) {
        const Param *p = &t.params[i];
        assert_true(p->offset >= end && p->offset < end + 16);
        if (inside_slab(p->kind)) assert_true(p->offset == end);
        else assert_true(p->offset % 16 == 0);
        assert_true(p->count == p->rows * p->cols && p->decay == (p->ndim == 2));
        assert_true(p->trained == (p->kind != PARAM_ROUTER_BIAS));
        end = p->offset + p->count;
        sum += p->count;
    }
    assert_true(sum == t.count && t.total >= end && t.total % 16 == 0);
    params_free(&t);
}

static void expect_rows(const ParamTable *t, ParamKind kind, int layer, int expert, size_t rows)
{
    assert_int_equal(params_joined_rows(t, params_find(t, kind, layer, expert)), rows);
}

/* What products see as one matrix: the projections of attention's input, gate and up. */
static void joined_rows(void **state)
{
    (void)state;
    ModelConfig configs[] = {v2_lite(), v3(), dense(ARCH_QWEN2, 100, 16, 24, 2, 6, 2, 8)};
    ParamTable lite = params_build(&configs[0]), full = params_build(&configs[1]), qwen = params_build(&configs[2]);
    expect_rows(&lite, PARAM_Q, 0, -1, 16 * (128 + 64) + 512 + 64);
    expect_rows(&lite, PARAM_KV_A, 0, -1, 0);
    expect_rows(&lite, PARAM_EXPERT_GATE, 1, 7, 2 * 1408);
    expect_rows(&lite, PARAM_SHARED_UP, 1, -1, 0);
    expect_rows(&lite, PARAM_DOWN, 0, -1, 2048);
    expect_rows(&full, PARAM_Q_A, 0, -1, 1536 + 512 + 64);
    expect_rows(&full, PARAM_Q_B, 0, -1, 128 * (128 + 64));
    expect_rows(&qwen, PARAM_Q, 1, -1, 6 * 8 + 2 * 2 * 8);
    expect_rows(&qwen, PARAM_Q_BIAS, 1, -1, 6 * 8 + 2 * 2 * 8);
    expect_rows(&qwen, PARAM_V, 1, -1, 0);
    params_free(&lite), params_free(&full), params_free(&qwen);
}

static void find(void **state)
{
    (void)state;
    ModelConfig configs[] = {odd(), v2_lite(), dense(ARCH_QWEN3, 100, 16, 24, 2, 2, 1, 8), v3()};
    for (size_t k = 0; k < sizeof configs / sizeof *configs; k++) {
        ParamTable t = params_build(&configs[k]);
        int *order = params_name_order(&t);
        for (int i = 0; i < t.n; i++) {
            const Param *p = &t.params[i];
            assert_int_equal(params_find(&t, p->kind, p->layer, p->expert), i);
            assert_int_equal(params_find_name(&t, p->name), i);
            if (i) assert_true(strcmp(t.params[order[i - 1]].name, t.params[order[i]].name) < 0);
        }
        free(order);
        assert_int_equal(params_find_name(&t, "model.nothing"), -1);
        params_free(&t);
    }
    ParamTable t = params_build(&configs[0]);
    assert_int_equal(params_find(&t, PARAM_EXPERT_UP, 0, 0), -1); /* layer 0 is dense */
    assert_int_equal(params_find(&t, PARAM_EXPERT_UP, 1, 5), -1);
    assert_int_equal(params_find(&t, PARAM_GATE, 1, -1), -1);
    assert_int_equal(params_find(&t, PARAM_SCORE, -1, -1), -1);
    params_free(&t);
}

static void expect_name(const ParamTable *t, const char *name, int ndim, size_t rows, size_t cols)
{
    int i = params_find_name(t, name);
    if (i < 0) fail_msg("no %s", name);
    assert_int_equal(t->params[i].ndim, ndim);
    assert_true(t->params[i].rows == rows && t->params[i].cols == cols);
}

static void names(void **state)
{
    (void)state;
    ModelConfig c = v3();
    ParamTable t = params_build(&c);
    expect_name(&t, "model.layers.60.mlp.experts.255.down_proj.weight", 2, 7168, 2048);
    expect_name(&t, "model.layers.3.mlp.shared_experts.gate_proj.weight", 2, 2048, 7168);
    expect_name(&t, "model.layers.3.mlp.gate.e_score_correction_bias", 1, 256, 1);
    expect_name(&t, "model.layers.2.mlp.up_proj.weight", 2, 18432, 7168);
    expect_name(&t, "model.layers.0.self_attn.kv_a_proj_with_mqa.weight", 2, 576, 7168);
    expect_name(&t, "model.layers.0.self_attn.q_a_layernorm.weight", 1, 1536, 1);
    expect_name(&t, "lm_head.weight", 2, 129280, 7168);
    params_free(&t);

    ModelConfig q = dense(ARCH_QWEN3, 100, 16, 24, 2, 4, 1, 8);
    q.head = HEAD_SCALAR;
    t = params_build(&q);
    expect_name(&t, "score.weight", 2, 1, 16);
    expect_name(&t, "model.layers.1.self_attn.q_norm.weight", 1, 8, 1);
    expect_name(&t, "model.layers.1.self_attn.q_proj.weight", 2, 32, 16);
    expect_name(&t, "model.layers.1.self_attn.o_proj.weight", 2, 16, 32);
    assert_int_equal(params_find_name(&t, "lm_head.weight"), -1);
    params_free(&t);
}

static void initial_values(void **state)
{
    (void)state;
    ModelConfig c = odd(), more = odd();
    c.V = 2000;
    more.V = 2000, more.E = 7, more.L = 4; /* other tensors appear: those of c keep their values */
    ParamTable t = params_build(&c), u = params_build(&more);
    float *w = malloc(t.total * sizeof *w), *x = malloc(u.total * sizeof *x);
    params_init(&t, &c, w, 7);
    params_init(&u, &more, x, 7);
    size_t end = 0;
    for (int i = 0; i < t.n; i++) {
        const Param *p = &t.params[i];
        for (; end < p->offset; end++) assert_true(w[end] == 0.0f);
        end += p->count;
        if (p->kind == PARAM_ROUTER || p->kind == PARAM_ROUTER_BIAS) continue; /* their size follows E */
        assert_memory_equal(w + p->offset, x + u.params[params_find_name(&u, p->name)].offset, p->count * sizeof *w);
        if (p->init == INIT_ONES) assert_true(w[p->offset] == 1.0f && w[p->offset + p->count - 1] == 1.0f);
    }
    double square = 0;
    for (size_t i = 0; i < t.params[0].count; i++) square += (double)w[i] * w[i];
    assert_true(fabs(sqrt(square / (double)t.params[0].count) / c.init_std - 1) < 0.03);
    params_init(&t, &c, x, 8);
    assert_true(w[0] != x[0]);
    free(w);
    free(x);
    params_free(&t);
    params_free(&u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts), cmocka_unit_test(offsets), cmocka_unit_test(joined_rows),
        cmocka_unit_test(find),   cmocka_unit_test(names),   cmocka_unit_test(initial_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
