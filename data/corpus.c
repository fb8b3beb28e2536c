/* Training documents, problems and preference pairs by their index. */
#include "data/corpus.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "data/conversation.h"
#include "data/template/template.h"
#include "data/text.h"

enum { PAIR_ATTEMPTS = 200 };

static Rng stream(const char *what, uint32_t seed, Split split, uint64_t index)
{
    return rng_stream(seed, RNG_DATA, hash_name(what) + (uint32_t)split, index);
}

/* The index of a weight drawn in proportion; `otherwise` when all are 0. */
static int draw_weighted(const float *weights, int n, int otherwise, Rng *r)
{
    double total = 0, at = rng_double(r);
    for (int i = 0; i < n; i++) total += weights[i];
    at *= total;
    for (int i = 0; i < n; i++) {
        if (weights[i] > 0 && at < weights[i]) return i;
        at -= weights[i];
    }
    return otherwise;
}

/* kind < 0: all sources, else the built-in tasks of that kind. */
static const Source *draw_source(const CorpusSpec *c, int kind, Rng *r)
{
    float weights[CORPUS_MAX_SOURCES];
    int first = -1;
    CHECK(c->n_sources >= 1 && c->n_sources <= CORPUS_MAX_SOURCES);
    for (int i = 0; i < c->n_sources; i++) {
        const Source *s = &c->sources[i];
        bool fits = kind < 0 || (s->task != NULL && (int)s->task->kind == kind);
        weights[i] = fits ? s->weight : 0.0f;
        if (fits && first < 0) first = i;
    }
    CHECK(first >= 0);
    return &c->sources[draw_weighted(weights, c->n_sources, first, r)];
}

bool corpus_has(const CorpusSpec *c, PromptKind kind)
{
    for (int i = 0; i < c->n_sources; i++) {
        if (c->sources[i].task != NULL && c->sources[i].task->kind == kind) return true;
    }
    return false;
}

static void draw_problem(Problem *out, const CorpusSpec *c, const Source *s, uint32_t seed, Split split, uint64_t index,
                         Rng *r)
{
    int level = rng_range(r, s->level_min, s->level_max);
    Language language = rng_double(r) < c->zh_share ? LANGUAGE_ZH : LANGUAGE_EN;
    task_problem(out, s->task, level, language, seed, split, index);
}

static bool has_file(const CorpusSpec *c)
{
    for (int i = 0; i < c->n_sources; i++)
        if (c->sources[i].dataset != NULL) return true;
    return false;
}

double corpus_share(const CorpusSpec *c, int source)
{
    double total = 0;
    for (int i = 0; i < c->n_sources; i++) total += (double)c->sources[i].weight;
    return total > 0 ? (double)c->sources[source].weight / total : 1.0 / c->n_sources;
}

/* The source whose turn `index` is where a mix has a file, and how often its turn was before (*turn): turn j of a source of
 * share w is at time (j + 1/2) / w, and the turns of all are taken in the order of their times. */
static const Source *take_turn(const CorpusSpec *c, uint64_t index, uint64_t *turn)
{
    double share[CORPUS_MAX_SOURCES], from = (double)index - c->n_sources;
    uint64_t taken[CORPUS_MAX_SOURCES], count = 0;
    for (int i = 0; i < c->n_sources; i++) {
        share[i] = corpus_share(c, i);
        taken[i] = from > 0 ? (uint64_t)(share[i] * from + 0.5) : 0;
        count += taken[i];
    }
    for (;; count++) {
        int next = -1;
        double first = 0;
        for (int i = 0; i < c->n_sources; i++) {
            double time = ((double)taken[i] + 0.5) / share[i];
            if (share[i] > 0 && (next < 0 || time < first)) next = i, first = time;
        }
        *turn = taken[next]++;
        if (count == index) return &c->sources[next];
    }
}

uint64_t corpus_epoch(const CorpusSpec *c)
{
    uint64_t most = 0;
    for (int i = 0; i < c->n_sources; i++) {
        double share = corpus_share(c, i);
        if (c->sources[i].dataset == NULL || share <= 0) continue;
        uint64_t turns = (uint64_t)dataset_rows(c->sources[i].dataset, SPLIT_TRAIN);
        double last = ((double)turns - 0.5) / share;
        for (int k = 0; k < c->n_sources; k++)
            if (k != i) turns += (uint64_t)(corpus_share(c, k) * last + 0.5);
        if (turns > most) most = turns;
    }
    return most;
}

/* The source of place `index`, by turns or by a draw; *turn: of a file's row. */
static const Source *choose(const CorpusSpec *c, uint64_t index, Rng *r, uint64_t *turn)
{
    *turn = index;
    return has_file(c) ? take_turn(c, index, turn) : draw_source(c, -1, r);
}

void corpus_problem(Problem *out, const CorpusSpec *c, uint32_t seed, Split split, uint64_t index)
{
    Rng r = stream("corpus problem", seed, split, index);
    uint64_t turn;
    const Source *s = choose(c, index, &r, &turn);
    if (s->task != NULL) {
        draw_problem(out, c, s, seed, split, index, &r);
        return;
    }
    dataset_problem(out, s->dataset, split, turn);
    out->index = index;
}

Document document_of(const char *prompt, const char *completion)
{
    Document d = {.messages = conversation_of_prompt(prompt), .row = -1};
    conversation_add(d.messages, "assistant", completion);
    return d;
}

void document_free(Document *d)
{
    json_free(d->messages);
    json_free(d->tools);
    free(d->text);
    *d = (Document){0};
}

bool document_teaches(const Document *d)
{
    return d->text != NULL || conversation_ends_with_assistant(d->messages);
}

char *document_text(const Document *d)
{
    static const char end[] = "<eos>";
    Text text = {0};
    if (d->messages == NULL) {
        text_addf(&text, "<bos>%s", d->text);
        return text_take(&text);
    }
    ChatTemplate plain = template_plain();
    RenderedChat chat = {0};
    Status st = {0};
    bool ok = template_render(&plain, d->messages, (TemplateOptions){.as_said = true}, &chat, &st);
    if (ok) text_add_bytes(&text, chat.text, chat.length - (sizeof end - 1));
    rendered_free(&chat);
    return text_take(&text);
}

static void row_document(Document *out, const DatasetRow *row)
{
    out->line = row->line;
    if (row->messages == NULL) {
        out->text = text_copy(row->completion, strlen(row->completion));
        return;
    }
    out->messages = json_copy(row->messages);
    out->tools = row->tools != NULL ? json_copy(row->tools) : NULL;
    for (size_t i = 0; i < json_count(row->reply); i++) json_append(out->messages, json_copy(json_at(row->reply, i)));
}

void corpus_document(Document *out, const CorpusSpec *c, uint32_t seed, uint64_t index)
{
    Rng r = stream("corpus document", seed, SPLIT_TRAIN, index);
    uint64_t turn;
    const Source *s = choose(c, index, &r, &turn);
    *out = (Document){.source = (int)(s - c->sources), .row = -1};
    if (s->task == NULL) {
        out->row = (int)(turn % (uint64_t)dataset_rows(s->dataset, SPLIT_TRAIN));
        row_document(out, dataset_row(s->dataset, SPLIT_TRAIN, turn));
        return;
    }
    Problem p;
    draw_problem(&p, c, s, seed, SPLIT_TRAIN, index, &r);
    TraceStyle style = (TraceStyle)draw_weighted(c->styles, STYLE_COUNT, STYLE_CLEAN, &r);
    bool swap = rng_double(&r) < (p.language == LANGUAGE_EN ? c->swap_en : c->swap_zh);
    Language language = swap == (p.language == LANGUAGE_EN) ? LANGUAGE_ZH : LANGUAGE_EN;
    char *completion = task_completion(&p, language, style, &r);
    Document made = document_of(p.prompt, completion);
    out->messages = made.messages;
    free(completion);
    problem_free(&p);
}

/* A completion with its answer taken out and judged by the task's hidden oracle. */
typedef struct Judged {
    char *text;
    float quality;
    size_t length; /* of the answer */
} Judged;

static Judged draw_judged(const Problem *p, TraceStyle style, Rng *r)
{
    Judged j = {.text = task_completion(p, p->language, style, r)};
    Parsed parsed = completion_parse(j.text);
    char *answer = text_copy(parsed.answer, parsed.answer_length);
    j.quality = p->task->oracle(p, answer);
    j.length = parsed.answer_length;
    free(answer);
    return j;
}

/* Two answers of unequal quality, the better one first; `longer`: whether the better one should be the longer one. */
static void draw_pair(Judged pair[2], const Problem *p, bool longer, Rng *r)
{
    for (int attempt = 0; attempt < PAIR_ATTEMPTS; attempt++) {
        Judged a = draw_judged(p, rng_below(r, 4) == 0 ? STYLE_CLEAN : STYLE_CORRUPT, r);
        Judged b = draw_judged(p, STYLE_CORRUPT, r);
        bool swap = b.quality > a.quality;
        Judged better = swap ? b : a, worse = swap ? a : b;
        bool apart = better.quality - worse.quality > 1e-4f;
        bool length_fits = longer ? better.length > worse.length : better.length < worse.length;
        if (apart && (length_fits || attempt == PAIR_ATTEMPTS - 1)) {
            pair[0] = better;
            pair[1] = worse;
            return;
        }
        free(a.text);
        free(b.text);
    }
    CHECK(!"a helpful task whose careless answers differ in quality");
}

void corpus_helpful_pair(char **prompt, char **chosen, char **rejected, const CorpusSpec *c, uint32_t seed, Split split,
                         uint64_t index, float noise)
{
    Rng r = stream("helpful pair", seed, split, index);
    Problem p;
    draw_problem(&p, c, draw_source(c, KIND_HELPFUL, &r), seed, split, index, &r);
    bool longer = rng_below(&r, 2) == 0, flip = rng_double(&r) < noise;
    Judged pair[2];
    draw_pair(pair, &p, longer, &r);
    *prompt = text_copy(p.prompt, strlen(p.prompt));
    *chosen = pair[flip].text;
    *rejected = pair[!flip].text;
    problem_free(&p);
}

static bool row_preference(Document *chosen, Document *rejected, const Dataset *d, const DatasetRow *row, Status *st)
{
    if (row->kind != ROW_PREFERENCE)
        return fail(st, "%s: line %d is no preference pair: it has no \"chosen\" and \"rejected\"", d->path, row->line);
    row_document(chosen, row);
    rejected->line = row->line;
    rejected->messages = json_copy(row->messages);
    if (row->tools != NULL) rejected->tools = json_copy(row->tools);
    for (size_t i = 0; i + 1 < json_count(row->reply); i++)
        json_append(rejected->messages, json_copy(json_at(row->reply, i)));
    conversation_add(rejected->messages, "assistant", row->rejected);
    return true;
}

bool corpus_preference(Document *chosen, Document *rejected, const CorpusSpec *c, uint32_t seed, Split split,
                       uint64_t index, float noise, Status *st)
{
    *chosen = *rejected = (Document){.row = -1};
    if (has_file(c)) {
        uint64_t turn;
        const Source *s = take_turn(c, index, &turn);
        CHECK(s->dataset != NULL);
        chosen->source = rejected->source = (int)(s - c->sources);
        chosen->row = rejected->row = (int)(turn % (uint64_t)dataset_rows(s->dataset, split));
        return row_preference(chosen, rejected, s->dataset, dataset_row(s->dataset, split, turn), st);
    }
    char *prompt, *a, *b;
    corpus_helpful_pair(&prompt, &a, &b, c, seed, split, index, noise);
    *chosen = document_of(prompt, a);
    *rejected = document_of(prompt, b);
    free(prompt);
    free(a);
    free(b);
    return true;
}

void corpus_safety_example(char **prompt, char **completion, bool *safe, const CorpusSpec *c, uint32_t seed,
                           Split split, uint64_t index)
{
    Rng r = stream("safety example", seed, split, index);
    Problem p;
    draw_problem(&p, c, draw_source(c, KIND_SAFETY, &r), seed, split, index, &r);
    bool wanted = rng_below(&r, 2) == 0;
    Judged j = draw_judged(&p, wanted ? STYLE_CLEAN : STYLE_CORRUPT, &r);
    for (int attempt = 0; attempt < PAIR_ATTEMPTS && (j.quality > 0.5f) != wanted; attempt++) {
        free(j.text);
        j = draw_judged(&p, STYLE_CORRUPT, &r);
    }
    *prompt = text_copy(p.prompt, strlen(p.prompt));
    *completion = j.text;
    *safe = j.quality > 0.5f;
    problem_free(&p);
}
