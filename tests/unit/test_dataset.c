/* A user's JSONL: every kind of row, broken lines by number, the held-out share, verifiers of rows. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/corpus.h"
#include "data/dataset.h"
#include "data/text.h"
#include "tests/unit/scratch.h"
#include "tests/unit/unit.h"

static Dataset *read_text(const char *text, double heldout, bool skip_bad, Status *st)
{
    scratch_put("rows.jsonl", text, strlen(text));
    return dataset_read(scratch_path("rows.jsonl"), heldout, skip_bad, st);
}

static void test_kinds(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        RowKind kind;
        const char *prompt, *completion, *rejected, *answer;
    } cases[] = {
        {"{\"text\": \"once\"}", ROW_TEXT, "", "once", NULL, "once"},
        {"{\"prompt\": \"2+2?\", \"completion\": \"<think>4</think><answer> 4 </answer>\"}", ROW_COMPLETION, "2+2?",
         "<think>4</think><answer> 4 </answer>", NULL, "4"},
        {"{\"prompt\": \"2+2?\", \"completion\": \" four\"}", ROW_COMPLETION, "2+2?", " four", NULL, "four"},
        {"{\"prompt\": [{\"role\": \"user\", \"content\": \"hi\"}], \"completion\": "
         "[{\"role\": \"assistant\", \"content\": \"hello\"}]}",
         ROW_COMPLETION, "hi", "hello", NULL, "hello"},
        {"{\"messages\": [{\"role\": \"system\", \"content\": \"be kind\"}, {\"role\": \"user\", \"content\": \"a\"}, "
         "{\"role\": \"assistant\", \"content\": \"b\"}, {\"role\": \"user\", \"content\": \"c\"}, "
         "{\"role\": \"assistant\", \"content\": \"d\"}]}",
         ROW_MESSAGES, "system: be kind\nuser: a\nassistant: b\nuser: c", "d", NULL, "d"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"5*5\"}], \"answer\": 25}", ROW_RL, "5*5", "25", NULL,
         "25"},
        {"{\"prompt\": \"sky\", \"chosen\": \"blue\", \"rejected\": \"green\"}", ROW_PREFERENCE, "sky", "blue", "green",
         "blue"},
        {"{\"chosen\": \"The sky is blue\", \"rejected\": \"The sky is green\"}", ROW_PREFERENCE, "The sky is", " blue",
         " green", "blue"},
        {"{\"chosen\": \"天是蓝\", \"rejected\": \"天是绿\"}", ROW_PREFERENCE, "天是", "蓝", "绿", "蓝"},
        {"{\"chosen\": \"天是蓝\", \"rejected\": \"天是蓓\"}", ROW_PREFERENCE, "天是", "蓝", "蓓",
         "蓝"}, /* alike in two bytes */
        {"{\"chosen\": [{\"role\": \"user\", \"content\": \"sky\"}, {\"role\": \"assistant\", \"content\": \"blue\"}], "
         "\"rejected\": [{\"role\": \"user\", \"content\": \"sky\"}, "
         "{\"role\": \"assistant\", \"content\": \"green\"}]}",
         ROW_PREFERENCE, "sky", "blue", "green", "blue"},
        {"{\"prompt\": \"6*7\", \"answer\": \"42\", \"verifier\": \"integer\", \"trace\": \"6*7\"}", ROW_RL, "6*7",
         "<think>6*7</think><answer>42</answer>", NULL, "42"},
        {"{\"prompt\": \"anything\"}", ROW_RL, "anything", NULL, NULL, ""},
        /* Columns of others: TRL, open-r1, verl, GSM8K, ShareGPT. */
        {"{\"prompt\": [{\"role\": \"user\", \"content\": \"1+1\"}], \"solution\": \"2\"}", ROW_RL, "1+1", "2", NULL,
         "2"},
        {"{\"problem\": \"1+1\", \"solution\": \"It is $\\\\boxed{2}$.\"}", ROW_RL, "1+1",
         "<think>It is $\\boxed{2}$.</think><answer>2</answer>", NULL, "2"},
        {"{\"problem\": \"1+1\", \"solution\": \"One and one\\nmake two.\"}", ROW_RL, "1+1", NULL, NULL, ""},
        {"{\"data_source\": \"x\", \"prompt\": [{\"role\": \"user\", \"content\": \"1+1\"}], "
         "\"reward_model\": {\"style\": \"rule\", \"ground_truth\": \"2\"}, \"extra_info\": {\"index\": 0}}",
         ROW_RL, "1+1", "2", NULL, "2"},
        {"{\"question\": \"1+1\", \"answer\": \"1+1=<<1+1=2>>2\\n#### 2\"}", ROW_RL, "1+1",
         "<think>1+1=<<1+1=2>>2</think><answer>2</answer>", NULL, "2"},
        {"{\"question\": \"1+1\", \"answer\": \"#### 3 is too much\\n#### 2\"}", ROW_RL, "1+1",
         "<think>#### 3 is too much</think><answer>2</answer>", NULL, "2"},
        {"{\"conversations\": [{\"from\": \"human\", \"value\": \"hi\"}, {\"from\": \"gpt\", \"value\": \"yo\"}]}",
         ROW_MESSAGES, "hi", "yo", NULL, "yo"},
        /* Texts are JSON's, not C's; what nobody reads may be anything. */
        {"{\"prompt\": \"a\\u0000b\", \"completion\": \"c\\u0000d\", \"meta\": {\"x\": \"\\u0000\"}}", ROW_COMPLETION,
         "a\uFFFDb", "c\uFFFDd", NULL, "c\uFFFDd"},
        /* Integers beyond 64 bits are their digits; reals and texts stay. */
        {"{\"prompt\": \"a 99999999999999999999 \\\" 99999999999999999999\", \"id\": 18446744073709551615, \"x\": "
         "[-99999999999999999999, "
         "12345678901234567890.5, 1e-99999999999999999999], \"answer\": 123456789012345678901234567890}",
         ROW_RL, "a 99999999999999999999 \" 99999999999999999999", "123456789012345678901234567890", NULL,
         "123456789012345678901234567890"},
        /* Thoughts, parts and tools of messages. */
        {"{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"1+1\"}]}, "
         "{\"role\": \"assistant\", \"reasoning_content\": \"one and one\", \"content\": \"2\"}]}",
         ROW_MESSAGES, "1+1", "<think>one and one</think>2", NULL, "2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Status st = {0};
        Dataset *d = read_text(cases[i].line, 0, false, &st);
        if (d == NULL) fail_msg("%s: %s", cases[i].line, st.text);
        const DatasetRow *row = dataset_row(d, SPLIT_TRAIN, 5);
        assert_int_equal(row->kind, cases[i].kind);
        assert_string_equal(row->prompt, cases[i].prompt);
        assert_string_equal(row->answer, cases[i].answer);
        assert_true((row->completion == NULL) == (cases[i].completion == NULL));
        if (row->completion != NULL) assert_string_equal(row->completion, cases[i].completion);
        assert_true((row->rejected == NULL) == (cases[i].rejected == NULL));
        if (row->rejected != NULL) assert_string_equal(row->rejected, cases[i].rejected);
        dataset_free(d);
    }
}

static void test_broken_lines(void **state)
{
    (void)state;
    static const struct {
        const char *line, *words;
    } cases[] = {
        {"{\"prompt\": \"a\", ", "line 3"},
        {"not json", "line 3"},
        {"[1, 2]", "one JSON object"},
        {"{\"query\": \"a\"}", "none of \"prompt\""},
        {"{\"prompt\": 5}", "\"prompt\" must be"},
        {"{\"prompt\": \"a\", \"completion\": {}}", "\"completion\" must be"},
        {"{\"messages\": \"a\"}", "must be a list"},
        {"{\"messages\": []}", "empty"},
        {"{\"messages\": [{\"role\": \"user\"}]}", "needs \"content\""},
        {"{\"messages\": [{\"role\": \"function\", \"content\": \"a\"}]}", "role \"function\""},
        {"{\"chosen\": \"a\"}", "without \"rejected\""},
        {"{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"b\"}", "equal"},
        {"{\"chosen\": \"a\", \"rejected\": [{\"role\": \"user\", \"content\": \"a\"}]}", "both"},
        {"{\"prompt\": \"a\", \"answer\": \"b\", \"verifier\": \"sympy\"}", "unknown verifier \"sympy\""},
        {"{\"prompt\": \"a\", \"answer\": \"b\", \"verifier\": \"integer\"}", "not one the integer verifier can read"},
        {"{\"prompt\": \"a\", \"answer\": \"1/0\", \"verifier\": \"rational\"}", "rational"},
        {"{\"prompt\": \"a\", \"answer\": \"24\", \"verifier\": \"expression\"}", "needs \"numbers\""},
        {"{\"prompt\": \"a\", \"answer\": \"24\", \"verifier\": \"expression\", \"numbers\": [\"3\"]}", "integers"},
        {"{\"prompt\": \"a\", \"verifier\": \"integer\"}", "without \"answer\""},
        {"{\"prompt\": \"a\", \"answer\": [1]}", "\"answer\" must be"},
        {"{\"prompt\": \"a\", \"completion\": \"b\", \"label\": false}", "\"label\""},
        {"{\"prompt\": \"a\", \"answer\": \"b\", \"kind\": \"fun\"}", "unknown kind"},
        {"{\"prompt\": \"a\", \"answer\": \"b\", \"language\": \"fr\"}", "unknown language"},
        {"{\"prompt\": \"\xff\", \"answer\": \"b\"}", "line 3"},
        {"{\"prompt\": \"a\", \"answer\": \"b\", \"verifier\": 5}", "\"verifier\" must be a string"},
        {"{\"prompt\": \"a\", \"answer\": \"b\", \"kind\": 5}", "\"kind\" must be a string"},
        {"{\"prompt\": \"a\", \"answer\": \"b\\u0000c\"}", "U+0000"},
        {"{\"prompt\": [{\"role\": \"assistant\", \"content\": \"a\"}]}", "ends with the assistant"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"a\", \"audio\": {\"id\": 1}}]}", "\"audio\""},
        {"{\"messages\": [{\"role\": \"assistant\", \"content\": \"a\", \"function_call\": {\"name\": \"f\"}}]}",
         "\"function_call\""},
        {"{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image\"}]}]}", "type \"image\""},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"a\", \"reasoning\": \"b\"}]}", "thought"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[512];
        snprintf(text, sizeof text, "{\"text\": \"a\"}\n\n%s\n{\"text\": \"b\"}\n", cases[i].line);
        Status st = {0};
        assert_null(read_text(text, 0, false, &st));
        assert_true(says(&st, cases[i].words));
        assert_true(says(&st, "rows.jsonl: line 3: "));
        Status skip = {0};
        Dataset *d = read_text(text, 0, true, &skip);
        assert_non_null(d);
        assert_true(d->skipped == 1 && d->n == 2 && d->rows[1].line == 4);
        dataset_free(d);
    }
}

static void test_files(void **state)
{
    (void)state;
    Status st = {0};
    assert_null(dataset_read(scratch_path("nothing.jsonl"), 0, false, &st));
    assert_true(says(&st, "nothing.jsonl"));
    st = (Status){0};
    assert_null(read_text("\n \n", 0, true, &st));
    assert_true(says(&st, "no usable row"));
    st = (Status){0};
    assert_null(read_text("{\"text\": \"a\"}", 0.7, true, &st));
    assert_true(says(&st, "0.5"));
    /* JSON that is no JSON lines is told as what it is, with --skip-bad too. */
    static const char *const others[] = {"[{\"text\": \"a\"}]",
                                         "\xef\xbb\xbf[\n {\"text\": \"a\"},\n {\"text\": \"b\"}\n]\n",
                                         "{\n \"text\": \"a\"\n}\n"};
    for (int i = 0; i < 6; i++) {
        st = (Status){0};
        assert_null(read_text(others[i / 2], 0, i % 2, &st));
        assert_true(
            says(&st, i < 4 ? "not JSON lines: write one object a line (jq -c '.[]' FILE)" : "(jq -c '.' FILE)"));
    }
    st = (Status){0};
    scratch_put("table.CSV", "prompt,answer\n1+1,2\n", 20);
    assert_null(dataset_read(scratch_path("table.CSV"), 0, true, &st));
    assert_true(says(&st, "is a table by its name"));
    st = (Status){0};
    assert_null(dataset_read("/", 0, false, &st));
    assert_true(st.failed);
    st = (Status){0};
    Dataset *d = read_text("\xef\xbb\xbf{\"text\": \"a\"}\r\n{\"text\": \"b\"}", 0, false, &st);
    assert_true(d != NULL && d->n == 2);
    assert_string_equal(d->task.name, "rows");
    dataset_free(d);
}

static void test_heldout(void **state)
{
    (void)state;
    Text text = {0};
    for (int i = 0; i < 1000; i++) text_addf(&text, "{\"prompt\": \"question %d\", \"answer\": \"%d\"}\n", i / 2, i);
    Status st = {0};
    Dataset *d = read_text(text.p, 0.1, false, &st);
    assert_non_null(d);
    assert_true(d->n_test > 50 && d->n_test < 150 && d->n_train + d->n_test == 1000);
    /* Rows with the same prompt stay on one side, in file order. */
    for (int i = 0; i + 1 < d->n; i++) {
        assert_true(d->rows[i].test == (i >= d->n_train));
        assert_true(d->rows[i].line < d->rows[i + 1].line || i + 1 == d->n_train);
    }
    for (int i = 0; i < d->n_train; i++)
        for (int k = 0; k < d->n_test; k++)
            assert_true(strcmp(d->rows[i].prompt, dataset_row(d, SPLIT_TEST, (uint64_t)k)->prompt) != 0);
    Problem p, q;
    dataset_problem(&p, d, SPLIT_TEST, 3);
    dataset_problem(&q, d, SPLIT_TEST, 3 + 2 * (uint64_t)d->n_test);
    assert_string_equal(p.prompt, q.prompt);
    problem_free(&p);
    problem_free(&q);
    dataset_free(d);
    /* Few rows: at least one, never all. */
    for (int n = 2; n < 6; n++) {
        Text few = {0};
        for (int i = 0; i < n; i++) text_addf(&few, "{\"text\": \"%d\"}\n", i);
        d = read_text(few.p, 0.02, false, &st);
        assert_true(d->n_test >= 1 && d->n_train >= 1);
        dataset_free(d);
        free(few.p);
    }
    d = read_text("{\"text\": \"a\"}\n{\"text\": \"a\"}", 0.5, false, &st);
    assert_true(d->n_test == 0 && dataset_row(d, SPLIT_TEST, 1)->line == 2);
    dataset_free(d);
    free(text.p);
}

static void test_row_verifiers(void **state)
{
    (void)state;
    static const struct {
        const char *row, *answer;
        Reason reason;
    } cases[] = {
        {"\"answer\": \"12\", \"verifier\": \"integer\"", "012", REASON_CORRECT},
        {"\"answer\": \"12\", \"verifier\": \"integer\"", "12.0", REASON_CORRECT},
        {"\"answer\": \"12\"", "\\boxed{12.0}", REASON_CORRECT},
        {"\"answer\": \"012\"", "12", REASON_WRONG_ANSWER},
        {"\"answer\": 12", "24/2", REASON_CORRECT},
        {"\"answer\": 0.5", "1/2", REASON_CORRECT},
        {"\"answer\": \"0.5\"", "1/2", REASON_CORRECT},
        {"\"answer\": \"0.5.1\"", "0.5.1", REASON_CORRECT}, /* a text */
        {"\"answer\": 1e-7", "1/10000000", REASON_CORRECT},
        {"\"answer\": \"1/3\", \"verifier\": \"rational\"", "2/6", REASON_CORRECT},
        {"\"answer\": \"1/3\", \"verifier\": \"rational\"", "0.33", REASON_WRONG_ANSWER},
        {"\"answer\": \" B \"", "B", REASON_CORRECT},
        {"\"answer\": \"B\"", "A or B or C", REASON_WRONG_ANSWER},
        {"\"answer\": \"26\", \"verifier\": \"expression\", \"numbers\": [3, 5, 7]", "5+7*3", REASON_CORRECT},
        {"\"answer\": \"26\", \"verifier\": \"expression\", \"numbers\": [3, 5, 7]", "26", REASON_NUMBER_UNKNOWN},
        {"\"answer\": \"26\", \"verifier\": \"expression\", \"numbers\": [3, 5, 7]", "7*3+3", REASON_NUMBER_REUSED},
        {"\"answer\": \"3*7+5\", \"verifier\": \"expression\"", "5+7*3", REASON_CORRECT},
        {"\"kind\": \"helpful\"", "anything", REASON_UNPARSEABLE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char line[256], completion[128];
        snprintf(line, sizeof line, "{\"prompt\": \"算一下\", %s}", cases[i].row);
        snprintf(completion, sizeof completion, "<think>x</think><answer>%s</answer>", cases[i].answer);
        Status st = {0};
        Dataset *d = read_text(line, 0, false, &st);
        if (d == NULL) fail_msg("%s: %s", line, st.text);
        Problem p;
        dataset_problem(&p, d, SPLIT_TRAIN, 0);
        Verdict v = task_verify(&p, completion, false);
        if (v.reason != cases[i].reason) fail_msg("%s, answer %s: %s", line, cases[i].answer, reason_name(v.reason));
        assert_int_equal(p.language, LANGUAGE_ZH);
        assert_int_equal(p.kind, strstr(line, "helpful") != NULL ? KIND_HELPFUL : KIND_REASONING);
        problem_free(&p);
        dataset_free(d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),   cmocka_unit_test(test_broken_lines),  cmocka_unit_test(test_files),
        cmocka_unit_test(test_heldout), cmocka_unit_test(test_row_verifiers),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
