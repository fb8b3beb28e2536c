/* A model speaks and is spoken to: messages -> ids, sampled tokens -> text as it comes. */
#include "recipes/cli/chat_turn.h"

#include "recipes/model/prompts.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool speech_open(Speech *s, const OpenModel *m, const char *model, const char *template_name, Status *st)
{
    if (!open_model_reads_text(m, model, st)) return false;
    const Tokenizer *t = m->file->tokenizer;
    *s = (Speech){.think = tokenizer_id(t, "<think>"), .end_think = tokenizer_id(t, "</think>")};
    return voice_open(&s->voice, t, template_name, &m->policy->config, &m->file->attached, st);
}

bool speech_encode(const Speech *s, const Json *messages, bool no_thinking, Ids *out, bool *thinking, Status *st)
{
    TemplateOptions options = {.add_generation_prompt = true, .no_thinking = no_thinking};
    if (!chat_encode(&s->voice, messages, options, out, st)) return false;
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
    if (voice_stops(&s->speech->voice, id)) return;
    if (id == s->speech->think && id >= 0) {
        s->thinking = true;
        dim(s, true);
    }
    say(s, tokenizer_stream(s->speech->voice.tokenizer, &s->stream, id, true));
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
