/* Weights read a few rows at a time: hashes, exports and merged adapters have the bytes of reading each tensor whole. */
#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>

#include "checkpoints/float16.h"
#include "checkpoints/gguf/gguf.h"
#include "checkpoints/hash.h"
#include "checkpoints/hf/hf.h"
#include "checkpoints/lora.h"
#include "core/base/check.h"
#include "core/base/memory.h"
#include "core/base/philox.h"
#include "tests/unit/scratch.h"

/* The MLP's matrices have more elements than are read at a time. */
static ModelConfig model(void)
{
    return (ModelConfig){
        .arch = ARCH_LLAMA,
        .attention = ATTENTION_GQA,
        .V = 40,
        .L = 1,
        .C = 64,
        .H = 2,
        .Hkv = 1,
        .Dr = 32,
        .Dv = 32,
        .F = 17024,
        .eps = 1e-6f,
        .rope = {.theta = 10000.0f},
        .max_positions = 64,
        .init_std = 0.1f,
        .n_group = 1,
        .topk_group = 1,
        .moe_freq = 1,
        .routed_scale = 1.0f,
        .bos = 0,
        .eos = 1,
        .lora = {.rank = 2, .alpha = 3.0f, .targets = 1u << LORA_GATE_PROJ | 1u << LORA_DOWN_PROJ | 1u << LORA_Q_PROJ}};
}

/* The same source, which can only be read whole. */
static WeightSource whole(WeightSource s)
{
    s.rows = NULL;
    return s;
}

static void same_file(const char *a, const char *b)
{
    size_t n, m;
    char *x = scratch_read(a, &n), *y = scratch_read(b, &m);
    assert_true(n > 0 && n == m && !memcmp(x, y, n));
    free(x);
    free(y);
}

static void same_hash(const LoadedModel *m, const char *want)
{
    Status st = {0};
    WeightSource rows = model_source(m), all = whole(rows);
    char a[65], b[65];
    assert_true(weights_sha256_of(&m->table, &rows, a, &st) && weights_sha256_of(&m->table, &all, b, &st));
    assert_string_equal(a, b);
    if (want) assert_string_equal(a, want);
}

/* A checkpoint with adapters that act, and the hash of its block. */
static LoadedModel *checkpoint_with_adapters(char hash[65])
{
    Status st = {0};
    ModelConfig c = model();
    ParamTable t = params_build(&c);
    float *w = memory_block(t.total * sizeof *w);
    CHECK(w);
    params_init(&t, &c, w, 7);
    for (int i = t.adapters; i < t.n; i++)
        rng_fill_normal(w + t.params[i].offset, t.params[i].count, 0.1f, 9, t.params[i].name);
    CheckpointMeta meta = {.stage = "sft"};
    assert_true(checkpoint_save(scratch_path("m.h5"), &c, &t, w, NULL, NULL, NULL, &meta, &st));
    weights_sha256(&t, w, hash);
    memory_free(w);
    params_free(&t);
    LoadedModel *m = model_open(scratch_path("m.h5"), MODEL_IN_PLACE, &st);
    assert_non_null(m);
    return m;
}

static void test_rows_are_the_whole(void **state)
{
    (void)state;
    Status st = {0};
    char hash[65];
    LoadedModel *m = checkpoint_with_adapters(hash);
    assert_null(m->weights);
    same_hash(m, hash);
    ModelConfig c = lora_merged_config(&m->config);
    ParamTable t = params_build(&c);
    WeightSource rows = merged_source(m), all = whole(rows);
    char a[65], b[65];
    assert_true(weights_sha256_of(&t, &rows, a, &st) && weights_sha256_of(&t, &all, b, &st));
    assert_string_equal(a, b);
    assert_string_not_equal(a, hash);
    assert_true(hf_write(scratch_path("a"), &c, &t, rows, ST_BF16, 0, NULL, NULL, &st) &&
                hf_write(scratch_path("b"), &c, &t, all, ST_BF16, 0, NULL, NULL, &st));
    same_file(scratch_path("a/model.safetensors"), scratch_path("b/model.safetensors"));
    assert_true(gguf_write(scratch_path("a.gguf"), "x", &c, &t, rows, GGUF_WRITE_Q8_0, NULL, &st) &&
                gguf_write(scratch_path("b.gguf"), "x", &c, &t, all, GGUF_WRITE_Q8_0, NULL, &st));
    same_file(scratch_path("a.gguf"), scratch_path("b.gguf"));
    params_free(&t);
    model_close(m);

    static const char *const files[] = {"a", "a.gguf"};
    for (int i = 0; i < 2; i++) {
        m = model_open(scratch_path(files[i]), MODEL_IN_PLACE, &st);
        assert_non_null(m);
        same_hash(m, NULL);
        if (!i) { /* bf16 words in a checkpoint */
            CheckpointMeta meta = {.stage = "import"};
            WeightSource source = model_source(m);
            assert_true(checkpoint_import(scratch_path("i.h5"), &m->config, &m->table, &source, &meta, &st));
            assert_true(weights_sha256_of(&m->table, &source, hash, &st));
        }
        model_close(m);
    }
    m = model_open(scratch_path("i.h5"), MODEL_IN_PLACE, &st);
    assert_true(m && m->checkpoint->has_bf16);
    same_hash(m, hash);
    model_close(m);
}

/* Every bf16 word, and every f32 that ends in zeros, at every place of a run whose length is no multiple of 8 bytes. */
static void test_every_word(void **state)
{
    (void)state;
    for (uint32_t u = 0; u < 1 << 16; u++) {
        float x = f32_of_bf16((uint16_t)u);
        for (int at = 0; at < 7; at++) {
            uint16_t words[7] = {0x7f7f, 0xff7f, 0x8000, 1, 0x3f80, 0x7f7f, 0xff7f};
            float floats[7] = {3.4e38f, -3.4e38f, 0, -1e-45f, 1, 3.4e38f, -3.4e38f};
            words[at] = (uint16_t)u;
            floats[at] = x;
            assert_int_equal(all_finite(words, 7, true), isfinite(x) != 0);
            assert_int_equal(all_finite(floats, 7, false), isfinite(x) != 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows_are_the_whole), cmocka_unit_test(test_every_word)};
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
