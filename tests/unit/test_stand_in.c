/* A file that is not what was meant is named as what it is, by every reader of foreign files. */
#include <stdlib.h>
#include <string.h>

#include "checkpoints/model_file.h"
#include "data/dataset.h"
#include "data/stand_in.h"
#include "data/tokenizer/tokenizer.h"
#include "tests/unit/scratch.h"
#include "tests/unit/unit.h"

static const char pointer[] = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n";

static void kinds(void **state)
{
    (void)state;
    static const struct {
        const char *name, *bytes;
        size_t n;
        const char *words; /* NULL: the sentence stays */
    } list[] = {
        {"a.h5", pointer, sizeof pointer - 1, "a.h5 is a Git LFS pointer"},
        {"b.h5", "/annex/objects/SHA256E-s12--ab\n", 31, "git annex get"},
        {"c.json", "\n  <!DOCTYPE HTML><p>Please log in", 33, "is a web page"},
        {"d.json", "<html lang=en>", 14, "is a web page"},
        {"e.gz", "\x1f\x8b\x08\x00", 4, "compressed by gzip"},
        {"f.zst", "\x28\xb5\x2f\xfd\x00", 5, "compressed by zstd"},
        {"g.bin", "PK\x03\x04....", 8, "a zip archive"},
        {"h.parquet", "PAR1....", 8, "a Parquet file"},
        {"i.jsonl", "ARROW1\0\0", 8, "an Arrow file"},
        {"j.jsonl", "\xff\xfe{\0\"\0", 6, "iconv -f UTF-16"},
        {"m.gguf.part2", "....", 4, "by its name a part of a split file: put the parts together first (cat "},
        {"m.gguf.part1of3", "....", 4, "a part of a split file"},
        {"m.safetensors.00", "....", 4, "a part of a split file"},
        {"m.h5.ab", "....", 4, "a part of a split file"},
        {"m.h5", "....", 4, NULL},
        {"v1.5", "....", 4, NULL},
        {"empty.h5", "", 0, NULL},
        {"version.json", "version 2", 9, NULL},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        Status st = {0};
        scratch_put(list[i].name, list[i].bytes, list[i].n);
        assert_false(stand_in(scratch_path(list[i].name), &st));
        assert_false(st.failed); /* nothing had failed */
        fail(&st, "as it was");
        assert_false(stand_in(scratch_path(list[i].name), &st));
        assert_true(st.failed && says(&st, list[i].words ? list[i].words : "as it was"));
    }
    Status st = {0};
    fail(&st, "as it was");
    assert_false(stand_in(scratch_path("not there.part1"), &st));
    assert_true(says(&st, "as it was"));
}

static void readers(void **state)
{
    (void)state;
    static const char config[] = "tests/golden/llama/config.json";
    Status st = {0};
    scratch_put("rows.jsonl", pointer, sizeof pointer - 1);
    assert_null(dataset_read(scratch_path("rows.jsonl"), 0, false, &st));
    assert_true(says(&st, "rows.jsonl is a Git LFS pointer"));
    status_clear(&st);
    assert_null(dataset_read(scratch_path("rows.jsonl"), 0, true, &st));
    assert_true(says(&st, "rows.jsonl is a Git LFS pointer"));
    status_clear(&st);
    scratch_put("tokenizer.json", pointer, sizeof pointer - 1);
    assert_null(tokenizer_load(scratch_path("tokenizer.json"), &st));
    assert_true(says(&st, "tokenizer.json is a Git LFS pointer"));
    status_clear(&st);
    size_t n;
    char *text = scratch_read(config, &n);
    scratch_put("config.json", text, n);
    free(text);
    scratch_put("model.safetensors", pointer, sizeof pointer - 1);
    assert_null(model_open(scratch_folder(), MODEL_WEIGHTS, &st));
    assert_true(says(&st, "model.safetensors is a Git LFS pointer"));
    status_clear(&st);
    scratch_put("config.json", pointer, sizeof pointer - 1);
    assert_null(model_open(scratch_folder(), MODEL_WEIGHTS, &st));
    assert_true(says(&st, "config.json is a Git LFS pointer"));
    status_clear(&st);
    scratch_put("stage.h5", pointer, sizeof pointer - 1);
    assert_null(model_open(scratch_path("stage.h5"), MODEL_WEIGHTS, &st));
    assert_true(says(&st, "stage.h5 is a Git LFS pointer"));
    status_clear(&st);
    scratch_put("model.gguf", pointer, sizeof pointer - 1);
    assert_null(model_open(scratch_path("model.gguf"), MODEL_WEIGHTS, &st));
    assert_true(says(&st, "model.gguf is a Git LFS pointer"));
    status_clear(&st);
    scratch_put("model.gguf.part2of2", "middle of a file", 16);
    assert_null(model_open(scratch_path("model.gguf.part2of2"), MODEL_WEIGHTS, &st));
    assert_true(says(&st, "a part of a split file"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(kinds), cmocka_unit_test(readers)};
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
