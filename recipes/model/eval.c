/* Held-out problems sampled, judged and summed up by family. */
#include "recipes/model/eval.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"

/* Sums over the samples of one family; turned into a TaskEval by finish. */
typedef struct Tally {
    double correct, correct_squares, any, consensus, format, language, length, truncated;
    double zh_language;
    long zh;
    long reasons[REASON_COUNT];
    int n, k;
} Tally;

typedef struct Answers {
    char **text; /* [k] the answer between the tags, NULL when there is none */
    float *score;
} Answers;

/* The most frequent answer's score; ties go to the one that came first. */
static float consensus_score(const Answers *a, int k)
{
    int best = -1, best_votes = 0;
    for (int i = 0; i < k; i++) {
        int votes = 0;
        for (int j = 0; j < k && a->text[i]; j++) votes += a->text[j] && !strcmp(a->text[i], a->text[j]);
        if (votes > best_votes) {
            best = i;
            best_votes = votes;
        }
    }
    return best < 0 ? 0.0f : a->score[best];
}

static char *copy_answer(Parsed parsed)
{
    if (!parsed.has_answer) return NULL;
    const char *from = parsed.answer;
    size_t n = parsed.answer_length;
    while (n && (*from == ' ' || *from == '\n')) from++, n--;
    while (n && (from[n - 1] == ' ' || from[n - 1] == '\n')) n--;
    return strndup(from, n);
}

static void tally_sample(Tally *t, const Problem *p, const Completion *c, Verdict v, Parsed parsed)
{
    double language = parsed.think_length ? language_share(parsed.think, parsed.think_length, p->language) : 1.0;
    t->format += parsed.format_ok;
    t->language += language;
    t->length += c->n;
    t->truncated += c->truncated;
    t->reasons[v.reason]++;
    if (p->language == LANGUAGE_ZH) {
        t->zh_language += language;
        t->zh++;
    }
}

/* The k samples of one problem. Returns the share that is correct. */
static float tally_problem(Tally *t, const Tokenizer *tok, const Problem *p, const Completion *c, int k,
                           EvalSample on_sample, void *ctx)
{
    Answers a = {calloc((size_t)k, sizeof *a.text), calloc((size_t)k, sizeof *a.score)};
    CHECK(a.text && a.score);
    double correct = 0;
    bool any = false;
    for (int i = 0; i < k; i++) {
        char *text = completion_text(tok, &c[i]);
        Parsed parsed = completion_parse(text);
        Verdict v = task_verify(p, text, c[i].truncated);
        a.text[i] = copy_answer(parsed);
        a.score[i] = v.score;
        correct += v.score;
        any = any || v.score >= 1.0f;
        tally_sample(t, p, &c[i], v, parsed);
        if (on_sample) on_sample(ctx, p, i, text, v);
        free(text);
    }
    double share = correct / k;
    t->correct += share;
    t->correct_squares += share * share;
    t->any += any;
    t->consensus += consensus_score(&a, k);
    t->n++;
    t->k = k;
    for (int i = 0; i < k; i++) free(a.text[i]);
    free(a.text);
    free(a.score);
    return (float)share;
}

static void tally_add(Tally *sum, const Tally *t)
{
    sum->correct += t->correct;
    sum->correct_squares += t->correct_squares;
    sum->any += t->any;
    sum->consensus += t->consensus;
    sum->format += t->format;
    sum->language += t->language;
    sum->length += t->length;
    sum->truncated += t->truncated;
    sum->zh_language += t->zh_language;
    sum->zh += t->zh;
    sum->n += t->n;
    sum->k = t->k;
    for (int i = 0; i < REASON_COUNT; i++) sum->reasons[i] += t->reasons[i];
}

/* Standard error of the mean of n values with the given sums. */
static double standard_error(double sum, double squares, int n)
{
    if (n < 2) return 0;
    double mean = sum / n, variance = (squares - n * mean * mean) / (n - 1);
    return sqrt((variance > 0 ? variance : 0) / n);
}

static TaskEval finish(const Tally *t, const char *name)
{
    double n = t->n ? t->n : 1, samples = n * (t->k ? t->k : 1);
    TaskEval e = {.n = t->n,
                  .k = t->k,
                  .pass1 = t->correct / n,
                  .passk = t->any / n,
                  .consk = t->consensus / n,
                  .format = t->format / samples,
                  .language = t->language / samples,
                  .length = t->length / samples,
                  .truncated = t->truncated / samples};
    e.se = standard_error(t->correct, t->correct_squares, t->n);
    snprintf(e.name, sizeof e.name, "%s", name);
    memcpy(e.reasons, t->reasons, sizeof e.reasons);
    return e;
}

/* Samples k completions of every problem in the set. */
static bool sample_set(Policy *p, const Voice *v, const EvalSpec *s, const PromptSet *set, int k, int stage,
                       Completion *out, long *tokens, const volatile int *cancel, Status *st)
{
    RolloutSpec spec = {.slots = s->slots,
                        .samples = k,
                        .max_tokens = s->max_tokens,
                        .cache = s->cache,
                        .sampling = {.temperature = (float)s->temperature, .top_p = (float)s->top_p},
                        .seed = s->seed,
                        .stage = (uint32_t)stage,
                        .purpose = RNG_EVAL,
                        .cancel = cancel};
    RolloutStats stats;
    voice_rollout(v, &spec);
    if (!rollout_run(p->sampler, &p->w, &spec, set->prompts, set->n, out, &stats, st)) return false;
    *tokens += stats.tokens;
    return true;
}

static CorpusSpec only_source(const CorpusSpec *c, int i)
{
    CorpusSpec one = *c;
    one.sources[0] = c->sources[i];
    one.n_sources = 1;
    return one;
}

static bool eval_family(Policy *p, const Voice *v, const EvalSpec *s, int source, Tally *tally, float *shares,
                        EvalResult *out, EvalSample on_sample, void *ctx, const volatile int *cancel, Status *st)
{
    CorpusSpec one = only_source(s->reasoning, source);
    PromptSet set;
    prompts_draw(&set, v, &one, s->seed, SPLIT_TEST, 0, s->n);
    Completion *c = calloc((size_t)s->n * (size_t)s->k, sizeof *c);
    CHECK(c != NULL);
    bool ok = sample_set(p, v, s, &set, s->k, source, c, &out->tokens, cancel, st);
    for (int i = 0; i < s->n && ok; i++)
        shares[i] =
            tally_problem(tally, v->tokenizer, &set.problems[i], &c[(size_t)i * (size_t)s->k], s->k, on_sample, ctx);
    free(c);
    prompts_free(&set);
    return ok;
}

/* Helpful: mean oracle. Safety: share of safe answers, and of safe prompts refused. */
static bool eval_general(Policy *p, const Voice *v, const EvalSpec *s, int source, EvalResult *out,
                         EvalSample on_sample, void *ctx, const volatile int *cancel, Status *st)
{
    CorpusSpec one = only_source(s->general, source);
    const Task *task = one.sources[0].task;
    PromptSet set;
    prompts_draw(&set, v, &one, s->seed, SPLIT_TEST, 0, s->general_n);
    Completion *c = calloc((size_t)s->general_n, sizeof *c);
    CHECK(c != NULL);
    bool ok = sample_set(p, v, s, &set, 1, 64 + source, c, &out->tokens, cancel, st);
    double sum = 0, squares = 0, refused = 0, harmless = 0;
    for (int i = 0; i < s->general_n && ok; i++) {
        char *text = completion_text(v->tokenizer, &c[i]);
        char *answer = copy_answer(completion_parse(text));
        Verdict v = task_verify(&set.problems[i], text, c[i].truncated);
        double q = task && task->oracle && answer ? task->oracle(&set.problems[i], answer) : v.score;
        if (c[i].truncated) q = 0;
        sum += q;
        squares += q * q;
        harmless += !set.problems[i].unsafe;
        refused += !set.problems[i].unsafe && v.reason == REASON_OVER_REFUSAL;
        if (on_sample) on_sample(ctx, &set.problems[i], 0, text, v);
        free(answer);
        free(text);
    }
    double mean = sum / s->general_n, se = standard_error(sum, squares, s->general_n);
    if (ok && task && task->kind == KIND_SAFETY) {
        out->has_safe = true;
        out->safe = mean;
        out->safe_se = se;
        out->over_refusal = harmless > 0 ? refused / harmless : 0;
    } else if (ok) {
        out->has_helpful = true;
        out->helpful = mean;
        out->helpful_se = se;
    }
    free(c);
    prompts_free(&set);
    return ok;
}

bool evaluate(Policy *p, const Voice *v, const EvalSpec *s, EvalResult *out, EvalSample on_sample, void *ctx,
              const volatile int *cancel, Status *st)
{
    EvalResult r = {.n_tasks = s->reasoning->n_sources};
    Tally all = {0};
    r.problems = calloc((size_t)(r.n_tasks * s->n) + 1, sizeof *r.problems);
    CHECK(r.problems != NULL);
    bool ok = true;
    for (int i = 0; i < r.n_tasks && ok; i++) {
        Tally tally = {0};
        ok = eval_family(p, v, s, i, &tally, r.problems + (size_t)i * (size_t)s->n, &r, on_sample, ctx, cancel, st);
        r.tasks[i] = finish(&tally, s->names[i]);
        tally_add(&all, &tally);
    }
    for (int i = 0; s->general && s->general_n > 0 && i < s->general->n_sources && ok; i++)
        ok = eval_general(p, v, s, i, &r, on_sample, ctx, cancel, st);
    if (!ok) {
        free(r.problems);
        return false;
    }
    r.all = finish(&all, "all");
    r.zh_language = all.zh ? all.zh_language / (double)all.zh : 1.0;
    *out = r;
    return true;
}

static void set_number(Json *o, const char *key, double v)
{
    json_set(o, key, json_new_number(v));
}

static Json *task_json(const TaskEval *e)
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
    for (int i = 0; i < REASON_COUNT; i++)
        if (e->reasons[i]) json_set(reasons, reason_name((Reason)i), json_new_int(e->reasons[i]));
    json_set(o, "reasons", reasons);
    return o;
}

Json *eval_json(const EvalResult *r)
{
    Json *o = json_new_object();
    for (int i = 0; i < r->n_tasks; i++) json_set(o, r->tasks[i].name, task_json(&r->tasks[i]));
    Json *all = task_json(&r->all);
    set_number(all, "language_zh", r->zh_language);
    json_set(o, "all", all);
    if (r->has_helpful) {
        set_number(o, "helpful", r->helpful);
        set_number(o, "helpful_se", r->helpful_se);
    }
    if (r->has_safe) {
        set_number(o, "safe", r->safe);
        set_number(o, "safe_se", r->safe_se);
        set_number(o, "over_refusal", r->over_refusal);
    }
    return o;
}

double eval_paired(const EvalResult *a, const EvalResult *b, double *se)
{
    CHECK_EQ(a->all.n, b->all.n);
    double sum = 0, squares = 0;
    for (int i = 0; i < a->all.n; i++) {
        double d = (double)b->problems[i] - (double)a->problems[i];
        sum += d;
        squares += d * d;
    }
    *se = standard_error(sum, squares, a->all.n);
    return sum / (a->all.n ? a->all.n : 1);
}
