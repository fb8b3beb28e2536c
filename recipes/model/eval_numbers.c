/* The numbers of an evaluation: votes, standard errors, JSON. */
#include "recipes/model/eval_numbers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/check.h"

typedef struct Keyed {
    uint64_t key;
    double deviation;
} Keyed;

static int by_key(const void *a, const void *b)
{
    const Keyed *x = a, *y = b;
    return (x->key > y->key) - (x->key < y->key);
}

double eval_error(const float *x, const uint64_t *key, int n, int *distinct)
{
    Keyed *list = calloc((size_t)n + 1, sizeof *list);
    CHECK(list != NULL);
    double mean = 0, squares = 0;
    int clusters = 0;
    for (int i = 0; i < n; i++) mean += (double)x[i] / n;
    for (int i = 0; i < n; i++) list[i] = (Keyed){key[i], (double)x[i] - mean};
    qsort(list, (size_t)n, sizeof *list, by_key);
    for (int i = 0; i < n; clusters++) {
        double sum = 0;
        for (uint64_t of = list[i].key; i < n && list[i].key == of; i++) sum += list[i].deviation;
        squares += sum * sum;
    }
    free(list);
    if (distinct) *distinct = clusters;
    return clusters < 2 ? 0 : sqrt(squares * clusters / (clusters - 1)) / n;
}

double eval_paired(const EvalResult *a, const EvalResult *b, double *se)
{
    CHECK_EQ(a->all.n, b->all.n);
    int n = a->all.n;
    float *d = calloc((size_t)n + 1, sizeof *d);
    uint64_t *key = calloc((size_t)n + 1, sizeof *key);
    CHECK(d && key);
    double sum = 0;
    for (int i = 0; i < n; i++) {
        d[i] = b->problems[i] - a->problems[i];
        key[i] = (uint64_t)i;
        sum += (double)d[i];
    }
    *se = eval_error(d, key, n, NULL);
    free(d);
    free(key);
    return sum / (n ? n : 1);
}

bool eval_general_mean(const EvalResult *r, PromptKind kind, GeneralEval *out)
{
    int families = 0;
    double squares = 0;
    *out = (GeneralEval){.kind = kind};
    for (int i = 0; i < r->n_general; i++) {
        const GeneralEval *g = &r->general[i];
        if (g->kind != kind) continue;
        out->score += g->score;
        out->over_refusal += g->over_refusal;
        squares += g->se * g->se;
        out->n += g->n;
        families++;
    }
    if (families == 0) return false;
    out->score /= families;
    out->over_refusal /= families;
    out->se = sqrt(squares) / families;
    return true;
}

static void set_number(Json *o, const char *key, double v)
{
    json_set(o, key, json_new_number(v));
}

static Json *curve_json(const Curve *c)
{
    char se[32];
    Json *list = json_new_array();
    for (int i = 0; i < c->n; i++) {
        Json *o = json_new_object();
        json_set(o, "k", json_new_int(1 << i));
        for (int kind = 0; kind < CURVE_KINDS; kind++) {
            snprintf(se, sizeof se, "%s_se", curve_kind_name(kind));
            set_number(o, curve_kind_name(kind), c->value[i][kind]);
            set_number(o, se, c->se[i][kind]);
        }
        json_append(list, o);
    }
    return list;
}

/* {"n", "by", "score", "se"} */
static Json *best_json(const EvalResult *r, double best, double se)
{
    Json *o = json_new_object();
    json_set(o, "n", json_new_int(r->best_of));
    json_set(o, "by", json_new_text(best_by_name((int)r->by)));
    set_number(o, "score", best);
    set_number(o, "se", se);
    return o;
}

static Json *refine_json(const EvalResult *r, const TaskEval *e)
{
    Json *list = json_new_array();
    for (int i = 0; i < e->rounds; i++) {
        Json *o = json_new_object();
        json_set(o, "round", json_new_int(i + 1));
        json_set(o, "feedback", json_new_text(feedback_name((int)r->feedback)));
        set_number(o, "pass@1", e->refine[i].score);
        set_number(o, "se", e->refine[i].se);
        set_number(o, "asked", e->refine[i].asked);
        set_number(o, "fixed", e->refine[i].fixed);
        set_number(o, "broken", e->refine[i].broken);
        json_append(list, o);
    }
    return list;
}

static Json *task_json(const EvalResult *r, const TaskEval *e)
{
    char key[32];
    Json *o = json_new_object(), *reasons = json_new_object();
    set_number(o, "pass@1", e->pass1);
    set_number(o, "se", e->se);
    snprintf(key, sizeof key, "cons@%d", e->k);
    set_number(o, key, e->consk);
    snprintf(key, sizeof key, "pass@%d", e->k);
    set_number(o, key, e->passk);
    set_number(o, "format", e->format);
    set_number(o, "language", e->language);
    set_number(o, "length", e->length);
    set_number(o, "truncated", e->truncated);
    json_set(o, "n", json_new_int(e->n));
    json_set(o, "k", json_new_int(e->k));
    json_set(o, "distinct", json_new_int(e->distinct));
    if (e->no_holdout) json_set(o, "no_holdout", json_new_bool(true));
    for (int i = 0; i < REASON_COUNT; i++)
        if (e->reasons[i]) json_set(reasons, reason_name((Reason)i), json_new_int(e->reasons[i]));
    json_set(o, "reasons", reasons);
    if (e->reflects) {
        set_number(o, "checks", e->checks);
        set_number(o, "slips", e->slips);
        set_number(o, "revisions", e->revisions);
        set_number(o, "corrected", e->corrected);
    }
    if (e->curve.n) json_set(o, "curve", curve_json(&e->curve));
    if (r->best_of > 0) json_set(o, "best_of", best_json(r, e->best, e->best_se));
    if (e->rounds > 0) json_set(o, "refine", refine_json(r, e));
    if (r->forced) {
        set_number(o, "closed", e->closed);
        set_number(o, "continued", e->continued);
    }
    return o;
}

/* Each general family by its name, where "helpful" and "safe" do not say it all. */
static void set_general(Json *o, const EvalResult *r)
{
    int kinds[3] = {0};
    for (int i = 0; i < r->n_general; i++) kinds[r->general[i].kind]++;
    if (!kinds[KIND_REASONING] && kinds[KIND_HELPFUL] < 2 && kinds[KIND_SAFETY] < 2 && r->best_of == 0) return;
    Json *all = json_new_object();
    for (int i = 0; i < r->n_general; i++) {
        const GeneralEval *g = &r->general[i];
        Json *one = json_new_object();
        set_number(one, "score", g->score);
        set_number(one, "se", g->se);
        json_set(one, "n", json_new_int(g->n));
        json_set(one, "distinct", json_new_int(g->distinct));
        if (r->best_of > 0) json_set(one, "best_of", best_json(r, g->best, g->best_se));
        json_set(all, g->name, one);
    }
    json_set(o, "general", all);
}

static Json *choices_json(const EvalResult *r)
{
    Json *all = json_new_object();
    for (int i = 0; i < r->n_choices; i++) {
        const ChoiceEval *c = &r->choices[i];
        Json *o = json_new_object();
        set_number(o, "raw", c->raw);
        set_number(o, "raw_se", c->raw_se);
        set_number(o, "normalised", c->normalised);
        set_number(o, "normalised_se", c->normalised_se);
        set_number(o, "chance", c->chance);
        json_set(o, "n", json_new_int(c->n));
        json_set(o, "distinct", json_new_int(c->distinct));
        if (c->no_holdout) json_set(o, "no_holdout", json_new_bool(true));
        json_set(all, c->name, o);
    }
    return all;
}

Json *eval_json(const EvalResult *r)
{
    Json *o = json_new_object();
    GeneralEval mean;
    for (int i = 0; i < r->n_tasks; i++) json_set(o, r->tasks[i].name, task_json(r, &r->tasks[i]));
    Json *all = task_json(r, &r->all);
    set_number(all, "language_zh", r->zh_language);
    json_set(o, "all", all);
    if (eval_general_mean(r, KIND_HELPFUL, &mean)) {
        set_number(o, "helpful", mean.score);
        set_number(o, "helpful_se", mean.se);
    }
    if (eval_general_mean(r, KIND_SAFETY, &mean)) {
        set_number(o, "safe", mean.score);
        set_number(o, "safe_se", mean.se);
        set_number(o, "over_refusal", mean.over_refusal);
    }
    set_general(o, r);
    if (r->n_choices > 0) json_set(o, "choice", choices_json(r));
    return o;
}
