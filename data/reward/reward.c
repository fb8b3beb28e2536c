#include "data/reward/reward.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "data/reward/external.h"
#include "data/reward/reply_cache.h"
#include "data/text.h"
#include "data/utf8.h"

enum { GRAM = 4, ALL_KINDS = 1 << KIND_REASONING | 1 << KIND_HELPFUL | 1 << KIND_SAFETY };

struct RewardSet {
    RewardSpec specs[REWARD_MAX];
    External *programs[REWARD_MAX];
    int n;
    ReplyCache cache;
    long calls, hits, failures;
};

static const char *const kind_names[REWARD_KINDS] = {
    "accuracy", "format", "language", "length", "overlong", "repetition", "helpful_rm", "safety_rm", "external",
};

const char *reward_kind_name(RewardKind k)
{
    CHECK((int)k >= 0 && k < REWARD_KINDS);
    return kind_names[k];
}

unsigned reward_default_kinds(RewardKind k)
{
    switch (k) {
    case REWARD_ACCURACY: return 1 << KIND_REASONING;
    case REWARD_HELPFUL_RM: return 1 << KIND_HELPFUL;
    case REWARD_SAFETY_RM: return 1 << KIND_SAFETY;
    default: return ALL_KINDS;
    }
}

static bool check_spec(const RewardSpec *s, Status *st)
{
    const char *name = s->name[0] != '\0' ? s->name : reward_kind_name(s->kind);
    if (!isfinite(s->weight)) return fail(st, "reward %s: the weight is not a finite number", name);
    if (s->kind == REWARD_OVERLONG && s->buffer < 0)
        return fail(st, "reward %s: buffer is %d, it must not be negative", name, s->buffer);
    if (s->kind == REWARD_EXTERNAL && s->command[0] == '\0')
        return fail(st, "reward %s: an external reward needs a command", name);
    if (s->kind == REWARD_EXTERNAL && !(s->timeout >= 0))
        return fail(st, "reward %s: timeout is %g seconds, it must be positive", name, s->timeout);
    return true;
}

RewardSet *reward_open(const RewardSpec *specs, int n, Status *st)
{
    if (n > REWARD_MAX) {
        fail(st, "%d rewards are too many, at most %d can be combined", n, REWARD_MAX);
        return NULL;
    }
    for (int i = 0; i < n; i++) {
        if (!check_spec(&specs[i], st)) return NULL;
    }
    RewardSet *r = calloc(1, sizeof *r);
    CHECK(r != NULL);
    r->n = n;
    for (int i = 0; i < n; i++) {
        RewardSpec *s = &r->specs[i];
        *s = specs[i];
        if (s->name[0] == '\0') strcpy(s->name, reward_kind_name(s->kind));
        if (s->kinds == 0) s->kinds = reward_default_kinds(s->kind);
        if (s->kind == REWARD_EXTERNAL)
            r->programs[i] = external_open(s->command, s->timeout > 0 ? s->timeout : REWARD_TIMEOUT);
    }
    return r;
}

void reward_close(RewardSet *r)
{
    if (r == NULL) return;
    for (int i = 0; i < r->n; i++) external_close(r->programs[i]);
    reply_cache_free(&r->cache);
    free(r);
}

/* ---- Components ---- */

static float overlong(const RewardSpec *s, const RewardInput *in)
{
    int free_tokens = in->max_tokens - s->buffer;
    if (in->tokens <= free_tokens && !in->truncated) return 0.0f;
    if (s->buffer == 0 || in->tokens >= in->max_tokens) return -1.0f;
    return (float)(free_tokens - in->tokens) / (float)s->buffer;
}

/* 0 blank, 1 letter, 2 digit, 3 any other sign: what makes the units of repetition. */
static int sign_class(int32_t c)
{
    if (c == ' ' || c == '\t' || c == '\n' || c == '\r') return 0;
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= 0xc0 && c < 0x2e80)) return 1;
    return c >= '0' && c <= '9' ? 2 : 3;
}

/* Hashes of the units of a text: runs of letters, runs of digits, single other signs. Caller frees. */
static uint64_t *read_units(const char *text, size_t length, int *count)
{
    uint64_t *units = malloc((length + 1) * sizeof *units);
    CHECK(units != NULL);
    int n = 0, last = 0;
    for (size_t i = 0; i < length;) {
        int32_t c;
        size_t step = utf8_next(text + i, length - i, &c);
        int class = sign_class(c);
        bool goes_on = class == last && (class == 1 || class == 2);
        if (goes_on) units[n - 1] = hash_bytes(text + i, step, units[n - 1]);
        else if (class != 0) units[n++] = hash_bytes(text + i, step, 0);
        last = class;
        i += step;
    }
    *count = n;
    return units;
}

static int by_hash(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

float repetition_share(const char *text, size_t length)
{
    int n, repeated = 0;
    uint64_t *grams = read_units(text, length, &n);
    int total = n - GRAM + 1;
    for (int i = 0; i < total; i++) {
        uint64_t h = 0;
        for (int j = 0; j < GRAM; j++) h = hash_spread(h + grams[i + j]);
        grams[i] = h;
    }
    if (total > 1) qsort(grams, (size_t)total, sizeof *grams, by_hash);
    for (int i = 1; i < total; i++) repeated += grams[i] == grams[i - 1];
    free(grams);
    return total > 1 ? (float)repeated / (float)total : 0.0f;
}

static float language(const Parsed *c, const Problem *p)
{
    return c->think_length == 0 ? 0.0f : task_language_share(p, c->think, c->think_length);
}

static float part(const RewardSpec *s, const RewardInput *in, const Parsed *c, const Verdict *v)
{
    switch (s->kind) {
    case REWARD_ACCURACY: return v->score;
    case REWARD_FORMAT: return c->format_ok && !in->truncated ? 1.0f : 0.0f;
    case REWARD_LANGUAGE: return language(c, in->problem);
    case REWARD_LENGTH: return in->max_tokens > 0 ? 1.0f - (float)in->tokens / (float)in->max_tokens : 0.0f;
    case REWARD_OVERLONG: return overlong(s, in);
    case REWARD_REPETITION: return -repetition_share(in->completion, strlen(in->completion));
    case REWARD_HELPFUL_RM: return in->helpful;
    case REWARD_SAFETY_RM: return in->safe;
    default: return 0.0f;
    }
}

/* ---- External programs ---- */

/* What the program is told of the problem: the user's row, or what a built-in task knows. */
static Json *row_of(const Problem *p)
{
    if (p->row != NULL) return json_copy(p->row);
    Json *row = json_new_object();
    json_set(row, "answer", json_new_text(p->answer));
    json_set(row, "task", json_new_text(p->task->name));
    json_set(row, "level", json_new_int(p->level));
    json_set(row, "language", json_new_text(p->language == LANGUAGE_EN ? "en" : "zh"));
    return row;
}

static char *request_line(const RewardInput *in)
{
    Json *v = json_new_object();
    json_set(v, "prompt", json_new_text(in->problem->prompt));
    json_set(v, "completion", json_new_text(in->completion));
    json_set(v, "row", row_of(in->problem));
    char *line = json_write(v, false);
    json_free(v);
    return line;
}

/* Asks the program for what the cache does not hold; every request of the batch ends up in replies[] by its pending
 * place. */
static void ask(RewardSet *r, int component, char **lines, const ReplyKey *keys, int n, ExternalReply *replies)
{
    external_score(r->programs[component], lines, n, replies);
    r->calls += n;
    for (int i = 0; i < n; i++) {
        ReplyEntry *e = reply_cache_entry(&r->cache, keys[i]);
        r->failures += replies[i].failed;
        if (replies[i].failed) e->pending = REPLY_FAILED;
        else reply_entry_set(e, replies[i].score, replies[i].reason);
    }
}

static void set_external(RewardOutput *out, int component, float score, const char *reason)
{
    out->parts[component] = score;
    if (out->external_reason[0] == '\0')
        memcpy(out->external_reason, reason, strnlen(reason, sizeof out->external_reason - 1));
}

static void score_external(RewardSet *r, int component, const RewardInput *in, RewardOutput *out, int n)
{
    size_t most = (size_t)(n > 0 ? n : 1);
    char **lines = malloc(most * sizeof *lines);
    ReplyKey *keys = malloc(most * sizeof *keys);
    ExternalReply *replies = malloc(most * sizeof *replies);
    int *place = malloc(most * sizeof *place), asked = 0;
    CHECK(lines != NULL && keys != NULL && replies != NULL && place != NULL);
    for (int i = 0; i < n; i++) {
        place[i] = -1;
        if (!out[i].applies[component]) continue;
        char *line = request_line(&in[i]);
        ReplyKey key = reply_key(r->specs[component].command, line);
        ReplyEntry *e = reply_cache_entry(&r->cache, key);
        r->hits += e->pending != REPLY_FAILED;
        if (e->pending == REPLY_HOLDS) {
            set_external(&out[i], component, e->score, e->reason);
            free(line);
        } else if (e->pending >= 0) {
            place[i] = e->pending;
            free(line);
        } else {
            place[i] = e->pending = asked;
            keys[asked] = key;
            lines[asked++] = line;
        }
    }
    if (asked > 0) ask(r, component, lines, keys, asked, replies);
    for (int i = 0; i < n; i++) {
        if (place[i] >= 0) set_external(&out[i], component, replies[place[i]].score, replies[place[i]].reason);
    }
    for (int i = 0; i < asked; i++) free(lines[i]);
    free(lines);
    free(keys);
    free(replies);
    free(place);
}

/* ---- All of it ---- */

static void score_rules(const RewardSet *r, const RewardInput *in, RewardOutput *out)
{
    Parsed c = completion_parse(in->completion);
    *out = (RewardOutput){.verdict = task_verify(in->problem, in->completion, in->truncated)};
    for (int i = 0; i < r->n; i++) {
        const RewardSpec *s = &r->specs[i];
        float value = part(s, in, &c, &out->verdict);
        out->applies[i] = (s->kinds >> in->problem->kind & 1) != 0 && !isnan(value);
        out->parts[i] = out->applies[i] ? value : 0.0f;
    }
}

void reward_score(RewardSet *r, const RewardInput *in, RewardOutput *out, int n)
{
    for (int i = 0; i < n; i++) score_rules(r, &in[i], &out[i]);
    for (int c = 0; c < r->n; c++) {
        if (r->programs[c] != NULL) score_external(r, c, in, out, n);
    }
    for (int i = 0; i < n; i++) {
        for (int c = 0; c < r->n; c++) out[i].total += r->specs[c].weight * out[i].parts[c];
    }
}

void reward_counts(const RewardSet *r, long *calls, long *hits, long *failures)
{
    *calls = r->calls;
    *hits = r->hits;
    *failures = r->failures;
}

bool reward_cache_save(const RewardSet *r, const char *path, Status *st)
{
    return reply_cache_save(&r->cache, path, st);
}

bool reward_cache_load(RewardSet *r, const char *path, Status *st)
{
    return reply_cache_load(&r->cache, path, st);
}
