#include "recipes/speech.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void add_stop(Speech *s, int32_t id)
{
    for (int i = 0; i < s->n_stops; i++)
        if (s->stops[i] == id) return;
    if (id >= 0 && s->n_stops < SPEECH_STOPS) s->stops[s->n_stops++] = id;
}

static bool is_stop(const Speech *s, int32_t id)
{
    for (int i = 0; i < s->n_stops; i++)
        if (s->stops[i] == id) return true;
    return false;
}

bool speech_open(Speech *s, const OpenModel *m, const char *model, const char *template_name, Status *st)
{
    static const char *const turn_ends[] = {"<|im_end|>", "<|eot_id|>", "<|endoftext|>"};
    if (!open_model_reads_text(m, model, st)) return false;
    const Tokenizer *t = m->file->tokenizer;
    *s = (Speech){.tokenizer = t, .think = tokenizer_id(t, "<think>"), .end_think = tokenizer_id(t, "</think>")};
    bool tiny = tokenizer_id(t, "<user>") >= 0 && tokenizer_id(t, "<assistant>") >= 0;
    s->has_template = template_name || tokenizer_chat_template(t) || tiny;
    if (s->has_template && !template_for(t, template_name || tokenizer_chat_template(t) ? template_name : "r1-tiny", &s->chat, st))
        return false;
    add_stop(s, tokenizer_eos(t));
    add_stop(s, m->policy->config.eos < tokenizer_vocab(t) ? m->policy->config.eos : -1);
    for (size_t i = 0; i < sizeof turn_ends / sizeof *turn_ends; i++) add_stop(s, tokenizer_id(t, turn_ends[i]));
    return true;
}

bool speech_encode(const Speech *s, const Json *messages, bool no_thinking, Ids *out, bool *thinking, Status *st)
{
    TemplateOptions options = {.add_generation_prompt = true, .no_thinking = no_thinking, .tokenizer = s->tokenizer};
    RenderedChat chat;
    if (!template_render(&s->chat, messages, options, &chat, st)) return false;
    tokenizer_encode(s->tokenizer, chat.text, chat.length, out);
    rendered_free(&chat);
    *thinking = false;
    for (int i = 0; i < out->n; i++) {
        if (out->ids[i] == s->think) *thinking = true;
        if (out->ids[i] == s->end_think) *thinking = false;
    }
    return true;
}

static void dim(const Speaker *s, bool on)
{
    if (s->dim) fputs(on ? "\033[2m" : "\033[0m", s->out);
}

void speaker_begin(Speaker *s, const Speech *speech, FILE *out, bool thinking)
{
    *s = (Speaker){.speech = speech, .out = out, .dim = isatty(fileno(out)), .thinking = thinking};
    if (thinking) dim(s, true);
}

static void say(Speaker *s, char *text)
{
    fputs(text, s->out);
    fflush(s->out);
    text_add(&s->said, text);
    free(text);
}

void speaker_token(void *speaker, int item, int32_t id)
{
    (void)item;
    Speaker *s = speaker;
    if (is_stop(s->speech, id)) return;
    if (id == s->speech->think && id >= 0) {
        s->thinking = true;
        dim(s, true);
    }
    say(s, tokenizer_stream(s->speech->tokenizer, &s->stream, id, true));
    if (id == s->speech->end_think && id >= 0 && s->thinking) {
        s->thinking = false;
        dim(s, false);
    }
}

char *speaker_end(Speaker *s)
{
    say(s, tokenizer_stream_end(&s->stream));
    if (s->thinking) dim(s, false);
    fputc('\n', s->out);
    fflush(s->out);
    return text_take(&s->said);
}
