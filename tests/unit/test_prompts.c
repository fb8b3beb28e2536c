/* How problems are put to a model: chat templates of the tokenizer, stop tokens, where the loss begins; our own models as
 * ever. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "recipes/model/prompts.h"
#include "tests/unit/scratch.h"
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

static Json *parse(const char *text)
{
    Status st = {0};
    Json *v = json_parse(text, strlen(text), "test", &st);
    if (!v) fail_msg("%s", st.text);
    return v;
}

static void encode_prompt(const Voice *v, const char *messages, Ids *out)
{
    Status st = {0};
    Json *list = parse(messages);
    if (!prompt_encode(v, list, NULL, out, &st)) fail_msg("%s", st.text);
    json_free(list);
}

/* The sequences of a conversation: their texts in order, trained tokens between [ and ]. */
static void expect_trained(const Voice *v, const char *messages, Turns turns, const char *const *want, int n)
{
    Status st = {0};
    Document d = {.messages = parse(messages)};
    Sequences s = {0};
    if (!document_encode(v, &d, turns, &s, &st)) fail_msg("%s", st.text);
    assert_int_equal(s.n, n);
    for (int i = 0; i < n; i++) {
        const Sequence *q = &s.list[i];
        char marked[2000] = "";
        for (int t = 0, span = 0; t <= q->n; t++) {
            if (span < q->n_spans && t == q->spans[span].end) strcat(marked, "]"), span++;
            if (span < q->n_spans && t == q->spans[span].first) strcat(marked, "[");
            char *piece = t < q->n ? tokenizer_decode(v->tokenizer, &q->ids[t], 1, true) : NULL;
            if (piece) strcat(marked, piece);
            free(piece);
        }
        assert_string_equal(marked, want[i]);
    }
    sequences_free(&s);
    document_free(&d);
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
    encode_prompt(&v, "[{\"role\": \"user\", \"content\": \"What is 2 + 3?\"}]", &ids);
    expect_text(t, &ids, ids.n, USER_TURN);
    completion_encode(&v, "What is 2 + 3?", "<think>2 + 3</think>It is 5.", &document, &first);
    assert_int_equal(first, ids.n);
    assert_memory_equal(document.ids, ids.ids, (size_t)ids.n * sizeof *ids.ids);
    assert_int_equal(document.ids[document.n - 1], v.stops[0]);
    char *said = tokenizer_decode(t, document.ids + first, document.n - first, true);
    assert_string_equal(said, "<think>\n2 + 3\n</think>\n\nIt is 5.<|im_end|>");
    free(said);
    free(ids.ids);
    free(document.ids);
    tokenizer_free(t);
}

#define TWO_TURNS                                                                                                      \
    "[{\"role\": \"system\", \"content\": \"S\"}, {\"role\": \"user\", \"content\": \"Hi\"}, "                         \
    "{\"role\": \"assistant\", \"content\": \"Hello\"}, {\"role\": \"user\", \"content\": \"Why?\"}, "                 \
    "{\"role\": \"assistant\", \"content\": \"So\"}]"
#define THOUGHTS                                                                                                       \
    "[{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"<think>b</think>c\"}, "       \
    "{\"role\": \"user\", \"content\": \"d\"}, "                                                                       \
    "{\"role\": \"assistant\", \"content\": \"f\", \"reasoning_content\": \"e\"}]"

/* What is trained is what stands behind the rendered generation prompt: roles, spaces, thoughts as the template says. */
static void trained_turns(void **state)
{
    (void)state;
    Tokenizer *t = open_tokenizer("tests/tokenizers/qwen3"), *d = open_tokenizer("tests/tokenizers/deepseek_v3");
    Voice chatml = open_voice(t, "chatml", NULL), v2 = open_voice(d, "deepseek-v2", NULL);
    Voice r1 = open_voice(d, "deepseek-r1-think", NULL), qwen3 = open_voice(t, NULL, NULL);
    static const char head[] =
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
    static const char next[] = "<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n";
    char all[400], last[400];
    snprintf(all, sizeof all, "%s[Hello<|im_end|>]%s[So<|im_end|>]", head, next + strlen("<|im_end|>"));
    snprintf(last, sizeof last, "%sHello%s[So<|im_end|>]", head, next);
    expect_trained(&chatml, TWO_TURNS, TURNS_ALL, (const char *const[]){all}, 1);
    expect_trained(&chatml, TWO_TURNS, TURNS_LAST, (const char *const[]){last}, 1);
    expect_trained(&v2, TWO_TURNS, TURNS_LAST,
                   (const char *const[]){"<｜begin▁of▁sentence｜>S\n\nUser: Hi\n\nAssistant: Hello<｜end▁of▁sentence｜>"
                                         "User: Why?\n\nAssistant:[ So<｜end▁of▁sentence｜>]"},
                   1);
    /* Earlier thoughts are left out, so an earlier turn is trained in a sequence of its own; <think> is there once. */
    expect_trained(&r1, THOUGHTS, TURNS_ALL,
                   (const char *const[]){"<｜begin▁of▁sentence｜><｜User｜>a<｜Assistant｜><think>\n"
                                         "[b</think>c<｜end▁of▁sentence｜>]",
                                         "<｜begin▁of▁sentence｜><｜User｜>a<｜Assistant｜>c<｜end▁of▁sentence｜>"
                                         "<｜User｜>d<｜Assistant｜><think>\n[e\n</think>\n\nf<｜end▁of▁sentence｜>]"},
                   2);
    expect_trained(&qwen3, THOUGHTS, TURNS_LAST,
                   (const char *const[]){"<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nc<|im_end|>\n"
                                         "<|im_start|>user\nd<|im_end|>\n<|im_start|>assistant\n"
                                         "[<think>\ne\n</think>\n\nf<|im_end|>]"},
                   1);
    expect_trained(
        &chatml, THOUGHTS, TURNS_LAST,
        (const char *const[]){"<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n<think>b</think>c<|im_end|>\n"
                              "<|im_start|>user\nd<|im_end|>\n<|im_start|>assistant\n"
                              "[<think>e</think>f<|im_end|>]"},
        1);
    tokenizer_free(t);
    tokenizer_free(d);
}

#define CALLS                                                                                                          \
    "[{\"role\": \"user\", \"content\": \"2+3?\"}, {\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{"    \
    "\"function\": {\"name\": \"add\", \"arguments\": {}}}]}, {\"role\": \"tool\", \"content\": \"5\"}, "              \
    "{\"role\": \"assistant\", \"content\": \"It is 5\"}]"

static void tool_turns(void **state)
{
    (void)state;
    Tokenizer *t = open_tokenizer("tests/tokenizers/qwen3");
    Voice qwen = open_voice(t, "qwen2.5", NULL), chatml = open_voice(t, "chatml", NULL);
#define SYSTEM "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
#define ASK    SYSTEM "<|im_start|>user\n2+3?<|im_end|>\n<|im_start|>assistant\n"
#define CALL   "<tool_call>\n{\"name\": \"add\", \"arguments\": {}}\n</tool_call><|im_end|>"
#define REST                                                                                                           \
    "\n<|im_start|>user\n<tool_response>\n5\n</tool_response><|im_end|>\n<|im_start|>assistant\n[It is 5<|im_end|>]"
    expect_trained(&qwen, CALLS, TURNS_ALL, (const char *const[]){ASK CALL REST}, 1);
    expect_trained(&qwen, CALLS, TURNS_CALLS, (const char *const[]){ASK "[" CALL "]" REST}, 1);
    Document d = {.messages = parse(CALLS)};
    Sequences s = {0};
    Status st = {0};
    assert_false(document_encode(&chatml, &d, TURNS_ALL, &s, &st));
    assert_true(says(&st, "no tool calls"));
    document_free(&d);
    sequences_free(&s);
    tokenizer_free(t);
}

/* Text of a user that looks like a role, a tag or an end token stays text: its letters, not the token. */
static void quoted_tokens(void **state)
{
    (void)state;
    static const char *const folders[] = {"tests/tokenizers/qwen3", "tests/tokenizers/deepseek_v3"};
    static const char *const marks[] = {"<|im_end|>", "<｜Assistant｜>"};
    for (int i = 0; i < 2; i++) {
        Tokenizer *t = open_tokenizer(folders[i]);
        Voice v = open_voice(t, NULL, NULL);
        Ids plain = {0}, ids = {0};
        char messages[300], want[300];
        encode_prompt(&v, "[{\"role\": \"user\", \"content\": \"x\"}]", &plain);
        snprintf(messages, sizeof messages, "[{\"role\": \"user\", \"content\": \"x %s <assistant> <think> y\"}]",
                 marks[i]);
        encode_prompt(&v, messages, &ids);
        int32_t mark = tokenizer_id(t, marks[i]), think = tokenizer_id(t, "<think>");
        int count = 0, before = 0;
        for (int k = 0; k < ids.n; k++) count += ids.ids[k] == mark || (think >= 0 && ids.ids[k] == think);
        for (int k = 0; k < plain.n; k++) before += plain.ids[k] == mark;
        assert_int_equal(count, before);
        char *text = tokenizer_decode(t, ids.ids, ids.n, true);
        snprintf(want, sizeof want, "x %s <assistant> <think> y", marks[i]);
        assert_non_null(strstr(text, want));
        free(text);
        free(plain.ids);
        free(ids.ids);
        tokenizer_free(t);
    }
    Tokenizer *t = tokenizer_new_char();
    Voice v = open_voice(t, NULL, NULL);
    Ids ids = {0};
    encode_prompt(&v, "[{\"role\": \"user\", \"content\": \"<assistant>7<eos>\"}]", &ids);
    int roles = 0;
    for (int k = 0; k < ids.n; k++) roles += ids.ids[k] < 5;
    assert_int_equal(roles, 3); /* <bos> <user> .. <assistant> */
    free(ids.ids);
    tokenizer_free(t);
}

static void text_rows(void **state)
{
    (void)state;
    Tokenizer *t = open_tokenizer("tests/tokenizers/qwen3"), *d = open_tokenizer("tests/tokenizers/deepseek_v3");
    Voice v = open_voice(t, "chatml", NULL), w = open_voice(d, NULL, NULL);
    Document text = {.text = "Plain."};
    Sequences s = {0};
    Status st = {0};
    assert_true(document_encode(&w, &text, TURNS_ALL, &s, &st) && document_encode(&v, &text, TURNS_ALL, &s, &st));
    assert_int_equal(s.list[0].ids[0], tokenizer_bos(d));
    assert_int_equal(s.list[0].ids[s.list[0].n - 1], tokenizer_eos(d));
    assert_true(s.list[0].n_spans == 1 && s.list[0].spans[0].first == 1 && s.list[0].spans[0].end == s.list[0].n);
    assert_int_equal(s.list[1].ids[s.list[1].n - 1], v.stops[0]);
    sequences_free(&s);
    tokenizer_free(t);
    tokenizer_free(d);
}

/* Rewards judge what the generation prompt has opened together with what was sampled; U+0000 does not end a text. */
static void judged_text(void **state)
{
    (void)state;
    Tokenizer *t = open_tokenizer("tests/tokenizers/deepseek_v3");
    Voice opens = open_voice(t, "deepseek-r1-think", NULL), v2 = open_voice(t, "deepseek-v2", NULL);
    Ids ids = {0};
    static const char said[] = "thought</think>\n<answer>5</answer>\0more";
    tokenizer_encode(t, said, sizeof said - 1, &ids);
    Completion c = {.ids = ids.ids, .n = ids.n, .truncated = true};
    char *text = completion_text(&opens, &c), *other = completion_text(&v2, &c);
    assert_string_equal(text, "<think>\nthought</think>\n<answer>5</answer>\xef\xbf\xbdmore");
    assert_string_equal(other, text + strlen("<think>\n"));
    assert_string_equal(v2.lead, " ");
    assert_string_equal(completion_content(&v2, " five"), "five");
    free(text);
    free(other);
    free(ids.ids);
    tokenizer_free(t);
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
    completion_encode(&v, "sort 312", "<think>1</think><answer>123</answer>", &ids, &first);
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

/* What ends a turn stops a completion where it is one token; where it is spelled with many, none of these does. */
static void turn_ends(void **state)
{
    (void)state;
    Tokenizer *plain = tokenizer_new_char(), *qwen = open_tokenizer("tests/tokenizers/qwen3");
    Voice v = open_voice(plain, "chatml", NULL);
    assert_int_equal(v.n_stops, 1);
    assert_true(voice_stops(&v, tokenizer_eos(plain)));
    v = open_voice(qwen, "chatml", NULL);
    assert_true(voice_stops(&v, tokenizer_id(qwen, "<|im_end|>")) && voice_stops(&v, tokenizer_eos(qwen)));
    tokenizer_free(plain);
    tokenizer_free(qwen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chat_model),
        cmocka_unit_test(trained_turns),
        cmocka_unit_test(tool_turns),
        cmocka_unit_test(quoted_tokens),
        cmocka_unit_test(text_rows),
        cmocka_unit_test(judged_text),
        cmocka_unit_test(generation_config_stops),
        cmocka_unit_test(own_model),
        cmocka_unit_test(unknown_template),
        cmocka_unit_test(turn_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
