/* The plain template of our own recipes: <bos>[system]<user>text<assistant>text<eos>. */
#include "data/template/parts.h"

/* A tokenizer without such a token gets none; without a tokenizer the tags stand for themselves. */
static void put_bos(Render *r)
{
    if (!r->options.tokenizer || tokenizer_bos(r->options.tokenizer) >= 0) chat_put_bos(r, "<bos>");
}

static void put_eos(Render *r)
{
    if (!r->options.tokenizer || tokenizer_eos(r->options.tokenizer) >= 0) chat_put_eos(r, "<eos>");
}

void template_render_plain(Render *r)
{
    put_bos(r);
    for (size_t i = 0; i < chat_message_count(r); i++) {
        const Json *m = chat_message_at(r, i);
        if (!chat_is_role(m, "assistant")) {
            if (!chat_is_role(m, "system")) chat_put(r, "<user>");
            chat_put_quoted(r, chat_content_of(m));
            continue;
        }
        chat_put(r, "<assistant>");
        chat_begin_span(r);
        chat_put_view(r, chat_answer_of(r, i));
        put_eos(r);
        chat_end_span(r);
    }
    if (r->options.add_generation_prompt) chat_put(r, "<assistant>");
}
