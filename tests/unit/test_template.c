#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/file.h"
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

static void recognises(const char *jinja, const char *name)
{
    ChatTemplate t = {0};
    if (!template_recognised(jinja, &t)) t.name = "unknown";
    assert_string_equal(t.name, name);
}

static void recognition(void **state)
{
    (void)state;
    recognises("{{ bos_token }}{% if x %}{{ 'User: ' + message['content'] + '\\n\\n' }}{{ 'Assistant: ' + "
               "message['content'] + "
               "eos_token }}",
               "deepseek-v2");
    recognises("{{'<｜Assistant｜>' + message['content'] + '<｜end▁of▁sentence｜>'}}", "deepseek-v3");
    recognises("{% set content = content.split('</think>')[-1] %}{{'<｜Assistant｜>'}}", "deepseek-r1");
    recognises("{% set content = content.split('</think>')[-1] %}{{'<｜Assistant｜><think>\\n'}}", "deepseek-r1-think");
    recognises("{% if thinking %}{{'<｜Assistant｜><think>'}}", "unknown");
    recognises("{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}", "chatml");
    recognises(
        "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
        "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}",
        "smollm2");
    recognises("{%- if tools %}'<|im_start|>' You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
               "qwen2.5");
    recognises("{{ '<|im_start|>' }} enable_thinking xml_tools", "unknown");
    recognises("{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] "
               "| trim + "
               "'<|eot_id|>' %}{% set content = bos_token + content %}",
               "llama-3");
    recognises("[INST] {{ message }} [/INST]", "unknown");
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
        cmocka_unit_test(golden_chats),
        cmocka_unit_test(each_built_in),
        cmocka_unit_test(tool_calls),
        cmocka_unit_test(recognition),
        cmocka_unit_test(refuses_messages_of_another_shape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
