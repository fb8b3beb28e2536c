#include "tests/unit/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "checkpoints/gguf/gguf.h"
#include "checkpoints/hash.h"
#include "checkpoints/hf/hf.h"
#include "checkpoints/known_models.h"
#include "checkpoints/model_file.h"
#include "tests/unit/scratch.h"

enum { ALL = MODEL_WEIGHTS | MODEL_OPTIMIZER | MODEL_TOKENIZER | MODEL_ATTACHMENTS };

/* The totals of docs/model.md section 11. */
static void test_known_models(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t count, active;
    } want[] = {
        {"deepseek-v2-lite", 15706484224u, 2661150208u},
        {"deepseek-v2", 235741434880u, 21375800320u},
        {"deepseek-v3", 671026419200u, 37552297472u},
        {"qwen2.5-0.5b", 494032768u, 0},
        {"qwen2.5-1.5b", 1543714304u, 0},
        {"qwen3-0.6b", 596049920u, 0},
        {"SmolLM2-135M", 134515008u, 0},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        Status st = {0};
        LoadedModel *m = model_open(want[i].name, ALL, &st);
        assert_non_null(m);
        assert_true(m->origin == MODEL_KNOWN && !m->weights && !m->tokenizer);
        assert_true(config_validate(&m->config, &st));
        assert_int_equal(m->table.count, want[i].count);
        if (want[i].active) assert_int_equal(m->table.active, want[i].active);
        /* What the table says is what config.json of the release would give. */
        ModelConfig again;
        Json *object = hf_config_json(&m->config);
        assert_true(hf_config_parse(object, &again, &st));
        json_free(object);
        model_close(m);
    }
    assert_null(known_model_name((int)(sizeof want / sizeof *want)));
}

static void hash_of(const char *name, char hex[65])
{
    Status st = {0};
    LoadedModel *m = model_open(name, ALL, &st);
    if (!m) fprintf(stderr, "%s\n", st.text);
    assert_non_null(m);
    weights_sha256(&m->table, m->weights, hex);
    model_close(m);
}

/* Folder -> checkpoint in a run -> GGUF -> folder in shards: the same weights all the way. */
static void test_every_kind(void **state)
{
    (void)state;
    Status st = {0};
    char want[65], got[65];
    hash_of("tests/golden/v3", want);
    LoadedModel *m = model_open("tests/golden/v3", ALL, &st);
    assert_int_equal(m->origin, MODEL_HF);
    assert_string_equal(m->file_types, "F32");
    mkdir(scratch_path("run"), 0777);
    mkdir(scratch_path("run/checkpoints"), 0777);
    CheckpointMeta meta = {.stage = "sft", .step = 9};
    assert_true(checkpoint_save(scratch_path("run/checkpoints/sft.h5"), &m->config, &m->table, m->weights, m->weights,
                                NULL, NULL, &meta, &st));
    assert_true(gguf_write(scratch_path("v3.gguf"), "v3", &m->config, &m->table, block_source(m->weights),
                           GGUF_WRITE_F32, NULL, &st));
    assert_true(hf_write(scratch_path("shards"), &m->config, &m->table, block_source(m->weights), ST_F32, 100000, NULL,
                         NULL, &st));
    model_close(m);

    hash_of(scratch_path("run/sft"), got);
    assert_string_equal(got, want);
    hash_of(scratch_path("run/checkpoints/sft.h5"), got);
    assert_string_equal(got, want);
    hash_of(scratch_path("v3.gguf"), got);
    assert_string_equal(got, want);
    hash_of(scratch_path("shards"), got);
    assert_string_equal(got, want);
    m = model_open(scratch_path("run/sft/"), ALL, &st);
    assert_non_null(m);
    assert_true(m->origin == MODEL_CHECKPOINT && m->checkpoint->m && m->checkpoint->meta.step == 9);
    model_close(m);
    m = model_open(scratch_path("v3.gguf"), 0, &st);
    assert_true(m && !m->weights && !m->tokenizer && m->origin == MODEL_GGUF);
    model_close(m);
}

static void assert_fails(const char *name, const char *words)
{
    Status st = {0};
    assert_null(model_open(name, ALL, &st));
    assert_true(says(&st, words));
}

static void test_refusals(void **state)
{
    (void)state;
    assert_fails("nothing-like-this", "smollm2-135m");
    assert_fails("tests/golden", "no config.json");
    assert_fails("tests/golden/v3/model.safetensors", "give the folder");
    assert_fails("tests/golden/v3/config.json", "no checkpoint");
    assert_fails(scratch_path("run"), "(sft)");
    assert_fails(scratch_path("run/other"), "RUN/stage");
}

static bool same_files(const char *a, const char *b)
{
    size_t n, m;
    char *x = scratch_read(a, &n), *y = scratch_read(b, &m);
    bool same = n == m && !memcmp(x, y, n);
    free(x);
    free(y);
    return same;
}

static const char *const carried[] = {
    "special_tokens_map.json", "chat_template.jinja", "added_tokens.json", "vocab.json", "merges.txt",
    "tokenizer.model"};
enum { CARRIED = sizeof carried / sizeof *carried };

static void same_in_both(const char *name)
{
    char a[64], b[64];
    snprintf(a, sizeof a, "a/%s", name);
    snprintf(b, sizeof b, "b/%s", name);
    if (!same_files(scratch_path(a), scratch_path(b))) fail_msg("%s did not come through", name);
}

/* tokenizer_config.json as it came; its template is the one that counts, of chat_template.jinja. */
static void same_but_for_the_template(void)
{
    Status st = {0};
    size_t n;
    Json *was = json_read("tests/tokenizers/qwen3/tokenizer_config.json", &st),
         *is = json_read(scratch_path("b/tokenizer_config.json"), &st);
    char *template = scratch_read(scratch_path("a/chat_template.jinja"), &n);
    assert_true(was && is && json_get(was, "chat_template"));
    json_set(was, "chat_template", json_new_text(template));
    char *want = json_write(was, true), *got = json_write(is, true);
    assert_string_equal(got, want);
    free(want), free(got), free(template);
    json_free(was), json_free(is);
}

/* A file that is attached again takes the place of the one before. */
static void test_attached_again(void **state)
{
    (void)state;
    Attachments a = {0};
    attach_file(&a, "x.json", "old", 3);
    attach_file(&a, "y.json", "other", 5);
    attach_file(&a, "x.json", "newer", 5);
    assert_int_equal(a.nfiles, 2);
    assert_string_equal(attached_file(&a, "x.json")->bytes, "newer");
    assert_string_equal(attached_file(&a, "y.json")->bytes, "other");
    assert_null(attached_file(&a, "z.json"));
    attachments_free(&a);
}

/* A folder that came with a tokenizer, other files and MTP layers goes out with them, also by way of a checkpoint. */
static void test_attachments_travel(void **state)
{
    (void)state;
    Status st = {0};
    LoadedModel *m = model_open("tests/golden/v3", ALL, &st);
    m->config.mtp_layers = 1;
    float mtp[6] = {1, 2, 3, 4, 5, 6};
    const char *mtp_name = "model.layers.3.eh_proj.weight";
    attach_tensor(
        &m->attached,
        &(StTensor){
            .name = mtp_name, .dtype = ST_F32, .ndim = 2, .shape = {2, 3}, .count = 6, .bytes = 24, .data = mtp},
        false);
    attach_file(&m->attached, "generation_config.json", "{\"top_p\": 0.9}\n", 15);
    for (int i = 0; i < CARRIED; i++) attach_file(&m->attached, carried[i], carried[i], strlen(carried[i]) - (size_t)i);
    Tokenizer *t = tokenizer_load("tests/tokenizers/qwen3", &st);
    assert_true(
        hf_write(scratch_path("a"), &m->config, &m->table, block_source(m->weights), ST_BF16, 0, t, &m->attached, &st));
    tokenizer_free(t);
    model_close(m);

    m = model_open(scratch_path("a"), ALL, &st);
    assert_non_null(m);
    assert_string_equal(m->file_types, "BF16, F32"); /* the selection bias stays F32 */
    assert_true(m->attached.ntensors == 1 && m->attached.nfiles == 1 + CARRIED && m->tokenizer &&
                m->config.mtp_layers == 1);
    CheckpointMeta meta = {.attached = m->attached};
    meta.tokenizer = tokenizer_serialize(m->tokenizer, &meta.tokenizer_length);
    assert_true(checkpoint_save(scratch_path("a.h5"), &m->config, &m->table, m->weights, NULL, NULL, NULL, &meta, &st));
    free(meta.tokenizer);
    model_close(m);

    m = model_open(scratch_path("a.h5"), ALL, &st);
    assert_non_null(m);
    assert_true(m->tokenizer && m->attached.ntensors == 1);
    assert_true(hf_write(scratch_path("b"), &m->config, &m->table, block_source(m->weights), ST_BF16, 0, m->tokenizer,
                         &m->attached, &st));
    model_close(m);
    assert_true(same_files(scratch_path("a/model.safetensors"), scratch_path("b/model.safetensors")));
    same_in_both("generation_config.json");
    for (int i = 0; i < CARRIED; i++) same_in_both(carried[i]);
    assert_true(same_files(scratch_path("b/tokenizer.json"), "tests/tokenizers/qwen3/tokenizer.json"));
    same_but_for_the_template();
    assert_true(same_files(scratch_path("a/config.json"), scratch_path("b/config.json")));
    StFile *f = st_open(scratch_path("b"), &st);
    assert_memory_equal(st_find(f, mtp_name)->data, mtp, sizeof mtp);
    st_close(f);
}

static void test_export_refusals(void **state)
{
    (void)state;
    Status st = {0};
    LoadedModel *m = model_open("tests/golden/llama", ALL, &st);
    mkdir(scratch_path("taken"), 0777);
    scratch_put("taken/x", "", 0);
    assert_false(
        hf_write(scratch_path("taken"), &m->config, &m->table, block_source(m->weights), ST_F32, 0, NULL, NULL, &st));
    assert_true(says(&st, "holds files already"));
    status_clear(&st);
    assert_false(
        hf_write("/nowhere/at/all", &m->config, &m->table, block_source(m->weights), ST_F32, 0, NULL, NULL, &st));
    assert_true(says(&st, "create the folder"));
    status_clear(&st);
    m->weights[5] = 1e9f;
    assert_false(
        hf_write(scratch_path("f16"), &m->config, &m->table, block_source(m->weights), ST_F16, 0, NULL, NULL, &st));
    assert_true(says(&st, "too large for f16"));
    assert_fails(scratch_path("f16"), "no config.json");
    model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_models),   cmocka_unit_test(test_every_kind),
        cmocka_unit_test(test_refusals),       cmocka_unit_test(test_attachments_travel),
        cmocka_unit_test(test_attached_again), cmocka_unit_test(test_export_refusals),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
