/* tokenizer.json: every part of the format on small vocabularies, and files that are broken. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/text.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/unicode.h"
#include "data/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const char BYTE_LEVEL[] = "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": false}";
static const char VOCAB[] =
    "{\"a\": 0, \"b\": 1, \"c\": 2, \"Ġ\": 3, \"ab\": 4, \"bc\": 5, \"abc\": 6, \"1\": 7, \"2\": 8, \".\": 9, "
    "\"aa\": 10, \"Ċ\": 11, \"Ã\": 12, \"©\": 13, \"Ì\": 14, \"ģ\": 15, \"e\": 16, \"Ġa\": 17}";

/* A tokenizer.json with the given members; NULL: the usual. */
static char *file(const char *added, const char *normalizer, const char *pre, const char *options, const char *merges)
{
    Text out = {0};
    text_addf(&out,
              "{\"version\": \"1.0\", \"added_tokens\": [%s], \"normalizer\": %s, \"pre_tokenizer\": %s, "
              "\"decoder\": %s, ",
              added ? added : "", normalizer ? normalizer : "null", pre ? pre : BYTE_LEVEL, BYTE_LEVEL);
    text_addf(&out, "\"model\": {\"type\": \"BPE\", %s\"vocab\": %s, \"merges\": [%s]}}", options ? options : "", VOCAB,
              merges ? merges : "\"a b\", \"b c\", \"ab c\", \"a a\", \"Ġ a\"");
    return text_take(&out);
}

static Tokenizer *parse(char *json)
{
    Status st = {0};
    Tokenizer *t = tokenizer_parse(json, strlen(json), "test", &st);
    if (!t) fail_msg("%s", st.text);
    free(json);
    return t;
}

static void expect(const Tokenizer *t, const char *text, const char *want)
{
    Ids ids = {0};
    Text got = {0};
    text_add(&got, "");
    tokenizer_encode(t, text, strlen(text), &ids);
    for (int i = 0; i < ids.n; i++) text_addf(&got, "%s%d", i ? " " : "", ids.ids[i]);
    assert_string_equal(got.p, want);
    free(got.p);
    free(ids.ids);
}

static void check(char *json, const char *text, const char *want)
{
    Tokenizer *t = parse(json);
    expect(t, text, want);
    tokenizer_free(t);
}

static void merges_by_rank_then_from_the_left(void **state)
{
    (void)state;
    check(file(NULL, NULL, NULL, NULL, NULL), "abc", "6");
    check(file(NULL, NULL, NULL, NULL, "\"b c\", \"a b\", \"ab c\""), "abc", "0 5");
    check(file(NULL, NULL, NULL, NULL, NULL), "aaa", "10 0");
    check(file(NULL, NULL, NULL, NULL, "[\"a\", \"a\"]"), "aaaaa", "10 10 0");
    check(file(NULL, NULL, NULL, NULL, "\"#version: 0.2\", \"a b\""), "ab", "4");
    check(file(NULL, NULL, NULL, NULL, ""), "abc", "0 1 2");
    check(file(NULL, NULL, NULL, "\"ignore_merges\": true, ", ""), "abc", "6");
    check(file(NULL, NULL, NULL, "\"ignore_merges\": true, ", ""), "é", "12 13");
}

static void unknown_symbols(void **state)
{
    (void)state;
    check(file(NULL, NULL, NULL, NULL, NULL), "azzb", "4"); /* dropped, so a and b meet */
    check(file(NULL, NULL, NULL, "\"unk_token\": \".\", ", NULL), "azzb", "0 9 9 1");
    check(file(NULL, NULL, NULL, "\"unk_token\": \".\", \"fuse_unk\": true, ", NULL), "azzb", "0 9 1");
}

static void long_pieces_merge_like_short_ones(void **state)
{
    (void)state;
    Tokenizer *t = parse(file(NULL, NULL, NULL, NULL, NULL));
    size_t n = 300000;
    char *text = malloc(n);
    for (size_t i = 0; i < n; i++) text[i] = "abc"[i % 3];
    Ids ids = {0};
    tokenizer_encode(t, text, n, &ids);
    assert_int_equal(ids.n, n / 3);
    for (int i = 0; i < ids.n; i++) assert_int_equal(ids.ids[i], 6);
    free(ids.ids);
    free(text);
    tokenizer_free(t);
}

static char *split(const char *pattern, const char *behavior, const char *invert)
{
    static char out[500];
    snprintf(
        out, sizeof out,
        "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {%s}, \"behavior\": \"%s\", "
        "\"invert\": %s}, %s]}",
        pattern, behavior, invert, BYTE_LEVEL);
    return out;
}

/* Merged "ab" (4), "bc" (5), "abc" (6), "aa" (10) show where the cuts are. */
static void split_behaviors(void **state)
{
    (void)state;
    const char *b = "\"Regex\": \"b\"", *ab = "\"String\": \"b\"";
    check(file(NULL, NULL, split(b, "Isolated", "false"), NULL, NULL), "abcaa", "0 1 2 10");
    check(file(NULL, NULL, split(ab, "Isolated", "false"), NULL, NULL), "abcaa", "0 1 2 10");
    check(file(NULL, NULL, split(b, "Removed", "false"), NULL, NULL), "abcaa", "0 2 10");
    check(file(NULL, NULL, split(b, "Removed", "true"), NULL, NULL), "abcaa", "1");
    check(file(NULL, NULL, split(b, "MergedWithPrevious", "false"), NULL, NULL), "abcaa", "4 2 10");
    check(file(NULL, NULL, split(b, "MergedWithNext", "false"), NULL, NULL), "abcaa", "0 5 10");
    check(file(NULL, NULL, split(b, "MergedWithNext", "false"), NULL, NULL), "abbcb", "0 1 5 1");
    check(file(NULL, NULL, split("\"Regex\": \"a\"", "Contiguous", "false"), NULL, NULL), "aab", "10 1");
    check(file(NULL, NULL, split("\"Regex\": \"a\"", "Isolated", "false"), NULL, NULL), "aab", "0 0 1");
    check(file(NULL, NULL, split("\"Regex\": \"a|b\"", "Contiguous", "true"), NULL, NULL), "abc", "4 2");
}

static void byte_level_options(void **state)
{
    (void)state;
    const char *prefix = "{\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"use_regex\": false}";
    check(file(NULL, NULL, prefix, NULL, NULL), "a", "17");
    check(file(NULL, NULL, prefix, NULL, NULL), " a", "17");
    check(file(NULL, NULL, "{\"type\": \"ByteLevel\", \"add_prefix_space\": false}", NULL, NULL), "aa12.", "10 7 8 9");
    check(file(NULL, NULL, "{\"type\": \"ByteLevel\", \"add_prefix_space\": false}", NULL, NULL), "  a", "3 17");
}

static void normalizer_runs_before_the_cuts(void **state)
{
    (void)state;
    const char *decomposed = "e\xcc\x81";
    check(file(NULL, NULL, NULL, NULL, NULL), decomposed, "16 14 15");
    check(file(NULL, "{\"type\": \"NFC\"}", NULL, NULL, NULL), decomposed, "12 13");
    check(file(NULL, "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFD\"}]}", NULL, NULL, NULL), "é",
          "16 14 15");
    check(file(NULL, "{\"type\": \"Sequence\", \"normalizers\": []}", NULL, NULL, NULL), decomposed, "16 14 15");
}

/* The quick way past utf8proc must never skip a character that NFC changes. */
static void nfc_leaves_alone_only_what_is_normal(void **state)
{
    (void)state;
    for (int32_t code = 0x80; code < 0x30000; code++) {
        if (code >= 0xD800 && code < 0xE000) continue;
        char text[64] = "e", quick[64];
        size_t n = 1 + utf8_put(code, text + 1), m = n, slow_n;
        char *normal = unicode_normalize(UNICODE_NFC, text, n, &m);
        memcpy(quick, normal ? normal : text, m);
        free(normal);
        memcpy(text + n, "\xcc\x96", 2); /* U+0316 forces the slow way and stays at the end or before higher marks */
        normal = unicode_normalize(UNICODE_NFC, text, n + 2, &slow_n);
        assert_non_null(normal);
        if (slow_n == m + 2 && memcmp(normal + m, "\xcc\x96", 2) == 0) assert_memory_equal(normal, quick, m);
        free(normal);
    }
}

#define ADDED(id, content, more) "{\"id\": " #id ", \"content\": \"" content "\"" more "}"

static void added_tokens(void **state)
{
    (void)state;
    check(file(ADDED(20, "<x>", "") "," ADDED(21, "<x>y", ""), NULL, NULL, NULL, NULL), "a<x>yb<x>", "0 21 1 20");
    check(file(ADDED(20, "bb", ", \"single_word\": true"), NULL, NULL, NULL, NULL), "bb cbb bb", "20 3 2 1 1 3 20");
    check(file(ADDED(20, "<x>", ", \"lstrip\": true"), NULL, NULL, NULL, NULL), "a  <x> a", "0 20 17");
    check(file(ADDED(20, "<x>", ", \"rstrip\": true"), NULL, NULL, NULL, NULL), "a <x> \n a", "0 3 20 0");
    const char *nfc = "{\"type\": \"NFC\"}";
    check(file(ADDED(20, "é", ", \"normalized\": true"), nfc, NULL, NULL, NULL), "ae\xcc\x81", "0 20");
    check(file(ADDED(20, "é", ", \"normalized\": false"), nfc, NULL, NULL, NULL), "ae\xcc\x81", "0 12 13");
    check(file(ADDED(6, "abc", ", \"special\": true"), NULL, NULL, NULL, NULL), "aabc", "0 6");
    Tokenizer *t = parse(file(ADDED(20, "<x>", ", \"special\": true") "," ADDED(21, "é ", ""), NULL, NULL, NULL, NULL));
    assert_int_equal(tokenizer_vocab(t), 22);
    char *text = tokenizer_decode(t, (int32_t[]){0, 20, 21, 12, 13, 19, 3}, 7, false);
    assert_string_equal(text, "aé é "); /* id 19 is no token */
    free(text);
    tokenizer_free(t);
}

static void decode_repairs_and_streams(void **state)
{
    (void)state;
    Tokenizer *t = parse(file(NULL, NULL, NULL, NULL, NULL));
    char *text = tokenizer_decode(t, (int32_t[]){12, 0, 12, 13, 13}, 5, true);
    assert_string_equal(text, "\xef\xbf\xbd"
                              "aé\xef\xbf\xbd");
    free(text);
    static const struct {
        int32_t id;
        const char *want;
    } steps[] = {{0, "a"},
                 {12, ""},
                 {13, "é"},
                 {12, ""},
                 {0, "\xef\xbf\xbd"
                     "a"},
                 {12, ""}};
    TextStream stream = {0};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        text = tokenizer_stream(t, &stream, steps[i].id, true);
        assert_string_equal(text, steps[i].want);
        free(text);
    }
    text = tokenizer_stream_end(&stream);
    assert_string_equal(text, "\xef\xbf\xbd");
    free(text);
    tokenizer_free(t);
}

static void stored_with_its_config(void **state)
{
    (void)state;
    Tokenizer *t = parse(file(ADDED(20, "<|im_end|>", ", \"special\": true"), NULL, NULL, NULL, NULL));
    assert_int_equal(tokenizer_eos(t), 20); /* by its usual name */
    assert_int_equal(tokenizer_bos(t), -1);
    size_t n, m;
    char *stored = tokenizer_serialize(t, &n);
    const char *json = tokenizer_json_text(t, &m);
    assert_int_equal(n, m);
    assert_memory_equal(stored, json, n);
    free(stored);
    tokenizer_set_chat_template(t, "quoted \"x\" \\ {{ é }}");
    stored = tokenizer_serialize(t, &n);
    Status st = {0};
    Tokenizer *again = tokenizer_parse(stored, n, "stored", &st);
    if (!again) fail_msg("%s", st.text);
    assert_string_equal(tokenizer_chat_template(again), "quoted \"x\" \\ {{ é }}");
    assert_string_equal(tokenizer_config_text(again), tokenizer_config_text(t));
    assert_int_equal(tokenizer_eos(again), 20);
    assert_string_equal(tokenizer_json_text(again, &m), tokenizer_json_text(t, &n));
    free(stored);
    tokenizer_free(t);
    tokenizer_free(again);
}

static void refuses_text(const char *json, size_t length, const char *part)
{
    Status st = {0};
    assert_null(tokenizer_parse(json, length, "f.json", &st));
    if (strncmp(st.text, "f.json: ", 8) || !strstr(st.text, part)) fail_msg("\"%s\" is not in: %s", part, st.text);
}

static void refuses(char *json, const char *part)
{
    refuses_text(json, strlen(json), part);
    free(json);
}

static void broken_files(void **state)
{
    (void)state;
    char *whole = file(ADDED(20, "<x>", ""), NULL, split("\"Regex\": \"b\"", "Isolated", "false"), NULL, NULL);
    for (size_t n = 0; n + 1 < strlen(whole); n++) refuses_text(whole, n, "line 1: ");
    free(whole);
    refuses_text("[]", 2, "must be an object");
    refuses_text("{}", 2, "no object \"model\"");
    refuses_text("{\"model\": {\"type\": \"Unigram\"}}", 30, "type \"Unigram\" is not supported");
    refuses_text("{\"model\": {\"vocab\": {}, \"merges\": []}}", 38, "\"vocab\" is empty");
    refuses_text("{\"model\": {\"vocab\": [], \"merges\": []}}", 38, "\"vocab\" must be an object");
    refuses_text("{\"model\": {\"vocab\": {\"a\": -1}}}", 31, "must be an integer from 0 to");
    refuses_text("{\"model\": {\"vocab\": {\"a\": 2147483647}}}", 39, "must be an integer from 0 to");
    refuses_text("{\"model\": {\"vocab\": {\"a\": 99999999999999999999}}}", 49, "too big integer");
    refuses_text("{\"model\": {\"vocab\": {\"a\": \"1\"}}}", 32, "must be an integer from 0 to");
    refuses_text("{\"model\": {\"vocab\": {\"a\": 1, \"b\": 1}}}", 38, "id 1 is given to two tokens");
    refuses_text("{\"model\": {\"vocab\": {\"a\": 1}}}", 30, "\"merges\" must be a list");
    refuses(file(NULL, NULL, NULL, NULL, "\"a\""), "merge 0 is neither");
    refuses(file(NULL, NULL, NULL, NULL, "\"a b c\""), "merge 0 is neither");
    refuses(file(NULL, NULL, NULL, NULL, "[\"a\"]"), "merge 0 is neither");
    refuses(file(NULL, NULL, NULL, NULL, "7"), "merge 0 is neither");
    refuses(file(NULL, NULL, NULL, NULL, "\"a b\", \"a c\""), "merge 1 (\"ac\") names a token");
    refuses(file(NULL, NULL, NULL, "\"unk_token\": \"?\", ", NULL), "\"unk_token\" is not in \"vocab\"");
    refuses(file(NULL, NULL, NULL, "\"dropout\": 0.1, ", NULL), "\"dropout\" is not supported");
    refuses(file(NULL, NULL, NULL, "\"end_of_word_suffix\": \"</w>\", ", NULL),
            "\"end_of_word_suffix\" is not supported");
    refuses(file(NULL, NULL, NULL, "\"fuse_unk\": 1, ", NULL), "\"fuse_unk\" must be true or false");
    refuses(file("3", NULL, NULL, NULL, NULL), "has no \"content\"");
    refuses(file(ADDED(4194304, "<x>", ""), NULL, NULL, NULL, NULL), "must be an integer from 0 to 4194303");
    refuses(file(ADDED(3, "<x>", ""), NULL, NULL, NULL, NULL), "belongs to another token");
    refuses(file(ADDED(20, "abc", ""), NULL, NULL, NULL, NULL), "stands elsewhere with id 6");
    refuses(file(ADDED(20, "x", ", \"lstrip\": \"no\""), NULL, NULL, NULL, NULL), "\"lstrip\" must be true or false");
    refuses(file(NULL, "{\"type\": \"Lowercase\"}", NULL, NULL, NULL), "normalizer: \"Lowercase\" is not supported");
    refuses(file(NULL, "3", NULL, NULL, NULL), "normalizer: \"\" is not supported");
    refuses(file(NULL, NULL, "{\"type\": \"UnicodeScripts\"}", NULL, NULL),
            "pre_tokenizer: \"UnicodeScripts\" is not supported");
    refuses(file(NULL, NULL, "{\"type\": \"Metaspace\", \"prepend_scheme\": \"sometimes\"}", NULL, NULL),
            "\"prepend_scheme\" is \"sometimes\"");
    refuses(file(NULL, "{\"type\": \"Replace\", \"pattern\": {}}", NULL, NULL, NULL), "a Replace has no \"pattern\"");
    refuses(file(NULL, "{\"type\": \"Prepend\"}", NULL, NULL, NULL), "a Prepend has no text");
    refuses(file(NULL, NULL, split("\"Regex\": \"(\"", "Isolated", "false"), NULL, NULL), "cannot be compiled");
    refuses(file(NULL, NULL, split("\"Regex\": \"b\"", "Often", "false"), NULL, NULL), "\"behavior\" is \"Often\"");
    refuses(file(NULL, NULL, split("\"Rexeg\": \"b\"", "Isolated", "false"), NULL, NULL), "has no \"pattern\"");
    const char *order =
        "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"ByteLevel\"}, {\"type\": \"Digits\"}]}";
    refuses(file(NULL, NULL, order, NULL, NULL), "ByteLevel, which must be last");
}

static void missing_files(void **state)
{
    (void)state;
    Status st = {0};
    assert_null(tokenizer_load("tests/none", &st));
    assert_non_null(strstr(st.text, "tests/none: No such file"));
    status_clear(&st);
    assert_null(tokenizer_load("tests/unit", &st));
    assert_non_null(strstr(st.text, "tests/unit/tokenizer.json: cannot be read"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_by_rank_then_from_the_left),
        cmocka_unit_test(unknown_symbols),
        cmocka_unit_test(long_pieces_merge_like_short_ones),
        cmocka_unit_test(split_behaviors),
        cmocka_unit_test(byte_level_options),
        cmocka_unit_test(normalizer_runs_before_the_cuts),
        cmocka_unit_test(nfc_leaves_alone_only_what_is_normal),
        cmocka_unit_test(added_tokens),
        cmocka_unit_test(decode_repairs_and_streams),
        cmocka_unit_test(stored_with_its_config),
        cmocka_unit_test(broken_files),
        cmocka_unit_test(missing_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
