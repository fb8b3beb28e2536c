/* What the families' renderers share (template_*.c here). */
#ifndef DATA_TEMPLATE_PARTS_H
#define DATA_TEMPLATE_PARTS_H

#include "data/template/template.h"
#include "data/text.h"

typedef struct View {
    const char *p;
    size_t n;
} View;

typedef struct Render {
    const ChatTemplate *t;
    const Json *messages;
    TemplateOptions options;
    Text out;
    TextSpan *spans; /* what the assistant says */
    int n;
    TextSpan *quoted; /* what others wrote */
    int n_quoted;
    char *said; /* the last message as the model says it; NULL: as its content is */
} Render;

void template_render_plain(Render *r);
void template_render_deepseek(Render *r);
void template_render_chatml(Render *r);
void template_render_qwen(Render *r);

void chat_put(Render *r, const char *text);
void chat_put_view(Render *r, View v);
/* What a user, a system text or a tool says: no control token in it counts. */
void chat_put_quoted(Render *r, View v);
/* Whether the last message is rendered as the model says it, and message i is that one. */
bool chat_is_said(const Render *r, size_t i);
/* What the assistant says in message i: its content, or, where it is_said, with the thought that the family would leave out. */
View chat_answer_of(const Render *r, size_t i);
/* The tokenizer's BOS and EOS, or the usual spelling. */
void chat_put_bos(Render *r, const char *usual);
void chat_put_eos(Render *r, const char *usual);
void chat_put_json(Render *r, const Json *v);
/* A string as it is, anything else as JSON. */
void chat_put_arguments(Render *r, const Json *arguments);
/* What the assistant says goes from begin to end. */
void chat_begin_span(Render *r);
void chat_end_span(Render *r);

const Json *chat_message_at(const Render *r, size_t i);
size_t chat_message_count(const Render *r);
const char *chat_role_of(const Json *message);
bool chat_is_role(const Json *message, const char *role);
View chat_content_of(const Json *message); /* empty when null */
bool chat_calls_tools(const Json *message);
/* The function of a tool call, in OpenAI's envelope or bare. */
const Json *chat_function_of(const Json *call);
View chat_string_view(const Json *v);
/* What follows the last `mark`; everything when there is none. */
View chat_after_last(View v, const char *mark);

#endif
