/* Tokenizers that r1 makes: trained on text, and from the metadata of a GGUF file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/json.h"
#include "data/text.h"
#include "data/tokenizer/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { FIRST_MERGE = 9 + 256 };

/* Pieces of text joined by '|'. */
static char *pieces(const Tokenizer *t, const char *text)
{
    Ids ids = {0};
    Text out = {0};
    tokenizer_encode(t, text, strlen(text), &ids);
    for (int i = 0; i < ids.n; i++) {
        size_t n;
        const char *piece = tokenizer_piece(t, ids.ids[i], &n, NULL);
        if (i) text_add(&out, "|");
        text_add_bytes(&out, piece, n);
    }
    free(ids.ids);
    return text_take(&out);
}

static void expect(const Tokenizer *t, const char *text, const char *want)
{
    char *got = pieces(t, text);
    assert_string_equal(got, want);
    free(got);
}

static Tokenizer *train(const char *text, int vocab)
{
    Status st = {0};
    Tokenizer *t = tokenizer_train_bpe(text, strlen(text), vocab, &st);
    if (!t) fail_msg("%s", st.text);
    return t;
}

static const char LINES[] = "cd\ncd\nab\nab\nab\ncd";

static void frequent_pairs_first_and_ties_to_the_lowest(void **state)
{
    (void)state;
    Tokenizer *t = train(LINES, FIRST_MERGE + 1);
    expect(t, "ab\ncd", "ab|\n|c|d"); /* both occur three times; 'a' is the lower id */
    tokenizer_free(t);
    t = train(LINES, FIRST_MERGE + 2);
    expect(t, "ab\ncd", "ab|\n|cd");
    tokenizer_free(t);
    t = train(LINES, FIRST_MERGE + 100);
    expect(t, "ab\ncd", "ab|\n|cd"); /* it ends when no pair occurs twice */
    assert_int_equal(tokenizer_vocab(t), FIRST_MERGE + 2);
    tokenizer_free(t);
    t = train("aaaa aaaa", FIRST_MERGE + 1);
    expect(t, "aaaaa", "aa|aa|a");
    tokenizer_free(t);
}

static void digits_stay_apart_and_bytes_cover_all(void **state)
{
    (void)state;
    Tokenizer *t = train("1212 1212 1212", FIRST_MERGE + 10);
    expect(t, "1212", "1|2|1|2");
    expect(t, "<bos><user>你<eos>", "<bos>|<user>|\xe4|\xbd|\xa0|<eos>");
    assert_int_equal(tokenizer_eos(t), tokenizer_id(t, "<eos>"));
    tokenizer_free(t);
    t = train("", FIRST_MERGE);
    assert_int_equal(tokenizer_vocab(t), FIRST_MERGE);
    expect(t, "a\xff", "a|\xef|\xbf|\xbd");
    tokenizer_free(t);
}

static void repetitive_text_reads_back(void **state)
{
    (void)state;
    Text text = {0};
    for (int n = 2; n < 40; n++)
        text_addf(&text, "%.*s\n%.*s\n", n % 17, "aaaaaaaaaaaaaaaaaaaa", n % 13, "abababaabababaabab");
    Tokenizer *t = train(text.p, FIRST_MERGE + 60);
    size_t n;
    char *stored = tokenizer_serialize(t, &n), *pieces_of_text = pieces(t, text.p);
    Status st = {0};
    Tokenizer *again = tokenizer_parse(stored, n, "stored", &st);
    if (!again) fail_msg("%s", st.text);
    expect(again, text.p, pieces_of_text);
    assert_int_equal(tokenizer_vocab(again), tokenizer_vocab(t));
    free(pieces_of_text);
    free(stored);
    free(text.p);
    tokenizer_free(t);
    tokenizer_free(again);
}

static void vocabulary_needs_room(void **state)
{
    (void)state;
    Status st = {0};
    assert_null(tokenizer_train_bpe("a", 1, FIRST_MERGE - 1, &st));
    assert_non_null(strstr(st.text, "265"));
}

static const char *const tokens[] = {"a", "b", "Ġ", "1", "ab", "<|end|>", "<tool>", "[PAD7]", "Ġa", "2", "."};
static const int32_t types[] = {1, 1, 1, 1, 1, 3, 4, 5, 1, 1, 1};
static const char *const merges[] = {"a b", "Ġ a"};
enum { TOKENS = 11 };

static Tokenizer *from_gguf(const char *pre, Status *st)
{
    GgufVocabulary v = {.tokens = (const char **)tokens,
                        .n = TOKENS,
                        .types = types,
                        .merges = (const char **)merges,
                        .n_merges = 2,
                        .pre = pre,
                        .bos = -1,
                        .eos = 5,
                        .unk = -1};
    return tokenizer_from_gguf(&v, st);
}

static void gguf_metadata(void **state)
{
    (void)state;
    static const struct {
        const char *pre, *digits;
    } families[] = {
        {"deepseek-llm", "1|2|1| a"}, {"deepseek-v3", "1|2|1| a"}, {"qwen2", "1|2|1| a"},
        {"smollm", "1|2|1| a"},       {"llama-bpe", "1|2|1| a"},   {"gpt-2", "1|2|1| a"},
    };
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        Status st = {0};
        Tokenizer *t = from_gguf(families[i].pre, &st);
        if (!t) fail_msg("%s", st.text);
        expect(t, "121 a", families[i].digits);
        expect(t, "ab<|end|><tool>.", "ab|<|end|>|<tool>|.");
        assert_int_equal(tokenizer_vocab(t), TOKENS);
        assert_int_equal(tokenizer_id(t, "[PAD7]"), -1);
        assert_int_equal(tokenizer_eos(t), 5);
        assert_int_equal(tokenizer_bos(t), -1);
        char *text = tokenizer_decode(t, (int32_t[]){8, 5, 6, 7}, 4, false);
        assert_string_equal(text, " a<tool>");
        free(text);
        tokenizer_free(t);
    }
}

static Tokenizer *plain(const char **texts, int n, const char **merge, Status *st)
{
    GgufVocabulary v = {
        .tokens = texts, .n = n, .merges = merge, .n_merges = merge != NULL, .pre = "qwen2", .bos = -1, .eos = -1};
    return tokenizer_from_gguf(&v, st);
}

static void gguf_metadata_that_is_broken(void **state)
{
    (void)state;
    Status st = {0};
    assert_null(from_gguf("chatglm", &st));
    assert_non_null(strstr(st.text, "\"chatglm\" is not known: only deepseek-llm, "));
    status_clear(&st);
    const char *twice[] = {"a", "b", "a"};
    assert_null(plain(twice, 3, NULL, &st));
    assert_string_equal(st.text, "tokenizer: \"a\" stands twice, again as token 2");
    status_clear(&st);
    const char *bad[] = {"a\xff"};
    assert_null(plain(bad, 1, NULL, &st));
    assert_non_null(strstr(st.text, "not UTF-8"));
    status_clear(&st);
    const char *merge[] = {"a x"};
    assert_null(plain(twice, 2, merge, &st));
    assert_non_null(strstr(st.text, "merge 0 (\"ax\")"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frequent_pairs_first_and_ties_to_the_lowest),
        cmocka_unit_test(digits_stay_apart_and_bytes_cover_all),
        cmocka_unit_test(repetitive_text_reads_back),
        cmocka_unit_test(vocabulary_needs_room),
        cmocka_unit_test(gguf_metadata),
        cmocka_unit_test(gguf_metadata_that_is_broken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
