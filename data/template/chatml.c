/* ChatML and its relatives: Qwen2, Qwen2.5, Qwen3, SmolLM2. */
#include "data/template/parts.h"

#include <string.h>

static void put_chatml_open(Render *r, const char *role)
{
    chat_put(r, "<|im_start|>");
    chat_put(r, role);
}

/* Ends a message; the marker is inside an assistant's span, the newline is not. */
static void put_chatml_end(Render *r, bool assistant)
{
    chat_put(r, "<|im_end|>");
    if (assistant) chat_end_span(r);
    chat_put(r, "\n");
}

static void put_chatml_message(Render *r, size_t i)
{
    const Json *m = chat_message_at(r, i);
    bool assistant = chat_is_role(m, "assistant");
    put_chatml_open(r, chat_role_of(m));
    chat_put(r, "\n");
    if (assistant) chat_begin_span(r);
    if (assistant) chat_put_view(r, chat_answer_of(r, i));
    else chat_put_quoted(r, chat_content_of(m));
    put_chatml_end(r, assistant);
}

static void put_tool_signatures(Render *r)
{
    chat_put(r, "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
                "You are provided with function signatures within <tools></tools> XML tags:\n<tools>");
    for (size_t i = 0; i < json_count(r->options.tools); i++) {
        chat_put(r, "\n");
        chat_put_json(r, json_at(r->options.tools, i));
    }
    chat_put(r, "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
                "<tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": "
                "<args-json-object>}\n</tool_call>");
}

/* The system message: the chat's own first one or the template's, and the tools. */
static void put_chatml_system(Render *r)
{
    const Json *first = chat_message_at(r, 0);
    bool own = first && chat_is_role(first, "system"), tools = json_count(r->options.tools) > 0;
    if (!own && !r->t->default_system && !tools) return;
    chat_put(r, "<|im_start|>system\n");
    if (own) chat_put_quoted(r, chat_content_of(first));
    else if (r->t->default_system) chat_put(r, r->t->default_system);
    if (tools) {
        if (own || r->t->default_system) chat_put(r, "\n\n");
        put_tool_signatures(r);
    }
    put_chatml_end(r, false);
}

static void put_qwen_calls(Render *r, const Json *calls, bool newline_first)
{
    for (size_t i = 0; i < json_count(calls); i++) {
        const Json *function = chat_function_of(json_at(calls, i)), *arguments = json_get(function, "arguments");
        if (i > 0 || newline_first) chat_put(r, "\n");
        chat_put(r, "<tool_call>\n{\"name\": \"");
        chat_put(r, json_get_string(function, "name", ""));
        chat_put(r, "\", \"arguments\": ");
        if (r->t->family == TEMPLATE_QWEN3) chat_put_arguments(r, arguments);
        else if (arguments) chat_put_json(r, arguments);
        chat_put(r, "}\n</tool_call>");
    }
}

/* Replies of tools that follow each other share one user message. */
static void put_tool_reply(Render *r, size_t i)
{
    if (i == 0 || !chat_is_role(chat_message_at(r, i - 1), "tool")) chat_put(r, "<|im_start|>user");
    chat_put(r, "\n<tool_response>\n");
    chat_put_quoted(r, chat_content_of(chat_message_at(r, i)));
    chat_put(r, "\n</tool_response>");
    if (i + 1 == chat_message_count(r) || !chat_is_role(chat_message_at(r, i + 1), "tool")) chat_put(r, "<|im_end|>\n");
}

static void put_qwen25_call_message(Render *r, size_t i)
{
    const Json *m = chat_message_at(r, i);
    View content = chat_answer_of(r, i);
    put_chatml_open(r, "assistant");
    chat_put(r, "\n");
    chat_begin_span(r);
    chat_put_view(r, content);
    put_qwen_calls(r, json_get(m, "tool_calls"), content.n > 0);
    put_chatml_end(r, true);
}

static View strip_newlines(View v, bool left, bool right)
{
    while (left && v.n && v.p[0] == '\n') v = (View){v.p + 1, v.n - 1};
    while (right && v.n && v.p[v.n - 1] == '\n') v.n--;
    return v;
}

/* An assistant's text in two: what it thought (between <think> and the first </think>) and what it said. */
static View split_reasoning(const Json *m, View *content)
{
    static const char CLOSE[] = "</think>";
    if (json_is_string(json_get(m, "reasoning_content"))) return chat_string_view(json_get(m, "reasoning_content"));
    const char *close = memmem(content->p, content->n, CLOSE, sizeof CLOSE - 1);
    if (!close) return (View){"", 0};
    View thought = strip_newlines((View){content->p, (size_t)(close - content->p)}, false, true);
    *content = strip_newlines(chat_after_last(*content, CLOSE), true, false);
    return strip_newlines(chat_after_last(thought, "<think>"), true, false);
}

static void put_qwen3_answer(Render *r, size_t i, bool after_last_query)
{
    const Json *m = chat_message_at(r, i);
    View content = chat_content_of(m), thought = split_reasoning(m, &content);
    put_chatml_open(r, "assistant");
    chat_put(r, "\n");
    chat_begin_span(r);
    if (after_last_query && (i + 1 == chat_message_count(r) || thought.n)) {
        chat_put(r, "<think>\n");
        chat_put_view(r, strip_newlines(thought, true, true));
        chat_put(r, "\n</think>\n\n");
        chat_put_view(r, strip_newlines(content, true, false));
    } else {
        chat_put_view(r, content);
    }
    put_qwen_calls(r, json_get(m, "tool_calls"), content.n > 0);
    put_chatml_end(r, true);
}

static bool is_tool_response(View v)
{
    static const char OPEN[] = "<tool_response>", CLOSE[] = "</tool_response>";
    size_t open = sizeof OPEN - 1, close = sizeof CLOSE - 1;
    return v.n >= open && v.n >= close && !memcmp(v.p, OPEN, open) && !memcmp(v.p + v.n - close, CLOSE, close);
}

/* The index of the last message in which a user really asks. */
static size_t last_query(const Render *r)
{
    for (size_t i = chat_message_count(r); i-- > 0;) {
        const Json *m = chat_message_at(r, i);
        if (chat_is_role(m, "user") && !is_tool_response(chat_content_of(m))) return i;
    }
    return chat_message_count(r) - 1;
}

static void put_qwen_message(Render *r, size_t i, size_t query)
{
    const Json *m = chat_message_at(r, i);
    bool qwen3 = r->t->family == TEMPLATE_QWEN3, assistant = chat_is_role(m, "assistant");
    if (chat_is_role(m, "tool")) put_tool_reply(r, i);
    else if (assistant && qwen3) put_qwen3_answer(r, i, i > query);
    else if (assistant && chat_calls_tools(m)) put_qwen25_call_message(r, i);
    else if (assistant || chat_is_role(m, "user") || (chat_is_role(m, "system") && i > 0)) put_chatml_message(r, i);
}

void template_render_qwen(Render *r)
{
    put_chatml_system(r);
    size_t query = last_query(r);
    for (size_t i = 0; i < chat_message_count(r); i++) put_qwen_message(r, i, query);
    if (!r->options.add_generation_prompt) return;
    chat_put(r, "<|im_start|>assistant\n");
    if (r->t->family == TEMPLATE_QWEN3 && r->options.no_thinking) chat_put(r, "<think>\n\n</think>\n\n");
}

void template_render_chatml(Render *r)
{
    size_t from = chat_message_count(r) && chat_is_role(chat_message_at(r, 0), "system");
    if (chat_message_count(r)) put_chatml_system(r);
    for (size_t i = from; i < chat_message_count(r); i++) put_chatml_message(r, i);
    if (r->options.add_generation_prompt) chat_put(r, "<|im_start|>assistant\n");
}
