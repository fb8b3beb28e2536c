/* r1 score, as other programs call it: its lines, its file against tests/golden, its sentences about bad input. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "recipes/cli/commands.h"
#include "tests/tolerances.h"
#include "tests/unit/capture.h"
#include "tests/unit/golden.h"
#include "tests/unit/scratch.h"
#include "tests/unit/unit.h"

static void write_ids(const StFile *expected)
{
    FILE *f = fopen(scratch_path("ids.jsonl"), "w");
    assert_non_null(f);
    for (int s = 0; s < 3; s++) {
        size_t n;
        const int32_t *ids = golden_ints(expected, &n, "ids.%d", s);
        for (size_t i = 0; i < n; i++) fprintf(f, "%s%d", i ? ", " : "{\"ids\": [", ids[i]);
        fprintf(f, "]}\n");
    }
    fclose(f);
}

static double tolerance_of(const char *name, bool *relative)
{
    *relative = !strncmp(name, "grad.", 5) || !strncmp(name, "hidden.", 7) || !strncmp(name, "router.", 7);
    if (!strncmp(name, "grad.", 5)) return TOL_GOLDEN_GRADIENT;
    if (*relative) return TOL_GOLDEN_HIDDEN;
    if (!strncmp(name, "logits.", 7)) return TOL_GOLDEN_LOGITS;
    if (!strncmp(name, "logprobs.", 9)) return TOL_GOLDEN_LOGPROBS;
    return TOL_GOLDEN_NLL;
}

/* Every tensor of `want` is in the file, equal within tolerance; names that other programs make are left out. */
static void expect_file(const char *path, const StFile *want)
{
    Status st = {0};
    StFile *got = st_open(path, &st);
    if (!got) fail_msg("%s", st.text);
    for (size_t i = 0; i < st_count(want); i++) {
        const StTensor *w = st_at(want, i);
        bool relative;
        if (!strncmp(w->name, "greedy", 6) || !strncmp(w->name, "counts.", 7) || !strncmp(w->name, "bias_after.", 11))
            continue;
        const StTensor *g = st_find(got, w->name);
        if (!g) fail_msg("%s is not in the file", w->name);
        if (g->dtype != w->dtype || g->ndim != w->ndim ||
            memcmp(g->shape, w->shape, (size_t)w->ndim * sizeof *w->shape))
            fail_msg("%s has another type or shape", w->name);
        double tolerance = tolerance_of(w->name, &relative);
        if (w->dtype == ST_I32) expect_ints(w->name, g->data, w->data, w->count);
        else if (relative) expect_relative(w->name, g->data, w->data, w->count, tolerance);
        else expect_close(w->name, g->data, w->data, w->count, tolerance);
    }
    st_close(got);
}

static Json *line_of(const char *text, int number)
{
    Status st = {0};
    for (int i = 0; i < number; i++) text = strchr(text, '\n') + 1;
    Json *v = json_parse(text, strcspn(text, "\n"), "output", &st);
    if (!v) fail_msg("%s", st.text);
    return v;
}

static double number_in(const Json *o, const char *key)
{
    assert_true(json_is_number(json_get(o, key)));
    return json_number(json_get(o, key));
}

static void expect_lines(const char *out, const StFile *expected, double nll, double aux)
{
    int tokens = 0;
    for (int s = 0; s < 3; s++) {
        size_t n;
        const float *want = golden_floats(expected, &n, "logprobs.%d", s);
        Json *line = line_of(out, s);
        const Json *got = json_get(line, "logprobs");
        double sum = 0;
        assert_int_equal(json_count(got), n);
        for (size_t i = 0; i < n; i++) {
            expect_number("logprobs", json_number(json_at(got, i)), want[i], TOL_GOLDEN_LOGPROBS);
            sum += want[i];
        }
        expect_number("nll", number_in(line, "nll"), -sum / (double)n, TOL_GOLDEN_LOGPROBS);
        tokens += (int)n;
        json_free(line);
    }
    Json *last = line_of(out, 3);
    expect_number("nll", number_in(last, "nll"), nll, TOL_GOLDEN_NLL);
    expect_number("aux", number_in(last, "aux"), aux, TOL_GOLDEN_NLL);
    expect_number("loss", number_in(last, "loss"), nll + aux, TOL_GOLDEN_NLL);
    assert_int_equal(json_integer(json_get(last, "tokens")), tokens);
    json_free(last);
}

static void run_case(const char *model)
{
    char name[64];
    snprintf(name, sizeof name, "%s/expected.safetensors", model);
    StFile *expected = golden_file(name);
    write_ids(expected);
    Captured c = capture(cmd_score, "score tests/golden/%s --ids %s --out %s --with logits,logprobs,hidden,router,grad",
                         model, scratch_path("ids.jsonl"), scratch_path("out.safetensors"));
    if (c.code) fail_msg("%s", c.err);
    expect_lines(c.out, expected, golden_scalar(expected, "nll"), 0.0);
    expect_file(scratch_path("out.safetensors"), expected);
    captured_free(&c);
    st_close(expected);
}

static void plain_cases(void **state)
{
    (void)state;
    run_case("v2_full");
    run_case("qwen3");
    run_case("llama");
}

static void run_balance(const char *model, const char *terms)
{
    char name[64];
    snprintf(name, sizeof name, "%s/expected.safetensors", model);
    StFile *expected = golden_file(name);
    snprintf(name, sizeof name, "%s/expected_balance.safetensors", model);
    StFile *balance = golden_file(name);
    write_ids(expected);
    Captured c = capture(cmd_score, "score --aux %s tests/golden/%s --ids %s --out %s --with grad", terms, model,
                         scratch_path("ids.jsonl"), scratch_path("out.safetensors"));
    if (c.code) fail_msg("%s", c.err);
    expect_lines(c.out, expected, golden_scalar(expected, "nll"), golden_scalar(balance, "aux"));
    expect_file(scratch_path("out.safetensors"), balance);
    captured_free(&c);
    st_close(balance);
    st_close(expected);
}

static void balance_cases(void **state)
{
    (void)state;
    run_balance("v2_lite", "expert=0.1,device=0.05,comm=0.02,devices=4,limit=2");
    run_balance("v3", "seq=0.1");
}

static void expect_refused(const char *input, int code, const char *arguments, const char *says)
{
    scratch_put("bad.jsonl", input, strlen(input));
    Captured c = capture(cmd_score, "score tests/golden/v2_lite --ids %s %s", scratch_path("bad.jsonl"), arguments);
    if (c.code != code || !strstr(c.err, says) || strchr(c.err, '\n') != c.err + strlen(c.err) - 1)
        fail_msg("%s %s: code %d, \"%s\" does not say \"%s\" in one line", input, arguments, c.code, c.err, says);
    captured_free(&c);
}

static void sentences(void **state)
{
    (void)state;
    expect_refused("{\"ids\": [1, 2]}\n{\"ids\": [1, 256]}\n", 1, "",
                   "line 2: \"ids\"[1] is 256; the model knows 0 to 255");
    expect_refused("{\"ids\": [1, -1]}\n", 1, "", "line 1: \"ids\"[1] is -1");
    expect_refused("{\"ids\": [1, 2]}\n\n{\"ids\": []}\n", 1, "", "line 3: \"ids\" is empty");
    expect_refused("{\"ids\": [1, 2.5]}\n", 1, "", "line 1: \"ids\"[1] is not a whole number");
    expect_refused("{\"tokens\": [1]}\n", 1, "", "line 1: it has no list \"ids\"");
    expect_refused("{\"ids\": [1, 2\n", 1, "", "line 1: not JSON");
    expect_refused("", 1, "", "there is no line with tokens");
    expect_refused("{\"ids\": [7]}\n", 1, "", "nothing is predicted");
    expect_refused("{\"ids\": [1, 2]}\n", 2, "--with grads --out x", "did you mean 'grad'?");
    expect_refused("{\"ids\": [1, 2]}\n", 2, "--with grad", "needs --out");
    expect_refused("{\"ids\": [1, 2]}\n", 2, "--aux exprt=1", "did you mean 'expert'?");
    expect_refused("{\"ids\": [1, 2]}\n", 2, "--aux expert=much", "expert=NUMBER");
    expect_refused("{\"ids\": [1, 2]}\n", 2, "--ouch x", "unknown option --ouch");
    expect_refused("{\"ids\": [1, 2]}\n", 1, "--aux device=1,devices=3", "devices");
    expect_refused("{\"ids\": [1, 2]}\n", 2, "--text also", "one of --ids and --text");
}

static void skipped_lines(void **state)
{
    (void)state;
    const char *input = "{\"ids\": [1, 2]}\nnonsense\n{\"ids\": [3]}\n";
    scratch_put("some.jsonl", input, strlen(input));
    Captured c = capture(cmd_score, "score tests/golden/llama --skip-bad --ids %s", scratch_path("some.jsonl"));
    assert_int_equal(c.code, 0);
    assert_non_null(strstr(c.err, "1 broken line"));
    assert_non_null(strstr(c.out, "{\"logprobs\": [], \"nll\": null}"));
    captured_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_cases),
        cmocka_unit_test(balance_cases),
        cmocka_unit_test(sentences),
        cmocka_unit_test(skipped_lines),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
