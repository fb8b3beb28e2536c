#include "data/template/parts.h"

#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "data/tokenizer/unicode.h"
#include "data/utf8.h"

void chat_put(Render *r, const char *text)
{
    text_add(&r->out, text);
}

void chat_put_view(Render *r, View v)
{
    text_add_bytes(&r->out, v.p, v.n);
}

static void put_marker(Render *r, int32_t id, const char *usual)
{
    size_t n = 0;
    const char *piece = id >= 0 ? tokenizer_piece(r->options.tokenizer, id, &n, NULL) : NULL;
    chat_put_view(r, n ? (View){piece, n} : (View){usual, strlen(usual)});
}

void chat_put_bos(Render *r, const char *usual)
{
    put_marker(r, r->options.tokenizer ? tokenizer_bos(r->options.tokenizer) : -1, usual);
}

void chat_put_eos(Render *r, const char *usual)
{
    put_marker(r, r->options.tokenizer ? tokenizer_eos(r->options.tokenizer) : -1, usual);
}

void chat_begin_span(Render *r)
{
    r->spans = realloc(r->spans, (size_t)(r->n + 1) * sizeof *r->spans);
    CHECK(r->spans);
    r->spans[r->n++] = (TemplateSpan){r->out.n, r->out.n};
}

void chat_end_span(Render *r)
{
    r->spans[r->n - 1].end = r->out.n;
}

/* ---- messages ---- */

const char *chat_role_of(const Json *message)
{
    return json_get_string(message, "role", "");
}

bool chat_is_role(const Json *message, const char *role)
{
    return !strcmp(chat_role_of(message), role);
}

View chat_string_view(const Json *v)
{
    size_t n = 0;
    const char *p = json_string(v, &n);
    return (View){p ? p : "", p ? n : 0};
}

View chat_content_of(const Json *message)
{
    return chat_string_view(json_get(message, "content"));
}

bool chat_calls_tools(const Json *message)
{
    return json_count(json_get(message, "tool_calls")) > 0;
}

static bool check_messages(const ChatTemplate *t, const Json *messages, Status *st)
{
    if (!json_is_array(messages)) return fail(st, "the messages must be a JSON array of {\"role\", \"content\"}");
    for (size_t i = 0; i < json_count(messages); i++) {
        const Json *m = json_at(messages, i), *content = json_get(m, "content");
        if (!json_is_string(json_get(m, "role"))) return fail(st, "message %zu has no string \"role\"", i);
        if (chat_calls_tools(m) && !json_is_array(json_get(m, "tool_calls")))
            return fail(st, "\"tool_calls\" of message %zu must be an array", i);
        if (!json_is_string(content) && !((!content || json_is_null_value(content)) && chat_calls_tools(m)))
            return fail(st, "message %zu has no string \"content\"", i);
        if (t->no_tools && (chat_calls_tools(m) || chat_is_role(m, "tool")))
            return fail(st, "message %zu: the chat template %s has no tool calls", i, t->name);
    }
    return true;
}

const Json *chat_message_at(const Render *r, size_t i)
{
    return json_at(r->messages, i);
}

size_t chat_message_count(const Render *r)
{
    return json_count(r->messages);
}

const Json *chat_function_of(const Json *call)
{
    const Json *function = json_get(call, "function");
    return function ? function : call;
}

void chat_put_json(Render *r, const Json *v)
{
    char *text = json_write(v, false);
    chat_put(r, text);
    free(text);
}

void chat_put_arguments(Render *r, const Json *arguments)
{
    if (json_is_string(arguments)) chat_put_view(r, chat_string_view(arguments));
    else if (arguments) chat_put_json(r, arguments);
}

View chat_after_last(View v, const char *mark)
{
    size_t m = strlen(mark);
    const char *hit;
    while ((hit = memmem(v.p, v.n, mark, m))) {
        v.n -= (size_t)(hit - v.p) + m;
        v.p = hit + m;
    }
    return v;
}

/* ---- r1-tiny, DeepSeek-V2, Llama-3 ---- */

static void render_tiny(Render *r)
{
    chat_put_bos(r, "<bos>");
    for (size_t i = 0; i < chat_message_count(r); i++) {
        const Json *m = chat_message_at(r, i);
        if (!chat_is_role(m, "assistant")) {
            if (!chat_is_role(m, "system")) chat_put(r, "<user>");
            chat_put_view(r, chat_content_of(m));
            continue;
        }
        chat_put(r, "<assistant>");
        chat_begin_span(r);
        chat_put_view(r, chat_content_of(m));
        chat_put_eos(r, "<eos>");
        chat_end_span(r);
    }
    if (r->options.add_generation_prompt) chat_put(r, "<assistant>");
}

/* The generation prompt is "Assistant:", so the space after it is the model's to write and belongs to the span. */
static void render_deepseek_v2(Render *r)
{
    chat_put_bos(r, "<｜begin▁of▁sentence｜>");
    for (size_t i = 0; i < chat_message_count(r); i++) {
        const Json *m = chat_message_at(r, i);
        if (chat_is_role(m, "assistant")) {
            chat_put(r, "Assistant:");
            chat_begin_span(r);
            chat_put(r, " ");
            chat_put_view(r, chat_content_of(m));
            chat_put_eos(r, "<｜end▁of▁sentence｜>");
            chat_end_span(r);
        } else if (chat_is_role(m, "user") || chat_is_role(m, "system")) {
            if (chat_is_role(m, "user")) chat_put(r, "User: ");
            chat_put_view(r, chat_content_of(m));
            chat_put(r, "\n\n");
        }
    }
    if (r->options.add_generation_prompt) chat_put(r, "Assistant:");
}

/* Jinja's trim, which is Python's strip: the separators 0x1C to 0x1F count as space there. */
static bool is_trimmed(int32_t code)
{
    return unicode_is_space(code) || (code >= 0x1C && code <= 0x1F);
}

static View trimmed(View v)
{
    int32_t code;
    while (v.n) {
        size_t used = utf8_next(v.p, v.n, &code);
        if (!is_trimmed(code)) break;
        v.p += used;
        v.n -= used;
    }
    while (v.n) {
        size_t start = v.n - 1;
        while (start > 0 && ((unsigned char)v.p[start] & 0xC0) == 0x80) start--;
        utf8_next(v.p + start, v.n - start, &code);
        if (!is_trimmed(code)) break;
        v.n = start;
    }
    return v;
}

static void render_llama3(Render *r)
{
    for (size_t i = 0; i < chat_message_count(r); i++) {
        const Json *m = chat_message_at(r, i);
        bool assistant = chat_is_role(m, "assistant");
        if (i == 0) chat_put_bos(r, "<|begin_of_text|>");
        chat_put(r, "<|start_header_id|>");
        chat_put(r, chat_role_of(m));
        chat_put(r, "<|end_header_id|>\n\n");
        if (assistant) chat_begin_span(r);
        chat_put_view(r, trimmed(chat_content_of(m)));
        chat_put(r, "<|eot_id|>");
        if (assistant) chat_end_span(r);
    }
    if (r->options.add_generation_prompt) chat_put(r, "<|start_header_id|>assistant<|end_header_id|>\n\n");
}

bool template_render(const ChatTemplate *t, const Json *messages, TemplateOptions options, RenderedChat *out,
                     Status *st)
{
    static void (*const renderers[])(Render *) = {
        [TEMPLATE_R1_TINY] = render_tiny,
        [TEMPLATE_DEEPSEEK_V2] = render_deepseek_v2,
        [TEMPLATE_DEEPSEEK] = template_render_deepseek,
        [TEMPLATE_CHATML] = template_render_chatml,
        [TEMPLATE_QWEN25] = template_render_qwen,
        [TEMPLATE_QWEN3] = template_render_qwen,
        [TEMPLATE_LLAMA3] = render_llama3,
    };
    if (!check_messages(t, messages, st)) return false;
    Render r = {.t = t, .messages = messages, .options = options};
    renderers[t->family](&r);
    out->length = r.out.n;
    out->text = text_take(&r.out);
    out->spans = r.spans;
    out->n = r.n;
    return true;
}

void rendered_free(RenderedChat *r)
{
    free(r->text);
    free(r->spans);
    *r = (RenderedChat){0};
}
