/* Parts of a foreign model that contradict each other, or that nothing reads, are settled aloud or refused. */
#include "tests/unit/unit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoints/gguf/gguf.h"
#include "checkpoints/hf/hf.h"
#include "checkpoints/model_file.h"
#include "tests/unit/scratch.h"

enum { ALL = MODEL_WEIGHTS | MODEL_TOKENIZER | MODEL_ATTACHMENTS };

/* tests/golden/llama as a folder of ours, its weights changed and one tensor added by the caller. */
typedef struct Change {
    const char *add; /* name of a tensor of ones as large as the first norm; NULL: none */
    bool tied;       /* what config.json says */
    float head;      /* added to the first value of the head; NAN: no head at all */
} Change;

static void write_folder(const char *name, const Change *change)
{
    Status st = {0};
    LoadedModel *m = model_open("tests/golden/llama", ALL, &st);
    assert_non_null(m);
    char path[512];
    snprintf(path, sizeof path, "%s", scratch_path(name));
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/model.safetensors", scratch_path(name));
    int embed = params_find(&m->table, PARAM_EMBED, -1, -1);
    const Param *e = &m->table.params[embed];
    float *head = malloc(e->count * sizeof *head), *ones = malloc((size_t)m->config.C * sizeof *ones);
    memcpy(head, m->weights + e->offset, e->count * sizeof *head);
    head[0] += change->head;
    for (int i = 0; i < m->config.C; i++) ones[i] = 1.0f;
    StWriter *w = st_writer_open(path, &st);
    const uint64_t width = (uint64_t)m->config.C;
    bool headed = !isnan(change->head);
    for (int i = 0; i < m->table.n; i++) {
        const Param *p = &m->table.params[i];
        if (p->kind != PARAM_HEAD) st_writer_add(w, p->name, ST_F32, p->ndim, (uint64_t[]){p->rows, p->cols});
    }
    if (headed) st_writer_add(w, "lm_head.weight", ST_F32, 2, (uint64_t[]){e->rows, e->cols});
    if (change->add) st_writer_add(w, change->add, ST_F32, 1, &width);
    for (int i = 0; i < m->table.n; i++) {
        const Param *p = &m->table.params[i];
        if (p->kind != PARAM_HEAD) assert_true(st_writer_data(w, p->name, m->weights + p->offset, &st));
    }
    if (headed) assert_true(st_writer_data(w, "lm_head.weight", head, &st));
    if (change->add) assert_true(st_writer_data(w, change->add, ones, &st));
    assert_true(st_writer_close(w, &st));
    ModelConfig c = m->config;
    c.tied = change->tied;
    Json *config = hf_config_json(&c);
    snprintf(path, sizeof path, "%s/config.json", scratch_path(name));
    assert_true(json_write_file(config, path, &st));
    json_free(config);
    free(head);
    free(ones);
    model_close(m);
}

static void assert_refused(const char *name, const char *words)
{
    Status st = {0};
    assert_null(model_open(scratch_path(name), ALL, &st));
    assert_true(says(&st, words));
}

/* config.json says tied: an equal head is none, another one counts. */
static void test_tied_by_config(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        float head;
        bool tied;
    } cases[] = {{"equal", 0.0f, true}, {"other", 0.25f, false}, {"none", NAN, true}};
    for (int i = 0; i < 3; i++) {
        Status st = {0};
        write_folder(cases[i].name, &(Change){.tied = true, .head = cases[i].head});
        LoadedModel *m = model_open(scratch_path(cases[i].name), ALL, &st);
        assert_non_null(m);
        assert_int_equal(m->config.tied, cases[i].tied);
        const Param *e = &m->table.params[params_find(&m->table, PARAM_EMBED, -1, -1)];
        int head = params_find(&m->table, PARAM_HEAD, -1, -1);
        assert_int_equal(head >= 0, !cases[i].tied);
        if (head >= 0) assert_true(m->weights[m->table.params[head].offset] == m->weights[e->offset] + cases[i].head);
        model_close(m);
    }
}

/* A tensor that nothing reads is refused by name; a buffer that follows from the config is not. */
static void test_every_tensor(void **state)
{
    (void)state;
    Status st = {0};
    const char *refused[] = {"model.layers.0.self_attn.q_proj.bias",   "model.layers.1.mlp.gate_proj.bias",
                             "model.layers.0.self_attn.q_norm.weight", "model.embed_norm.weight",
                             "model.layers.7.input_layernorm.weight",  "v_head.summary.weight"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        write_folder("bias", &(Change){.add = refused[i]});
        assert_refused("bias", refused[i]);
    }
    write_folder("more", &(Change){.add = "model.layers.0.self_attn.rotary_emb.inv_freq"});
    LoadedModel *m = model_open(scratch_path("more"), ALL, &st);
    assert_non_null(m);
    model_close(m);
}

/* model.safetensors beside an index of other files: nothing says which save is meant. An index of that very file is none. */
static void test_two_claimants(void **state)
{
    (void)state;
    Status st = {0};
    static const char other[] = "{\"weight_map\": {\"model.norm.weight\": \"model-00001-of-00002.safetensors\"}}";
    write_folder("stale", &(Change){0});
    scratch_put("stale/model.safetensors.index.json", other, sizeof other - 1);
    assert_refused("stale", "two ");
    LoadedModel *m = model_open("tests/golden/llama", ALL, &st);
    Json *index = json_new_object(), *map = json_new_object();
    for (int i = 0; i < m->table.n; i++) json_set(map, m->table.params[i].name, json_new_text("model.safetensors"));
    if (params_find(&m->table, PARAM_HEAD, -1, -1) < 0)
        json_set(map, "lm_head.weight", json_new_text("model.safetensors"));
    json_set(index, "weight_map", map);
    model_close(m);
    assert_true(json_write_file(index, scratch_path("stale/model.safetensors.index.json"), &st));
    json_free(index);
    m = model_open(scratch_path("stale"), ALL, &st);
    assert_non_null(m);
    model_close(m);
}

static void test_finite(void **state)
{
    (void)state;
    static const float odd[] = {NAN, INFINITY, -INFINITY};
    Status st = {0};
    LoadedModel *m = model_open("tests/golden/llama", ALL, &st);
    assert_true(model_finite(m, &st));
    const Param *p = &m->table.params[params_find(&m->table, PARAM_DOWN, 1, -1)];
    for (int i = 0; i < 3; i++) {
        status_clear(&st);
        m->weights[p->offset + p->cols + 3] = odd[i];
        assert_false(model_finite(m, &st));
        assert_true(says(&st, "model.layers.1.mlp.down_proj.weight"));
        assert_true(says(&st, "[1, 3]"));
    }
    model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tied_by_config),
        cmocka_unit_test(test_every_tensor),
        cmocka_unit_test(test_two_claimants),
        cmocka_unit_test(test_finite),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
