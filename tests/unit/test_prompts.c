/* How problems are put to a model: chat templates of the tokenizer, stop tokens, where the loss begins; our own models as
 * ever. */
#include <stdlib.h>
#include <string.h>

#include "recipes/model/prompts.h"
#include "tests/unit/unit.h"

static const char USER_TURN[] = "<|im_start|>user\nWhat is 2 + 3?<|im_end|>\n<|im_start|>assistant\n";

static Tokenizer *open_tokenizer(const char *folder)
{
    Status st = {0};
    Tokenizer *t = tokenizer_load(folder, &st);
    if (!t) fail_msg("%s", st.text);
    return t;
}

static Voice open_voice(const Tokenizer *t, const char *name, const Attachments *a)
{
    Voice v;
    Status st = {0};
    if (!voice_open(&v, t, name, NULL, a, &st)) fail_msg("%s", st.text);
    return v;
}

static void expect_text(const Tokenizer *t, const Ids *ids, int n, const char *want)
{
    char *text = tokenizer_decode(t, ids->ids, n, true);
    assert_string_equal(text, want);
    free(text);
}

static void chat_model(void **state)
{
    (void)state;
    Tokenizer *t = open_tokenizer("tests/tokenizers/qwen3");
    Voice v = open_voice(t, NULL, NULL);
    Ids ids = {0}, document = {0};
    int first;
    assert_true(v.has_template);
    assert_int_equal(v.stops[0], tokenizer_id(t, "<|im_end|>"));
    assert_true(voice_stops(&v, tokenizer_id(t, "<|endoftext|>")));
    assert_false(voice_stops(&v, tokenizer_id(t, "<|im_start|>")));
    prompt_encode(&v, "What is 2 + 3?", &ids);
    expect_text(t, &ids, ids.n, USER_TURN);
    document_encode(&v, "<bos><user>What is 2 + 3?<assistant>", "It is 5.", &document, &first);
    assert_int_equal(first, ids.n);
    assert_memory_equal(document.ids, ids.ids, (size_t)ids.n * sizeof *ids.ids);
    assert_int_equal(document.ids[document.n - 1], v.stops[0]);
    char *said = tokenizer_decode(t, document.ids + first, document.n - first, true);
    assert_string_equal(said, "It is 5.<|im_end|>");
    free(said);
    free(ids.ids);
    free(document.ids);
    tokenizer_free(t);
}

/* Earlier turns stand inside a rendered prompt; text rows have none. */
static void turns_and_texts(void **state)
{
    (void)state;
    Tokenizer *t = open_tokenizer("tests/tokenizers/qwen3"), *d = open_tokenizer("tests/tokenizers/deepseek_v3");
    Voice v = open_voice(t, "chatml", NULL), w = open_voice(d, NULL, NULL);
    Ids ids = {0}, other = {0}, text = {0};
    int first;
    prompt_encode_rendered(&v, "<bos><user>Hi<assistant>Hello<eos><user>Why?<assistant>", &ids);
    expect_text(t, &ids, ids.n,
                "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
                "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n");
    prompt_encode_rendered(&w, "<bos><user>Hi<assistant>Hello<eos><user>Why?<assistant>", &other);
    expect_text(d, &other, other.n,
                "<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜>Hello<｜end▁of▁sentence｜>"
                "<｜User｜>Why?<｜Assistant｜>");
    document_encode(&w, "<bos>", "Plain.", &text, &first);
    assert_int_equal(first, 1);
    assert_int_equal(text.ids[0], tokenizer_bos(d));
    assert_int_equal(text.ids[text.n - 1], tokenizer_eos(d));
    text.n = 0;
    document_encode(&v, "<bos>", "Plain.", &text, &first);
    assert_int_equal(first, 0);
    free(ids.ids);
    free(other.ids);
    free(text.ids);
    tokenizer_free(t);
    tokenizer_free(d);
}

static void generation_config_stops(void **state)
{
    (void)state;
    static const char list[] = "{\"eos_token_id\": [151645, 7, 200000]}";
    Tokenizer *t = open_tokenizer("tests/tokenizers/qwen3");
    Attachments a = {0};
    attach_file(&a, "generation_config.json", list, sizeof list - 1);
    Voice v = open_voice(t, NULL, &a);
    assert_true(voice_stops(&v, 7) && voice_stops(&v, 151645));
    assert_false(voice_stops(&v, 200000)); /* no token has this id */
    RolloutSpec spec = {0};
    voice_rollout(&v, &spec);
    assert_int_equal(spec.sampling.vocab_used, tokenizer_vocab(t));
    assert_int_equal(spec.n_stops, v.n_stops);
    attachments_free(&a);
    tokenizer_free(t);
}

static void own_model(void **state)
{
    (void)state;
    Tokenizer *t = tokenizer_new_char();
    Voice v = open_voice(t, NULL, NULL);
    Ids ids = {0}, want = {0};
    int first;
    assert_int_equal(v.n_stops, 1);
    assert_int_equal(v.stops[0], tokenizer_eos(t));
    document_encode(&v, "<bos><user>sort 312<assistant>", "<think>1</think><answer>123</answer>", &ids, &first);
    const char *text = "<bos><user>sort 312<assistant><think>1</think><answer>123</answer><eos>";
    tokenizer_encode(t, text, strlen(text), &want);
    assert_int_equal(ids.n, want.n);
    assert_memory_equal(ids.ids, want.ids, (size_t)ids.n * sizeof *ids.ids);
    expect_text(t, &ids, first, "<bos><user>sort 312<assistant>");
    free(ids.ids);
    free(want.ids);
    tokenizer_free(t);
}

static void unknown_template(void **state)
{
    (void)state;
    Tokenizer *t = open_tokenizer("tests/tokenizers/qwen3");
    Voice v;
    Status st = {0};
    assert_false(voice_open(&v, t, "qwen9", NULL, NULL, &st));
    assert_non_null(strstr(st.text, "qwen9"));
    st = (Status){0};
    tokenizer_set_chat_template(t, "{{ something else }}");
    assert_false(voice_open(&v, t, NULL, NULL, NULL, &st));
    assert_non_null(strstr(st.text, "--template"));
    tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chat_model), cmocka_unit_test(turns_and_texts),  cmocka_unit_test(generation_config_stops),
        cmocka_unit_test(own_model),  cmocka_unit_test(unknown_template),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
