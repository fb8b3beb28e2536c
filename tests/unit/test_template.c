#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/file.h"
#include "data/template/jinja.h"
#include "data/template/template.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static Tokenizer *load(const char *name)
{
    char path[100];
    Status st = {0};
    snprintf(path, sizeof path, "tests/tokenizers/%s", name);
    Tokenizer *t = tokenizer_load(path, &st);
    if (!t) fail_msg("%s", st.text);
    return t;
}

static TemplateOptions options_of(const Json *row)
{
    bool thinking = true, prompt = false;
    Status st = {0};
    assert_true(json_get_bool(row, "enable_thinking", true, &thinking, &st));
    assert_true(json_get_bool(row, "add_generation_prompt", false, &prompt, &st));
    return (TemplateOptions){.add_generation_prompt = prompt, .no_thinking = !thinking};
}

static void golden(const char *name, const char *expected_template, int rows)
{
    char path[100];
    Status st = {0};
    Tokenizer *t = load(name);
    ChatTemplate chosen;
    assert_true(template_for(t, NULL, &chosen, &st));
    assert_string_equal(chosen.name, expected_template);
    snprintf(path, sizeof path, "tests/golden/tokenizers/%s.chat.jsonl", name);
    size_t length;
    char *text = file_read(path, &length, &st), *save = NULL;
    int line = 0;
    for (char *at = strtok_r(text, "\n", &save); at; at = strtok_r(NULL, "\n", &save), line++) {
        Json *row = json_parse(at, strlen(at), path, &st);
        RenderedChat chat;
        TemplateOptions options = options_of(row);
        options.tokenizer = t;
        if (!template_render(&chosen, json_get(row, "messages"), options, &chat, &st)) fail_msg("%s", st.text);
        assert_string_equal(chat.text, json_get_string(row, "text", NULL));
        rendered_free(&chat);
        json_free(row);
    }
    assert_int_equal(line, rows);
    free(text);
    tokenizer_free(t);
}

static void golden_chats(void **state)
{
    (void)state;
    golden("deepseek_v3", "deepseek-v3", 12);
    golden("qwen3", "qwen3", 18);
}

/* Renders with a built-in and compares; assistant spans come between [ and ] in `want`. */
static void renders(const char *name, const char *messages, bool prompt, const char *want)
{
    Status st = {0};
    ChatTemplate t;
    RenderedChat chat;
    assert_true(template_named(name, &t, &st));
    Json *v = json_parse(messages, strlen(messages), "test", &st);
    if (!template_render(&t, v, (TemplateOptions){.add_generation_prompt = prompt}, &chat, &st))
        fail_msg("%s", st.text);
    char marked[2000], *at = marked;
    int span = 0;
    for (size_t i = 0; i <= chat.length; i++) {
        if (span < chat.n && i == chat.spans[span].end) {
            *at++ = ']';
            span++;
        }
        if (span < chat.n && i == chat.spans[span].start) *at++ = '[';
        *at++ = chat.text[i];
    }
    assert_string_equal(marked, want);
    assert_int_equal(span, chat.n);
    rendered_free(&chat);
    json_free(v);
}

static const char TURNS[] =
    "[{\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": \"assistant\", \"content\": \"<think>a</think> yo \"},"
    " {\"role\": \"user\", \"content\": \"x\"}]";
static const char SYSTEM[] =
    "[{\"role\": \"system\", \"content\": \"Be brief.\"}, {\"role\": \"user\", \"content\": \" Hi\\n\"}]";
static const char CALLS[] =
    "[{\"role\": \"user\", \"content\": \"2+3, 4+5?\"}, {\"role\": \"assistant\", \"content\": null, \"tool_calls\": ["
    "{\"type\": \"function\", \"function\": {\"name\": \"add\", \"arguments\": {\"a\": 2}}},"
    "{\"type\": \"function\", \"function\": {\"name\": \"add\", \"arguments\": {\"a\": 4}}}]},"
    "{\"role\": \"tool\", \"content\": \"5\"}, {\"role\": \"tool\", \"content\": \"9\"},"
    "{\"role\": \"assistant\", \"content\": \"5 and 9\"}]";

static void each_built_in(void **state)
{
    (void)state;
    renders("r1-tiny", TURNS, true, "<bos><user>Hi<assistant>[<think>a</think> yo <eos>]<user>x<assistant>");
    renders("r1-tiny", SYSTEM, false, "<bos>Be brief.<user> Hi\n");
    renders("deepseek-v2", TURNS, true,
            "<｜begin▁of▁sentence｜>User: Hi\n\nAssistant:[ <think>a</think> yo <｜end▁of▁sentence｜>]User: "
            "x\n\nAssistant:");
    renders("deepseek-v2", SYSTEM, false, "<｜begin▁of▁sentence｜>Be brief.\n\nUser:  Hi\n\n\n");
    renders("deepseek-r1", TURNS, true,
            "<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜>[ yo <｜end▁of▁sentence｜>]<｜User｜>x<｜Assistant｜>");
    renders("deepseek-r1-think", TURNS, true,
            "<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜>[ yo "
            "<｜end▁of▁sentence｜>]<｜User｜>x<｜Assistant｜><think>\n");
    renders(
        "chatml", TURNS, true,
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n[<think>a</think> yo <|im_end|>]\n<|im_start|>user\n"
        "x<|im_end|>\n<|im_start|>assistant\n");
    renders("chatml", SYSTEM, false, "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi\n<|im_end|>\n");
    renders("smollm2", SYSTEM, false, "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi\n<|im_end|>\n");
    renders("smollm2", "[{\"role\": \"user\", \"content\": \"Hi\"}]", true,
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    renders("qwen2.5", "[{\"role\": \"user\", \"content\": \"Hi\"}]", true,
            "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    renders(
        "llama-3", TURNS, true,
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant"
        "<|end_header_id|>\n\n[<think>a</think> yo<|eot_id|>]<|start_header_id|>user<|end_header_id|>\n\nx<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n");
    renders("llama-3", SYSTEM, false,
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user"
            "<|end_header_id|>\n\nHi<|eot_id|>");
}

static void tool_calls(void **state)
{
    (void)state;
    renders("qwen3", CALLS, false,
            "<|im_start|>user\n2+3, 4+5?<|im_end|>\n<|im_start|>assistant\n[<tool_call>\n{\"name\": \"add\", "
            "\"arguments\": "
            "{\"a\": 2}}\n</tool_call>\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": "
            "4}}\n</tool_call><|im_end|>]\n"
            "<|im_start|>user\n<tool_response>\n5\n</tool_response>\n<tool_response>\n9\n</tool_response><|im_end|>\n"
            "<|im_start|>assistant\n[<think>\n\n</think>\n\n5 and 9<|im_end|>]\n");
    renders(
        "deepseek-v3", CALLS, true,
        "<｜begin▁of▁sentence｜><｜User｜>2+3, 4+5?<｜Assistant｜>[<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function"
        "<｜tool▁sep｜>add\n```json\n{\"a\": "
        "2}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>add\n"
        "```json\n{\"a\": 4}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>]<｜tool▁outputs▁begin｜>"
        "<｜tool▁output▁begin｜>5<｜tool▁output▁end｜>\n<｜tool▁output▁begin｜>9<｜tool▁output▁end｜><"
        "｜tool▁outputs▁end｜>"
        "[5 and 9<｜end▁of▁sentence｜>]<｜Assistant｜>");
}

/* The interpreter against what Jinja itself made of the published templates. */
static void jinja_golden(const char *name, int rows)
{
    char path[100];
    Status st = {0};
    Tokenizer *t = load(name);
    snprintf(path, sizeof path, "tests/golden/tokenizers/%s.chat.jsonl", name);
    size_t length;
    char *text = file_read(path, &length, &st), *save = NULL;
    int line = 0;
    for (char *at = strtok_r(text, "\n", &save); at; at = strtok_r(NULL, "\n", &save), line++) {
        Json *row = json_parse(at, strlen(at), path, &st);
        json_set(row, "bos_token", json_new_text("<｜begin▁of▁sentence｜>"));
        char *got = jinja_render(tokenizer_chat_template(t), row, &st);
        if (!got) fail_msg("%s", st.text);
        assert_string_equal(got, json_get_string(row, "text", NULL));
        free(got);
        json_free(row);
    }
    assert_int_equal(line, rows);
    free(text);
    tokenizer_free(t);
}

static void jinja(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"a {{ 'b' + \"c\" 'd' }} e", "a bcd e"},
        {"{% for x in [1, 2, 3][::-1] %}{{ x }}{% if not loop.last %},{% endif %}{% endfor %}", "3,2,1"},
        {"x\n  {% if 1 == 1 %}\ny\n  {%- endif -%}\n z", "x\nyz"}, /* lstrip_blocks, trim_blocks, - */
        {"{# {{ gone }} #}{{ nothing }}{{ none }}|{{ nothing is defined }}", "None|False"},
        {"{% set n = namespace(k=0) %}{% for x in 'a-b'.split('-') %}{% set n.k = n.k + 1 %}{% set k = 9 %}{% endfor "
         "%}{{ n.k }}{{ k }}",
         "2"},
        {"{{ ' a b '.strip() ~ 2 }}{{ 'ab' | length - 1 }}{{ '[x]'.lstrip('[').rstrip(']') }}", "a b21x"},
        {"{{ 'y' if nothing else 'n' }}{{ nothing and nothing.x.y() or 'o' }}{{ 'a' in 'cab' }}{{ 'a' not in ['a'] }}",
         "noTrueFalse"},
        {"{% if false %}1{% elif true %}2{% else %}3{% endif %}{{ {'a': 1} }}", NULL},
        {"{% macro f() %}{% endmacro %}", NULL},
        {"{{ raise_exception('no') }}", NULL},
        {"{{ strftime_now('%d') }}", NULL},
        {"{{ 'a' }", NULL},
        {"{% if true %}", NULL},
        {"{{ ((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((1", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Status st = {0};
        Json *none = json_new_object();
        char *got = jinja_render(cases[i][0], none, &st);
        if (!cases[i][1]) assert_null(got);
        else if (!got) fail_msg("%s: %s", cases[i][0], st.text);
        else assert_string_equal(got, cases[i][1]);
        free(got);
        json_free(none);
    }
    jinja_golden("qwen3", 18);
    jinja_golden("deepseek_v3", 12);
}

static void recognises(const char *jinja, const char *name)
{
    ChatTemplate t = {0};
    Status st = {0};
    if (!template_recognised(jinja, &t, &st)) t.name = "unknown";
    if (strcmp(t.name, name) != 0) fail_msg("%s is %s: %s", name, t.name, st.text);
}

#define CHATML   "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
#define TURNS_OF "{% for message in messages %}"
#define ASKING   "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
#define DEFAULT(text)                                                                                                  \
    "{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n" text "<|im_end|>\n' }}{% endif " \
    "%}"
#define DEEPSEEK_V2                                                                                                    \
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] "  \
    "+ "                                                                                                               \
    "'\n\n' }}{% elif message['role'] == 'assistant' %}{{ 'Assistant: ' + message['content'] + eos_token }}{% elif "   \
    "message['role'] == 'system' %}{{ message['content'] + '\n\n' }}{% endif %}{% endfor %}"
#define LLAMA_3                                                                                                        \
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "    \
    "message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"  \
    "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"

static void recognition(void **state)
{
    (void)state;
    recognises(TURNS_OF CHATML ASKING, "chatml");
    recognises(TURNS_OF DEFAULT("You are a helpful assistant.") CHATML ASKING, "qwen2");
    recognises(TURNS_OF DEFAULT("You are a helpful AI assistant named SmolLM, trained by Hugging Face") CHATML ASKING,
               "smollm2");
    recognises(DEEPSEEK_V2 "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}", "deepseek-v2");
    recognises(LLAMA_3
               "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
               "llama-3");
    /* Small changes that people make: none of them is the template that it looks like. */
    recognises(TURNS_OF "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>'}}" ASKING,
               "unknown");
    recognises("{{ bos_token }}" TURNS_OF CHATML ASKING, "unknown");
    recognises(TURNS_OF DEFAULT("Think first.") CHATML ASKING, "unknown");
    recognises(TURNS_OF "{% if message['role'] == 'user' %}Q: {% endif %}" CHATML ASKING, "unknown");
    recognises(TURNS_OF CHATML "{% endfor %}", "unknown");
    recognises(DEEPSEEK_V2 "{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}", "unknown");
    recognises(LLAMA_3 "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}",
               "unknown"); /* asks even when not asked */
    recognises("[INST] {{ message }} [/INST]", "unknown");
    ChatTemplate near;
    Status why = {0};
    assert_false(template_recognised("{{ bos_token }}" TURNS_OF CHATML ASKING, &near, &why));
    assert_non_null(strstr(why.text, "\"(the BOS token)<|im_start|>user\n Hi <|im_end|>"));
    /* What the examples show to be different is refused, not guessed. */
    why = (Status){0};
    assert_true(template_recognised(
        TURNS_OF "{% if loop.first or message['role'] != 'system' %}" CHATML "{% endif %}" ASKING, &near, &why));
    assert_true(near.first_system_only);
    Tokenizer *t = tokenizer_new_char();
    ChatTemplate chosen;
    Status st = {0};
    assert_true(template_for(t, NULL, &chosen, &st));
    assert_string_equal(chosen.name, "r1-tiny");
    tokenizer_set_chat_template(t, "[INST]");
    assert_int_equal(tokenizer_eos(t), tokenizer_id(t, "<eos>"));
    assert_false(template_for(t, NULL, &chosen, &st));
    assert_non_null(strstr(st.text, "--template"));
    assert_true(template_for(t, "chatml", &chosen, &st));
    tokenizer_free(t);
}

static void refuses(const char *name, const char *messages, const char *part)
{
    Status st = {0};
    ChatTemplate t;
    RenderedChat chat;
    assert_true(template_named(name, &t, &st));
    Json *v = json_parse(messages, strlen(messages), "test", &st);
    assert_false(template_render(&t, v, (TemplateOptions){0}, &chat, &st));
    if (!strstr(st.text, part)) fail_msg("%s", st.text);
    json_free(v);
}

static void refuses_messages_of_another_shape(void **state)
{
    (void)state;
    refuses("qwen3", "{\"role\": \"user\"}", "must be a JSON array");
    refuses("qwen3", "[3]", "message 0 has no string \"role\"");
    refuses("qwen3", "[{\"role\": \"user\", \"content\": null}]", "message 0 has no string \"content\"");
    refuses("qwen3", "[{\"role\": \"user\", \"content\": [{\"type\": \"image\"}]}]",
            "message 0 has no string \"content\"");
    refuses("qwen3", "[{\"role\": \"assistant\", \"content\": \"\", \"tool_calls\": {\"a\": 1}}]", "must be an array");
    refuses("llama-3", CALLS, "message 1: the chat template llama-3 has no tool calls");
    Status st = {0};
    ChatTemplate t;
    assert_false(template_named("qwen4", &t, &st));
    assert_non_null(strstr(st.text, "--template takes one of r1-tiny, "));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_chats), cmocka_unit_test(each_built_in),
        cmocka_unit_test(tool_calls),   cmocka_unit_test(recognition),
        cmocka_unit_test(jinja),        cmocka_unit_test(refuses_messages_of_another_shape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
