/* A GGUF file in parts, as the public package wrote it (tests/gguf/make_parts.py): the model of tests/golden/llama_bias, bit for
 * bit; and parts that do not belong together. */
#include "tests/unit/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/gguf/gguf.h"
#include "checkpoints/hf/hf.h"
#include "checkpoints/model_file.h"
#include "tests/unit/scratch.h"

enum { PARTS = 3 };

static const char *part_name(int i, int of)
{
    static char name[64];
    snprintf(name, sizeof name, "parts-%05d-of-%05d.gguf", i, of);
    return name;
}

/* A part into the scratch folder, cut by `cut` bytes, under the name of part `as`. */
static void put_part(int i, int as, size_t cut)
{
    char path[128];
    size_t n;
    snprintf(path, sizeof path, "tests/gguf/%s", part_name(i, PARTS));
    char *bytes = scratch_read(path, &n);
    scratch_put(part_name(as, PARTS), bytes, n - cut);
    free(bytes);
}

static void put_all(void)
{
    for (int i = 1; i <= PARTS; i++) put_part(i, i, 0);
}

static void expect_refused(const char *name, const char *words)
{
    Status st = {0};
    assert_null(gguf_open(scratch_path(name), &st));
    assert_true(says(&st, words));
}

static void one_model(void **state)
{
    (void)state;
    Status st = {0};
    ModelConfig want, got;
    assert_true(hf_config_read("tests/golden/llama_bias", &want, &st));
    ParamTable t = params_build(&want);
    float *a = malloc(t.total * sizeof *a);
    assert_true(hf_weights_read("tests/golden/llama_bias", &want, &t, a, &st));
    LoadedModel *m = model_open("tests/gguf/parts-00001-of-00003.gguf", MODEL_WEIGHTS, &st);
    if (!m) fail_msg("%s", st.text);
    got = m->config;
    assert_true(got.qkv_bias && got.mlp_bias && got.L == want.L && got.Dr == want.Dr && got.F == want.F);
    assert_int_equal(m->table.total, t.total);
    assert_memory_equal(m->weights, a, t.total * sizeof *a);
    model_close(m);
    free(a);
    params_free(&t);
}

static void not_the_first(void **state)
{
    (void)state;
    put_all();
    expect_refused(part_name(2, PARTS), "part 2 of a file in 3 parts: give the first");
}

static void renamed(void **state)
{
    (void)state;
    put_all();
    put_part(1, 1, 0);
    size_t n;
    char *bytes = scratch_read(scratch_path(part_name(1, PARTS)), &n);
    scratch_put("model.gguf", bytes, n);
    free(bytes);
    expect_refused("model.gguf", "whose name ends in -00001-of-00003.gguf");
}

static void missing(void **state)
{
    (void)state;
    put_all();
    remove(scratch_path(part_name(3, PARTS)));
    expect_refused(part_name(1, PARTS), part_name(3, PARTS));
}

static void exchanged(void **state)
{
    (void)state;
    put_all();
    put_part(2, 3, 0);
    expect_refused(part_name(1, PARTS), "says that it is part 2 of 3: the parts do not belong together");
}

static void truncated(void **state)
{
    (void)state;
    put_all();
    put_part(3, 3, 100);
    expect_refused(part_name(1, PARTS), "first of 3 parts");
}

/* The first announces how many tensors all parts hold. */
static void fewer_tensors(void **state)
{
    (void)state;
    static const char key[] = "split.tensors.count";
    size_t n;
    put_all();
    char *bytes = scratch_read(scratch_path(part_name(1, PARTS)), &n);
    char *at = memmem(bytes, n, key, sizeof key - 1);
    assert_non_null(at);
    at[sizeof key - 1 + 4]++; /* behind the key's type: the number's lowest byte */
    scratch_put(part_name(1, PARTS), bytes, n);
    free(bytes);
    expect_refused(part_name(1, PARTS), "one is truncated");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_model),     cmocka_unit_test(not_the_first), cmocka_unit_test(renamed),
        cmocka_unit_test(missing),       cmocka_unit_test(exchanged),     cmocka_unit_test(truncated),
        cmocka_unit_test(fewer_tensors),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
