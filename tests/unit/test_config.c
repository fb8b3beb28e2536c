/* ModelConfig: YaRN against the values of docs/model.md 3.2 and 3.3, and the sentence of every impossible config. */
#include "tests/unit/unit.h"

#include <math.h>
#include <string.h>

#include "core/config.h"

/* DeepSeek-V2 as released: section 10 of the spec. */
static ModelConfig v2(void)
{
    return (ModelConfig){.arch = ARCH_DEEPSEEK_V2,
                         .attention = ATTENTION_MLA,
                         .V = 102400,
                         .C = 5120,
                         .L = 60,
                         .H = 128,
                         .Hkv = 128,
                         .Rq = 1536,
                         .Rkv = 512,
                         .Dn = 128,
                         .Dr = 64,
                         .Dv = 128,
                         .F = 12288,
                         .E = 160,
                         .S = 2,
                         .K = 6,
                         .moe_F = 1536,
                         .first_dense = 1,
                         .moe_freq = 1,
                         .topk = TOPK_GROUP_MAX,
                         .n_group = 8,
                         .topk_group = 3,
                         .routed_scale = 16.0f,
                         .eps = 1e-6f,
                         .max_positions = 163840,
                         .init_std = 0.02f,
                         .bos = 100000,
                         .eos = 100001,
                         .rope = {.theta = 10000,
                                  .interleaved = true,
                                  .scaling = ROPE_YARN,
                                  .factor = 40,
                                  .beta_fast = 32,
                                  .beta_slow = 1,
                                  .mscale = 0.707f,
                                  .mscale_all_dim = 0.707f,
                                  .has_mscale = true,
                                  .has_mscale_all_dim = true,
                                  .original_positions = 4096}};
}

static ModelConfig qwen(void)
{
    return (ModelConfig){.arch = ARCH_QWEN2,
                         .attention = ATTENTION_GQA,
                         .V = 1000,
                         .C = 64,
                         .L = 2,
                         .H = 4,
                         .Hkv = 2,
                         .Dr = 16,
                         .Dv = 16,
                         .qkv_bias = true,
                         .F = 96,
                         .eps = 1e-6f,
                         .max_positions = 64,
                         .init_std = 0.02f,
                         .bos = -1,
                         .eos = 3,
                         .rope = {.theta = 1e6f}};
}

static void near(double got, double want, double relative)
{
    if (!(fabs(got - want) <= relative * fabs(want))) fail_msg("got %.12g, want %.12g", got, want);
}

static void yarn_frequencies(void **state)
{
    (void)state;
    static const struct {
        int i;
        double value;
    } want[] = {{0, 1.0},
                {1, 7.498942093e-01},
                {10, 5.623413252e-02},
                {11, 3.900692657e-02},
                {15, 8.334508951e-03},
                {20, 7.905694150e-04},
                {22, 1.778279410e-04},
                {23, 3.333803580e-05},
                {24, 2.500000000e-05},
                {31, 3.333803580e-06}};
    ModelConfig c = v2();
    double f[32], multiplier;
    config_rope_frequencies(&c, f, &multiplier);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) near(f[want[i].i], want[i].value, 1e-9);
    assert_true(multiplier == 1.0);

    c.rope.scaling = ROPE_PLAIN;
    config_rope_frequencies(&c, f, &multiplier);
    near(f[23], pow(10000, -46.0 / 64), 1e-14);
    assert_true(multiplier == 1.0);
}

static void yarn_magnitudes(void **state)
{
    (void)state;
    ModelConfig c = v2();
    near(config_attention_scale(&c), 0.11472138679292611, 1e-6);
    c.rope.mscale = c.rope.mscale_all_dim = 1.0f;
    near(config_attention_scale(&c), 0.1352337788608801, 1e-6);
    double f[32], multiplier;
    c.rope.has_mscale_all_dim = false; /* the remote code's defaults: mscale_all_dim 0, mscale 1 */
    config_rope_frequencies(&c, f, &multiplier);
    near(multiplier, 1.3688879454113936, 1e-12);
    near(config_attention_scale(&c), 0.07216878364870322, 1e-6);
    c.rope.has_mscale_all_dim = true;
    c.rope.scaling = ROPE_PLAIN;
    near(config_attention_scale(&c), 0.07216878364870322, 1e-6);
    ModelConfig q = qwen();
    near(config_attention_scale(&q), 0.25, 1e-7);
}

/* Llama 3.1 8B (theta 500,000, 128 dimensions, factor 8, bounds 1 and 4, 8,192 positions), by the formula of its released code in
 * Python; and a plain division. */
static void llama3_and_linear(void **state)
{
    (void)state;
    static const struct {
        int i;
        double value;
    } want[] = {{0, 1.000000000000e+00},  {20, 1.656044008099e-02}, {28, 3.211445994753e-03}, {29, 2.166570763503e-03},
                {30, 1.371893567761e-03}, {33, 3.126937503841e-04}, {34, 1.785078127680e-04}, {35, 9.556212353965e-05},
                {36, 7.784655273932e-05}, {50, 4.411534674558e-06}, {63, 3.068925988915e-07}};
    ModelConfig c = qwen();
    double f[64], plain[64], multiplier;
    c.Dr = c.Dv = 128;
    c.rope = (RopeConfig){.theta = 500000, .scaling = ROPE_PLAIN};
    config_rope_frequencies(&c, plain, &multiplier);
    c.rope = (RopeConfig){.theta = 500000,
                          .scaling = ROPE_LLAMA3,
                          .factor = 8,
                          .low_freq_factor = 1,
                          .high_freq_factor = 4,
                          .original_positions = 8192};
    config_rope_frequencies(&c, f, &multiplier);
    for (size_t k = 0; k < sizeof want / sizeof *want; k++) near(f[want[k].i] / want[k].value, 1, 1e-9);
    assert_true(multiplier == 1.0 && f[0] == plain[0] && f[63] == plain[63] / 8);
    c.rope = (RopeConfig){.theta = 500000, .scaling = ROPE_LINEAR, .factor = 4};
    config_rope_frequencies(&c, f, &multiplier);
    for (int i = 0; i < 64; i++) near(f[i], plain[i] / 4, 1e-15);
    c.rope.scaling = ROPE_DYNAMIC; /* unchanged within the positions, and longer sequences are refused */
    config_rope_frequencies(&c, f, &multiplier);
    for (int i = 0; i < 64; i++) assert_true(f[i] == plain[i]);
}

static void moe_layers(void **state)
{
    (void)state;
    ModelConfig c = v2();
    assert_false(config_is_moe(&c, 0));
    assert_true(config_is_moe(&c, 1));
    c.moe_freq = 2;
    assert_false(config_is_moe(&c, 1));
    assert_true(config_is_moe(&c, 2));
    ModelConfig q = qwen();
    assert_false(config_is_moe(&q, 0));
}

static void refuses(ModelConfig c, const char *key)
{
    Status st = {0};
    if (config_validate(&c, &st)) fail_msg("accepted an impossible %s", key);
    if (!strstr(st.text, key)) fail_msg("'%s' does not name %s", st.text, key);
}

#define REFUSES(base, field, wrong, key)                                                                               \
    do {                                                                                                               \
        ModelConfig c_ = base();                                                                                       \
        c_.field = wrong;                                                                                              \
        refuses(c_, key);                                                                                              \
    } while (0)

static void validation(void **state)
{
    (void)state;
    Status st = {0};
    ModelConfig c = v2(), q = qwen();
    if (!config_validate(&c, &st) || !config_validate(&q, &st)) fail_msg("%s", st.text);

    REFUSES(v2, arch, ARCH_COUNT, "model_type");
    REFUSES(v2, arch, ARCH_LLAMA, "model_type");
    REFUSES(v2, V, 0, "vocab_size");
    REFUSES(v2, C, -1, "hidden_size");
    REFUSES(v2, L, 0, "num_hidden_layers");
    REFUSES(v2, H, 0, "num_attention_heads");
    REFUSES(v2, Hkv, 16, "num_key_value_heads");
    REFUSES(v2, Rq, -1, "q_lora_rank");
    REFUSES(v2, Rkv, 0, "kv_lora_rank");
    REFUSES(v2, Dn, 0, "qk_nope_head_dim");
    REFUSES(v2, Dr, 63, "qk_rope_head_dim");
    REFUSES(v2, Dv, 0, "v_head_dim");
    REFUSES(v2, qkv_bias, true, "attention_bias");
    REFUSES(v2, F, 0, "intermediate_size");
    REFUSES(v2, E, -1, "n_routed_experts");
    REFUSES(v2, E, 161, "n_routed_experts");
    REFUSES(v2, S, 1000, "n_shared_experts");
    REFUSES(v2, K, 0, "num_experts_per_tok");
    REFUSES(v2, K, 161, "num_experts_per_tok");
    REFUSES(v2, K, 61, "num_experts_per_tok"); /* 3 of 8 groups hold 60 */
    REFUSES(v2, moe_F, 0, "moe_intermediate_size");
    REFUSES(v2, first_dense, 61, "first_k_dense_replace");
    REFUSES(v2, moe_freq, 0, "moe_layer_freq");
    REFUSES(v2, n_group, 7, "n_group");
    REFUSES(v2, topk_group, 9, "topk_group");
    REFUSES(v2, routed_scale, NAN, "routed_scaling_factor");
    REFUSES(v2, eps, 0.0f, "rms_norm_eps");
    REFUSES(v2, init_std, -1.0f, "initializer_range");
    REFUSES(v2, max_positions, 0, "max_position_embeddings");
    REFUSES(v2, eos, 102400, "eos_token_id");
    REFUSES(v2, rope.theta, 0.0f, "rope_theta");
    REFUSES(v2, rope.factor, 0.0f, "rope_scaling.factor");
    REFUSES(v2, rope.beta_slow, 0.0f, "rope_scaling.beta_slow");
    REFUSES(v2, rope.beta_fast, 0.5f, "rope_scaling.beta_fast");
    REFUSES(v2, rope.original_positions, 0, "rope_scaling.original_max_position_embeddings");
    REFUSES(v2, rope.mscale_all_dim, INFINITY, "rope_scaling.mscale_all_dim");
    REFUSES(qwen, H, 3, "num_attention_heads");
    REFUSES(qwen, qkv_bias, false, "attention_bias");
    REFUSES(qwen, mlp_bias, true, "mlp_bias");
    REFUSES(qwen, Dr, 15, "head_dim");
    REFUSES(qwen, Dv, 8, "head_dim");
    c.topk = TOPK_NOAUX;
    c.E = c.n_group = 8;
    c.topk_group = 6;
    refuses(c, "noaux_tc");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(yarn_frequencies), cmocka_unit_test(yarn_magnitudes), cmocka_unit_test(llama3_and_linear),
        cmocka_unit_test(moe_layers),       cmocka_unit_test(validation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
