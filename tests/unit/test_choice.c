/* Multiple choice: rows in the spellings that are about, answers that name an option, likelihoods by the trainer's
 * forward. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/batches.h"
#include "core/train.h"
#include "data/choice.h"
#include "recipes/model/eval_choice.h"
#include "recipes/model/machine.h"
#include "tests/unit/scratch.h"
#include "tests/unit/unit.h"

static Json *parse(const char *text)
{
    Status st = {0};
    Json *v = json_parse(text, strlen(text), "the row", &st);
    if (!v) fail_msg("%s", st.text);
    return v;
}

static void rows(void **state)
{
    (void)state;
    static const struct {
        const char *row;
        int right;
    } good[] = {
        {"{\"options\": [\"x\", \"y\", \"z\"], \"answer\": 2}", 2},
        {"{\"options\": [\"x\", \"y\", \"z\"], \"answer\": \"B\"}", 1},
        {"{\"options\": [\"x\", \"y\", \"z\"], \"answer\": \"y\"}", 1},
        {"{\"options\": [\"3\", \"0\", \"1\"], \"answer\": \"1\"}", 2}, /* a text before a number */
        {"{\"options\": [\"B\", \"A\"], \"answer\": \"A\"}", 0},        /* a letter before a text */
        {"{\"endings\": [\"x\", \"y\", \"z\"], \"label\": \"2\"}", 2},
        {"{\"choices\": {\"text\": [\"x\", \"y\"], \"label\": [\"1\", \"2\"]}, \"answerKey\": \"1\"}", 0},
    };
    static const struct {
        const char *row, *fault;
    } bad[] = {
        {"{\"answer\": 0}", "needs \"options\""},
        {"{\"options\": [\"x\"], \"answer\": 0}", "needs \"options\""},
        {"{\"options\": [\"x\", \"\"], \"answer\": 0}", "option 2"},
        {"{\"options\": [\"x\", 3], \"answer\": 0}", "option 2"},
        {"{\"options\": [\"x\", \"y\", \"x\"], \"answer\": 0}", "options 1 and 3 are equal"},
        {"{\"options\": [\"x\", \"y\"]}", "must name one"},
        {"{\"options\": [\"x\", \"y\"], \"answer\": 2}", "must name one"},
        {"{\"options\": [\"x\", \"y\"], \"answer\": -1}", "must name one"},
        {"{\"options\": [\"x\", \"y\"], \"answer\": \"C\"}", "must name one"},
        {"{\"options\": [\"x\", \"y\"], \"answer\": \"\"}", "must name one"},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        Status st = {0};
        Choice c;
        Json *row = parse(good[i].row);
        if (!choice_read(&c, row, &st)) fail_msg("%s: %s", good[i].row, st.text);
        if (c.right != good[i].right) fail_msg("%s: %d", good[i].row, c.right);
        choice_free(&c);
        json_free(row);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Status st = {0};
        Choice c;
        Json *row = parse(bad[i].row);
        assert_false(choice_read(&c, row, &st));
        if (!strstr(st.text, bad[i].fault)) fail_msg("%s: %s", bad[i].row, st.text);
        json_free(row);
    }
}

static void answers(void **state)
{
    (void)state;
    Status st = {0};
    Choice c;
    Json *row = parse("{\"options\": [\"a cat\", \"a dog\", \"C\"], \"answer\": 0}");
    assert_true(choice_read(&c, row, &st));
    static const struct {
        const char *answer;
        int named;
    } cases[] = {{"a dog", 1}, {"\\boxed{a dog}", 1}, {"B", 1},   {"(B)", 1}, {"B)", 1},
                 {"B.", 1},    {"**B**", 1},          {"C", 2},   {"D", -1},  {"", -1},
                 {"dog", -1},  {"a cat a dog", -1},   {"A B", -1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (choice_named(&c, cases[i].answer) != cases[i].named)
            fail_msg("%s names %d", cases[i].answer, choice_named(&c, cases[i].answer));
    choice_free(&c);
    json_free(row);
}

/* "label" is the right option here and a row that is not read elsewhere. */
static void labels(void **state)
{
    (void)state;
    static const char row[] = "{\"prompt\": \"p\", \"endings\": [\"x\", \"y\"], \"label\": \"1\"%s}\n";
    for (int chooses = 0; chooses < 2; chooses++) {
        char text[160];
        Status st = {0};
        int n = snprintf(text, sizeof text, row, chooses ? ", \"verifier\": \"choice\"" : "");
        scratch_put("label.jsonl", text, (size_t)n);
        Dataset *d = dataset_read(scratch_path("label.jsonl"), 0, false, &st);
        assert_true((d != NULL) == chooses);
        if (d) assert_string_equal(d->rows[0].answer, "y");
        dataset_free(d);
    }
}

/* A sampled answer to such a row. */
static void verdicts(void **state)
{
    (void)state;
    static const char text[] =
        "{\"prompt\": \"p\", \"options\": [\"x\", \"y\"], \"answer\": 1, \"verifier\": \"choice\"}\n";
    Status st = {0};
    scratch_put("rows.jsonl", text, strlen(text));
    Dataset *d = dataset_read(scratch_path("rows.jsonl"), 0, false, &st);
    if (!d) fail_msg("%s", st.text);
    Problem p;
    dataset_problem(&p, d, SPLIT_TRAIN, 0);
    assert_int_equal(d->choices, 1);
    assert_string_equal(p.answer, "y");
    assert_int_equal(task_verify(&p, "<answer>y</answer>", false).reason, REASON_CORRECT);
    assert_int_equal(task_verify(&p, "<answer>(B)</answer>", false).reason, REASON_CORRECT);
    assert_int_equal(task_verify(&p, "<answer>A</answer>", false).reason, REASON_WRONG_ANSWER);
    assert_int_equal(task_verify(&p, "<answer>z</answer>", false).reason, REASON_UNPARSEABLE);
    assert_true(task_agree(&p, "y", "B"));
    assert_false(task_agree(&p, "x", "B"));
    problem_free(&p);
    dataset_free(d);
}

enum { ROWS = 24 };

/* The log-likelihoods by hand: the tokens of prompt and option in one sequence. */
static void by_hand(Policy *p, const Voice *v, const char *prompt, const char *option, double *sum)
{
    BatchBuilder b = {0};
    Ids ids = {0};
    int first;
    float lp[64];
    completion_encode(v, prompt, option, &ids, &first);
    batch_add(&b, ids.ids, ids.n, first);
    Predictions predict = batch_predictions(&b);
    train_log_probs(&p->engine, &p->w, batch_view(&b), &predict, 1, lp, NULL);
    *sum = 0;
    for (int i = 0; i < b.m - 1; i++) *sum += (double)lp[i]; /* the last is the end of the turn */
    batch_free(&b);
    free(ids.ids);
}

static void likelihoods(void **state)
{
    (void)state;
    Tokenizer *t = tokenizer_new_char();
    Machine machine;
    RuntimeOptions o = runtime_defaults();
    Voice v;
    Status st = {0};
    char text[8192] = "", line[160];
    o.threads = 1;
    ModelConfig config = {.arch = ARCH_LLAMA,
                          .attention = ATTENTION_GQA,
                          .V = tokenizer_vocab(t),
                          .C = 16,
                          .L = 1,
                          .H = 2,
                          .Hkv = 1,
                          .Dr = 8,
                          .Dv = 8,
                          .F = 16,
                          .eps = 1e-6f,
                          .rope = {.theta = 1e4f},
                          .max_positions = 64,
                          .init_std = 0.5f,
                          .bos = -1,
                          .eos = -1};
    if (!config_validate(&config, &st) || !machine_open(&machine, &o, &st) || !voice_open(&v, t, NULL, NULL, NULL, &st))
        fail_msg("%s", st.text);
    Policy *p = policy_new(machine_engine(&machine), &config, 3, NULL);
    for (int i = 0; i < ROWS; i++) {
        snprintf(line, sizeof line,
                 "{\"prompt\": \"q%d\", \"options\": [\"a%d\", \"bcdefgh\", \"%d, %d\"], \"answer\": %d, \"verifier\": "
                 "\"choice\"}\n",
                 i, i, 7 * i, i, i % 3);
        strcat(text, line);
    }
    scratch_put("choice.jsonl", text, strlen(text));
    Dataset *d = dataset_read(scratch_path("choice.jsonl"), 0, false, &st);
    if (!d) fail_msg("%s", st.text);
    Source source = {.dataset = d};
    int raw = 0, normalised = 0, differ = 0;
    for (int i = 0; i < ROWS; i++) {
        Problem problem;
        Choice c;
        double l[CHOICE_OPTIONS], hand[3];
        int by[2] = {0, 0};
        dataset_problem(&problem, d, SPLIT_TEST, (uint64_t)i);
        assert_true(choice_read(&c, problem.row, &st));
        if (!choice_log_likelihoods(p, &v, &problem, &source, 1, 0, l, &st)) fail_msg("%s", st.text);
        for (int k = 0; k < 3; k++) {
            by_hand(p, &v, problem.prompt, c.text[k], &hand[k]);
            assert_true(l[k] == hand[k]);
            if (hand[k] > hand[by[0]]) by[0] = k;
            if (hand[k] / (double)strlen(c.text[k]) > hand[by[1]] / (double)strlen(c.text[by[1]])) by[1] = k;
        }
        raw += by[0] == i % 3;
        normalised += by[1] == i % 3;
        differ += by[0] != by[1];
        choice_free(&c);
        problem_free(&problem);
    }
    ChoiceEval e = {0};
    if (!choice_evaluate(p, &v, &source, 1, 0, ROWS, NULL, &e, &st)) fail_msg("%s", st.text);
    assert_float_equal(e.raw, raw / (double)ROWS, 1e-6);
    assert_float_equal(e.normalised, normalised / (double)ROWS, 1e-6);
    assert_float_equal(e.chance, 1 / 3.0, 1e-9);
    assert_true(differ > 0 && e.n == ROWS && e.distinct == ROWS && e.no_holdout);
    assert_false(choice_evaluate(p, &v, &source, 1, 2, ROWS, NULL, &e, &st)); /* no rows to take examples from */
    dataset_free(d);
    policy_free(p);
    machine_close(&machine);
    tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows),     cmocka_unit_test(answers),     cmocka_unit_test(labels),
        cmocka_unit_test(verdicts), cmocka_unit_test(likelihoods),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
