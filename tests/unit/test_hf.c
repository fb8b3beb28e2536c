#include "tests/unit/unit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "checkpoints/hf/hf.h"
#include "tests/unit/scratch.h"

static const char *const cases[] = {"v2_lite",    "v2_full",    "v2_yarn",     "v3",          "qwen2",
                                    "qwen3",      "llama",      "llama3_rope", "linear_rope", "dynamic_rope",
                                    "llama_bias", "qwen3_bias", "glm4_moe"};
enum { CASES = sizeof cases / sizeof *cases };

static const char *case_path(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "tests/golden/%s", name);
    return path;
}

static ModelConfig config_of(const char *name)
{
    ModelConfig c;
    Status st = {0};
    if (!hf_config_read(case_path(name), &c, &st)) fprintf(stderr, "%s\n", st.text);
    assert_false(st.failed);
    return c;
}

static bool parse(const char *text, ModelConfig *c, Status *st)
{
    Json *object = json_parse(text, strlen(text), "test", st);
    bool ok = object && hf_config_parse(object, c, st);
    json_free(object);
    return ok;
}

static void assert_same(const ModelConfig *a, const ModelConfig *b)
{
    const RopeConfig *r = &a->rope, *s = &b->rope;
    assert_true(a->arch == b->arch && a->attention == b->attention && a->head == b->head && a->topk == b->topk &&
                a->score == b->score && a->tied == b->tied && a->qkv_bias == b->qkv_bias && a->qk_norm == b->qk_norm &&
                a->mlp_bias == b->mlp_bias);
    assert_true(a->V == b->V && a->C == b->C && a->L == b->L && a->H == b->H && a->Hkv == b->Hkv && a->Rq == b->Rq &&
                a->Rkv == b->Rkv && a->Dn == b->Dn && a->Dr == b->Dr && a->Dv == b->Dv && a->F == b->F && a->E == b->E);
    assert_true(a->S == b->S && a->K == b->K && a->moe_F == b->moe_F && a->first_dense == b->first_dense &&
                a->moe_freq == b->moe_freq && a->n_group == b->n_group && a->topk_group == b->topk_group &&
                a->norm_topk == b->norm_topk && a->mask_zero == b->mask_zero && a->routed_scale == b->routed_scale);
    assert_true(a->eps == b->eps && a->init_std == b->init_std && a->max_positions == b->max_positions &&
                a->bos == b->bos && a->eos == b->eos && a->mtp_layers == b->mtp_layers);
    assert_true(r->theta == s->theta && r->interleaved == s->interleaved && r->scaling == s->scaling &&
                r->factor == s->factor && r->beta_fast == s->beta_fast && r->beta_slow == s->beta_slow &&
                r->mscale == s->mscale && r->mscale_all_dim == s->mscale_all_dim && r->has_mscale == s->has_mscale &&
                r->has_mscale_all_dim == s->has_mscale_all_dim && r->original_positions == s->original_positions);
}

static void test_fixtures_parse(void **state)
{
    (void)state;
    ModelConfig c = config_of("v2_full");
    assert_true(c.arch == ARCH_DEEPSEEK_V2 && c.attention == ATTENTION_MLA && c.Rq == 20 && c.topk == TOPK_GROUP_MAX);
    assert_true(c.routed_scale == 4.0f && c.n_group == 4 && c.topk_group == 2 && c.rope.interleaved &&
                c.rope.scaling == ROPE_PLAIN);
    c = config_of("v2_yarn");
    assert_true(c.Rq == 0 && c.rope.scaling == ROPE_YARN && c.rope.factor == 40.0f && c.rope.original_positions == 64);
    assert_true(c.rope.has_mscale && c.rope.has_mscale_all_dim && c.rope.mscale == 0.707f);
    c = config_of("v3");
    assert_true(c.arch == ARCH_DEEPSEEK_V3 && c.topk == TOPK_NOAUX && c.score == SCORE_SIGMOID && c.norm_topk);
    c = config_of("qwen2");
    assert_true(c.attention == ATTENTION_GQA && c.Dn == 0 && c.Dr == 16 && c.Dv == 16 && c.qkv_bias && c.tied &&
                !c.qk_norm);
    c = config_of("qwen3");
    assert_true(c.Dr == 24 && c.qk_norm && !c.qkv_bias && !c.rope.interleaved && c.E == 0);
    c = config_of("llama");
    assert_true(c.Hkv == 2 && !c.tied && c.eps == 1e-5f && c.rope.theta == 100000.0f);
    c = config_of("llama_bias");
    assert_true(c.qkv_bias && c.mlp_bias && config_o_bias(&c));
    c = config_of("glm4_moe");
    assert_true(c.qkv_bias && !c.mlp_bias && !config_o_bias(&c));
}

static void test_config_round_trip(void **state)
{
    (void)state;
    for (int i = 0; i < CASES; i++) {
        ModelConfig a = config_of(cases[i]), b;
        Status st = {0};
        Json *object = hf_config_json(&a);
        assert_true(hf_config_parse(object, &b, &st));
        json_free(object);
        assert_same(&a, &b);
    }
    ModelConfig a = config_of("v3"), b;
    Status st = {0};
    a.head = HEAD_SCALAR, a.mask_zero = true, a.bos = -1, a.mtp_layers = 1, a.init_std = 0.041666666f,
    a.rope.interleaved = false;
    Json *object = hf_config_json(&a);
    assert_true(hf_config_parse(object, &b, &st));
    json_free(object);
    assert_same(&a, &b);
}

/* The experts of V2 and V3 under plain heads: DeepSeekMoE's and GLM-4.5's model_type. */
static void test_plain_heads(void **state)
{
    (void)state;
    static const char *const families[] = {"v2_lite", "v3"}, *const types[] = {"deepseek", "glm4_moe"};
    for (int i = 0; i < 2; i++) {
        ModelConfig a = config_of(families[i]), b;
        Status st = {0};
        a.arch = i ? ARCH_GLM4_MOE : ARCH_DEEPSEEK, a.attention = ATTENTION_GQA, a.rope.interleaved = false;
        a.Hkv = 1, a.Rq = a.Rkv = a.Dn = 0, a.Dr = a.Dv = 16, a.rope.scaling = ROPE_PLAIN;
        a.rope = (RopeConfig){.theta = 10000};
        if (!config_validate(&a, &st)) fail_msg("%s", st.text);
        Json *object = hf_config_json(&a);
        assert_string_equal(json_get_string(object, "model_type", ""), types[i]);
        if (!hf_config_parse(object, &b, &st)) fail_msg("%s", st.text);
        assert_same(&a, &b);
        json_set(object, i ? "partial_rotary_factor" : "routed_scaling_factor", json_new_number(0.5));
        assert_false(hf_config_parse(object, &b, &st));
        json_free(object);
    }
}

/* Without experts, which is n_routed_experts null (as in the published code) or 0, DeepSeek-V3 too. */
static void test_dense_deepseek(void **state)
{
    (void)state;
    static const char *const families[] = {"v2_lite", "v3"}, *const none[] = {"null", "0"};
    for (int i = 0; i < 4; i++) {
        ModelConfig a = config_of(families[i / 2]), b;
        Status st = {0};
        Json *object = hf_config_json(&a);
        json_set(object, "n_routed_experts", i % 2 ? json_new_int(0) : json_new_null());
        if (!hf_config_parse(object, &a, &st)) fail_msg("%s, %s: %s", families[i / 2], none[i % 2], st.text);
        json_free(object);
        assert_true(a.E == 0 && !config_is_moe(&a, 2));
        object = hf_config_json(&a);
        assert_true(hf_config_parse(object, &b, &st));
        json_free(object);
        assert_same(&a, &b);
    }
}

/* The configs that were read and written again say the same as the files they came from, key by key. */
static void test_written_keys_equal_released(void **state)
{
    (void)state;
    for (int i = 0; i < CASES; i++) {
        char path[160];
        snprintf(path, sizeof path, "%s/config.json", case_path(cases[i]));
        Status st = {0};
        ModelConfig c = config_of(cases[i]);
        Json *was = json_read(path, &st), *now = hf_config_json(&c);
        const Json *value;
        const char *key;
        for (void *cursor = NULL; (key = json_next(was, &cursor, &value));) {
            char *a = json_write(value, false), *b = json_get(now, key) ? json_write(json_get(now, key), false) : NULL;
            if (!json_is_object(value) && b && strcmp(a, b))
                fprintf(stderr, "%s: %s: %s became %s\n", cases[i], key, a, b);
            assert_non_null(b);
            if (!json_is_object(value)) assert_string_equal(a, b);
            free(a);
            free(b);
        }
        json_free(was);
        json_free(now);
    }
}

#define V2(more)                                                                                                       \
    "{\"model_type\":\"deepseek_v2\",\"vocab_size\":64,\"hidden_size\":32,\"intermediate_size\":16,"                   \
    "\"num_hidden_layers\":2,\"num_attention_heads\":2,\"n_routed_experts\":4,\"num_experts_per_tok\":2,"              \
    "\"moe_intermediate_size\":8" more "}"
#define LLAMA(more)                                                                                                    \
    "{\"model_type\":\"llama\",\"vocab_size\":64,\"hidden_size\":32,\"intermediate_size\":16,"                         \
    "\"num_hidden_layers\":2,\"num_attention_heads\":2" more "}"

#define MISTRAL(more)                                                                                                  \
    "{\"model_type\":\"mistral\",\"vocab_size\":64,\"hidden_size\":32,\"intermediate_size\":16,"                       \
    "\"num_hidden_layers\":2,\"num_attention_heads\":2,\"max_position_embeddings\":32768" more "}"

static void test_traps(void **state)
{
    (void)state;
    Status st = {0};
    ModelConfig c;
    assert_true(parse(V2(""), &c, &st));
    assert_true(c.Rq == 1536 && c.Rkv == 512 && c.topk == TOPK_GREEDY && !c.norm_topk && c.bos == -1 && c.S == 0);
    assert_true(
        parse(V2(",\"q_lora_rank\":null,\"topk_method\":\"gready\",\"head_dim\":64,\"n_group\":null"), &c, &st));
    assert_true(c.Rq == 0 && c.Dr == 64 && c.Dn == 128 && c.n_group == 1);
    assert_true(parse(V2(",\"num_key_value_heads\":1,\"eos_token_id\":[7,8]"), &c, &st));
    assert_true(c.Hkv == 2 && c.eos == 7);
    assert_true(parse(V2(",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4,\"mscale\":0.5}"), &c, &st));
    assert_true(c.rope.has_mscale && !c.rope.has_mscale_all_dim && c.rope.original_positions == 4096 &&
                c.rope.beta_fast == 32);
    assert_true(
        parse(V2(",\"rope_theta\":5,\"rope_parameters\":{\"rope_type\":\"yarn\",\"rope_theta\":7000,\"factor\":2,"
                 "\"original_max_position_embeddings\":99}"),
              &c, &st));
    assert_true(c.rope.scaling == ROPE_YARN && c.rope.theta == 7000.0f && c.rope.original_positions == 99);
    assert_true(parse(LLAMA(",\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":9000}"), &c, &st));
    assert_true(c.rope.scaling == ROPE_PLAIN && c.rope.theta == 9000.0f && c.Hkv == 2 && c.Dr == 16 && !c.tied);
    assert_true(parse(LLAMA(",\"rope_scaling\":null,\"head_dim\":null,\"num_key_value_heads\":1"), &c, &st));
    assert_true(c.Hkv == 1 && c.Dr == 16 && c.rope.theta == 10000.0f);
}

/* Sequences that a window would cut are beyond the positions; a window that is not used is none. */
static void test_windows(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int positions;
    } good[] = {
        {LLAMA(""), 2048},
        {LLAMA(",\"sliding_window\":64"), 2048},
        {LLAMA(",\"use_sliding_window\":false,\"sliding_window\":64"), 2048},
        {LLAMA(",\"use_sliding_window\":true,\"sliding_window\":64"), 64},
        {LLAMA(",\"use_sliding_window\":true,\"sliding_window\":4096"), 2048},
        {LLAMA(",\"use_sliding_window\":true,\"sliding_window\":null"), 2048},
        {MISTRAL(""), 4096},
        {MISTRAL(",\"sliding_window\":null"), 32768},
        {MISTRAL(",\"sliding_window\":1024"), 1024},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        Status st = {0};
        ModelConfig c;
        if (!parse(good[i].text, &c, &st)) fail_msg("%s", st.text);
        assert_int_equal(c.max_positions, good[i].positions);
        assert_int_equal(c.arch, ARCH_LLAMA);
    }
}

/* What a config.json leaves out is what transformers takes for it. */
static void test_defaults(void **state)
{
    (void)state;
    ModelConfig c;
    Status st = {0};
    static const char v3[] =
        "{\"model_type\":\"deepseek_v3\",\"vocab_size\":64,\"hidden_size\":32,\"intermediate_size\":16,"
        "\"num_hidden_layers\":4,\"num_attention_heads\":2,\"num_experts_per_tok\":8,"
        "\"moe_intermediate_size\":8}";
    if (!parse(v3, &c, &st)) fail_msg("%s", st.text);
    assert_true(c.E == 256 && c.S == 1 && c.n_group == 8 && c.topk_group == 4 && c.first_dense == 3 && c.norm_topk);
    assert_true(c.routed_scale == 2.5f && c.Rq == 1536 && c.Rkv == 512 && c.Dn == 128 && c.Dr == 64 && c.Dv == 128);
    assert_true(c.eps == 1e-6f && c.max_positions == 2048 && !c.tied && c.rope.interleaved && c.mtp == 0);
    static const char glm[] =
        "{\"model_type\":\"glm4_moe\",\"vocab_size\":64,\"hidden_size\":32,\"intermediate_size\":16,"
        "\"num_hidden_layers\":2,\"num_attention_heads\":2,\"num_experts_per_tok\":8,"
        "\"moe_intermediate_size\":8,\"partial_rotary_factor\":1}";
    if (!parse(glm, &c, &st)) fail_msg("%s", st.text);
    assert_true(c.E == 128 && c.S == 1 && c.n_group == 1 && c.topk_group == 1 && c.first_dense == 1 && c.norm_topk);
    assert_true(c.routed_scale == 1.0f && c.eps == 1e-5f && !c.qkv_bias);
    if (!parse(LLAMA(""), &c, &st)) fail_msg("%s", st.text);
    assert_true(c.Hkv == c.H && c.Dr * c.H == c.C && c.rope.theta == 10000.0f && c.rope.scaling == ROPE_PLAIN);
    assert_true(!c.tied && !c.qkv_bias && !c.mlp_bias);
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
    } bad[] = {
        {"[]", "no JSON object"},
        {"{}", "model_type"},
        {"{\"model_type\":\"gpt2\"}", "known are deepseek_v2"},
        {"{\"model_type\":\"llama\"}", "vocab_size"},
        {LLAMA(",\"hidden_act\":\"gelu\""), "hidden_act"},
        {MISTRAL(",\"attention_bias\":true"), "attention_bias"},
        {MISTRAL(",\"mlp_bias\":true"), "mlp_bias"},
        {V2(",\"mlp_bias\":true"), "mlp_bias"},
        {LLAMA(",\"use_sliding_window\":true"), "sliding_window"},
        {LLAMA(",\"use_sliding_window\":true,\"sliding_window\":0"), "at least 1"},
        {LLAMA(",\"partial_rotary_factor\":0.5"), "partial_rotary_factor"},
        {LLAMA(",\"rms_norm_eps\":\"tiny\""), "rms_norm_eps"},
        {LLAMA(",\"num_key_value_heads\":1.5"), "num_key_value_heads"},
        {LLAMA(",\"max_position_embeddings\":99999999999"), "max_position_embeddings"},
        {V2(",\"topk_method\":\"noaux_tc\""), "noaux_tc"},
        {V2(",\"scoring_func\":\"sigmoid\""), "sigmoid"},
        {V2(",\"attention_bias\":true"), "attention_bias"},
        {V2(",\"n_routed_experts\":4"), "duplicate"},
        {V2(",\"topk_method\":\"group_limited_greedy\",\"n_group\":3"), "n_group"},
        {V2(",\"rope_scaling\":{\"type\":\"yarn\"}"), "factor"},
        {V2(",\"rope_scaling\":{\"type\":\"llama3\",\"factor\":8}"), "llama3"},
        {V2(",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4,\"short_factor\":[1]}"), "short_factor"},
        {LLAMA(",\"rope_scaling\":{\"type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,\"high_freq_factor\":4}"),
         "original_max_position_embeddings"},
        {LLAMA(",\"rope_scaling\":{\"type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,\"high_freq_factor\":1,"
               "\"original_max_position_embeddings\":64}"),
         "high_freq_factor"},
        {LLAMA(",\"rope_scaling\":{\"type\":\"longrope\",\"factor\":8}"), "longrope"},
        {LLAMA(",\"rope_scaling\":{\"type\":\"linear\"}"), "factor"},
        {LLAMA(",\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":2,\"mscale\":1}"), "mscale"},
        {V2(",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":\"x\"}"), "factor"},
        {"{\"model_type\":\"llama\",\"vocab_size\":64,\"hidden_size\":33,\"intermediate_size\":16,"
         "\"num_hidden_layers\":2,\"num_attention_heads\":2}",
         "does not divide"},
        {"{\"model_type\":\"llama\",\"architectures\":[\"LlamaForSequenceClassification\"],\"num_labels\":2}",
         "num_labels"},
        {"{\"model_type\":\"deepseek_v2\",\"vocab_size\":64,\"hidden_size\":32,\"intermediate_size\":16,"
         "\"num_hidden_layers\":4000,\"num_attention_heads\":2,\"n_routed_experts\":4000,"
         "\"num_experts_per_tok\":2,\"moe_intermediate_size\":8}",
         "more tensors"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Status st = {0};
        ModelConfig c = {.V = 77};
        bool ok = parse(bad[i].text, &c, &st);
        assert_false(ok);
        assert_true(says(&st, bad[i].words));
        assert_int_equal(c.V, 77);
    }
}

static void test_weights(void **state)
{
    (void)state;
    for (int i = 0; i < CASES; i++) {
        Status st = {0};
        ModelConfig c = config_of(cases[i]);
        ParamTable t = params_build(&c);
        float *w = malloc(t.total * sizeof *w);
        memset(w, 0x7f, t.total * sizeof *w);
        if (!hf_weights_read(case_path(cases[i]), &c, &t, w, &st)) fprintf(stderr, "%s\n", st.text);
        assert_false(st.failed);
        StFile *f = st_open(case_path(cases[i]), &st);
        size_t end = 0;
        for (int p = 0; p < t.n; p++) {
            const StTensor *tensor = st_find(f, t.params[p].name);
            assert_memory_equal(w + t.params[p].offset, tensor->data, tensor->bytes);
            for (; end < t.params[p].offset; end++) assert_true(w[end] == 0.0f);
            end = t.params[p].offset + t.params[p].count;
        }
        for (; end < t.total; end++) assert_true(w[end] == 0.0f);
        st_close(f);
        free(w);
        params_free(&t);
    }
}

static void test_weights_that_do_not_fit(void **state)
{
    (void)state;
    ModelConfig c = config_of("llama");
    c.F = 65;
    ParamTable t = params_build(&c);
    float *w = calloc(t.total, sizeof *w);
    Status st = {0};
    assert_false(hf_weights_read("tests/golden/llama", &c, &t, w, &st));
    assert_true(says(&st, "gate_proj.weight has shape [64, 64], but config.json makes it [65, 64]"));
    status_clear(&st);
    assert_false(hf_weights_read("tests/golden/qwen2", &c, &t, w, &st));
    params_free(&t);
    c = config_of("qwen3");
    t = params_build(&c);
    status_clear(&st);
    assert_false(hf_weights_read("tests/golden/qwen2", &c, &t, w, &st));
    assert_true(says(&st, "q_proj.weight has shape"));
    params_free(&t);
    free(w);
}

/* ---- Experts as transformers 5 fuses them, and FP8 blocks: rewritten from a fixture ---- */

static void copy_tensor(StWriter *w, const StTensor *t, bool declare, Status *st)
{
    if (declare) st_writer_add(w, t->name, t->dtype, t->ndim, t->shape);
    else assert_true(st_writer_raw(w, t->name, t->data, st));
}

static void fuse_layer(StWriter *w, const StFile *f, const ModelConfig *c, int layer, bool declare, Status *st)
{
    char name[128];
    size_t one = (size_t)c->moe_F * (size_t)c->C;
    float *gate_up = malloc((size_t)c->E * 2 * one * 4), *down = malloc((size_t)c->E * one * 4);
    static const char *const parts[] = {"gate", "up", "down"};
    for (int e = 0; e < c->E; e++)
        for (int part = 0; part < 3; part++) {
            snprintf(name, sizeof name, "model.layers.%d.mlp.experts.%d.%s_proj.weight", layer, e, parts[part]);
            float *to = part == 2 ? down + (size_t)e * one : gate_up + ((size_t)e * 2 + (size_t)part) * one;
            assert_true(st_read_f32(st_find(f, name), to, st));
        }
    uint64_t E = (uint64_t)c->E, F = (uint64_t)c->moe_F, C = (uint64_t)c->C;
    snprintf(name, sizeof name, "model.layers.%d.mlp.experts.gate_up_proj", layer);
    if (declare) st_writer_add(w, name, ST_F32, 3, (uint64_t[]){E, 2 * F, C});
    else assert_true(st_writer_data(w, name, gate_up, st));
    snprintf(name, sizeof name, "model.layers.%d.mlp.experts.down_proj", layer);
    if (declare) st_writer_add(w, name, ST_F32, 3, (uint64_t[]){E, C, F});
    else assert_true(st_writer_data(w, name, down, st));
    free(gate_up);
    free(down);
}

static void test_fused_experts(void **state)
{
    (void)state;
    Status st = {0};
    ModelConfig c = config_of("v2_lite");
    ParamTable t = params_build(&c);
    float *want = malloc(t.total * sizeof *want), *got = malloc(t.total * sizeof *got);
    assert_true(hf_weights_read("tests/golden/v2_lite", &c, &t, want, &st));
    StFile *f = st_open("tests/golden/v2_lite", &st);
    StWriter *w = st_writer_open(scratch_path("model.safetensors"), &st);
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < st_count(f); i++)
            if (!strstr(st_at(f, i)->name, ".experts.")) copy_tensor(w, st_at(f, i), pass == 0, &st);
        for (int l = 1; l < c.L; l++) fuse_layer(w, f, &c, l, pass == 0, &st);
    }
    assert_true(st_writer_close(w, &st));
    st_close(f);
    assert_true(hf_weights_read(scratch_folder(), &c, &t, got, &st));
    assert_memory_equal(got, want, t.total * sizeof *got);
    free(want);
    free(got);
    params_free(&t);
}

enum { FP8_ROWS = 256, FP8_COLS = 64, FP8_COUNT = FP8_ROWS * FP8_COLS };

/* The llama fixture with lm_head as FP8, whose codes count from 0 to 126 and again. */
static void write_fp8(bool with_scales)
{
    static const char name[] = "lm_head.weight", scale_name[] = "lm_head.weight_scale_inv";
    unsigned char *codes = malloc(FP8_COUNT);
    for (int i = 0; i < FP8_COUNT; i++) codes[i] = (unsigned char)(i % 127);
    Status st = {0};
    StFile *f = st_open("tests/golden/llama", &st);
    StWriter *w = st_writer_open(scratch_path("model.safetensors"), &st);
    st_writer_add(w, name, ST_F8_E4M3, 2, (uint64_t[]){FP8_ROWS, FP8_COLS});
    if (with_scales) st_writer_add(w, scale_name, ST_F32, 2, (uint64_t[]){2, 1});
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < st_count(f); i++)
            if (strcmp(st_at(f, i)->name, name)) copy_tensor(w, st_at(f, i), pass == 0, &st);
    assert_true(st_writer_raw(w, name, codes, &st));
    if (with_scales) assert_true(st_writer_data(w, scale_name, (float[]){0.5f, 3.0f}, &st));
    assert_true(st_writer_close(w, &st));
    st_close(f);
    free(codes);
}

static void test_fp8_blocks(void **state)
{
    (void)state;
    Status st = {0};
    ModelConfig c = config_of("llama");
    ParamTable t = params_build(&c);
    float *got = malloc(t.total * sizeof *got);
    write_fp8(false);
    assert_false(hf_weights_read(scratch_folder(), &c, &t, got, &st));
    assert_true(says(&st, "lm_head.weight_scale_inv"));
    status_clear(&st);
    write_fp8(true);
    assert_true(hf_weights_read(scratch_folder(), &c, &t, got, &st));
    const float *head = got + t.params[params_find_name(&t, "lm_head.weight")].offset;
    assert_true(head[1] == 0.5f * 0x1p-9f && head[0x38] == 0.5f && head[0x7e] == 0.5f * 448.0f);
    int second_block = 128 * FP8_COLS;
    assert_true(head[second_block + (0x38 - second_block % 127 + 127) % 127] == 3.0f);
    free(got);
    params_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixtures_parse),
        cmocka_unit_test(test_config_round_trip),
        cmocka_unit_test(test_plain_heads),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_dense_deepseek),
        cmocka_unit_test(test_written_keys_equal_released),
        cmocka_unit_test(test_traps),
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_weights_that_do_not_fit),
        cmocka_unit_test(test_fused_experts),
        cmocka_unit_test(test_fp8_blocks),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
