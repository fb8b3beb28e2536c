#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/tasks/words.h"
#include "data/tokenizer/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* The pieces of text, joined by '|'. */
static char *pieces(const Tokenizer *t, const char *text)
{
    static char out[1000];
    char *at = out;
    Ids ids = {0};
    tokenizer_encode(t, text, strlen(text), &ids);
    for (int i = 0; i < ids.n; i++) {
        size_t n;
        const char *piece = tokenizer_piece(t, ids.ids[i], &n, NULL);
        at += sprintf(at, "%s%.*s", i ? "|" : "", (int)n, piece);
    }
    *at = 0;
    free(ids.ids);
    return out;
}

static void longest_match_first(void **state)
{
    (void)state;
    Tokenizer *t = tokenizer_new_char();
    assert_string_equal(pieces(t, "12+3=\n"), "1|2|+|3|=|\n");
    assert_string_equal(pieces(t, "add 1,sort"), "add| |1|,|sort");
    assert_string_equal(pieces(t, "addd"), "add|d");
    assert_string_equal(pieces(t, "计算一二你好猫"), "计算|一|二|你好|猫");
    assert_string_equal(pieces(t, "<bos><user>ad<assistant><think>x</think><answer>7</answer><eos>"),
                        "<bos>|<user>|a|d|<assistant>|<think>|x|</think>|<answer>|7|</answer>|<eos>");
    assert_string_equal(pieces(t, "<thin"), "<|t|h|i|n");
    assert_string_equal(pieces(t, "a\xc3\xa9\xff"), "a|<unk>|<unk>");
    assert_string_equal(pieces(t, ""), "");
    tokenizer_free(t);
}

static void every_word_and_character_is_one_token(void **state)
{
    (void)state;
    Tokenizer *t = tokenizer_new_char();
    for (int i = 0; i < TASK_WORDS; i++) assert_string_equal(pieces(t, task_words[i]), task_words[i]);
    for (int i = 0; i < TASK_CHARACTERS; i++) assert_string_equal(pieces(t, task_characters[i]), task_characters[i]);
    for (char c = ' '; c <= '~'; c++) assert_string_equal(pieces(t, (char[]){c, 0}), ((char[]){c, 0}));
    tokenizer_free(t);
}

static void special_tokens_are_known(void **state)
{
    (void)state;
    static const char *const names[] = {"<bos>",   "<eos>",    "<user>",   "<assistant>",
                                        "<think>", "</think>", "<answer>", "</answer>"};
    Tokenizer *t = tokenizer_new_char();
    for (int i = 0; i < 8; i++) {
        bool special;
        int32_t id = tokenizer_id(t, names[i]);
        assert_true(id >= 0);
        tokenizer_piece(t, id, NULL, &special);
        assert_int_equal(special, i < 4);
    }
    assert_int_equal(tokenizer_bos(t), tokenizer_id(t, "<bos>"));
    assert_int_equal(tokenizer_eos(t), tokenizer_id(t, "<eos>"));
    assert_int_equal(tokenizer_id(t, "no such token"), -1);
    Ids ids = {0};
    const char *text = "<bos><user>add 1<assistant><think>";
    tokenizer_encode(t, text, strlen(text), &ids);
    ids_push(&ids, tokenizer_vocab(t));
    ids_push(&ids, -1);
    char *kept = tokenizer_decode(t, ids.ids, ids.n, true), *dropped = tokenizer_decode(t, ids.ids, ids.n, false);
    assert_string_equal(kept, text);
    assert_string_equal(dropped, "add 1<think>");
    free(kept);
    free(dropped);
    free(ids.ids);
    tokenizer_free(t);
}

static void bytes_variant_keeps_everything(void **state)
{
    (void)state;
    Tokenizer *t = tokenizer_new_char_bytes(), *plain = tokenizer_new_char();
    assert_int_equal(tokenizer_vocab(t), tokenizer_vocab(plain) + 256);
    const char *text = "caf\xc3\xa9 \xf0\x9f\x98\x80!";
    Ids ids = {0};
    tokenizer_encode(t, text, strlen(text), &ids);
    assert_int_equal(ids.n, 3 + 2 + 1 + 4 + 1);
    char *back = tokenizer_decode(t, ids.ids, ids.n, false);
    assert_string_equal(back, text);
    free(back);
    free(ids.ids);
    tokenizer_free(t);
    tokenizer_free(plain);
}

static void stored_tokenizer_reads_back_equal(void **state)
{
    (void)state;
    Tokenizer *t = tokenizer_new_char();
    size_t n, m;
    char *stored = tokenizer_serialize(t, &n);
    Status st = {0};
    Tokenizer *again = tokenizer_parse(stored, n, "stored", &st);
    if (!again) fail_msg("%s", st.text);
    char *twice = tokenizer_serialize(again, &m);
    assert_int_equal(n, m);
    assert_memory_equal(stored, twice, n);
    assert_int_equal(tokenizer_vocab(again), tokenizer_vocab(t));
    assert_int_equal(tokenizer_eos(again), tokenizer_eos(t));
    assert_string_equal(tokenizer_chat_template(again), tokenizer_chat_template(t));
    assert_string_equal(pieces(again, "sort 3 1<eos>"), "sort| |3| |1|<eos>");
    const char *json = tokenizer_json_text(again, &m), *same = tokenizer_json_text(t, &n);
    assert_int_equal(n, m);
    assert_memory_equal(json, same, n);
    free(stored);
    free(twice);
    tokenizer_free(t);
    tokenizer_free(again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(longest_match_first),
        cmocka_unit_test(every_word_and_character_is_one_token),
        cmocka_unit_test(special_tokens_are_known),
        cmocka_unit_test(bytes_variant_keeps_everything),
        cmocka_unit_test(stored_tokenizer_reads_back_equal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
