/* Conversations, problems and documents as the ids that a model is given. */
#include "recipes/model/prompts.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "data/text.h"

/* ---- text to ids ---- */

/* Bytes [from, to) of a rendered conversation. */
static void encode_part(const Voice *v, const RenderedChat *chat, size_t from, size_t to, Ids *out)
{
    TextSpan *quoted = malloc(((size_t)chat->n_quoted + 1) * sizeof *quoted);
    int n = 0;
    CHECK(quoted);
    for (int i = 0; i < chat->n_quoted; i++) {
        TextSpan q = chat->quoted[i];
        if (q.end <= from || q.start >= to) continue;
        quoted[n++] = (TextSpan){q.start > from ? q.start - from : 0, (q.end < to ? q.end : to) - from};
    }
    if (to > from) tokenizer_encode_quoted(v->tokenizer, chat->text + from, to - from, quoted, n, out);
    free(quoted);
}

bool chat_encode(const Voice *v, const Json *messages, TemplateOptions options, Ids *out, Status *st)
{
    RenderedChat chat;
    options.tokenizer = v->tokenizer;
    if (!template_render(&v->chat, messages, options, &chat, st)) return false;
    encode_part(v, &chat, 0, chat.length, out);
    rendered_free(&chat);
    return true;
}

bool prompt_encode(const Voice *v, const Json *messages, const Json *tools, Ids *out, Status *st)
{
    return chat_encode(v, messages, (TemplateOptions){.add_generation_prompt = true, .tools = tools}, out, st);
}

/* ---- training sequences ---- */

void sequence_free(Sequence *s)
{
    free(s->ids);
    free(s->spans);
    *s = (Sequence){0};
}

int sequence_predicted(const Sequence *s)
{
    int n = 0;
    for (int i = 0; i < s->n_spans; i++) n += s->spans[i].end - s->spans[i].first;
    return n;
}

void sequences_free(Sequences *s)
{
    for (int i = 0; i < s->n; i++) sequence_free(&s->list[i]);
    free(s->list);
    *s = (Sequences){0};
}

static void add_sequence(Sequences *s, Sequence q)
{
    if (s->n == s->capacity) {
        s->capacity = s->capacity ? 2 * s->capacity : 4;
        s->list = realloc(s->list, (size_t)s->capacity * sizeof *s->list);
        CHECK(s->list != NULL);
    }
    s->list[s->n++] = q;
}

static void add_span(Sequence *s, int first, int end)
{
    if (first < 1) first = 1; /* nothing stands before token 0 that could predict it */
    if (end <= first) return;
    s->spans = realloc(s->spans, ((size_t)s->n_spans + 1) * sizeof *s->spans);
    CHECK(s->spans != NULL);
    s->spans[s->n_spans++] = (TokenSpan){first, end};
}

/* A conversation up to one of the assistant's turns, as the model says that turn, and what of it is trained: from `said` (where
 * it leaves the generation prompt before it) to `end`, behind the turn's end marker. */
typedef struct Turn {
    RenderedChat chat;
    size_t said, end;
} Turn;

static bool render_turn(const Voice *v, const Document *d, size_t last, Turn *out, Status *st)
{
    Json *before = conversation_part(d->messages, 0, last), *all = conversation_part(d->messages, 0, last + 1);
    TemplateOptions options = {.tokenizer = v->tokenizer, .tools = d->tools}, asks = options;
    options.as_said = true;
    asks.add_generation_prompt = true;
    RenderedChat prompt = {0};
    *out = (Turn){0};
    bool ok =
        template_render(&v->chat, before, asks, &prompt, st) && template_render(&v->chat, all, options, &out->chat, st);
    if (ok) {
        bool follows = prompt.length <= out->chat.length && !memcmp(prompt.text, out->chat.text, prompt.length);
        TextSpan said = out->chat.spans[out->chat.n - 1];
        out->said = follows ? prompt.length : said.start;
        out->end = said.end;
    }
    rendered_free(&prompt);
    json_free(before);
    json_free(all);
    return ok;
}

/* Whether an earlier turn is trained in the sequence of a later one: it stands there as it is said. */
static bool stands_in(const Turn *turn, const Turn *later)
{
    return turn->end <= later->said && !memcmp(turn->chat.text, later->chat.text, turn->end);
}

/* The sequence of turns [from, to], which stand in the last of them; trained and untrained parts are encoded apart, as prompt and
 * completion are when the model samples. */
static Sequence encode_turns(const Voice *v, const Turn *turns, int from, int to)
{
    Sequence s = {0};
    Ids ids = {0};
    size_t at = 0;
    for (int i = from; i <= to; i++) {
        encode_part(v, &turns[to].chat, at, turns[i].said, &ids);
        int first = ids.n;
        encode_part(v, &turns[to].chat, turns[i].said, turns[i].end, &ids);
        at = turns[i].end;
        /* A marker that the tokenizer does not have is text; the model's own stop ends such a turn. */
        if (i == to && v->n_stops && (ids.n == first || !voice_stops(v, ids.ids[ids.n - 1])))
            ids_push(&ids, v->stops[0]);
        add_span(&s, first, ids.n);
    }
    s.ids = ids.ids;
    s.n = ids.n;
    return s;
}

/* Sequences of n turns, ascending: each holds as many as stand in its last. */
static void add_turns(const Voice *v, const Turn *turns, int n, Sequences *out)
{
    for (int from = 0; from < n;) {
        int to = from;
        while (to + 1 < n && stands_in(&turns[to], &turns[to + 1])) to++;
        add_sequence(out, encode_turns(v, turns, from, to));
        from = to + 1;
    }
}

static bool is_trained(const Json *messages, size_t i, Turns which)
{
    const Json *m = json_at(messages, i);
    if (i + 1 == json_count(messages)) return true;
    if (strcmp(json_get_string(m, "role", ""), "assistant") != 0) return false;
    return which == TURNS_CALLS || (which == TURNS_ALL && json_get_string(m, "content", "")[0] != '\0');
}

static bool encode_conversation(const Voice *v, const Document *d, Turns which, Sequences *out, Status *st)
{
    size_t messages = json_count(d->messages);
    if (!document_teaches(d))
        return fail(st, "there is nothing to train on: no completion, no reply of the assistant, no answer");
    Turn *turns = calloc(messages, sizeof *turns);
    CHECK(turns != NULL);
    int n = 0;
    bool ok = true;
    for (size_t i = 0; i < messages && ok; i++)
        if (is_trained(d->messages, i, which)) ok = render_turn(v, d, i, &turns[n++], st);
    if (ok) add_turns(v, turns, n, out);
    for (int i = 0; i < n; i++) rendered_free(&turns[i].chat);
    free(turns);
    return ok;
}

/* Families whose texts begin with a BOS that the template, not the tokenizer, puts there. */
static bool begins_with_bos(const Voice *v)
{
    TemplateFamily f = v->chat.family;
    return f == TEMPLATE_PLAIN || f == TEMPLATE_DEEPSEEK_V2 || f == TEMPLATE_DEEPSEEK || f == TEMPLATE_LLAMA3;
}

static Sequence encode_text_row(const Voice *v, const char *text)
{
    Sequence s = {0};
    Ids ids = {0};
    if (begins_with_bos(v) && tokenizer_bos(v->tokenizer) >= 0) ids_push(&ids, tokenizer_bos(v->tokenizer));
    tokenizer_encode(v->tokenizer, text, strlen(text), &ids);
    if (v->n_stops) ids_push(&ids, v->stops[0]);
    s.ids = ids.ids;
    s.n = ids.n;
    add_span(&s, 1, s.n);
    return s;
}

bool document_encode(const Voice *v, const Document *d, Turns turns, Sequences *out, Status *st)
{
    int had = out->n;
    if (d->text) add_sequence(out, encode_text_row(v, d->text));
    else if (!encode_conversation(v, d, turns, out, st)) return false;
    for (int i = had; i < out->n && turns == TURNS_WHOLE; i++) {
        out->list[i].n_spans = 0;
        add_span(&out->list[i], 1, out->list[i].n);
    }
    return true;
}

void completion_encode(const Voice *v, const char *prompt, const char *completion, Ids *out, int *first)
{
    Document d = document_of(prompt, completion);
    Sequences s = {0};
    Status st = {0};
    bool ok = document_encode(v, &d, TURNS_LAST, &s, &st);
    CHECK(ok && s.n == 1 && s.list[0].n_spans == 1);
    for (int i = 0; i < s.list[0].n; i++) ids_push(out, s.list[0].ids[i]);
    *first = s.list[0].spans[0].first;
    sequences_free(&s);
    document_free(&d);
}

/* ---- completions as text ---- */

char *completion_text(const Voice *v, const Completion *c)
{
    size_t n;
    char *said = tokenizer_decode_length(v->tokenizer, c->ids, c->truncated ? c->n : c->n - 1, true, &n);
    Json *whole = json_new_string(said, n);
    char *clean = json_text_copy(whole);
    json_free(whole);
    free(said);
    if (!*v->opened) return clean;
    Text text = {0};
    text_addf(&text, "%s%s", v->opened, clean);
    free(clean);
    return text_take(&text);
}

const char *completion_content(const Voice *v, const char *text)
{
    size_t n = strlen(v->lead);
    return strncmp(text, v->lead, n) ? text : text + n;
}

/* ---- prompts of a rollout ---- */

static bool encode_problem(const Voice *v, const Problem *p, Ids *out, Status *st)
{
    Json *messages = problem_messages(p);
    bool ok = prompt_encode(v, messages, p->tools, out, st) || fail_prefix(st, "a row of %s", p->task->name);
    json_free(messages);
    return ok;
}

bool prompts_draw(PromptSet *s, const Voice *v, const CorpusSpec *c, uint32_t seed, Split split, uint64_t first, int n,
                  Status *st)
{
    *s = (PromptSet){.n = n};
    s->problems = calloc((size_t)n, sizeof *s->problems);
    s->prompts = calloc((size_t)n, sizeof *s->prompts);
    s->storage = calloc((size_t)n, sizeof *s->storage);
    CHECK(s->problems && s->prompts && s->storage);
    bool ok = true;
    for (int i = 0; i < n && ok; i++) {
        corpus_problem(&s->problems[i], c, seed, split, first + (uint64_t)i);
        ok = encode_problem(v, &s->problems[i], &s->storage[i], st);
        s->prompts[i] = (RolloutPrompt){s->storage[i].ids, s->storage[i].n, (uint32_t)(first + (uint64_t)i)};
    }
    if (!ok) prompts_free(s);
    return ok;
}

bool prompts_ask(const PromptSet *s, Status *st)
{
    for (int i = 0; i < s->n; i++) {
        const Problem *p = &s->problems[i];
        if (p->row && !p->messages)
            return fail(st, "a row of %s is plain text (\"text\"): there is no prompt to sample an answer to",
                        p->task->name);
    }
    return true;
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
