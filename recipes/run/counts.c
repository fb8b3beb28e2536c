/* What became of a stage's data. */
#include "recipes/run/counts.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/check.h"
#include "recipes/run/progress.h"

int counts_without_gold(const Dataset *d, Split split)
{
    int n = dataset_rows(d, split), without = 0;
    for (int i = 0; i < n; i++) {
        const char *answer = dataset_row(d, split, (uint64_t)i)->answer;
        without += !answer || !*answer;
    }
    return without;
}

static Json *list_of(UnitRun *u)
{
    Json *list = (Json *)json_get(u->extra, "data");
    if (list) return list;
    json_set(u->extra, "data", json_new_array());
    return (Json *)json_get(u->extra, "data");
}

static void set_count(Json *o, const char *key, int n)
{
    if (n) json_set(o, key, json_new_int(n));
}

static Json *entry_of(const char *name, const SourceCount *c)
{
    Json *o = json_new_object();
    json_set(o, "source", json_new_text(name));
    if (c->documents >= 0) json_set(o, "used", json_new_int(c->documents));
    set_count(o, "too_long", c->too_long);
    set_count(o, "without_reply", c->without_reply);
    if (c->times > 0) json_set(o, "times", json_new_number(c->times));
    return o;
}

void counts_add(UnitRun *u, const Source *s, const SourceCount *c)
{
    const Dataset *d = s->dataset;
    Json *o = entry_of(d ? d->path : s->task->name, c);
    if (d) {
        json_set(o, "rows", json_new_int(d->n));
        set_count(o, "skipped", d->skipped);
        set_count(o, "held_out", d->n_test);
        json_set(o, "used_rows", json_new_int(c->rows));
        if (c->needs_gold) set_count(o, "without_gold", counts_without_gold(d, SPLIT_TRAIN));
    }
    json_append(list_of(u), o);
}

void counts_add_samples(UnitRun *u, const char *file, const SourceCount *c)
{
    Json *o = entry_of(file, c);
    json_set(o, "rows", json_new_int(c->rows + c->too_long));
    json_set(o, "used_rows", json_new_int(c->rows));
    json_append(list_of(u), o);
}

void counts_add_draws(UnitRun *u, const Source *s, double draws, bool needs_gold)
{
    SourceCount count = {.documents = draws > 0 && !s->dataset ? (int)(draws + 0.5) : -1, .needs_gold = needs_gold};
    if (s->dataset) {
        count.rows = s->dataset->n_train;
        count.times = draws / count.rows;
        if (draws > 0 && count.times < 1) count.rows = (int)(draws + 0.5);
    }
    counts_add(u, s, &count);
}

void counts_add_mix(UnitRun *u, const CorpusSpec *c, double draws, bool needs_gold)
{
    for (int i = 0; i < c->n_sources; i++) counts_add_draws(u, &c->sources[i], draws * corpus_share(c, i), needs_gold);
}

void counts_failures(UnitRun *u, int failures)
{
    if (failures)
        json_set(u->extra, "reward_failures",
                 json_new_int(failures + json_integer(json_get(u->extra, "reward_failures"))));
}

static void say(FILE *out, const Json *o, const char *key, const char *words)
{
    if (json_get(o, key)) fprintf(out, ", %lld %s", (long long)json_integer(json_get(o, key)), words);
}

static void say_source(FILE *out, const Json *o, int max_length)
{
    char limit[64];
    snprintf(limit, sizeof limit, "longer than max_length %d dropped", max_length);
    fprintf(out, "%s: ", json_get_string(o, "source", ""));
    if (!json_get(o, "rows")) {
        if (json_get(o, "used")) fprintf(out, "%lld made", (long long)json_integer(json_get(o, "used")));
        else fputs("as many as the steps take", out);
        say(out, o, "too_long", limit);
        return;
    }
    fprintf(out, "%lld rows", (long long)json_integer(json_get(o, "rows")));
    say(out, o, "skipped", "broken lines skipped");
    say(out, o, "held_out", "held out");
    say(out, o, "too_long", limit);
    say(out, o, "without_reply", "without a reply left out");
    say(out, o, "used_rows", "used");
    if (json_get(o, "times")) fprintf(out, ", each met %.3g times", json_number(json_get(o, "times")));
    say(out, o, "without_gold", "without a gold answer");
}

void counts_say(UnitRun *u)
{
    const Json *list = json_get(u->extra, "data");
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    CHECK(out != NULL);
    for (size_t i = 0; i < json_count(list); i++) {
        if (i) fputs("; ", out);
        say_source(out, json_at(list, i), u->unit->stage->max_length);
    }
    CHECK(!fclose(out));
    if (*text) progress_note(u->run->progress, "%s: data: %s", u->unit->name, text);
    free(text);
}

static void say_judged(FILE *out, const char *name, const Source *s, int n)
{
    const Dataset *d = s->dataset;
    fprintf(out, "%s%s: ", ftell(out) ? "; " : "", name);
    if (!d) {
        fprintf(out, "%d problems", n);
        return;
    }
    int of = dataset_rows(d, SPLIT_TEST), without = counts_without_gold(d, SPLIT_TEST);
    if (n < of) fprintf(out, "%d of ", n);
    fprintf(out, "%d %s", of,
            d->n_test ? "held-out rows" : "rows, none held out: these are the rows that stages train on");
    if (without) fprintf(out, ", %d without a gold answer", without);
}

void counts_say_evaluation(UnitRun *u, const EvalSpec *s)
{
    int which = s->general ? 1 : 2;
    if (u->told_evaluations & which) return;
    u->told_evaluations |= which;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    CHECK(out != NULL);
    for (int i = 0; i < s->reasoning->n_sources; i++) {
        const Source *from = &s->reasoning->sources[i];
        say_judged(out, s->names[i], from, eval_problems(from, s->n, s->file_n));
    }
    for (int i = 0; s->general && s->general_n > 0 && i < s->general->n_sources; i++) {
        const Source *from = &s->general->sources[i];
        say_judged(out, s->general_names[i], from, eval_problems(from, s->general_n, s->general_n));
    }
    CHECK(!fclose(out));
    progress_note(u->run->progress, "%s: evaluated on %s; %d samples each", u->unit->name, text, s->k);
    free(text);
}
