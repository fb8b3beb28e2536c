/* Held-out problems sampled, judged and summed up by family. */
#include "recipes/model/eval.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "data/text.h"
#include "recipes/model/eval_numbers.h"

/* An evaluation in progress. Shares and keys of problems come family by family, in the order of EvalResult.problems. */
typedef struct EvalRun {
    Policy *policy;
    const Voice *voice;
    const EvalSpec *spec;
    EvalResult *out;
    uint64_t *keys;                            /* [problems so far] */
    float (*curve)[CURVE_POINTS][CURVE_KINDS]; /* the same; NULL: not asked for */
    int n;
} EvalRun;

/* Sums over the samples of one family; turned into a TaskEval by finish. */
typedef struct Tally {
    double correct, any, consensus, format, language, length, truncated;
    double zh_language;
    long zh;
    long reasons[REASON_COUNT];
    int n, k, first; /* first: its first problem in EvalRun */
} Tally;

int eval_problems(const Source *s, int n, int file_n)
{
    if (!s->dataset) return n;
    int rows = dataset_rows(s->dataset, SPLIT_TEST);
    return file_n > 0 && file_n < rows ? file_n : rows;
}

static int all_problems(const EvalSpec *s)
{
    int n = 0;
    for (int i = 0; i < s->reasoning->n_sources; i++) n += eval_problems(&s->reasoning->sources[i], s->n, s->file_n);
    return n;
}

/* The answer between the tags, trimmed; NULL when there is none. */
static char *copy_answer(Parsed parsed)
{
    if (!parsed.has_answer) return NULL;
    const char *from = parsed.answer;
    size_t n = parsed.answer_length;
    while (n && (*from == ' ' || *from == '\n')) from++, n--;
    while (n && (from[n - 1] == ' ' || from[n - 1] == '\n')) n--;
    return n ? strndup(from, n) : NULL;
}

static void tally_sample(Tally *t, const Problem *p, const Completion *c, Verdict v, Parsed parsed)
{
    double language = parsed.think_length ? task_language_share(p, parsed.think, parsed.think_length) : 1.0;
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

static float mean_logprob(const Completion *c)
{
    double sum = 0;
    for (int i = 0; i < c->n; i++) sum += (double)c->logprobs[i];
    return (float)(c->n ? sum / c->n : 0);
}

/* The k samples of one problem, judged. Returns the share that is correct. */
static float tally_problem(Tally *t, const EvalRun *r, const Completion *c, const JudgedText *judged)
{
    int k = r->spec->k;
    const Problem *p = judged[0].problem;
    CurveSample *samples = calloc((size_t)k, sizeof *samples);
    CHECK(samples != NULL);
    double correct = 0;
    bool any = false;
    for (int i = 0; i < k; i++) {
        const char *text = judged[i].completion;
        Parsed parsed = completion_parse(text);
        Verdict v = judged[i].verdict;
        samples[i] = (CurveSample){copy_answer(parsed), v.score, mean_logprob(&c[i])};
        correct += v.score;
        any = any || v.score >= 1.0f;
        tally_sample(t, p, &c[i], v, parsed);
        if (r->spec->on_sample) r->spec->on_sample(r->spec->on_sample_ctx, i, &judged[i]);
    }
    t->correct += correct / k;
    t->any += any;
    t->consensus += curve_vote(p, samples, NULL, k);
    t->n++;
    t->k = k;
    if (r->curve) curve_problem(r->curve[r->n], p, samples, k);
    for (int i = 0; i < k; i++) free((char *)samples[i].answer);
    free(samples);
    return (float)(correct / k);
}

static void tally_add(Tally *sum, const Tally *t)
{
    sum->correct += t->correct;
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

static void finish_curve(const EvalRun *r, const Tally *t, Curve *out)
{
    float *x = calloc((size_t)t->n + 1, sizeof *x);
    CHECK(x != NULL);
    out->n = curve_points(t->k);
    for (int i = 0; i < out->n; i++)
        for (int kind = 0; kind < CURVE_KINDS; kind++) {
            double sum = 0;
            for (int j = 0; j < t->n; j++) sum += (double)(x[j] = r->curve[t->first + j][i][kind]);
            out->value[i][kind] = sum / (t->n ? t->n : 1);
            out->se[i][kind] = eval_error(x, r->keys + t->first, t->n, NULL);
        }
    free(x);
}

static TaskEval finish(const EvalRun *r, const Tally *t, const char *name)
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
    e.se = eval_error(r->out->problems + t->first, r->keys + t->first, t->n, &e.distinct);
    snprintf(e.name, sizeof e.name, "%s", name);
    memcpy(e.reasons, t->reasons, sizeof e.reasons);
    if (r->curve) finish_curve(r, t, &e.curve);
    return e;
}

/* n problems of one source of a mix, k samples of each. */
typedef struct Family {
    const CorpusSpec *mix;
    int source, n, k;
    uint32_t stage; /* of the counters of the sampling */
} Family;

static bool sample_family(const EvalRun *r, const Family *f, PromptSet *set, Completion **out, Status *st)
{
    const EvalSpec *s = r->spec;
    int n = f->n, k = f->k;
    CorpusSpec one = *f->mix;
    one.sources[0] = f->mix->sources[f->source];
    one.n_sources = 1;
    *out = calloc((size_t)n * (size_t)k, sizeof **out);
    CHECK(*out != NULL);
    if (!prompts_draw(set, r->voice, &one, s->seed, SPLIT_TEST, 0, n, st)) return false;
    RolloutSpec spec = {.slots = s->slots,
                        .samples = k,
                        .max_tokens = s->max_tokens,
                        .cache = s->cache,
                        .sampling = {.temperature = (float)s->temperature, .top_p = (float)s->top_p},
                        .seed = s->seed,
                        .stage = f->stage,
                        .purpose = RNG_EVAL,
                        .cancel = s->cancel};
    RolloutStats stats = {0};
    voice_rollout(r->voice, &spec);
    bool ok = rollout_run(r->policy->sampler, &r->policy->w, &spec, set->prompts, n, *out, &stats, st);
    r->out->tokens += stats.tokens;
    return ok;
}

static uint64_t problem_key(const Problem *p)
{
    return hash_bytes(p->prompt, strlen(p->prompt), 0);
}

/* The texts of n completions of a set, and their verdicts. Caller frees with judged_free. */
static JudgedText *judge(const EvalRun *r, const PromptSet *set, const Completion *c, int k, bool *ok, Status *st)
{
    int n = set->n * k;
    JudgedText *list = calloc((size_t)n + 1, sizeof *list);
    CHECK(list != NULL);
    for (int i = 0; i < n; i++)
        list[i] = (JudgedText){.problem = &set->problems[i / k],
                               .completion = completion_text(r->voice, &c[i]),
                               .truncated = c[i].truncated};
    *ok = task_verify_all(list, n, st);
    return list;
}

static void judged_free(JudgedText *list, int n)
{
    for (int i = 0; list && i < n; i++) {
        json_free(list[i].tests);
        free((char *)list[i].completion);
    }
    free(list);
}

static bool eval_family(EvalRun *r, int source, Tally *tally, Status *st)
{
    const EvalSpec *s = r->spec;
    PromptSet set;
    Completion *c;
    int n = eval_problems(&s->reasoning->sources[source], s->n, s->file_n);
    tally->first = r->n;
    bool ok = sample_family(r, &(Family){s->reasoning, source, n, s->k, (uint32_t)source}, &set, &c, st);
    JudgedText *judged = ok ? judge(r, &set, c, s->k, &ok, st) : NULL;
    for (int i = 0; i < n && ok; i++) {
        size_t at = (size_t)i * (size_t)s->k;
        r->keys[r->n] = problem_key(&set.problems[i]);
        r->out->problems[r->n++] = tally_problem(tally, r, &c[at], &judged[at]);
    }
    judged_free(judged, n * s->k);
    free(c);
    prompts_free(&set);
    return ok;
}

/* What one answer to a general prompt is worth: a built-in family's oracle of the answer, else the verdict. */
static float general_score(const EvalRun *r, const JudgedText *judged)
{
    const Problem *p = judged->problem;
    char *answer = copy_answer(completion_parse(judged->completion));
    float score = p->task->oracle && answer ? p->task->oracle(p, answer) : judged->verdict.score;
    if (r->spec->on_sample) r->spec->on_sample(r->spec->on_sample_ctx, 0, judged);
    free(answer);
    return judged->truncated ? 0 : score;
}

/* Means over the problems of a general family. */
static void general_means(const EvalRun *r, const JudgedText *judged, int n, GeneralEval *out)
{
    float *score = calloc((size_t)n + 1, sizeof *score);
    uint64_t *key = calloc((size_t)n + 1, sizeof *key);
    CHECK(score && key);
    int harmless = 0, refused = 0;
    double sum = 0;
    for (int i = 0; i < n; i++) {
        const Problem *p = judged[i].problem;
        score[i] = general_score(r, &judged[i]);
        key[i] = problem_key(p);
        sum += (double)score[i];
        harmless += !p->unsafe;
        refused += !p->unsafe && judged[i].verdict.reason == REASON_OVER_REFUSAL;
    }
    out->n = n;
    out->score = sum / (n ? n : 1);
    out->se = eval_error(score, key, n, &out->distinct);
    out->over_refusal = harmless ? (double)refused / harmless : 0;
    free(score);
    free(key);
}

static bool eval_general(EvalRun *r, int source, Status *st)
{
    const EvalSpec *s = r->spec;
    const Source *from = &s->general->sources[source];
    GeneralEval *out = &r->out->general[r->out->n_general];
    PromptSet set;
    Completion *c;
    int n = eval_problems(from, s->general_n, s->general_n);
    bool ok = sample_family(r, &(Family){s->general, source, n, 1, 64 + (uint32_t)source}, &set, &c, st);
    JudgedText *judged = ok ? judge(r, &set, c, 1, &ok, st) : NULL;
    if (ok) {
        *out = (GeneralEval){.kind = from->task ? from->task->kind : KIND_REASONING};
        snprintf(out->name, sizeof out->name, "%s", s->general_names[source]);
        general_means(r, judged, n, out);
        r->out->n_general++;
    }
    judged_free(judged, n);
    free(c);
    prompts_free(&set);
    return ok;
}

bool evaluate(Policy *p, const Voice *v, const EvalSpec *s, EvalResult *out, Status *st)
{
    EvalResult result = {.n_tasks = s->reasoning->n_sources};
    size_t most = (size_t)all_problems(s) + 1;
    EvalRun r = {.policy = p, .voice = v, .spec = s, .out = &result, .keys = calloc(most, sizeof *r.keys)};
    if (s->curve) r.curve = calloc(most, sizeof *r.curve);
    result.problems = calloc(most, sizeof *result.problems);
    CHECK(r.keys && result.problems && (r.curve || !s->curve));
    Tally all = {0};
    bool ok = true;
    for (int i = 0; i < result.n_tasks && ok; i++) {
        Tally tally = {0};
        ok = eval_family(&r, i, &tally, st);
        result.tasks[i] = finish(&r, &tally, s->names[i]);
        const Dataset *file = s->reasoning->sources[i].dataset;
        result.tasks[i].no_holdout = file && file->n_test == 0;
        tally_add(&all, &tally);
    }
    for (int i = 0; s->general && s->general_n > 0 && i < s->general->n_sources && ok; i++)
        ok = eval_general(&r, i, st);
    result.all = finish(&r, &all, "all");
    result.zh_language = all.zh ? all.zh_language / (double)all.zh : 1.0;
    free(r.keys);
    free(r.curve);
    if (ok) *out = result;
    else free(result.problems);
    return ok;
}
