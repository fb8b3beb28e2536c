/* Weighted sums of rules, reward models' values and programs. */
#include "data/reward/reward.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "data/reward/external.h"
#include "data/reward/command.h"
#include "data/reward/reply_cache.h"
#include "data/reward/rules.h"
#include "data/text.h"

enum { ALL_KINDS = 1 << KIND_REASONING | 1 << KIND_HELPFUL | 1 << KIND_SAFETY };

struct RewardSet {
    RewardSpec specs[REWARD_MAX];
    External *programs[REWARD_MAX];
    uint64_t program[REWARD_MAX]; /* command_hash */
    long failed[REWARD_MAX];
    int n;
    ReplyCache cache;
    long calls, hits, failures;
    Text notice;
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
            r->programs[i] = external_open(s->command, s->timeout > 0 ? s->timeout : REWARD_TIMEOUT,
                                           s->startup > 0 ? s->startup : REWARD_STARTUP);
        r->program[i] = s->kind == REWARD_EXTERNAL ? command_hash(s->command) : 0;
    }
    return r;
}

void reward_close(RewardSet *r)
{
    if (r == NULL) return;
    for (int i = 0; i < r->n; i++) external_close(r->programs[i]);
    reply_cache_free(&r->cache);
    free(r->notice.p);
    free(r);
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
    json_set(row, "language", json_new_text(language_name(p->language)));
    return row;
}

static char *request_line(const RewardInput *in)
{
    Json *v = json_new_object();
    json_set(v, "prompt", json_new_text(in->problem->prompt));
    if (in->problem->messages != NULL) json_set(v, "messages", json_copy(in->problem->messages));
    json_set(v, "completion", json_new_text(in->completion));
    json_set(v, "row", row_of(in->problem));
    char *line = json_write(v, false);
    json_free(v);
    return line;
}

/* The last line that a program wrote on standard error, for a sentence about it; the lines before it were passed through. */
static void add_said(Text *out, const External *e)
{
    long cut;
    const char *said = external_said(e, &cut), *end = said + strlen(said);
    while (end > said && strchr(" \t\r\n", end[-1])) end--;
    const char *line = end;
    while (line > said && line[-1] != '\n') line--;
    if (end == said) return;
    text_addf(out, "; its last words: %.*s", (int)(end - line), line);
    if (cut > 0) text_addf(out, " (%ld bytes of its standard error were not shown)", cut);
}

/* Tells of a component's first failure, and of the first line that was skipped. */
static void note(RewardSet *r, int component, const ExternalReply *replies, int n, int failed)
{
    External *e = r->programs[component];
    const RewardSpec *s = &r->specs[component];
    const char *line = external_skipped(e);
    int first = 0;
    if (line != NULL)
        text_addf(&r->notice, "%sreward %s: a line of its program answers no request and was skipped (said once): %s",
                  r->notice.n ? "\n" : "", s->name, line);
    if (failed == 0) return;
    while (first < n && !replies[first].failed) first++;
    if (r->failed[component] == failed) {
        text_addf(
            &r->notice,
            "%sreward %s: %d of %d replies failed (%s); such samples have no reward and leave their group (said once; "
            "reward_failures counts them)",
            r->notice.n ? "\n" : "", s->name, failed, n, replies[first].reason);
        add_said(&r->notice, e);
    }
}

/* A program that never scored anything and fails at everything is no program. */
static bool check_answers(const RewardSet *r, int component, const ExternalReply *replies, int n, int failed,
                          Status *st)
{
    External *e = r->programs[component];
    if (failed < n || external_answered(e)) return true;
    Text text = {0};
    text_addf(&text, "reward %s: the program `%.200s` never gave a score: of %d requests all failed (%s)",
              r->specs[component].name, r->specs[component].command, n, replies[0].reason);
    const char *line = external_skipped(e);
    if (line != NULL) text_addf(&text, "; it wrote a line that answers no request ({\"score\": NUMBER}): %s", line);
    add_said(&text, e);
    fail(st, "%s", text.p);
    free(text.p);
    return false;
}

/* Asks the program for what the cache does not hold; every request of the batch ends up in replies[] by its pending
 * place. */
static bool ask(RewardSet *r, int component, char **lines, const ReplyKey *keys, int n, ExternalReply *replies,
                Status *st)
{
    int failed = 0;
    external_score(r->programs[component], lines, n, replies);
    r->calls += n;
    for (int i = 0; i < n; i++) {
        ReplyEntry *e = reply_cache_entry(&r->cache, keys[i]);
        failed += replies[i].failed;
        if (replies[i].failed) e->pending = REPLY_FAILED;
        else reply_entry_set(e, replies[i].score, replies[i].reason);
    }
    r->failures += failed;
    r->failed[component] += failed;
    if (!check_answers(r, component, replies, n, failed, st)) return false;
    note(r, component, replies, n, failed);
    return true;
}

static void set_external(RewardOutput *out, int component, float score, const char *reason)
{
    out->parts[component] = score;
    if (out->external_reason[0] == '\0')
        memcpy(out->external_reason, reason, strnlen(reason, sizeof out->external_reason - 1));
}

static bool score_external(RewardSet *r, int component, const RewardInput *in, RewardOutput *out, int n, Status *st)
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
        ReplyKey key = reply_key(r->program[component], line);
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
    bool ok = asked == 0 || ask(r, component, lines, keys, asked, replies, st);
    for (int i = 0; i < n; i++) {
        if (place[i] < 0) continue;
        set_external(&out[i], component, replies[place[i]].score, replies[place[i]].reason);
        out[i].failed |= replies[place[i]].failed;
    }
    for (int i = 0; i < asked; i++) free(lines[i]);
    free(lines);
    free(keys);
    free(replies);
    free(place);
    return ok;
}

/* ---- All of it ---- */

static void score_rules(const RewardSet *r, const RewardInput *in, RewardOutput *out)
{
    Parsed c = completion_parse(in->completion);
    for (int i = 0; i < r->n; i++) {
        const RewardSpec *s = &r->specs[i];
        float value = rule_part(s, in, &c, &out->verdict);
        out->applies[i] = (s->kinds >> in->problem->kind & 1) != 0 && !isnan(value);
        out->parts[i] = out->applies[i] ? value : 0.0f;
    }
}

static bool verify(const RewardInput *in, RewardOutput *out, int n, Status *st)
{
    JudgedText *list = calloc((size_t)n + 1, sizeof *list);
    CHECK(list != NULL);
    for (int i = 0; i < n; i++)
        list[i] = (JudgedText){.problem = in[i].problem, .completion = in[i].completion, .truncated = in[i].truncated};
    bool ok = task_verify_all(list, n, st);
    for (int i = 0; i < n; i++) {
        out[i] = (RewardOutput){.verdict = list[i].verdict};
        json_free(list[i].tests);
    }
    free(list);
    return ok;
}

bool reward_score(RewardSet *r, const RewardInput *in, RewardOutput *out, int n, Status *st)
{
    if (!verify(in, out, n, st)) return false;
    for (int i = 0; i < n; i++) score_rules(r, &in[i], &out[i]);
    for (int c = 0; c < r->n; c++) {
        if (r->programs[c] != NULL && !score_external(r, c, in, out, n, st)) return false;
    }
    for (int i = 0; i < n; i++) {
        for (int c = 0; c < r->n; c++) out[i].total += r->specs[c].weight * out[i].parts[c];
    }
    return true;
}

char *reward_notice(RewardSet *r)
{
    return r->notice.n ? text_take(&r->notice) : NULL;
}

long reward_failures(const RewardSet *r, int component)
{
    return r->failed[component];
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
