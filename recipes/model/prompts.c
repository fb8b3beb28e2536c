/* Problems and documents as the ids that a model is given. */
#include "recipes/model/prompts.h"

#include <stdlib.h>
#include <string.h>

#include "core/check.h"

/* ---- rendered prompts as messages */

static const char user_mark[] = "<user>", assistant_mark[] = "<assistant>", begin_mark[] = "<bos>",
                  end_mark[] = "<eos>";

static bool begins(const char *text, const char *mark)
{
    return !strncmp(text, mark, strlen(mark));
}

/* Where the next turn begins, or the end of the text. */
static const char *next_turn(const char *text)
{
    for (; *text; text++)
        if (begins(text, user_mark) || begins(text, assistant_mark)) return text;
    return text;
}

/* The messages of a rendered prompt; NULL when it is none but the beginning of a plain text. */
static Json *conversation(const char *rendered)
{
    const char *at = rendered + (begins(rendered, begin_mark) ? strlen(begin_mark) : 0);
    if (!begins(at, user_mark)) return NULL;
    Json *messages = json_new_array();
    while (*at) {
        bool user = begins(at, user_mark);
        at += strlen(user ? user_mark : assistant_mark);
        const char *end = next_turn(at);
        size_t n = (size_t)(end - at), tail = strlen(end_mark);
        if (!user && !*end) break; /* the turn to be said */
        if (!user && n >= tail && !memcmp(end - tail, end_mark, tail)) n -= tail;
        Json *o = json_new_object();
        json_set(o, "role", json_new_text(user ? "user" : "assistant"));
        json_set(o, "content", json_new_string(at, n));
        json_append(messages, o);
        at = end;
    }
    return messages;
}

static void encode_text(const Voice *v, const char *text, Ids *out)
{
    tokenizer_encode(v->tokenizer, text, strlen(text), out);
}

/* Families whose texts begin with a BOS that the template, not the tokenizer, puts there. */
static bool begins_with_bos(const Voice *v)
{
    TemplateFamily f = v->chat.family;
    return f == TEMPLATE_DEEPSEEK_V2 || f == TEMPLATE_DEEPSEEK || f == TEMPLATE_LLAMA3;
}

void prompt_encode_rendered(const Voice *v, const char *rendered_prompt, Ids *out)
{
    if (!v->has_template || v->chat.family == TEMPLATE_R1_TINY) {
        encode_text(v, rendered_prompt, out);
        return;
    }
    Json *messages = conversation(rendered_prompt);
    if (!messages) {
        if (begins_with_bos(v) && tokenizer_bos(v->tokenizer) >= 0) ids_push(out, tokenizer_bos(v->tokenizer));
        return;
    }
    RenderedChat chat;
    Status st = {0};
    bool ok = template_render(&v->chat, messages,
                              (TemplateOptions){.add_generation_prompt = true, .tokenizer = v->tokenizer}, &chat, &st);
    CHECK(ok); /* messages of ours have a role and a content */
    tokenizer_encode(v->tokenizer, chat.text, chat.length, out);
    rendered_free(&chat);
    json_free(messages);
}

void prompt_encode(const Voice *v, const char *prompt, Ids *out)
{
    char *text = prompt_render(prompt);
    prompt_encode_rendered(v, text, out);
    free(text);
}

void document_encode(const Voice *v, const char *rendered_prompt, const char *completion, Ids *out, int *first)
{
    prompt_encode_rendered(v, rendered_prompt, out);
    *first = out->n;
    encode_text(v, completion, out);
    if (v->n_stops) ids_push(out, v->stops[0]);
}

char *completion_text(const Tokenizer *t, const Completion *c)
{
    return tokenizer_decode(t, c->ids, c->truncated ? c->n : c->n - 1, true);
}

void prompts_draw(PromptSet *s, const Voice *v, const CorpusSpec *c, uint32_t seed, Split split, uint64_t first, int n)
{
    *s = (PromptSet){.n = n};
    s->problems = calloc((size_t)n, sizeof *s->problems);
    s->prompts = calloc((size_t)n, sizeof *s->prompts);
    s->storage = calloc((size_t)n, sizeof *s->storage);
    CHECK(s->problems && s->prompts && s->storage);
    for (int i = 0; i < n; i++) {
        corpus_problem(&s->problems[i], c, seed, split, first + (uint64_t)i);
        prompt_encode(v, s->problems[i].prompt, &s->storage[i]);
        s->prompts[i] = (RolloutPrompt){s->storage[i].ids, s->storage[i].n, (uint32_t)(first + (uint64_t)i)};
    }
}

void voice_rollout(const Voice *v, RolloutSpec *spec)
{
    spec->stops = v->stops;
    spec->n_stops = v->n_stops;
    spec->sampling.vocab_used = tokenizer_vocab(v->tokenizer);
}

void prompts_free(PromptSet *s)
{
    for (int i = 0; i < s->n; i++) {
        problem_free(&s->problems[i]);
        free(s->storage[i].ids);
    }
    free(s->problems);
    free(s->prompts);
    free(s->storage);
    *s = (PromptSet){0};
}
