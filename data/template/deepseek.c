/* DeepSeek-V3 and R1. */
#include "data/template/parts.h"

static void put_system(Render *r)
{
    size_t start = r->out.n;
    bool first = true;
    for (size_t i = 0; i < chat_message_count(r); i++) {
        if (!chat_is_role(chat_message_at(r, i), "system")) continue;
        if (r->t->last_system_only) r->out.n = start, r->n_quoted = 0;
        else if (!first) chat_put(r, "\n\n");
        chat_put_quoted(r, chat_content_of(chat_message_at(r, i)));
        first = false;
    }
}

/* The published template closes the block of calls after each call but the first of the whole chat; so do we. */
static void put_deepseek_calls(Render *r, const Json *calls, bool *any_call)
{
    bool opened = false;
    for (size_t i = 0; i < json_count(calls); i++) {
        const Json *call = json_at(calls, i), *function = chat_function_of(call);
        bool first = !*any_call;
        *any_call = true;
        if (first) chat_put(r, "<｜Assistant｜>");
        if (!opened) chat_begin_span(r);
        opened = true;
        chat_put(r, first ? "<｜tool▁calls▁begin｜>" : "\n");
        chat_put(r, "<｜tool▁call▁begin｜>");
        chat_put(r, json_get_string(call, "type", "function"));
        chat_put(r, "<｜tool▁sep｜>");
        chat_put(r, json_get_string(function, "name", ""));
        chat_put(r, "\n```json\n");
        chat_put_arguments(r, json_get(function, "arguments"));
        chat_put(r, "\n```<｜tool▁call▁end｜>");
        if (!first) {
            chat_put(r, "<｜tool▁calls▁end｜>");
            chat_put(r, "<｜end▁of▁sentence｜>");
        }
        chat_end_span(r);
    }
}

static void put_deepseek_answer(Render *r, size_t i, bool after_tools)
{
    chat_put(r, after_tools ? "<｜tool▁outputs▁end｜>" : "<｜Assistant｜>");
    View content = chat_answer_of(r, i);
    bool strip = r->t->strip_reasoning && !after_tools && !chat_is_said(r, i);
    chat_begin_span(r);
    chat_put_view(r, strip ? chat_after_last(content, "</think>") : content);
    chat_put(r, "<｜end▁of▁sentence｜>");
    chat_end_span(r);
}

void template_render_deepseek(Render *r)
{
    bool any_call = false, any_output = false, in_tools = false;
    chat_put_bos(r, "<｜begin▁of▁sentence｜>");
    put_system(r);
    for (size_t i = 0; i < chat_message_count(r); i++) {
        const Json *m = chat_message_at(r, i);
        if (chat_is_role(m, "user")) {
            in_tools = false;
            chat_put(r, "<｜User｜>");
            chat_put_quoted(r, chat_content_of(m));
        } else if (chat_is_role(m, "assistant") && json_is_string(json_get(m, "content"))) {
            put_deepseek_answer(r, i, in_tools);
            in_tools = false;
        } else if (chat_is_role(m, "assistant")) {
            in_tools = false;
            put_deepseek_calls(r, json_get(m, "tool_calls"), &any_call);
        } else if (chat_is_role(m, "tool")) {
            in_tools = true;
            chat_put(r, any_output ? "\n" : "<｜tool▁outputs▁begin｜>");
            any_output = true;
            chat_put(r, "<｜tool▁output▁begin｜>");
            chat_put_quoted(r, chat_content_of(m));
            chat_put(r, "<｜tool▁output▁end｜>");
        }
    }
    if (in_tools) {
        chat_put(r, "<｜tool▁outputs▁end｜>");
    } else if (r->options.add_generation_prompt) {
        chat_put(r, "<｜Assistant｜>");
        if (r->t->open_think) chat_put(r, "<think>\n");
    }
}
