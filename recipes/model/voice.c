/* The ids that end a turn, and the chat template that applies. */
#include "recipes/model/voice.h"

#include <stdlib.h>
#include <string.h>

#include "core/check.h"

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

/* What the template puts behind an assistant's text, when that is one token. */
static void add_marker(Voice *v)
{
    static const char probe[] = "Yes.";
    Json *messages = json_new_array();
    for (int i = 0; i < 2; i++) {
        Json *o = json_new_object();
        json_set(o, "role", json_new_text(i ? "assistant" : "user"));
        json_set(o, "content", json_new_text(i ? probe : "Well?"));
        json_append(messages, o);
    }
    RenderedChat chat;
    Status st = {0};
    Ids ids = {0};
    bool ok = template_render(&v->chat, messages, (TemplateOptions){.tokenizer = v->tokenizer}, &chat, &st);
    CHECK(ok && chat.n == 1);
    const char *text = chat.text + chat.spans[0].start, *end = chat.text + chat.spans[0].end;
    const char *said = memmem(text, (size_t)(end - text), probe, sizeof probe - 1);
    CHECK(said != NULL);
    said += sizeof probe - 1;
    tokenizer_encode(v->tokenizer, said, (size_t)(end - said), &ids);
    if (ids.n == 1) add_stop(v, ids.ids[0]);
    free(ids.ids);
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

bool voice_open(Voice *v, const Tokenizer *t, const char *template_name, const ModelConfig *config,
                const Attachments *a, Status *st)
{
    static const char *const turn_ends[] = {"<|im_end|>", "<|eot_id|>", "<|endoftext|>"};
    bool named = template_name && template_name[0], own = tokenizer_chat_template(t) != NULL;
    bool tiny = tokenizer_id(t, "<user>") >= 0 && tokenizer_id(t, "<assistant>") >= 0;
    *v = (Voice){.tokenizer = t, .has_template = named || own || tiny};
    const char *name = named ? template_name : own ? NULL : "r1-tiny";
    if (v->has_template && !template_for(t, name, &v->chat, st)) return false;
    if (v->has_template) add_marker(v);
    add_stop(v, tokenizer_eos(t));
    if (config) add_stop(v, config->eos);
    add_generation_config(v, a);
    for (size_t i = 0; i < sizeof turn_ends / sizeof *turn_ends; i++) add_stop(v, tokenizer_id(t, turn_ends[i]));
    return true;
}
