/* Rendering of messages, and what the families share. */
#include "data/template/parts.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
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

static void add_span(TextSpan **list, int *n, TextSpan span)
{
    *list = realloc(*list, (size_t)(*n + 1) * sizeof **list);
    CHECK(*list);
    (*list)[(*n)++] = span;
}

void chat_put_quoted(Render *r, View v)
{
    size_t start = r->out.n;
    chat_put_view(r, v);
    if (v.n) add_span(&r->quoted, &r->n_quoted, (TextSpan){start, r->out.n});
}

void chat_begin_span(Render *r)
{
    add_span(&r->spans, &r->n, (TextSpan){r->out.n, r->out.n});
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

/* ChatML and Llama-3 write any role as it is; the others would leave a message of another role out. */
static bool known_role(const ChatTemplate *t, const char *role)
{
    static const char *const known[] = {"system", "user", "assistant", "tool"};
    if (t->family == TEMPLATE_CHATML || t->family == TEMPLATE_LLAMA3) return true;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(role, known[i])) return true;
    return false;
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
        if (!known_role(t, chat_role_of(m)))
            return fail(st, "message %zu: the chat template %s knows no role \"%.40s\"", i, t->name, chat_role_of(m));
        if (t->first_system_only && i > 0 && chat_is_role(m, "system"))
            return fail(
                st, "message %zu: what the model's chat template makes of a later system message is not what %s does",
                i, t->name);
        if (t->family == TEMPLATE_DEEPSEEK && chat_calls_tools(m) && json_is_string(content))
            return fail(st, "message %zu has content and tool calls: the chat template %s would leave the calls out", i,
                        t->name);
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

/* ---- a turn as the model says it ---- */

bool chat_is_said(const Render *r, size_t i)
{
    return r->options.as_said && i + 1 == chat_message_count(r);
}

View chat_answer_of(const Render *r, size_t i)
{
    if (chat_is_said(r, i) && r->said) return (View){r->said, strlen(r->said)};
    return chat_content_of(chat_message_at(r, i));
}

static bool begins(View v, const char *mark)
{
    return v.n >= strlen(mark) && !memcmp(v.p, mark, strlen(mark));
}

/* The last message with its thought in front; NULL when the content is what the model says. Where the generation prompt opens
 * <think>, the thought stands behind exactly what was opened. */
static char *said_by(const Render *r)
{
    static const char open[] = "<think>", close[] = "</think>";
    size_t last = chat_message_count(r) - 1;
    const Json *m = chat_message_at(r, last);
    View content = chat_content_of(m), thought = chat_string_view(json_get(m, "reasoning_content"));
    bool lines = r->t->family == TEMPLATE_DEEPSEEK;
    Text out = {0};
    if (thought.n) {
        text_add(&out, lines ? "<think>\n" : open);
        text_add_bytes(&out, thought.p, thought.n);
        text_add(&out, lines ? "\n</think>\n\n" : close);
    } else if (r->t->open_think && memmem(content.p, content.n, close, sizeof close - 1)) {
        if (begins(content, open)) content = (View){content.p + sizeof open - 1, content.n - (sizeof open - 1)};
        if (begins(content, "\n")) content = (View){content.p + 1, content.n - 1};
        text_add(&out, "<think>\n");
    } else {
        return NULL;
    }
    text_add_bytes(&out, content.p, content.n);
    return text_take(&out);
}

/* ---- DeepSeek-V2, Llama-3 ---- */

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
            chat_put_view(r, chat_answer_of(r, i));
            chat_put_eos(r, "<｜end▁of▁sentence｜>");
            chat_end_span(r);
        } else if (chat_is_role(m, "user") || chat_is_role(m, "system")) {
            if (chat_is_role(m, "user")) chat_put(r, "User: ");
            chat_put_quoted(r, chat_content_of(m));
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
        if (assistant) chat_put_view(r, trimmed(chat_answer_of(r, i)));
        else chat_put_quoted(r, trimmed(chat_content_of(m)));
        chat_put(r, "<|eot_id|>");
        if (assistant) chat_end_span(r);
    }
    if (r->options.add_generation_prompt) chat_put(r, "<|start_header_id|>assistant<|end_header_id|>\n\n");
}

bool template_render(const ChatTemplate *t, const Json *messages, TemplateOptions options, RenderedChat *out,
                     Status *st)
{
    static void (*const renderers[])(Render *) = {
        [TEMPLATE_PLAIN] = template_render_plain,
        [TEMPLATE_DEEPSEEK_V2] = render_deepseek_v2,
        [TEMPLATE_DEEPSEEK] = template_render_deepseek,
        [TEMPLATE_CHATML] = template_render_chatml,
        [TEMPLATE_QWEN25] = template_render_qwen,
        [TEMPLATE_QWEN3] = template_render_qwen,
        [TEMPLATE_LLAMA3] = render_llama3,
    };
    if (!check_messages(t, messages, st)) return false;
    size_t n = json_count(messages);
    Render r = {.t = t, .messages = messages, .options = options};
    r.options.as_said = options.as_said && n && chat_is_role(json_at(messages, n - 1), "assistant");
    if (r.options.as_said) r.said = said_by(&r);
    renderers[t->family](&r);
    free(r.said);
    *out = (RenderedChat){.length = r.out.n, .spans = r.spans, .n = r.n, .quoted = r.quoted, .n_quoted = r.n_quoted};
    out->text = text_take(&r.out);
    return true;
}

void rendered_free(RenderedChat *r)
{
    free(r->text);
    free(r->spans);
    free(r->quoted);
    *r = (RenderedChat){0};
}
