/* Mixes: shares of sources, languages and styles; preference pairs and safety examples; determinism. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/corpus.h"
#include "tests/unit/scratch.h"
#include "tests/unit/unit.h"

enum { N = 4000 };

static CorpusSpec mix(void)
{
    CorpusSpec c = {
        .sources = {{.task = task_find("add"), .level_min = 2, .level_max = 3, .weight = 3},
                    {.task = task_find("sort"), .level_min = 5, .level_max = 5, .weight = 1},
                    {.task = task_find("helpful"), .level_min = 1, .level_max = 2, .weight = 1},
                    {.task = task_find("refusal"), .level_min = 1, .level_max = 3, .weight = 1}},
        .n_sources = 4,
        .zh_share = 0.35f,
        .styles = {15, 40, 15, 10, 12, 8},
        .swap_en = 0.05f,
        .swap_zh = 0.3f,
    };
    return c;
}

static void near(int count, double expected)
{
    double sd = 4 * __builtin_sqrt(expected * (1 - expected / N)) + 1;
    if (count < expected - sd || count > expected + sd) fail_msg("%d where about %g were expected", count, expected);
}

static void test_problem_shares(void **state)
{
    (void)state;
    CorpusSpec c = mix();
    int add = 0, zh = 0, level3 = 0;
    for (uint64_t i = 0; i < N; i++) {
        Problem p;
        corpus_problem(&p, &c, 1, SPLIT_TRAIN, i);
        add += p.task == task_find("add");
        level3 += p.task == task_find("add") && p.level == 3;
        zh += p.language == LANGUAGE_ZH;
        assert_true(p.key % 10 != 0);
        problem_free(&p);
    }
    near(add, N * 0.5);
    near(level3, N * 0.25);
    near(zh, N * 0.35);
}

/* The content of a document's message, counted from the front (0) or the back (-1). */
static const char *said(const Document *d, int at)
{
    size_t i = at < 0 ? json_count(d->messages) - (size_t)-at : (size_t)at;
    return json_get_string(json_at(d->messages, i), "content", NULL);
}

static void expect_document(const Document *d, const char *want)
{
    char *text = document_text(d);
    assert_string_equal(text, want);
    free(text);
}

static void test_documents(void **state)
{
    (void)state;
    CorpusSpec c = mix();
    c.n_sources = 2;
    int formatted = 0, untagged = 0;
    for (uint64_t i = 0; i < N; i++) {
        Document d;
        corpus_document(&d, &c, 1, i);
        assert_int_equal(json_count(d.messages), 2);
        Parsed parsed = completion_parse(said(&d, -1));
        formatted += parsed.format_ok;
        untagged += !parsed.has_answer;
        document_free(&d);
    }
    near(formatted, N * 0.35);
    near(untagged, N * 0.55);
    /* No styles: clean ones only. */
    memset(c.styles, 0, sizeof c.styles);
    for (uint64_t i = 0; i < 50; i++) {
        Document d;
        corpus_document(&d, &c, 1, i);
        assert_true(completion_parse(said(&d, -1)).format_ok);
        document_free(&d);
    }
}

static void test_swapped_languages(void **state)
{
    (void)state;
    CorpusSpec c = mix();
    c.n_sources = 2;
    memset(c.styles, 0, sizeof c.styles);
    int zh = 0, swapped_zh = 0, swapped_en = 0;
    for (uint64_t i = 0; i < N; i++) {
        Document d;
        corpus_document(&d, &c, 2, i);
        Parsed p = completion_parse(said(&d, -1));
        bool chinese = language_share(said(&d, 0), 6, LANGUAGE_ZH) > 0.5f;
        const Problem in_english = {.language = LANGUAGE_EN};
        bool english_trace = task_language_share(&in_english, p.think, p.think_length) > 0.5f;
        zh += chinese;
        swapped_zh += chinese && english_trace;
        swapped_en += !chinese && !english_trace;
        document_free(&d);
    }
    near(swapped_zh, zh * 0.3);
    near(swapped_en, (N - zh) * 0.05);
}

static void test_deterministic(void **state)
{
    (void)state;
    CorpusSpec c = mix();
    int different = 0;
    for (uint64_t i = 0; i < 50; i++) {
        Document a, b, other;
        corpus_document(&a, &c, 1, i);
        corpus_document(&b, &c, 1, i);
        corpus_document(&other, &c, 2, i);
        assert_string_equal(said(&a, 0), said(&b, 0));
        assert_string_equal(said(&a, -1), said(&b, -1));
        different += strcmp(said(&a, 0), said(&other, 0)) != 0;
        document_free(&a);
        document_free(&b);
        document_free(&other);
    }
    assert_true(different > 30);
}

static float quality(const Task *t, char *prompt, const char *completion, size_t *length)
{
    char answer[256];
    Parsed c = completion_parse(completion);
    assert_true(c.format_ok);
    snprintf(answer, sizeof answer, "%.*s", (int)c.answer_length, c.answer);
    Problem p = {.task = t,
                 .level = 1,
                 .kind = t->kind,
                 .prompt = prompt,
                 .language = language_share(prompt, strlen(prompt), LANGUAGE_ZH) > 0.5f ? LANGUAGE_ZH : LANGUAGE_EN};
    *length = c.answer_length;
    return t->oracle(&p, answer);
}

static void test_helpful_pairs(void **state)
{
    (void)state;
    CorpusSpec c = mix();
    int flipped = 0, longer = 0, shorter = 0;
    for (uint64_t i = 0; i < N; i++) {
        char *prompt, *chosen, *rejected;
        size_t a, b;
        corpus_helpful_pair(&prompt, &chosen, &rejected, &c, 3, SPLIT_TRAIN, i, 0.1f);
        float qa = quality(task_find("helpful"), prompt, chosen, &a);
        float qb = quality(task_find("helpful"), prompt, rejected, &b);
        assert_true(qa != qb);
        flipped += qa < qb;
        longer += a > b;
        shorter += a < b;
        free(prompt);
        free(chosen);
        free(rejected);
    }
    near(flipped, N * 0.1);
    near(longer, N * 0.5);
    near(shorter, N * 0.5);
}

static void test_safety_examples(void **state)
{
    (void)state;
    CorpusSpec c = mix();
    int safe_ones = 0;
    for (uint64_t i = 0; i < N; i++) {
        char *prompt, *completion;
        bool safe;
        corpus_safety_example(&prompt, &completion, &safe, &c, 3, SPLIT_TEST, i);
        assert_true(completion_parse(completion).format_ok);
        safe_ones += safe;
        free(prompt);
        free(completion);
    }
    near(safe_ones, N * 0.5);
    assert_true(corpus_has(&c, KIND_SAFETY) && corpus_has(&c, KIND_HELPFUL));
    c.n_sources = 2;
    assert_true(!corpus_has(&c, KIND_SAFETY) && corpus_has(&c, KIND_REASONING));
}

static void test_files_as_sources(void **state)
{
    (void)state;
    static const char rows[] = "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"text\": \"c\"}\n"
                               "{\"prompt\": \"d\", \"answer\": \"7\", \"trace\": \"3+4\"}\n";
    Status st = {0};
    scratch_put("own.jsonl", rows, sizeof rows - 1);
    Dataset *d = dataset_read(scratch_path("own.jsonl"), 0, false, &st);
    CorpusSpec c = {.sources = {{.dataset = d, .weight = 1}}, .n_sources = 1};
    static const char *const expected[] = {"<bos><user>a<assistant>b", "<bos>c",
                                           "<bos><user>d<assistant><think>3+4</think><answer>7</answer>"};
    for (uint64_t i = 0; i < 6; i++) {
        Document doc;
        corpus_document(&doc, &c, 1, i);
        expect_document(&doc, expected[i % 3]);
        document_free(&doc);
    }
    Problem p;
    corpus_problem(&p, &c, 1, SPLIT_TRAIN, 5);
    assert_string_equal(p.prompt, "d");
    Verdict v = task_verify(&p, "<think>3+4</think><answer>7</answer>", false);
    assert_true(v.score == 1);
    problem_free(&p);
    /* Beside a built-in task: by weight. */
    c = (CorpusSpec){.sources = {{.dataset = d, .weight = 1},
                                 {.task = task_find("add"), .level_min = 1, .level_max = 1, .weight = 3}},
                     .n_sources = 2};
    int own = 0;
    for (uint64_t i = 0; i < N; i++) {
        corpus_problem(&p, &c, 1, SPLIT_TRAIN, i);
        own += p.task == &d->task;
        assert_true(p.index == i);
        problem_free(&p);
    }
    near(own, N * 0.25);
    dataset_free(d);
}

static Dataset *numbered(const char *name, int rows)
{
    char text[4096] = "";
    Status st = {0};
    for (int i = 0; i < rows; i++)
        sprintf(text + strlen(text), "{\"prompt\": \"%s %d\", \"completion\": \"x\"}\n", name, i);
    scratch_put(name, text, strlen(text));
    Dataset *d = dataset_read(scratch_path(name), 0, false, &st);
    if (!d) fail_msg("%s", st.text);
    return d;
}

/* Files in a mix: rows in order, none twice before all have come, the shares of the weights, an epoch that meets every row. */
static void test_turns(void **state)
{
    (void)state;
    Dataset *a = numbered("a.jsonl", 7), *b = numbered("b.jsonl", 5);
    CorpusSpec c = {.sources = {{.dataset = a, .weight = 2},
                                {.task = task_find("add"), .level_min = 1, .level_max = 1, .weight = 0.5f},
                                {.dataset = b, .weight = 1}},
                    .n_sources = 3};
    uint64_t epoch = corpus_epoch(&c);
    int met[3] = {0}, rows[2] = {7, 5};
    for (uint64_t i = 0; i < 40 * epoch; i++) {
        Document doc;
        corpus_document(&doc, &c, 1, i);
        bool file = doc.source != 1;
        if (file) {
            int of = rows[doc.source / 2], row = met[doc.source] % of;
            char prompt[64];
            snprintf(prompt, sizeof prompt, "%s %d", doc.source ? "b.jsonl" : "a.jsonl", row);
            assert_string_equal(said(&doc, 0), prompt);
            assert_int_equal(doc.row, row);
        } else assert_int_equal(doc.row, -1);
        met[doc.source]++;
        if (i + 2 == epoch) assert_true(met[0] < 7 || met[2] < 5); /* not one document too many */
        if (i + 1 == epoch) assert_true(met[0] >= 7 && met[2] >= 5);
        document_free(&doc);
    }
    double all = 40.0 * (double)epoch;
    assert_in_range(met[0], (int)(all * 2 / 3.5) - 1, (int)(all * 2 / 3.5) + 2);
    assert_in_range(met[1], (int)(all * 0.5 / 3.5) - 1, (int)(all * 0.5 / 3.5) + 2);
    /* A file alone: an epoch is its rows. */
    CorpusSpec alone = {.sources = {{.dataset = a, .weight = 0.1f}}, .n_sources = 1};
    assert_int_equal(corpus_epoch(&alone), 7);
    CorpusSpec none = mix();
    assert_int_equal(corpus_epoch(&none), 0);
    dataset_free(a);
    dataset_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_problem_shares),    cmocka_unit_test(test_documents),
        cmocka_unit_test(test_swapped_languages), cmocka_unit_test(test_deterministic),
        cmocka_unit_test(test_helpful_pairs),     cmocka_unit_test(test_safety_examples),
        cmocka_unit_test(test_files_as_sources),  cmocka_unit_test(test_turns),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
