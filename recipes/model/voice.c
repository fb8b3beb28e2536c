/* The ids that end a turn, and the chat template that applies. */
#include "recipes/model/voice.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "data/conversation.h"

bool voice_stops(const Voice *v, int32_t id)
{
    for (int i = 0; i < v->n_stops; i++)
        if (v->stops[i] == id) return true;
    return false;
}

static void add_stop(Voice *v, int64_t id)
{
    if (id < 0 || id >= tokenizer_vocab(v->tokenizer) || voice_stops(v, (int32_t)id) || v->n_stops == VOICE_STOPS)
        return;
    v->stops[v->n_stops++] = (int32_t)id;
}

static void keep_text(char *out, const char *text, size_t n)
{
    CHECK(n < VOICE_TEXT);
    memcpy(out, text, n);
    out[n] = '\0';
}

/* What the template puts around an assistant's text, by a rendered example: what ends it, when that is one token, and what stands
 * between the role's header and the text, with and without an answer. */
static void learn_turn(Voice *v)
{
    static const char said[] = "Yes.";
    Json *messages = conversation_of_prompt("Well?");
    RenderedChat asks, chat;
    Status st = {0};
    bool ok = template_render(&v->chat, messages,
                              (TemplateOptions){.tokenizer = v->tokenizer, .add_generation_prompt = true}, &asks, &st);
    conversation_add(messages, "assistant", said);
    ok = ok && template_render(&v->chat, messages, (TemplateOptions){.tokenizer = v->tokenizer}, &chat, &st);
    CHECK(ok && chat.n == 1);
    TextSpan span = chat.spans[0];
    const char *text = chat.text + span.start, *at = memmem(text, span.end - span.start, said, sizeof said - 1);
    CHECK(at != NULL);
    size_t same = 0, before = (size_t)(at - chat.text);
    while (same < asks.length && same < span.start && asks.text[same] == chat.text[same]) same++;
    keep_text(v->opened, asks.text + same, asks.length - same);
    if (asks.length == same) keep_text(v->lead, chat.text + same, before - same);
    at += sizeof said - 1;
    Ids ids = {0};
    tokenizer_encode(v->tokenizer, at, (size_t)(chat.text + span.end - at), &ids);
    if (ids.n == 1) add_stop(v, ids.ids[0]);
    free(ids.ids);
    rendered_free(&asks);
    rendered_free(&chat);
    json_free(messages);
}

/* eos_token_id of generation_config.json: an id or a list of them. */
static void add_generation_config(Voice *v, const Attachments *a)
{
    const AttachedFile *f = a ? attached_file(a, "generation_config.json") : NULL;
    Status ignored = {0};
    Json *o = f ? json_parse(f->bytes, f->length, f->name, &ignored) : NULL;
    const Json *eos = o ? json_get(o, "eos_token_id") : NULL;
    if (eos && json_is_integer_value(eos)) add_stop(v, json_integer(eos));
    for (size_t i = 0; eos && json_is_array(eos) && i < json_count(eos); i++)
        if (json_is_integer_value(json_at(eos, i))) add_stop(v, json_integer(json_at(eos, i)));
    json_free(o);
}

bool vocabulary_fits(const Tokenizer *t, const ModelConfig *config, Status *st)
{
    int vocab = tokenizer_vocab(t);
    if (!config || vocab <= config->V) return true;
    size_t length = 0;
    bool special;
    const char *piece = tokenizer_piece(t, config->V, &length, &special);
    return fail(st,
                "the tokenizer has %d ids, the first without a row %d (\"%.*s\"), but the model's embedding has %d "
                "rows: resize it, or take the tokenizer that it was trained with",
                vocab, config->V, (int)(length < 60 ? length : 60), piece ? piece : "", config->V);
}

bool voice_open(Voice *v, const Tokenizer *t, const char *template_name, const ModelConfig *config,
                const Attachments *a, Status *st)
{
    static const char *const turn_ends[] = {"<|im_end|>", "<|eot_id|>", "<|endoftext|>"};
    bool named = template_name && template_name[0], own = tokenizer_chat_template(t) != NULL;
    bool tiny = tokenizer_id(t, "<user>") >= 0 && tokenizer_id(t, "<assistant>") >= 0;
    *v = (Voice){.tokenizer = t, .has_template = named || own || tiny, .chat = template_plain()};
    if (!vocabulary_fits(t, config, st)) return false;
    const char *name = named ? template_name : own ? NULL : "r1-tiny";
    if (v->has_template && !template_for(t, name, &v->chat, st)) return false;
    learn_turn(v);
    add_stop(v, tokenizer_eos(t));
    if (config) add_stop(v, config->eos);
    add_generation_config(v, a);
    for (size_t i = 0; i < sizeof turn_ends / sizeof *turn_ends; i++) add_stop(v, tokenizer_id(t, turn_ends[i]));
    return true;
}
