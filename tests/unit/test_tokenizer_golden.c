/* Real tokenizers against what HF tokenizers answers (tests/golden/README.md): ids, decoded text, chats. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/file.h"
#include "data/json.h"
#include "data/tokenizer/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void expect_ids(const Tokenizer *t, const Json *row, int line)
{
    size_t length;
    const char *text = json_string(json_get(row, "text"), &length);
    const Json *want = json_get(row, "ids");
    Ids got = {0};
    tokenizer_encode(t, text, length, &got);
    bool same = (size_t)got.n == json_count(want);
    for (int i = 0; same && i < got.n; i++) same = got.ids[i] == json_integer(json_at(want, (size_t)i));
    if (!same) fail_msg("line %d: other ids for \"%s\"", line, text);
    free(got.ids);
}

static void expect_decoded(const Tokenizer *t, const Json *row, int line)
{
    size_t length;
    const char *want = json_string(json_get(row, "decoded"), &length);
    if (!want) return;
    const Json *list = json_get(row, "ids");
    int n = (int)json_count(list);
    int32_t *ids = malloc((size_t)(n + 1) * sizeof *ids);
    for (int i = 0; i < n; i++) ids[i] = (int32_t)json_integer(json_at(list, (size_t)i));
    size_t got_length;
    char *got = tokenizer_decode_length(t, ids, n, true, &got_length);
    if (got_length != length || memcmp(got, want, length))
        fail_msg("line %d: decoded \"%s\", not \"%s\"", line, got, want);
    free(got);
    TextStream stream = {0};
    size_t at = 0;
    for (int i = 0; i <= n; i++) {
        char *part = i < n ? tokenizer_stream(t, &stream, ids[i], true) : tokenizer_stream_end(&stream);
        size_t part_length = strlen(part);
        if (part_length == 0 && want[at] == 0 && at < length) part_length = 1; /* U+0000 */
        assert_memory_equal(part, want + at, part_length);
        at += part_length;
        free(part);
    }
    free(ids);
}

static void compare_lines(const char *name, const char *suffix, int rows)
{
    char path[100];
    Status st = {0};
    snprintf(path, sizeof path, "tests/tokenizers/%s", name);
    Tokenizer *t = tokenizer_load(path, &st);
    if (!t) fail_msg("%s", st.text);
    snprintf(path, sizeof path, "tests/golden/tokenizers/%s%s", name, suffix);
    size_t length;
    char *text = file_read(path, &length, &st), *save = NULL;
    int line = 0;
    for (char *row = strtok_r(text, "\n", &save); row; row = strtok_r(NULL, "\n", &save)) {
        Json *v = json_parse(row, strlen(row), path, &st);
        if (!v) fail_msg("%s", st.text);
        expect_ids(t, v, ++line);
        expect_decoded(t, v, line);
        json_free(v);
    }
    assert_int_equal(line, rows);
    free(text);
    tokenizer_free(t);
}

/* Prepend and Replace, Metaspace first and unsplit, Metaspace with split: tests/tokenizers/sentencepiece.py. */
static void sentencepiece(void **state)
{
    (void)state;
    Status st = {0};
    Json *all = json_read("tests/tokenizers/sentencepiece.json", &st);
    assert_non_null(all);
    const Json *texts = json_get(all, "texts"), *cases = json_get(all, "cases");
    assert_int_equal(json_count(cases), 3);
    for (size_t c = 0; c < 3; c++) {
        const Json *one = json_at(cases, c);
        char *text = json_write(json_get(one, "tokenizer"), false);
        Tokenizer *t = tokenizer_parse(text, strlen(text), json_get_string(one, "name", ""), &st);
        free(text);
        if (!t) fail_msg("%s", st.text);
        for (size_t i = 0; i < json_count(texts); i++) {
            Json *row = json_new_object();
            json_set(row, "text", json_copy(json_at(texts, i)));
            json_set(row, "ids", json_copy(json_at(json_get(one, "ids"), i)));
            json_set(row, "decoded", json_copy(json_at(json_get(one, "back"), i)));
            expect_ids(t, row, (int)(100 * c + i));
            expect_decoded(t, row, (int)(100 * c + i));
            json_free(row);
        }
        tokenizer_free(t);
    }
    json_free(all);
}

static void deepseek_v3(void **state)
{
    (void)state;
    compare_lines("deepseek_v3", ".jsonl", 300);
    compare_lines("deepseek_v3", ".chat.jsonl", 12);
}

static void qwen3(void **state)
{
    (void)state;
    compare_lines("qwen3", ".jsonl", 300);
    compare_lines("qwen3", ".chat.jsonl", 18);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sentencepiece), cmocka_unit_test(deepseek_v3),
                                       cmocka_unit_test(qwen3)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
