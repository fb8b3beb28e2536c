/* Options of the command line: every runtime option is parsed, in the help and hinted at; choices; a checkpoint's precision. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/rollout/kv_cache.h"
#include "recipes/cli/commands.h"
#include "recipes/model/open_model.h"
#include "recipes/model/runtime_options.h"
#include "tests/unit/capture.h"
#include "tests/unit/scratch.h"
#include "tests/unit/unit.h"

static void expect(int (*command)(int, char **), const char *line, int code, const char *words)
{
    Captured c = capture(command, "%s", line);
    const char *said = code ? c.err : c.out;
    if (c.code != code || !strstr(said, words))
        fail_msg("%s: exit code %d, \"%s\" does not say \"%s\"", line, c.code, said, words);
    captured_free(&c);
}

/* One letter is lost from the name: the hint gives it back. */
static void every_runtime_option_is_known(void **state)
{
    (void)state;
    RuntimeOptions o = runtime_defaults();
    RuntimeTable t;
    runtime_options(&t, &o);
    for (int i = 0; i < RUNTIME_OPTIONS; i++) {
        const char *name = t.rows[i].name;
        char line[100], hint[100];
        snprintf(line, sizeof line, "  %s", name);
        expect(cmd_plan, "plan --help", 0, line);
        if (strlen(name) < 4) continue;
        snprintf(line, sizeof line, "plan tiny %.*s%s", (int)strlen(name) - 3, name, name + strlen(name) - 2);
        snprintf(hint, sizeof hint, "did you mean '%s'?", name);
        expect(cmd_plan, line, 2, hint);
        if (!t.rows[i].value) continue;
        snprintf(line, sizeof line, "plan tiny %s", name);
        expect(cmd_plan, line, 2, "needs a value");
    }
}

static void values(void **state)
{
    (void)state;
    RuntimeOptions o = runtime_defaults();
    RuntimeTable t;
    Status st = {0};
    runtime_options(&t, &o);
    static const char *const given[RUNTIME_OPTIONS] = {"3",   "17", "native", "emulated", "bf16",
                                                       "2.5", "0",  NULL,     NULL,       NULL};
    for (int i = 0; i < RUNTIME_OPTIONS; i++) assert_true(option_store(&t.rows[i], given[i], &st));
    assert_int_equal(o.threads, 3);
    assert_int_equal(o.chunk, 17);
    assert_string_equal(o.matmul, "native");
    assert_string_equal(o.device, "emulated");
    assert_true(o.dtype == DTYPE_BF16 && o.dtype_given && o.memory_gb == 2.5 && o.checkpoint_seconds == 0);
    assert_true(o.skip_bad && o.other_machine && o.verbose);
    assert_false(option_store(&t.rows[0], "0", &st));
    assert_true(says(&st, "--threads 0: expected a whole number from 1 to 1024"));
    status_clear(&st);
    assert_false(option_store(&t.rows[5], "nan", &st));
    status_clear(&st);
    assert_false(option_store(&t.rows[4], "f16", &st));
    assert_true(says(&st, "--precision f16: expected f32 or bf16"));
}

static void choices(void **state)
{
    (void)state;
    expect(cmd_generate, "generate tests/golden/llama --ids x --cache exakt", 2,
           "--cache exakt: expected exact or latent");
    expect(cmd_eval, "eval tests/golden/llama --cache exakt", 2, "expected exact or latent");
    expect(cmd_data, "data add --split tset", 2, "--split tset: expected train or test");
    expect(cmd_data, "data add --language fr", 2, "expected en or zh");
    expect(cmd_export, "export x --format zip -o y", 2, "--format zip: expected hf, gguf or peft");
    expect(cmd_export, "export x --format hf --dtype q4 -o y", 2, "expected f32, f16, bf16 or q8_0");
    expect(cmd_export, "export x --format hf --dtype q8_0 -o y", 2, "q8_0 is for --format gguf");
}

/* The attribute decides; a file without it is asked for its recipe, wherever the key stands there and however it is spaced. */
static void precision_of_a_checkpoint(void **state)
{
    (void)state;
    CheckpointMeta meta = {0};
    assert_int_equal(open_model_precision(&meta), DTYPE_F32);
    meta.recipe = "precision:   bf16\nstages: []\n";
    assert_int_equal(open_model_precision(&meta), DTYPE_BF16);
    meta.recipe = "title: \"\\nprecision: bf16\\n\"\nprecision: f32\n";
    assert_int_equal(open_model_precision(&meta), DTYPE_F32);
    strcpy(meta.precision, "bf16");
    assert_int_equal(open_model_precision(&meta), DTYPE_BF16);
    strcpy(meta.precision, "f32");
    meta.recipe = "precision: bf16\n";
    assert_int_equal(open_model_precision(&meta), DTYPE_F32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_runtime_option_is_known),
        cmocka_unit_test(values),
        cmocka_unit_test(choices),
        cmocka_unit_test(precision_of_a_checkpoint),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
