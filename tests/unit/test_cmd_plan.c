/* r1 plan: stages that start from a part of another, balance losses of models from elsewhere, steps too large to plan. */
#include <stdio.h>
#include <string.h>

#include "recipes/cli/commands.h"
#include "tests/unit/capture.h"
#include "tests/unit/scratch.h"
#include "tests/unit/unit.h"

static void plan(const char *recipe, int code, const char *words)
{
    scratch_put("r.yaml", recipe, strlen(recipe));
    Captured c = capture(cmd_plan, "plan %s", scratch_path("r.yaml"));
    const char *said = code ? c.err : c.out;
    if (c.code != code || !strstr(said, words))
        fail_msg("exit code %d, \"%s\" does not say \"%s\"\n%s", c.code, said, words, c.err);
    captured_free(&c);
}

static void parts_of_stages(void **state)
{
    (void)state;
    plan("extends: micro\nstages.again: {kind: rl, model: student, from: distill.rival1, prompts: 2, group: 4, "
         "max_tokens: 40}\n",
         1, "'model' is no key of");
    plan("extends: micro\nstages.again: {kind: rl, from: distill.rival1, prompts: 2, group: 4, max_tokens: 40}\n", 0,
         "again          peak");
    plan("extends: micro\nstages.again: {kind: rl, from: distill.rival2, prompts: 2, group: 4, max_tokens: 40}\n", 1,
         "makes 1 rivals");
}

/* A model that a stage takes from a file is checked against the balance keys before anything runs. */
static void models_from_files(void **state)
{
    (void)state;
    static const char text[] =
        "extends: micro\n"
        "model.n_routed_experts: 6\n"
        "balance: {device: 0.1, devices: 3}\n"
        "stages: [{name: learn, kind: sft, from: tests/golden/v2_lite, steps: 2, eval_after: false}]\n";
    plan(text, 1, "stage learn: balance: the balance losses have 3 devices, but n_routed_experts is 16");
}

static void too_large(void **state)
{
    (void)state;
    plan("extends: micro\nstages: [{name: zero, from: tests/golden/llama, prompts: 1048576, group: 16, max_tokens: "
         "200}]\n",
         1, "");
    Captured c = capture(cmd_plan, "plan micro --set zero.prompts=1048576 --set zero.group=16");
    assert_true(c.code == 1 && strstr(c.err, "stage zero: an update of 16777216 sequences"));
    captured_free(&c);
    c = capture(cmd_plan, "plan micro --set zero.nosuch=1");
    assert_true(c.code == 1 && strstr(c.err, "unknown key 'nosuch'"));
    captured_free(&c);
    c = capture(cmd_plan, "plan smollm2-135m --batch 1048576 --length 65536");
    assert_int_equal(c.code, 1);
    assert_non_null(strstr(c.err, "more than the 67108864 tokens"));
    assert_null(strstr(c.out, "weights"));
    captured_free(&c);
}

/* What is of a model alone is refused beside a recipe. */
static void options_of_a_model(void **state)
{
    (void)state;
    static const char *const options[] = {"--lora attention", "--train self_attn", "--as ram=64", "--json",
                                          "--simulate"};
    for (int i = 0; i < 5; i++) {
        Captured c = capture(cmd_plan, "plan micro %s", options[i]);
        assert_true(c.code == 2 && strstr(c.err, "are of a MODEL"));
        captured_free(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_of_stages),
        cmocka_unit_test(models_from_files),
        cmocka_unit_test(too_large),
        cmocka_unit_test(options_of_a_model),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
