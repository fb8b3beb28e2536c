#include "tests/unit/unit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/gguf/ggml_type.h"
#include "checkpoints/gguf/gguf.h"
#include "checkpoints/gguf/gguf_names.h"
#include "checkpoints/float16.h"
#include "checkpoints/hf/hf.h"
#include "core/base/philox.h"
#include "tests/unit/scratch.h"

static const char *const cases[] = {"v2_lite", "v2_full", "v2_yarn",     "v3",          "qwen2",
                                    "qwen3",   "llama",   "llama3_rope", "linear_rope", "llama_bias"};
enum { CASES = sizeof cases / sizeof *cases };

/* A fixture's model. */
typedef struct Model {
    ModelConfig c;
    ParamTable t;
    float *w;
} Model;

static Model load_case(const char *name)
{
    Model m;
    Status st = {0};
    char folder[128];
    snprintf(folder, sizeof folder, "tests/golden/%s", name);
    assert_true(hf_config_read(folder, &m.c, &st));
    m.t = params_build(&m.c);
    m.w = malloc(m.t.total * sizeof *m.w);
    assert_true(hf_weights_read(folder, &m.c, &m.t, m.w, &st));
    return m;
}

static void free_model(Model *m)
{
    params_free(&m->t);
    free(m->w);
}

/* ---- Numbers ---- */

/* Every type against the public package, bit for bit. */
static void test_dequantise(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint32_t type;
    } kinds[] = {{"Q4_0", GGML_Q4_0}, {"Q4_1", GGML_Q4_1}, {"Q5_0", GGML_Q5_0},     {"Q5_1", GGML_Q5_1},
                 {"Q8_0", GGML_Q8_0}, {"Q4_K", GGML_Q4_K}, {"Q5_K", GGML_Q5_K},     {"Q6_K", GGML_Q6_K},
                 {"Q2_K", GGML_Q2_K}, {"Q3_K", GGML_Q3_K}, {"IQ4_NL", GGML_IQ4_NL}, {"IQ4_XS", GGML_IQ4_XS}};
    Status st = {0};
    StFile *f = st_open("tests/gguf/quants.safetensors", &st);
    assert_non_null(f);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char name[32];
        snprintf(name, sizeof name, "%s.blocks", kinds[i].name);
        const StTensor *blocks = st_find(f, name);
        snprintf(name, sizeof name, "%s.values", kinds[i].name);
        const StTensor *values = st_find(f, name);
        float *got = malloc(values->bytes);
        assert_true(ggml_dequantise(kinds[i].type, blocks->data, values->count, got));
        const float *want = values->data;
        for (uint64_t j = 0; j < values->count; j++)
            if (got[j] != want[j])
                fprintf(stderr, "%s %d: %g, not %g\n", name, (int)j, (double)got[j], (double)want[j]);
        assert_memory_equal(got, want, values->bytes);
        free(got);
    }
    assert_false(ggml_dequantise(16, NULL, 0, NULL)); /* IQ2_XXS */
    const StTensor *plain = st_find(f, "Q8_0.plain"), *quantised = st_find(f, "Q8_0.quantised");
    uint8_t *got = malloc(quantised->bytes);
    ggml_quantise_q8_0(plain->data, plain->count, got);
    assert_memory_equal(got, quantised->data, quantised->bytes);
    free(got);
    st_close(f);
}

static void test_permutation(void **state)
{
    (void)state;
    /* Heads of 6 rows: the pairs (0, 3), (1, 4), (2, 5) become neighbours. */
    static const size_t want[12] = {0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11};
    for (size_t i = 0; i < 12; i++) assert_int_equal(gguf_permuted_row(i, 6), want[i]);
}

/* ---- Models ---- */

static bool write_case(const Model *m, GgufTarget target, const Tokenizer *t, Status *st)
{
    return gguf_write(scratch_path("m.gguf"), "a model", &m->c, &m->t, block_source(m->w), target, t, st);
}

static GgufFile *reopen(const Model *m, ModelConfig *c, float *weights)
{
    Status st = {0};
    GgufFile *f = gguf_open(scratch_path("m.gguf"), &st);
    if (!f || !gguf_config(f, "m.gguf", c, &st) || !gguf_weights(f, "m.gguf", c, &m->t, weights, &st))
        fprintf(stderr, "%s\n", st.text);
    assert_false(st.failed);
    return f;
}

static void assert_same_model(const ModelConfig *a, const ModelConfig *b)
{
    assert_true(a->arch == b->arch && a->V == b->V && a->C == b->C && a->L == b->L && a->H == b->H && a->Hkv == b->Hkv);
    assert_true(a->Rq == b->Rq && a->Rkv == b->Rkv && a->Dn == b->Dn && a->Dr == b->Dr && a->Dv == b->Dv &&
                a->F == b->F);
    assert_true(a->E == b->E && a->S == b->S && a->K == b->K && a->moe_F == b->moe_F &&
                a->first_dense == b->first_dense);
    assert_true(a->topk == b->topk && a->score == b->score && a->n_group == b->n_group &&
                a->topk_group == b->topk_group);
    assert_true(a->norm_topk == b->norm_topk && a->routed_scale == b->routed_scale && a->eps == b->eps &&
                a->tied == b->tied);
    assert_true(a->rope.theta == b->rope.theta && a->rope.scaling == b->rope.scaling &&
                a->rope.factor == b->rope.factor);
    assert_true(a->rope.mscale == b->rope.mscale && a->rope.mscale_all_dim == b->rope.mscale_all_dim);
    assert_true(a->rope.original_positions == b->rope.original_positions && a->rope.interleaved == b->rope.interleaved);
    assert_true(a->qkv_bias == b->qkv_bias && a->qk_norm == b->qk_norm && a->mlp_bias == b->mlp_bias);
    assert_true(a->max_positions == b->max_positions);
}

static void test_round_trip_f32(void **state)
{
    (void)state;
    for (int i = 0; i < CASES; i++) {
        Model m = load_case(cases[i]);
        Status st = {0};
        ModelConfig c;
        float *got = malloc(m.t.total * sizeof *got);
        assert_true(write_case(&m, GGUF_WRITE_F32, NULL, &st));
        GgufFile *f = reopen(&m, &c, got);
        assert_same_model(&c, &m.c);
        assert_memory_equal(got, m.w, m.t.total * sizeof *got);
        gguf_close(f);
        free(got);
        free_model(&m);
    }
}

static void test_round_trip_narrow(void **state)
{
    (void)state;
    static const GgufTarget targets[] = {GGUF_WRITE_F16, GGUF_WRITE_BF16, GGUF_WRITE_Q8_0};
    for (int i = 0; i < 3 * CASES; i++) {
        Model m = load_case(cases[i / 3]);
        GgufTarget target = targets[i % 3];
        Status st = {0};
        ModelConfig c;
        float *got = malloc(m.t.total * sizeof *got);
        assert_true(write_case(&m, target, NULL, &st));
        GgufFile *f = reopen(&m, &c, got);
        for (int p = 0; p < m.t.n; p++) {
            const Param *param = &m.t.params[p];
            bool exact = param->ndim == 1 || param->kind == PARAM_ROUTER;
            float worst = 0.0f;
            for (size_t j = 0; j < param->count; j++) {
                float was = m.w[param->offset + j], is = got[param->offset + j];
                if (exact) assert_true(is == was);
                else if (target == GGUF_WRITE_F16) assert_true(is == f32_of_f16(f16_of_f32(was)));
                else if (target == GGUF_WRITE_BF16) assert_true(is == f32_of_bf16(bf16_of_f32(was)));
                worst = fmaxf(worst, fabsf(is - was));
            }
            assert_true(worst < 0.02f); /* Q8_0: half a step of 1/127 of a block's largest */
        }
        gguf_close(f);
        free(got);
        free_model(&m);
    }
}

/* A llama's biases under llama.cpp's names, those of q and k in the order of their rows (its convert_hf_to_gguf.py). */
static void test_biases(void **state)
{
    (void)state;
    static const struct {
        ParamKind kind;
        const char *name;
        bool permuted;
    } biases[] = {{PARAM_Q_BIAS, "blk.1.attn_q.bias", true},       {PARAM_K_BIAS, "blk.1.attn_k.bias", true},
                  {PARAM_V_BIAS, "blk.1.attn_v.bias", false},      {PARAM_O_BIAS, "blk.1.attn_output.bias", false},
                  {PARAM_GATE_BIAS, "blk.1.ffn_gate.bias", false}, {PARAM_UP_BIAS, "blk.1.ffn_up.bias", false},
                  {PARAM_DOWN_BIAS, "blk.1.ffn_down.bias", false}};
    Model m = load_case("llama_bias");
    Status st = {0};
    assert_true(write_case(&m, GGUF_WRITE_F16, NULL, &st));
    GgufFile *f = gguf_open(scratch_path("m.gguf"), &st);
    assert_non_null(f);
    for (size_t i = 0; i < sizeof biases / sizeof *biases; i++) {
        const GgufTensor *t = gguf_find(f, biases[i].name);
        const Param *p = &m.t.params[params_find(&m.t, biases[i].kind, 1, -1)];
        float got[64];
        assert_true(t && t->type == GGML_F32 && t->ne[0] == p->rows && p->rows <= 64);
        assert_true(gguf_read_f32(t, 0, p->rows, got, &st));
        for (size_t row = 0; row < p->rows; row++)
            assert_true(got[biases[i].permuted ? gguf_permuted_row(row, 16) : row] == m.w[p->offset + row]);
    }
    gguf_close(f);
    free_model(&m);
    m = load_case("qwen3_bias");
    assert_false(write_case(&m, GGUF_WRITE_F32, NULL, &st));
    assert_true(says(&st, "attention_bias of a qwen3"));
    free_model(&m);
}

/* The keys that llama.cpp's loader looks for. */
static void test_keys(void **state)
{
    (void)state;
    Model m = load_case("v3");
    Status st = {0};
    assert_true(write_case(&m, GGUF_WRITE_Q8_0, NULL, &st));
    GgufFile *f = gguf_open(scratch_path("m.gguf"), &st);
    assert_non_null(f);
    int64_t v;
    double x;
    bool b;
    assert_string_equal(gguf_string(f, "general.architecture"), "deepseek2");
    assert_string_equal(gguf_string(f, "general.name"), "a model");
    assert_true(gguf_int(f, "general.file_type", &v) && v == 7);
    assert_true(gguf_int(f, "general.quantization_version", &v) && v == 2);
    assert_true(gguf_int(f, "deepseek2.attention.head_count_kv", &v) && v == 1);
    assert_true(gguf_int(f, "deepseek2.attention.key_length", &v) && v == 24 + 8);
    assert_true(gguf_int(f, "deepseek2.attention.key_length_mla", &v) && v == 12 + 8);
    assert_true(gguf_int(f, "deepseek2.expert_gating_func", &v) && v == 2);
    assert_true(gguf_bool(f, "deepseek2.expert_weights_norm", &b) && b);
    assert_true(gguf_float(f, "deepseek2.rope.scaling.yarn_log_multiplier", &x) && fabs(x - 0.1) < 1e-7);
    assert_false(gguf_int(f, "deepseek2.expert_weights_norm", &v));
    assert_false(gguf_int(f, "nothing", &v));
    const GgufTensor *t = gguf_find(f, "blk.1.attn_k_b.weight");
    assert_true(t && t->ndim == 3 && t->ne[0] == 12 && t->ne[1] == 24 && t->ne[2] == 4 && t->type == GGML_F16);
    t = gguf_find(f, "blk.1.ffn_gate_exps.weight");
    assert_true(t && t->ne[0] == 64 && t->ne[1] == 10 && t->ne[2] == 16 && t->type == GGML_Q8_0);
    assert_int_equal(gguf_find(f, "blk.1.exp_probs_b.bias")->type, GGML_F32);
    gguf_close(f);
    free_model(&m);

    m = load_case("v2_lite");
    assert_true(write_case(&m, GGUF_WRITE_F32, NULL, &st));
    f = gguf_open(scratch_path("m.gguf"), &st);
    assert_true(gguf_int(f, "deepseek2.attention.q_lora_rank", &v) && v == 0);
    assert_false(gguf_bool(f, "deepseek2.expert_weights_norm", &b));
    gguf_close(f);
    free_model(&m);
}

static void test_inexpressible(void **state)
{
    (void)state;
    Model m = load_case("v3");
    Status st = {0};
    m.c.rope.interleaved = false;
    assert_false(write_case(&m, GGUF_WRITE_F32, NULL, &st));
    assert_true(says(&st, "rope_interleave"));
    m.c.rope.interleaved = true;
    m.c.head = HEAD_SCALAR;
    status_clear(&st);
    assert_false(write_case(&m, GGUF_WRITE_F32, NULL, &st));
    assert_true(says(&st, "scalar head"));
    free_model(&m);
    m = load_case("llama");
    m.w[100] = 1e6f;
    status_clear(&st);
    assert_false(gguf_write(scratch_path("big.gguf"), "x", &m.c, &m.t, block_source(m.w), GGUF_WRITE_F16, NULL, &st));
    assert_true(says(&st, "too large for f16"));
    assert_int_equal(scratch_count("big.gguf"), 0);
    free_model(&m);
}

static void test_tokenizer(void **state)
{
    (void)state;
    static const char *const folders[] = {"tests/tokenizers/qwen3", "tests/tokenizers/deepseek_v3"};
    static const char *const pre[] = {"qwen2", "deepseek-v3"};
    static const char text[] = "Hello  world's 1234567 \xe4\xbd\xa0\xe5\xa5\xbd,\n\n int main() { return x<=3; }";
    Model m = load_case("llama");
    for (int i = 0; i < 2; i++) {
        Status st = {0};
        Tokenizer *was = tokenizer_load(folders[i], &st);
        assert_non_null(was);
        ModelConfig c = m.c;
        c.V = tokenizer_vocab(was) + 3;
        c.C = 8;
        c.L = 1;
        ParamTable t = params_build(&c);
        float *w = calloc(t.total, sizeof *w);
        assert_true(gguf_write(scratch_path("t.gguf"), "x", &c, &t, block_source(w), GGUF_WRITE_F16, was, &st));
        GgufFile *f = gguf_open(scratch_path("t.gguf"), &st);
        assert_non_null(f);
        assert_string_equal(gguf_string(f, "tokenizer.ggml.pre"), pre[i]);
        Tokenizer *now = gguf_tokenizer(f, "t.gguf", &st);
        if (!now) fprintf(stderr, "%s\n", st.text);
        assert_non_null(now);
        Ids a = {0}, b = {0};
        tokenizer_encode(was, text, sizeof text - 1, &a);
        tokenizer_encode(now, text, sizeof text - 1, &b);
        assert_int_equal(a.n, b.n);
        assert_memory_equal(a.ids, b.ids, (size_t)a.n * sizeof *a.ids);
        assert_int_equal(tokenizer_bos(now), tokenizer_bos(was) >= 0 ? tokenizer_bos(was) : c.bos);
        if (tokenizer_chat_template(was))
            assert_string_equal(tokenizer_chat_template(was), tokenizer_chat_template(now));
        free(a.ids);
        free(b.ids);
        tokenizer_free(now);
        tokenizer_free(was);
        gguf_close(f);
        free(w);
        params_free(&t);
    }
    free_model(&m);
}

/* ---- Strangers ---- */

/* A header in the making. */
typedef struct Bytes {
    char b[4096];
    size_t n;
} Bytes;

static void put(Bytes *s, uint64_t v, int size)
{
    for (int i = 0; i < size; i++) s->b[s->n++] = (char)(v >> (8 * i));
}

static void put_text(Bytes *s, const char *text)
{
    put(s, strlen(text), 8);
    memcpy(s->b + s->n, text, strlen(text));
    s->n += strlen(text);
}

static Bytes begin(uint64_t tensors, uint64_t values)
{
    Bytes s = {.b = "GGUF", .n = 4};
    put(&s, 3, 4);
    put(&s, tensors, 8);
    put(&s, values, 8);
    return s;
}

static void put_tensor(Bytes *s, const char *name, uint64_t ne0, uint32_t type, uint64_t offset)
{
    put_text(s, name);
    put(s, 1, 4);
    put(s, ne0, 8);
    put(s, type, 4);
    put(s, offset, 8);
}

static void finish(Bytes *s, size_t data)
{
    while (s->n % 32) s->b[s->n++] = 0;
    s->n += data;
}

static bool opens(const Bytes *s, const char *words)
{
    Status st = {0};
    scratch_put("x.gguf", s->b, s->n);
    GgufFile *f = gguf_open(scratch_path("x.gguf"), &st);
    gguf_close(f);
    if (words) assert_true(says(&st, words));
    return f != NULL;
}

static void test_hostile_headers(void **state)
{
    (void)state;
    Bytes s = begin(1, 1);
    put_text(&s, "k");
    put(&s, 4, 4);
    put(&s, 7, 4);
    put_tensor(&s, "a", 8, GGML_F32, 0);
    finish(&s, 32);
    assert_true(opens(&s, NULL));
    s.n--;
    assert_false(opens(&s, "truncated"));

    const uint64_t huge[] = {1ull << 20, 1ull << 40, 1ull << 62, 1ull << 63, UINT64_MAX};
    for (int i = 0; i < 5; i++) {
        s = begin(1, 0);
        put_tensor(&s, "a", huge[i], GGML_F32, 0);
        finish(&s, 64);
        assert_false(opens(&s, "x.gguf"));
        s = begin(huge[i], 0);
        assert_false(opens(&s, "announces"));
        s = begin(0, huge[i]);
        assert_false(opens(&s, "announces"));
        s = begin(0, 1);
        put(&s, huge[i], 8);
        finish(&s, 64);
        assert_false(opens(&s, "damaged"));
        for (uint32_t element = 0; element < 14; element++) {
            s = begin(0, 1);
            put_text(&s, "k");
            put(&s, 9, 4);
            put(&s, element, 4);
            put(&s, huge[i], 8);
            finish(&s, 64);
            assert_false(opens(&s, "damaged"));
        }
    }
    s = begin(1, 0);
    put_tensor(&s, "a", 8, GGML_F32, 32);
    finish(&s, 64);
    assert_false(opens(&s, "neighbours"));
    s = begin(1, 0);
    put_tensor(&s, "a", 33, GGML_Q8_0, 0);
    finish(&s, 96);
    assert_false(opens(&s, "damaged"));
    s = begin(1, 0);
    put_tensor(&s, "a", 8, 99, 0);
    finish(&s, 96);
    assert_false(opens(&s, "damaged"));
    s = begin(2, 0);
    put_tensor(&s, "a", 8, GGML_F32, 0);
    put_tensor(&s, "a", 8, GGML_F32, 32);
    finish(&s, 64);
    assert_false(opens(&s, "twice"));
    s = begin(0, 2);
    for (int i = 0; i < 2; i++) {
        put_text(&s, "k");
        put(&s, 0, 4);
        put(&s, 1, 1);
    }
    finish(&s, 0);
    assert_false(opens(&s, "twice"));
    s = begin(0, 1);
    put_text(&s, "general.alignment");
    put(&s, 4, 4);
    put(&s, 48, 4);
    finish(&s, 0);
    assert_false(opens(&s, "alignment"));
    s = begin(0, 0);
    s.b[4] = 1;
    assert_false(opens(&s, "version 1"));
    s.b[0] = 'X';
    assert_false(opens(&s, "no GGUF"));
    s.n = 0;
    assert_false(opens(&s, "empty"));
}

/* Truncations and random changes of a whole model's header: refused or read, never a crash (the sanitizers watch). */
static void test_damaged_model(void **state)
{
    (void)state;
    Model m = load_case("v2_full");
    Status st = {0};
    assert_true(write_case(&m, GGUF_WRITE_Q8_0, NULL, &st));
    size_t n;
    char *bytes = scratch_read(scratch_path("m.gguf"), &n);
    for (size_t cut = 0; cut < n; cut += cut < 2000 ? 7 : 4001) {
        status_clear(&st);
        scratch_put("cut.gguf", bytes, cut);
        GgufFile *f = gguf_open(scratch_path("cut.gguf"), &st);
        assert_null(f);
        assert_true(st.failed);
    }
    for (uint32_t i = 0; i < 400; i++) {
        size_t at = (i * 2654435761u) % 3000;
        char was = bytes[at];
        bytes[at] = (char)(i * 40503u >> 5);
        status_clear(&st);
        scratch_put("cut.gguf", bytes, n);
        GgufFile *f = gguf_open(scratch_path("cut.gguf"), &st);
        ModelConfig c;
        if (f && gguf_config(f, "cut.gguf", &c, &st)) {
            ParamTable t = params_build(&c);
            float *w = malloc(t.total * sizeof *w);
            if (w) gguf_weights(f, "cut.gguf", &c, &t, w, &st);
            free(w);
            params_free(&t);
        }
        gguf_close(f);
        bytes[at] = was;
    }
    free(bytes);
    free_model(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dequantise),
        cmocka_unit_test(test_permutation),
        cmocka_unit_test(test_biases),
        cmocka_unit_test(test_round_trip_f32),
        cmocka_unit_test(test_round_trip_narrow),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_inexpressible),
        cmocka_unit_test(test_tokenizer),
        cmocka_unit_test(test_hostile_headers),
        cmocka_unit_test(test_damaged_model),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
