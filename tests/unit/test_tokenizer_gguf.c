/* Vocabularies of GGUF files, both ways: SentencePiece's by scores, pre-tokenizers known by what they cut, and refusals. */
#include "tests/unit/unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/gguf/gguf.h"
#include "checkpoints/hf/hf.h"
#include "data/json.h"
#include "data/tokenizer/tokenizer_parts.h"
#include "tests/unit/scratch.h"

enum { MOST = 1024 };

/* tests/tokenizers/sentencepiece_gguf.json, where sentencepiece and Hugging Face agree. */
typedef struct Golden {
    Json *all;
    const char *tokens[MOST];
    float scores[MOST];
    int32_t types[MOST];
    GgufVocabulary v;
} Golden;

static void open_golden(Golden *g)
{
    Status st = {0};
    g->all = json_read("tests/tokenizers/sentencepiece_gguf.json", &st);
    if (!g->all) fail_msg("%s", st.text);
    const Json *tokens = json_get(g->all, "tokens");
    size_t n = json_count(tokens);
    assert_in_range(n, 300, MOST);
    for (size_t i = 0; i < n; i++) {
        g->tokens[i] = json_string(json_at(tokens, i), NULL);
        g->scores[i] = (float)json_number(json_at(json_get(g->all, "scores"), i));
        g->types[i] = (int32_t)json_integer(json_at(json_get(g->all, "types"), i));
    }
    g->v = (GgufVocabulary){.tokens = g->tokens,
                            .n = (int)n,
                            .types = g->types,
                            .scores = g->scores,
                            .bos = 1,
                            .eos = 2,
                            .unk = -1,
                            .sentencepiece = true,
                            .space_prefix = true};
}

static void expect_golden(const Golden *g, const Tokenizer *t, const char *what)
{
    const Json *texts = json_get(g->all, "texts"), *wanted = json_get(g->all, "ids");
    assert_int_equal(json_count(texts), 16);
    for (size_t i = 0; i < json_count(texts); i++) {
        size_t length;
        const char *text = json_string(json_at(texts, i), &length);
        const Json *want = json_at(wanted, i);
        Ids ids = {0};
        tokenizer_encode(t, text, length, &ids);
        if ((size_t)ids.n != json_count(want))
            fail_msg("%s: \"%s\" has %d ids, not %zu", what, text, ids.n, json_count(want));
        for (int j = 0; j < ids.n; j++) assert_int_equal(ids.ids[j], json_integer(json_at(want, (size_t)j)));
        char *back = tokenizer_decode(t, ids.ids, ids.n, true);
        if (!strstr(text, "<")) assert_string_equal(back, text);
        free(back);
        free(ids.ids);
    }
}

static Tokenizer *golden_tokenizer(const Golden *g)
{
    Status st = {0};
    char *text = json_write(json_get(g->all, "tokenizer"), false);
    Tokenizer *t = tokenizer_parse(text, strlen(text), "golden", &st);
    free(text);
    if (!t) fail_msg("%s", st.text);
    return t;
}

static void sentencepiece_by_scores(void **state)
{
    (void)state;
    Golden g;
    Status st = {0};
    open_golden(&g);
    Tokenizer *t = tokenizer_from_gguf(&g.v, &st);
    if (!t) fail_msg("%s", st.text);
    expect_golden(&g, t, "by scores");
    assert_int_equal(tokenizer_bos(t), 1);
    assert_int_equal(tokenizer_eos(t), 2);
    tokenizer_free(t);
    json_free(g.all);
}

/* Hugging Face's tokenizer.json, written as a GGUF file and read again, with and without its merges. */
static void sentencepiece_there_and_back(void **state)
{
    (void)state;
    Golden g;
    Status st = {0};
    open_golden(&g);
    Tokenizer *was = golden_tokenizer(&g);
    GgufVocabulary v;
    if (!tokenizer_to_gguf(was, g.v.n + 3, &v, &st)) fail_msg("%s", st.text);
    assert_true(v.sentencepiece && v.space_prefix);
    for (int i = 0; i < g.v.n; i++) {
        assert_string_equal(v.tokens[i], g.tokens[i]);
        assert_int_equal(v.types[i], g.types[i]);
    }
    assert_null(v.tokens[g.v.n]);
    GgufVocabulary scored = v;
    scored.n = g.v.n;
    scored.n_merges = 0; /* as llama.cpp reads it */
    Tokenizer *t = tokenizer_from_gguf(&scored, &st);
    expect_golden(&g, t, "scores of merges");
    tokenizer_free(t);
    gguf_vocabulary_free(&v);

    ModelConfig c;
    assert_true(hf_config_read("tests/golden/llama", &c, &st));
    c.V = g.v.n + 3, c.C = 8, c.L = 1;
    ParamTable table = params_build(&c);
    float *w = calloc(table.total, sizeof *w);
    assert_true(gguf_write(scratch_path("s.gguf"), "x", &c, &table, block_source(w), GGUF_WRITE_F16, was, &st));
    GgufFile *f = gguf_open(scratch_path("s.gguf"), &st);
    assert_string_equal(gguf_string(f, "tokenizer.ggml.model"), "llama");
    Tokenizer *now = gguf_tokenizer(f, "s.gguf", &st);
    if (!now) fail_msg("%s", st.text);
    expect_golden(&g, now, "through a file");
    tokenizer_free(now);
    gguf_close(f);
    free(w);
    params_free(&table);
    tokenizer_free(was);
    json_free(g.all);
}

/* With one merge a piece, and with Metaspace, no kind of llama.cpp's gives the same ids. */
static void refused(void **state)
{
    (void)state;
    Status st = {0};
    Json *all = json_read("tests/tokenizers/sentencepiece.json", &st);
    static const char *const why[] = {"matched with \"normalized\"", "neither byte-level", "neither byte-level"};
    for (size_t i = 0; i < 3; i++) {
        GgufVocabulary v;
        char *text = json_write(json_get(json_at(json_get(all, "cases"), i), "tokenizer"), false);
        Tokenizer *t = tokenizer_parse(text, strlen(text), "x", &st);
        assert_false(tokenizer_to_gguf(t, 1000, &v, &st));
        if (!strstr(st.text, why[i])) fail_msg("%s", st.text);
        status_clear(&st);
        tokenizer_free(t);
        free(text);
    }
    json_free(all);
    Golden g;
    open_golden(&g);
    Json *root = json_copy(json_get(g.all, "tokenizer")), *merges = json_new_array();
    const Json *old = json_get(json_get(root, "model"), "merges");
    for (size_t i = 0; i + 1 < json_count(old); i++) json_append(merges, json_copy(json_at(old, i)));
    json_set((Json *)json_get(root, "model"), "merges", merges);
    char *text = json_write(root, false);
    Tokenizer *t = tokenizer_parse(text, strlen(text), "x", &st);
    GgufVocabulary v;
    assert_false(tokenizer_to_gguf(t, 1000, &v, &st));
    assert_non_null(strstr(st.text, "SentencePiece would use them all"));
    status_clear(&st);
    tokenizer_free(t);
    free(text);
    json_free(root);
    g.scores[300] = NAN;
    assert_null(tokenizer_from_gguf(&g.v, &st));
    assert_non_null(strstr(st.text, "score of token 300"));
    status_clear(&st);
    g.v.scores = NULL;
    assert_null(tokenizer_from_gguf(&g.v, &st));
    assert_non_null(strstr(st.text, "without scores"));
    json_free(g.all);
}

/* A pre-tokenizer is named by where it cuts, whatever its file looks like. */
static void pre_tokenizers_by_their_cuts(void **state)
{
    (void)state;
    static const char *const names[] = {"deepseek-llm", "deepseek-coder", "deepseek-v3", "qwen2",
                                        "smollm",       "llama-bpe",      "gpt-2"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        Status st = {0};
        const char *tokens[] = {"a", "b", "ab"}, *merges[] = {"a b"};
        GgufVocabulary out,
            in = {.tokens = tokens, .n = 3, .merges = merges, .n_merges = 1, .pre = names[i], .bos = -1, .eos = -1};
        Tokenizer *t = tokenizer_from_gguf(&in, &st);
        assert_true(tokenizer_to_gguf(t, 4, &out, &st));
        assert_string_equal(out.pre, names[i]);
        assert_string_equal(out.merges[0], "a b");
        gguf_vocabulary_free(&out);
        tokenizer_free(t);
    }
    Status st = {0};
    static const char text[] =
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"pre_tokenizer\":{\"type\":\"Sequence\","
        "\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a-z]\"},\"behavior\":\"Isolated\",\"invert\":"
        "false},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]}}";
    Tokenizer *t = tokenizer_parse(text, strlen(text), "x", &st);
    if (!t) fail_msg("%s", st.text);
    GgufVocabulary out;
    assert_false(tokenizer_to_gguf(t, 4, &out, &st));
    assert_non_null(strstr(st.text, "cuts texts as none of"));
    tokenizer_free(t);
}

typedef struct Cuts {
    const Json *want;
    const char *name, *text;
    size_t n;
} Cuts;

static void compare_piece(void *context, const char *piece, size_t length)
{
    Cuts *c = context;
    size_t n = 0;
    const char *want = json_string(json_at(c->want, c->n), &n);
    if (!want || n != length || memcmp(want, piece, n))
        fail_msg("%s: piece %zu of \"%s\" is \"%.*s\", not \"%s\"", c->name, c->n, c->text, (int)length, piece,
                 want ? want : "");
    c->n++;
}

/* Every name of a pre-tokenizer that is taken cuts as the models of that name do (tests/tokenizers/pretokenizers.py). */
static void every_name_of_a_pre_tokenizer(void **state)
{
    (void)state;
    Status st = {0};
    Json *all = json_read("tests/tokenizers/pretokenizers.json", &st);
    if (!all) fail_msg("%s", st.text);
    const Json *families = json_get(all, "families"), *texts = json_get(all, "texts");
    int names_n = 0;
    for (size_t f = 0; f < json_count(families); f++) {
        const Json *family = json_at(families, f), *names = json_get(family, "names");
        for (size_t k = 0; k < json_count(names); k++, names_n++) {
            const char *name = json_string(json_at(names, k), NULL);
            Json *value = pretokenizer_value(name);
            if (!value) fail_msg("%s is not known", name);
            Pretokenizer *p = pretokenizer_new(value, &st);
            for (size_t i = 0; i < json_count(texts); i++) {
                size_t length;
                const char *text = json_string(json_at(texts, i), &length);
                Cuts c = {.want = json_at(json_get(family, "pieces"), i), .name = name, .text = text};
                pretokenize(p, text, length, true, compare_piece, &c);
                assert_int_equal(c.n, json_count(c.want));
            }
            pretokenizer_free(p);
            json_free(value);
        }
    }
    assert_int_equal(names_n, 32);
    assert_null(pretokenizer_value("tekken"));
    json_free(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sentencepiece_by_scores),
                                       cmocka_unit_test(sentencepiece_there_and_back), cmocka_unit_test(refused),
                                       cmocka_unit_test(pre_tokenizers_by_their_cuts),
                                       cmocka_unit_test(every_name_of_a_pre_tokenizer)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
