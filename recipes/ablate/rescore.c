/* Rollouts read, their problems made again, rewards and advantages computed. */
#include "recipes/ablate/rescore.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/check.h"
#include "recipes/config/recipe_load.h"
#include "recipes/run/run.h"
#include "recipes/run/sources.h"

enum { PATH = 4096 };

/* ---- Rewards ---- */

bool reward_text(const char *with, const char *recipe, const char *stage, RecipeRewards *out, Status *st)
{
    char set[2048], quoted[1200];
    const char *sets[1] = {set};
    size_t n = 0;
    if (with[0] == '{' || with[0] == '[') {
        snprintf(set, sizeof set, "%s.rewards=%.1900s", stage, with);
    } else {
        for (const char *c = with; *c && n + 3 < sizeof quoted; c++) {
            if (*c == '"' || *c == '\\') quoted[n++] = '\\';
            quoted[n++] = *c;
        }
        quoted[n] = 0;
        snprintf(set, sizeof set, "%s.rewards=[{name: program, kind: external, command: \"%s\"}]", stage, quoted);
    }
    Recipe *r = recipe_load(recipe, sets, 1, st);
    if (!r) return false;
    *out = recipe_stage(r, stage)->rl.rewards;
    free(r);
    return true;
}

/* ---- Problems ---- */

typedef struct Mixes {
    CorpusSpec all, rules;
    uint32_t seed;
} Mixes;

/* The problem of a stored sample, by its index in the one or the other mix; its prompt tells which. */
static bool make_problem(const Mixes *m, const RolloutSample *s, Problem *out)
{
    const CorpusSpec *const mixes[] = {&m->rules, &m->all};
    for (int i = 0; i < 2; i++) {
        corpus_problem(out, mixes[i], m->seed, SPLIT_TRAIN, (uint64_t)s->prompt);
        if (!strcmp(out->prompt, s->prompt_text)) return true;
        problem_free(out);
    }
    return false;
}

/* A reward model's stored score; NAN: it did not run. */
static float stored_part(const RolloutTable *t, const RolloutSample *s, const char *name)
{
    for (int i = 0; i < t->n_names; i++)
        if (!strcmp(t->names[i], name)) return s->parts[i];
    return NAN;
}

static double truth_of(const Problem *p, const RolloutSample *s)
{
    Parsed parsed = completion_parse(s->completion);
    if (p->kind == KIND_REASONING || !p->task->oracle || !parsed.has_answer || s->truncated)
        return (double)task_verify(p, s->completion, s->truncated).score;
    char *answer = strndup(parsed.answer, parsed.answer_length);
    CHECK(answer);
    double truth = (double)p->task->oracle(p, answer);
    free(answer);
    return truth;
}

/* ---- Scoring ---- */

static bool score_all(Rescore *r, const Mixes *mixes, int max_tokens, Status *st)
{
    const RolloutTable *t = &r->table;
    size_t room = (size_t)t->n + 1;
    Problem *problems = calloc(room, sizeof *problems);
    RewardInput *in = calloc(room, sizeof *in);
    RewardOutput *out = calloc(room, sizeof *out);
    RewardSet *set = reward_open(r->rewards.list, r->rewards.n, st);
    r->list = calloc(room, sizeof *r->list);
    CHECK(problems && in && out && r->list);
    for (int i = 0; set && i < t->n; i++) {
        const RolloutSample *s = &t->samples[i];
        if (!make_problem(mixes, s, &problems[r->n])) {
            r->unknown++;
            continue;
        }
        in[r->n] = (RewardInput){&problems[r->n],
                                 s->completion,
                                 s->n,
                                 max_tokens,
                                 s->truncated,
                                 stored_part(t, s, "helpful_rm"),
                                 stored_part(t, s, "safety_rm")};
        r->list[r->n] = (Rescored){.sample = s, .truth = truth_of(&problems[r->n], s), .was = (double)s->total};
        r->n++;
    }
    bool scored = set && reward_score(set, in, out, r->n, st);
    for (int i = 0; scored && i < r->n; i++) r->list[i].now = (double)out[i].total;
    long hits;
    if (set) reward_counts(set, &r->calls, &hits, &r->failures);
    reward_close(set);
    for (int i = 0; i < r->n; i++) problem_free(&problems[i]);
    free(problems);
    free(in);
    free(out);
    return !st->failed;
}

/* Samples of a step and prompt stand in a row. */
static void group_advantages(Rescore *r)
{
    for (int from = 0, to; from < r->n; from = to, r->groups++) {
        double was = 0, now = 0;
        const RolloutSample *first = r->list[from].sample;
        for (to = from; to < r->n; to++) {
            const RolloutSample *s = r->list[to].sample;
            if (s->step != first->step || s->prompt != first->prompt) break;
            was += r->list[to].was;
            now += r->list[to].now;
        }
        for (int i = from; i < to; i++) {
            r->list[i].group = r->groups;
            r->list[i].was_advantage = r->list[i].was - was / (to - from);
            r->list[i].now_advantage = r->list[i].now - now / (to - from);
        }
    }
}

static bool open_mixes(Run *run, const RecipeStage *s, Mixes *m, Status *st)
{
    Unit unit = {.stage = s};
    m->seed = run_seed(run, &unit);
    return run_mix(run, s, 0, &m->rules, st) && run_mix(run, s, s->general_share, &m->all, st);
}

bool rescore(const char *run, const char *stage, const char *with, Rescore *out, Status *st)
{
    char path[PATH];
    *out = (Rescore){0};
    snprintf(path, sizeof path, "%s/recipe.yaml", run);
    if (access(path, F_OK)) return fail(st, "%s is no run folder: it has no recipe.yaml", run);
    Recipe *recipe = recipe_load(path, NULL, 0, st);
    if (!recipe) return false;
    const RecipeStage *s = recipe_stage(recipe, stage);
    Run *r = calloc(1, sizeof *r);
    Mixes mixes;
    CHECK(r);
    r->recipe = recipe;
    if (!s) fail(st, "%s has no stage '%s'", run, stage);
    else if (s->kind != STAGE_RL) fail(st, "stage %s does not sample for a reward; name an rl stage", stage);
    else if (reward_text(with, path, stage, &out->rewards, st) && rollouts_read_all(run, stage, &out->table, st) &&
             open_mixes(r, s, &mixes, st))
        score_all(out, &mixes, s->rl.max_tokens, st);
    for (int i = 0; i < r->n_datasets; i++) dataset_free(r->datasets[i]);
    free(r);
    free(recipe);
    if (!st->failed && !out->n)
        fail(st, "no problem of the %d stored samples of %s could be made again: the recipe or its files have changed",
             out->table.n, stage);
    if (st->failed) {
        rescore_free(out);
        return false;
    }
    group_advantages(out);
    out->first_step = out->list[0].sample->step;
    out->last_step = out->list[out->n - 1].sample->step;
    return true;
}

void rescore_free(Rescore *r)
{
    rollout_table_free(&r->table);
    free(r->list);
    *r = (Rescore){0};
}

/* ---- Numbers ---- */

typedef struct Ranked {
    double value;
    int index;
} Ranked;

static int by_value(const void *a, const void *b)
{
    const Ranked *x = a, *y = b;
    if (x->value != y->value) return x->value < y->value ? -1 : 1;
    return x->index - y->index;
}

static double *ranks_of(const double *x, int n)
{
    Ranked *sorted = calloc((size_t)n + 1, sizeof *sorted);
    double *rank = calloc((size_t)n + 1, sizeof *rank);
    CHECK(sorted && rank);
    for (int i = 0; i < n; i++) sorted[i] = (Ranked){x[i], i};
    qsort(sorted, (size_t)n, sizeof *sorted, by_value);
    for (int from = 0, to; from < n; from = to) {
        for (to = from; to < n && sorted[to].value == sorted[from].value;) to++;
        for (int i = from; i < to; i++) rank[sorted[i].index] = 0.5 * (from + to - 1);
    }
    free(sorted);
    return rank;
}

double rank_correlation(const double *x, const double *y, int n)
{
    double *a = ranks_of(x, n), *b = ranks_of(y, n), mean = 0.5 * (n - 1), ab = 0, aa = 0, bb = 0;
    for (int i = 0; i < n; i++) {
        ab += (a[i] - mean) * (b[i] - mean);
        aa += (a[i] - mean) * (a[i] - mean);
        bb += (b[i] - mean) * (b[i] - mean);
    }
    free(a);
    free(b);
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : (double)NAN;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void distribution(const double *x, int n, double *mean, double *sd, double quantiles[5])
{
    static const double at[5] = {0.05, 0.25, 0.5, 0.75, 0.95};
    double *sorted = malloc((size_t)n * sizeof *sorted), squares = 0;
    CHECK(sorted);
    memcpy(sorted, x, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, ascending);
    *mean = 0;
    for (int i = 0; i < n; i++) *mean += x[i] / n;
    for (int i = 0; i < n; i++) squares += (x[i] - *mean) * (x[i] - *mean);
    *sd = n > 1 ? sqrt(squares / (n - 1)) : 0;
    for (int k = 0; k < 5; k++) quantiles[k] = sorted[(int)(at[k] * (n - 1) + 0.5)];
    free(sorted);
}

static double flat_groups(const Rescore *r, bool now)
{
    int flat = 0;
    for (int i = 0; i < r->n;) {
        int group = r->list[i].group;
        bool varies = false;
        for (; i < r->n && r->list[i].group == group; i++)
            varies = varies || fabs(now ? r->list[i].now_advantage : r->list[i].was_advantage) > 1e-6;
        flat += !varies;
    }
    return (double)flat / r->groups;
}

RescoreNumbers rescore_numbers(const Rescore *r)
{
    RescoreNumbers o = {0};
    double *was = calloc((size_t)r->n, sizeof *was), *now = calloc((size_t)r->n, sizeof *now),
           *truth = calloc((size_t)r->n, sizeof *truth);
    CHECK(was && now && truth);
    for (int i = 0; i < r->n; i++) {
        const Rescored *s = &r->list[i];
        bool right = s->truth >= 1;
        was[i] = s->was;
        now[i] = s->now;
        truth[i] = s->truth;
        o.confusion[0][right][s->was_advantage > 1e-6]++;
        o.confusion[1][right][s->now_advantage > 1e-6]++;
        o.flipped += s->was_advantage * s->now_advantage < -1e-9;
    }
    distribution(was, r->n, &o.was_mean, &o.was_sd, o.was_quantiles);
    distribution(now, r->n, &o.now_mean, &o.now_sd, o.now_quantiles);
    o.was_truth = rank_correlation(was, truth, r->n);
    o.now_truth = rank_correlation(now, truth, r->n);
    o.was_now = rank_correlation(was, now, r->n);
    o.was_flat = flat_groups(r, false);
    o.now_flat = flat_groups(r, true);
    free(was);
    free(now);
    free(truth);
    return o;
}
