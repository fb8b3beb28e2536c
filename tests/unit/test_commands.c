/* generate, inspect, data and eval, as other programs call them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/checkpoint.h"
#include "core/base/check.h"
#include "data/tokenizer/tokenizer.h"
#include "recipes/cli/commands.h"
#include "tests/unit/capture.h"
#include "tests/unit/golden.h"
#include "tests/unit/scratch.h"
#include "tests/unit/unit.h"

enum { GREEDY_PROMPT = 5 };

static void expect_success(const Captured *c)
{
    if (c->code) fail_msg("exit code %d: %s", c->code, c->err);
}

static void expect_failure(Captured c, int code, const char *says)
{
    if (c.code != code || !strstr(c.err, says))
        fail_msg("exit code %d, \"%s\" does not say \"%s\"", c.code, c.err, says);
    captured_free(&c);
}

static Json *parse_line(char **text)
{
    Status st = {0};
    size_t n = strcspn(*text, "\n");
    Json *v = json_parse(*text, n, "output", &st);
    if (!v) fail_msg("%s", st.text);
    *text += n + 1;
    return v;
}

static void write_prompts(const StFile *expected)
{
    char lines[512] = "";
    for (int s = 0; s < 3; s++) {
        size_t n;
        const int32_t *ids = golden_ints(expected, &n, "ids.%d", s);
        for (int i = 0; i < GREEDY_PROMPT; i++)
            snprintf(lines + strlen(lines), sizeof lines - strlen(lines), "%s%d%s", i ? "," : "{\"ids\":[", ids[i],
                     i == GREEDY_PROMPT - 1 ? "]}\n" : "");
    }
    scratch_put("prompts.jsonl", lines, strlen(lines));
}

static void expect_greedy(const char *model, const char *cache)
{
    char name[64];
    snprintf(name, sizeof name, "%s/expected.safetensors", model);
    StFile *expected = golden_file(name);
    write_prompts(expected);
    Captured c =
        capture(cmd_generate, "generate tests/golden/%s --ids %s --max-tokens 16 --temperature 0 --cache %s --json",
                model, scratch_path("prompts.jsonl"), cache);
    expect_success(&c);
    char *text = c.out;
    for (int s = 0; s < 3; s++) {
        size_t n;
        const int32_t *want = golden_ints(expected, &n, "greedy.%d", s);
        Json *line = parse_line(&text);
        const Json *ids = json_get(line, "ids");
        assert_int_equal(json_count(line), 1);
        assert_int_equal(json_count(ids), n);
        for (size_t i = 0; i < n; i++) assert_int_equal(json_integer(json_at(ids, i)), want[i]);
        json_free(line);
    }
    captured_free(&c);
    st_close(expected);
}

/* llama and v2_yarn meet their end token on the way: --ids goes on. */
static void generate_ids(void **state)
{
    (void)state;
    expect_greedy("llama", "exact");
    expect_greedy("v2_yarn", "exact");
    expect_greedy("v2_full", "latent");
    expect_failure(
        capture(cmd_generate, "generate tests/golden/llama --ids %s --cache latent", scratch_path("prompts.jsonl")), 1,
        "tokenizer");
    expect_failure(capture(cmd_generate, "generate tests/golden/llama --json --ids %s --cache latent",
                           scratch_path("prompts.jsonl")),
                   1, "latent");
    expect_failure(capture(cmd_generate, "generate tests/golden/llama"), 2, "one of --prompt and --ids");
    expect_failure(capture(cmd_generate, "generate tests/golden/llama --prompt x --temperature hot"), 2,
                   "expected a number");
}

static void inspect_known_models(void **state)
{
    (void)state;
    const struct {
        const char *name, *total;
    } models[] = {
        {"deepseek-v2-lite", "15,706,484,224"}, {"deepseek-v2", "235,741,434,880"}, {"deepseek-v3", "671,026,419,200"},
        {"qwen2.5-0.5b", "494,032,768"},        {"qwen2.5-1.5b", "1,543,714,304"},  {"qwen3-0.6b", "596,049,920"},
        {"smollm2-135m", "134,515,008"},
    };
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        Captured c = capture(cmd_inspect, "inspect %s", models[i].name);
        expect_success(&c);
        if (!strstr(c.out, models[i].total)) fail_msg("%s: no total %s in\n%s", models[i].name, models[i].total, c.out);
        captured_free(&c);
    }
    Captured c = capture(cmd_inspect, "inspect deepseek-v2-lite --json");
    char *text = c.out;
    Json *o = parse_line(&text);
    int64_t sum = 0;
    for (size_t i = 0; i < json_count(json_get(o, "table")); i++)
        sum += json_integer(json_get(json_at(json_get(o, "table"), i), "parameters"));
    assert_true(sum == 15706484224 && json_integer(json_get(o, "parameters")) == sum);
    json_free(o);
    captured_free(&c);
    expect_failure(capture(cmd_inspect, "inspect nothing"), 1, "nothing is no checkpoint");
    expect_failure(capture(cmd_inspect, "inspect tests/golden/v3 --stage zero"), 2, "go together");
}

static void data_lines(void **state)
{
    (void)state;
    Captured list = capture(cmd_data, "data --list"),
             c = capture(cmd_data, "data add --split test --n 20 --level 3 --language zh --json");
    expect_success(&list);
    expect_success(&c);
    assert_non_null(strstr(list.out, "countdown"));
    char *text = c.out;
    for (int i = 0; i < 20; i++) {
        Json *o = parse_line(&text);
        assert_int_equal(json_integer(json_get(o, "level")), 3);
        assert_string_equal(json_string(json_get(o, "language"), NULL), "zh");
        assert_non_null(strstr(json_string(json_get(o, "trace"), NULL), json_string(json_get(o, "answer"), NULL)));
        assert_true(json_is_string(json_get(o, "prompt")));
        json_free(o);
    }
    assert_int_equal(*text, 0);
    captured_free(&list);
    captured_free(&c);
    static const char rows[] = "{\"prompt\": \"a\", \"answer\": 1}\n{\"prompt\": \"b\", \"answer\": 2}\n";
    scratch_put("two.jsonl", rows, sizeof rows - 1);
    c = capture(cmd_data, "data %s --json --n 5", scratch_path("two.jsonl"));
    expect_success(&c);
    text = c.out;
    json_free(parse_line(&text));
    if (*text) json_free(parse_line(&text));
    assert_int_equal(*text, 0); /* each row once */
    captured_free(&c);
    expect_failure(capture(cmd_data, "data ad"), 1, "did you mean 'add'?");
    expect_failure(capture(cmd_data, "data add --level 99"), 1, "levels 1 to");
    expect_failure(capture(cmd_data, "data add --split both"), 2, "train or test");
    expect_failure(capture(cmd_data, "data add --n 0"), 2, "from 1");
}

/* An untrained model with the characters' tokenizer as a checkpoint. */
static const char *tiny_checkpoint(void)
{
    static char path[512]; /* scratch_path's buffers are few */
    Status st = {0};
    Tokenizer *t = tokenizer_new_char();
    ModelConfig c = {.arch = ARCH_LLAMA,
                     .attention = ATTENTION_GQA,
                     .V = tokenizer_vocab(t),
                     .C = 32,
                     .L = 2,
                     .H = 2,
                     .Hkv = 1,
                     .Dr = 16,
                     .Dv = 16,
                     .F = 48,
                     .eps = 1e-6f,
                     .rope = {.theta = 10000.0f},
                     .max_positions = 256,
                     .tied = true,
                     .init_std = 0.02f,
                     .bos = tokenizer_bos(t),
                     .eos = tokenizer_eos(t)};
    ParamTable table = params_build(&c);
    float *weights = calloc(table.total, sizeof *weights);
    CheckpointMeta meta = {.stage = "zero", .finished = true};
    meta.tokenizer = tokenizer_serialize(t, &meta.tokenizer_length);
    params_init(&table, &c, weights, 3);
    snprintf(path, sizeof path, "%s", scratch_path("tiny.h5"));
    if (!checkpoint_save(path, &c, &table, weights, NULL, NULL, NULL, &meta, &st)) fail_msg("%s", st.text);
    free(meta.tokenizer);
    free(weights);
    params_free(&table);
    tokenizer_free(t);
    return path;
}

static int lines_of(const char *path)
{
    size_t n;
    char *text = scratch_read(path, &n);
    int lines = 0;
    for (size_t i = 0; i < n; i++) lines += text[i] == '\n';
    free(text);
    return lines;
}

static void eval_lines(void **state)
{
    (void)state;
    char dump[512];
    const char *model = tiny_checkpoint();
    snprintf(dump, sizeof dump, "%s", scratch_path("dump.jsonl"));
    const char *line =
        "eval %s --task add,refusal --levels 1,2 --n 6 --k 3 --max-tokens 12 --json --dump %s --threads %d";
    Captured c = capture(cmd_eval, line, model, dump, 1), again = capture(cmd_eval, line, model, dump, 2);
    expect_success(&c);
    assert_string_equal(c.out, again.out);
    assert_int_equal(lines_of(dump), 6 * 3 + 6);
    char *text = c.out, *dumped, *at;
    Json *o = parse_line(&text);
    const char *keys[] = {"pass@1", "se", "cons@3", "pass@3", "format", "language", "length"};
    for (int i = 0; i < 7; i++) assert_true(json_is_number(json_get(json_get(o, "add"), keys[i])));
    assert_true(json_is_number(json_get(o, "safe")));
    json_free(o);
    size_t n;
    dumped = at = scratch_read(dump, &n);
    o = parse_line(&at);
    const char *members[] = {"prompt", "completion", "answer", "reason"};
    for (int i = 0; i < 4; i++) assert_true(json_is_string(json_get(o, members[i])));
    assert_true(json_is_bool(json_get(o, "correct")));
    json_free(o);
    free(dumped);
    captured_free(&c);
    captured_free(&again);
    expect_failure(capture(cmd_eval, "eval %s --task ad", model), 1, "did you mean 'add'?");
    expect_failure(capture(cmd_eval, "eval %s", model), 1, "--task");
    expect_failure(capture(cmd_eval, "eval tests/golden/llama --task add"), 1, "has no tokenizer");
    expect_failure(capture(cmd_eval, "eval %s --task add --levels 2-3", model), 2, "--levels");
}

static void generate_text(void **state)
{
    (void)state;
    const char *model = tiny_checkpoint();
    Captured text = capture(cmd_generate, "generate %s --prompt add --max-tokens 20 --temperature 1", model);
    Captured json = capture(cmd_generate, "generate %s --prompt add --max-tokens 20 --temperature 1 --json", model);
    expect_success(&text);
    expect_success(&json);
    char *at = json.out;
    Json *o = parse_line(&at);
    assert_int_equal(json_count(json_get(o, "ids")), 20);
    text.out[strcspn(text.out, "\n")] = 0;
    size_t n = strlen(text.out);
    assert_true(n > 0);
    json_free(o);
    captured_free(&text);
    captured_free(&json);
    Captured model_view = capture(cmd_inspect, "inspect %s --json", model);
    expect_success(&model_view);
    assert_non_null(strstr(model_view.out, "\"weights_sha256\": \""));
    captured_free(&model_view);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(generate_ids), cmocka_unit_test(generate_text), cmocka_unit_test(inspect_known_models),
        cmocka_unit_test(data_lines),   cmocka_unit_test(eval_lines),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
