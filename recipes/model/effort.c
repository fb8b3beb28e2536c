/* Thoughts closed at a budget or continued up to it, by rollouts that go on from where others were cut. */
#include "recipes/model/effort.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"

bool effort_read(const char *text, int max_tokens, Effort *out)
{
    static const struct {
        const char *name;
        int share;
        bool lasts;
    } named[] = {{"low", 8, false}, {"medium", 4, false}, {"high", 2, true}};
    for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
        if (strcmp(text, named[i].name)) continue;
        int budget = max_tokens / named[i].share;
        *out = (Effort){budget > 0 ? budget : 1, named[i].lasts};
        return true;
    }
    char *end;
    bool lasts = *text == '+';
    const char *digits = text + lasts;
    long n = strtol(digits, &end, 10);
    *out = (Effort){(int)n, lasts};
    return *digits >= '0' && *digits <= '9' && *end == '\0' && n > 0 && n < 1 << 20;
}

typedef enum { THINKS, ANSWERS, DONE } Phase;

/* A completion in the making. */
typedef struct Item {
    int32_t *ids; /* [max_tokens + what is put in] */
    float *logprobs;
    int n, continued;
    Phase phase;
    bool truncated;
} Item;

typedef struct Forcing {
    const Voice *voice;
    const RolloutSpec *spec;
    const Effort *effort;
    const RolloutPrompt *prompts;
    ForcedCompletions *out;
    Item *items;
    int n, room, positions; /* room: of an item; positions: of the model */
    int32_t open, close;
    Ids goes_on;
    bool opened; /* the generation prompt has begun the thought */
} Forcing;

void forced_free(ForcedCompletions *f)
{
    for (int i = 0; i < f->n; i++) {
        free((void *)f->list[i].ids);
        free((void *)f->list[i].logprobs);
    }
    free(f->list);
    *f = (ForcedCompletions){0};
}

static void put(const Forcing *f, Item *x, int32_t id, float logprob)
{
    CHECK(x->n < f->room);
    x->ids[x->n] = id;
    x->logprobs[x->n++] = logprob;
}

static bool thinks(const Forcing *f, const Item *x)
{
    return f->opened || (x->n > 0 && x->ids[0] == f->open);
}

/* What was sampled of a thought, at most up to the budget; it ends at </think>, which stops this rollout, or at the
 * model's own stop. */
static void take_thought(Forcing *f, Item *x, const Completion *c)
{
    int left = f->effort->budget - x->n, n = c->n < left ? c->n : left;
    for (int i = 0; i < n; i++) put(f, x, c->ids[i], c->logprobs[i]);
    bool cut = n < c->n || c->truncated;
    int32_t last = x->n > 0 ? x->ids[x->n - 1] : -1;
    if (!cut && last != f->close) {
        x->phase = DONE;
    } else if (!cut && f->effort->lasts && x->continued < EFFORT_ROUNDS &&
               x->n - 1 + f->goes_on.n < f->effort->budget) {
        x->n--;
        x->continued++;
        f->out->continued++;
        for (int i = 0; i < f->goes_on.n; i++) put(f, x, f->goes_on.ids[i], 0);
    } else if (cut && x->n >= f->spec->max_tokens) {
        x->phase = DONE;
        x->truncated = true;
    } else {
        x->phase = ANSWERS;
        if (!cut || !thinks(f, x)) return;
        put(f, x, f->close, 0);
        f->out->closed++;
    }
}

static void take_answer(const Forcing *f, Item *x, const Completion *c)
{
    int left = f->spec->max_tokens - x->n, n = c->n < left ? c->n : left;
    for (int i = 0; i < n; i++) put(f, x, c->ids[i], c->logprobs[i]);
    x->truncated = n < c->n || c->truncated;
    x->phase = DONE;
}

static void take(Forcing *f, Item *x, const Completion *c)
{
    if (x->phase == THINKS) take_thought(f, x, c);
    else take_answer(f, x, c);
}

/* Tokens that a phase may still have. */
static int remaining(const Forcing *f, const Item *x, Phase phase)
{
    return (phase == THINKS ? f->effort->budget : f->spec->max_tokens) - x->n;
}

/* The prompts of the items of a phase, each with what it has said; of[i]: whose. Returns how many. */
static int gather(const Forcing *f, Phase phase, RolloutPrompt *list, Ids *ids, int *of, int *longest)
{
    int count = 0;
    *longest = 1;
    for (int i = 0; i < f->n; i++) {
        Item *x = &f->items[i];
        if (x->phase != phase) continue;
        const RolloutPrompt *p = &f->prompts[i / f->spec->samples];
        if (remaining(f, x, phase) < 1 || p->n + x->n >= f->positions) { /* no room behind the thought */
            x->phase = DONE;
            x->truncated = true;
            continue;
        }
        ids[count] = (Ids){0};
        for (int k = 0; k < p->n; k++) ids_push(&ids[count], p->ids[k]);
        for (int k = 0; k < x->n; k++) ids_push(&ids[count], x->ids[k]);
        list[count] = (RolloutPrompt){ids[count].ids, ids[count].n,
                                      p->index * (uint32_t)f->spec->samples + (uint32_t)(i % f->spec->samples)};
        if (remaining(f, x, phase) > *longest) *longest = remaining(f, x, phase);
        of[count++] = i;
    }
    return count;
}

/* The stops of a rollout of thoughts: the model's and </think>. */
static RolloutSpec thought_spec(const Forcing *f, int32_t stops[VOICE_STOPS + 1])
{
    RolloutSpec spec = *f->spec;
    memcpy(stops, spec.stops, (size_t)spec.n_stops * sizeof *stops);
    stops[spec.n_stops] = f->close;
    spec.stops = stops;
    spec.n_stops++;
    return spec;
}

/* One rollout of all items of a phase, in random numbers of its own (`step`). */
static bool advance(Forcing *f, Policy *p, Phase phase, int step, RolloutStats *stats, Status *st)
{
    RolloutPrompt *list = calloc((size_t)f->n + 1, sizeof *list);
    Ids *ids = calloc((size_t)f->n + 1, sizeof *ids);
    int *of = calloc((size_t)f->n + 1, sizeof *of), longest;
    Completion *c = calloc((size_t)f->n + 1, sizeof *c);
    int32_t stops[VOICE_STOPS + 1];
    CHECK(list && ids && of && c);
    int count = gather(f, phase, list, ids, of, &longest);
    RolloutSpec spec = phase == THINKS ? thought_spec(f, stops) : *f->spec;
    RolloutStats more = {0};
    spec.samples = 1;
    spec.max_tokens = longest;
    spec.step = (uint32_t)step;
    bool ok = count == 0 || rollout_run(p->sampler, &p->w, &spec, list, count, c, &more, st);
    for (int i = 0; i < count && ok; i++) take(f, &f->items[of[i]], &c[i]);
    for (int i = 0; i < count; i++) free(ids[i].ids);
    stats->tokens += more.tokens;
    stats->discarded += more.discarded;
    free(list);
    free(ids);
    free(of);
    free(c);
    return ok;
}

static bool begin(Forcing *f, Policy *p, int n, RolloutStats *stats, Status *st)
{
    int32_t stops[VOICE_STOPS + 1];
    Completion *c = calloc((size_t)f->n + 1, sizeof *c);
    CHECK(c);
    RolloutSpec spec = thought_spec(f, stops);
    if (f->effort->budget < spec.max_tokens) spec.max_tokens = f->effort->budget;
    bool ok = rollout_run(p->sampler, &p->w, &spec, f->prompts, n, c, stats, st);
    for (int i = 0; i < f->n && ok; i++) take_thought(f, &f->items[i], &c[i]);
    free(c);
    return ok;
}

static bool any(const Forcing *f, Phase phase)
{
    for (int i = 0; i < f->n; i++)
        if (f->items[i].phase == phase) return true;
    return false;
}

static bool open_forcing(Forcing *f, const char *goes_on, Status *st)
{
    const Tokenizer *t = f->voice->tokenizer;
    f->open = tokenizer_id(t, "<think>");
    f->close = tokenizer_id(t, "</think>");
    f->opened = strstr(f->voice->opened, "<think>") != NULL;
    if (f->close < 0) return fail(st, "the model has no token </think>: its thoughts have no end that could be forced");
    tokenizer_encode(t, goes_on, strlen(goes_on), &f->goes_on);
    f->room = f->spec->max_tokens + 1;
    if (f->room < f->effort->budget + 1) f->room = f->effort->budget + 1;
    f->items = calloc((size_t)f->n + 1, sizeof *f->items);
    CHECK(f->items);
    for (int i = 0; i < f->n; i++) {
        f->items[i].ids = malloc((size_t)f->room * sizeof(int32_t));
        f->items[i].logprobs = malloc((size_t)f->room * sizeof(float));
        CHECK(f->items[i].ids && f->items[i].logprobs);
    }
    return true;
}

bool effort_rollout(Policy *p, const Voice *v, const RolloutSpec *spec, const Effort *e, const char *goes_on,
                    const RolloutPrompt *prompts, int n, ForcedCompletions *out, RolloutStats *stats, Status *st)
{
    *out = (ForcedCompletions){0};
    Forcing f = {.voice = v, .spec = spec, .effort = e, .prompts = prompts, .out = out, .n = n * spec->samples};
    f.positions = p->config.max_positions;
    bool ok = open_forcing(&f, goes_on, st) && begin(&f, p, n, stats, st);
    int step = 1;
    while (ok && any(&f, THINKS)) ok = advance(&f, p, THINKS, step++, stats, st);
    ok = ok && advance(&f, p, ANSWERS, EFFORT_ROUNDS + 2, stats, st);
    out->list = calloc((size_t)f.n + 1, sizeof *out->list);
    CHECK(out->list);
    for (int i = 0; f.items && i < f.n; i++)
        out->list[out->n++] = (Completion){.ids = f.items[i].ids,
                                           .logprobs = f.items[i].logprobs,
                                           .n = f.items[i].n,
                                           .truncated = f.items[i].truncated};
    free(f.items);
    free(f.goes_on.ids);
    if (!ok) forced_free(out);
    return ok;
}
