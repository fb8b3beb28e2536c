/* Held-out problems sampled, judged and summed up by family. */
#include "recipes/model/eval.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/base/hash.h"
#include "data/reflection.h"
#include "data/text.h"
#include "recipes/model/eval_numbers.h"
#include "recipes/model/shots.h"

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
    long zh, closed, continued;
    long reflecting, checks, slips, revisions, corrected; /* reflecting: samples that the others are counted of */
    double asked[REFINE_ROUNDS], fixed[REFINE_ROUNDS], broken[REFINE_ROUNDS]; /* samples */
    long reasons[REASON_COUNT];
    int n, k, first; /* first: its first problem in EvalRun */
} Tally;

const char *best_by_name(int k)
{
    static const char *const names[] = {"helpful_rm", "verifier", "likelihood"};
    return (size_t)k < sizeof names / sizeof *names ? names[k] : NULL;
}

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

static void tally_sample(Tally *t, const JudgedText *judged, const Completion *c, Parsed parsed)
{
    const Problem *p = judged->problem;
    const char *text = judged->completion;
    Verdict v = judged->verdict;
    double language = parsed.think_length ? task_language_share(p, parsed.think, parsed.think_length) : 1.0;
    t->format += parsed.format_ok;
    t->language += language;
    t->length += c->n;
    t->truncated += c->truncated;
    t->reasons[v.reason]++;
    if (reflection_counts(p)) {
        Reflection f = reflection_of(p, text, &v);
        t->reflecting++;
        t->checks += f.checks;
        t->slips += f.slips;
        t->revisions += f.revisions;
        t->corrected += f.corrected;
    }
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

/* What chooses among the samples of a problem; rm: a reward model's scores, or NULL. */
static float rating(const EvalSpec *s, const CurveSample *sample, const float *rm, int i)
{
    return s->by == BY_HELPFUL_RM ? rm[i] : s->by == BY_VERIFIER ? sample[i].score : sample[i].likelihood;
}

static float best_of(const EvalSpec *s, const CurveSample *samples, const float *rm, int k)
{
    float *ratings = calloc((size_t)k, sizeof *ratings);
    CHECK(ratings != NULL);
    for (int i = 0; i < k; i++) ratings[i] = rating(s, samples, rm, i);
    float best = curve_best(samples, ratings, k, s->best_of);
    free(ratings);
    return best;
}

/* The k samples of one problem, judged. Returns the share that is correct. */
static float tally_problem(Tally *t, const EvalRun *r, const Completion *c, const JudgedText *judged, const float *rm)
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
        samples[i] = (CurveSample){parsed_answer(parsed), v.score, mean_logprob(&c[i])};
        correct += v.score;
        any = any || v.score >= 1.0f;
        tally_sample(t, &judged[i], &c[i], parsed);
        if (r->spec->on_sample) r->spec->on_sample(r->spec->on_sample_ctx, i, &judged[i]);
    }
    t->correct += correct / k;
    t->any += any;
    t->consensus += curve_vote(p, samples, NULL, k);
    t->n++;
    t->k = k;
    if (r->curve) curve_problem(r->curve[r->n], p, samples, k);
    if (r->spec->best_of > 0) r->out->chosen[r->n] = best_of(r->spec, samples, rm, k);
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
    sum->reflecting += t->reflecting;
    sum->checks += t->checks;
    sum->slips += t->slips;
    sum->revisions += t->revisions;
    sum->corrected += t->corrected;
    sum->closed += t->closed;
    sum->continued += t->continued;
    for (int i = 0; i < REFINE_ROUNDS; i++) {
        sum->asked[i] += t->asked[i];
        sum->fixed[i] += t->fixed[i];
        sum->broken[i] += t->broken[i];
    }
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

/* The mean of a family's values of x, and its error. */
static double mean_of(const EvalRun *r, const Tally *t, const float *x, double *se)
{
    double sum = 0;
    for (int i = 0; i < t->n; i++) sum += (double)x[t->first + i];
    *se = eval_error(x + t->first, r->keys + t->first, t->n, NULL);
    return sum / (t->n ? t->n : 1);
}

static void finish_refine(const EvalRun *r, const Tally *t, TaskEval *e)
{
    float *x = calloc((size_t)r->n + 1, sizeof *x);
    CHECK(x != NULL);
    double samples = (double)t->n * t->k;
    e->rounds = r->spec->refine;
    for (int round = 0; round < e->rounds; round++) {
        Refinement *out = &e->refine[round];
        for (int i = 0; i < r->n; i++) x[i] = r->out->refined[i][round];
        out->score = mean_of(r, t, x, &out->se);
        out->asked = t->asked[round] / (samples > 0 ? samples : 1);
        out->fixed = t->fixed[round] / (samples > 0 ? samples : 1);
        out->broken = t->broken[round] / (samples > 0 ? samples : 1);
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
    double reflecting = t->reflecting > 0 ? (double)t->reflecting : 1;
    e.reflects = t->reflecting > 0;
    e.checks = (double)t->checks / reflecting;
    e.slips = (double)t->slips / reflecting;
    e.revisions = (double)t->revisions / reflecting;
    e.corrected = (double)t->corrected / reflecting;
    e.closed = (double)t->closed / samples;
    e.continued = (double)t->continued / samples;
    if (r->curve) finish_curve(r, t, &e.curve);
    if (r->spec->best_of > 0) e.best = mean_of(r, t, r->out->chosen, &e.best_se);
    if (r->spec->refine > 0) finish_refine(r, t, &e);
    return e;
}

/* n problems of one source of a mix, k samples of each. */
typedef struct Family {
    const CorpusSpec *mix;
    int source, n, k;
    uint32_t stage; /* of the counters of the sampling */
} Family;

/* The prompts of a family and their samples. */
typedef struct Samples {
    PromptSet set;
    Completion *list;         /* [n k] */
    ForcedCompletions forced; /* what owns their tokens where thoughts have a budget */
    int k;
} Samples;

static void samples_free(Samples *s)
{
    if (!s->forced.list) free(s->list);
    forced_free(&s->forced);
    prompts_free(&s->set);
}

static RolloutSpec rollout_of(const EvalRun *r, int k, uint32_t stage)
{
    const EvalSpec *s = r->spec;
    RolloutSpec spec = {.slots = s->slots,
                        .samples = k,
                        .max_tokens = s->max_tokens,
                        .cache = s->cache,
                        .sampling = {.temperature = (float)s->temperature, .top_p = (float)s->top_p},
                        .seed = s->seed,
                        .stage = stage,
                        .purpose = RNG_EVAL,
                        .cancel = s->cancel};
    voice_rollout(r->voice, &spec);
    return spec;
}

static bool sample_family(const EvalRun *r, const Family *f, Samples *out, Status *st)
{
    const EvalSpec *s = r->spec;
    const Source *source = &f->mix->sources[f->source];
    CorpusSpec one = *f->mix;
    one.sources[0] = *source;
    one.n_sources = 1;
    *out = (Samples){.k = f->k};
    if (!prompts_draw(&out->set, r->voice, &one, s->seed, SPLIT_TEST, 0, f->n, st)) return false;
    if (s->shots > 0 && !shots_add(&out->set, r->voice, source, s->seed, s->shots, st)) return false;
    RolloutSpec spec = rollout_of(r, f->k, f->stage);
    RolloutStats stats = {0};
    bool ok;
    if (s->effort.budget > 0) {
        const char *goes_on = source->task ? source->task->separator : "\nWait,";
        ok = effort_rollout(r->policy, r->voice, &spec, &s->effort, goes_on, out->set.prompts, f->n, &out->forced,
                            &stats, st);
        out->list = out->forced.list;
    } else {
        out->list = calloc((size_t)f->n * (size_t)f->k + 1, sizeof *out->list);
        CHECK(out->list != NULL);
        ok = rollout_run(r->policy->sampler, &r->policy->w, &spec, out->set.prompts, f->n, out->list, &stats, st);
    }
    r->out->tokens += stats.tokens;
    return ok;
}

/* A reward model's scores of them; NULL: it is not asked, or failed. */
static float *rate(const EvalRun *r, const Samples *x, bool *ok, Status *st)
{
    const EvalSpec *s = r->spec;
    if (s->best_of == 0 || s->by != BY_HELPFUL_RM) return NULL;
    float *score = calloc((size_t)x->set.n * (size_t)x->k + 1, sizeof *score);
    CHECK(score != NULL);
    *ok = s->rate(s->rate_ctx, &x->set, x->list, x->k, score, st);
    return score;
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

/* ---- Refinement ---- */

/* Samples that are asked again: with a verdict those that it called wrong. */
static bool asks_again(const EvalRun *r, const JudgedText *j)
{
    return r->spec->feedback == FEEDBACK_NONE || j->verdict.score < 1;
}

/* One round: what was said is replaced by what is said then. Whoever's conversation has no room left is not asked. */
static bool refine_round(const EvalRun *r, JudgedText *list, int n, uint32_t stage, int round, Tally *t, Status *st)
{
    RolloutPrompt *prompts = calloc((size_t)n + 1, sizeof *prompts);
    Ids *ids = calloc((size_t)n + 1, sizeof *ids);
    int *of = calloc((size_t)n + 1, sizeof *of), count = 0;
    Completion *c = calloc((size_t)n + 1, sizeof *c);
    JudgedText *now = calloc((size_t)n + 1, sizeof *now);
    CHECK(prompts && ids && of && c && now);
    bool ok = true;
    for (int i = 0; i < n && ok; i++) {
        if (!asks_again(r, &list[i])) continue;
        ok = refine_encode(r->voice, &list[i], r->spec->feedback, &ids[count], st);
        prompts[count] = (RolloutPrompt){ids[count].ids, ids[count].n, (uint32_t)i};
        if (ids[count].n < r->policy->config.max_positions) of[count++] = i;
        else ids[count].n = 0;
    }
    RolloutSpec spec = rollout_of(r, 1, stage);
    RolloutStats stats = {0};
    spec.step = (uint32_t)(64 + round); /* random numbers of its own */
    ok = ok && (count == 0 || rollout_run(r->policy->sampler, &r->policy->w, &spec, prompts, count, c, &stats, st));
    r->out->tokens += stats.tokens;
    for (int i = 0; i < count && ok; i++)
        now[i] = (JudgedText){.problem = list[of[i]].problem,
                              .completion = completion_text(r->voice, &c[i]),
                              .truncated = c[i].truncated};
    ok = ok && task_verify_all(now, count, st);
    for (int i = 0; i < count && ok; i++) {
        JudgedText *old = &list[of[i]];
        t->fixed[round] += old->verdict.score < 1 && now[i].verdict.score >= 1;
        t->broken[round] += old->verdict.score >= 1 && now[i].verdict.score < 1;
        JudgedText keep = *old;
        *old = now[i];
        now[i] = keep;
    }
    t->asked[round] += count;
    for (int i = 0; i <= n; i++) free(ids[i].ids);
    judged_free(now, count);
    free(prompts);
    free(ids);
    free(of);
    free(c);
    return ok;
}

/* All rounds of a family; its problems begin at `first` of the run. */
static bool refine_family(const EvalRun *r, JudgedText *list, int n, uint32_t stage, Tally *t, Status *st)
{
    int k = r->spec->k;
    for (int round = 0; round < r->spec->refine; round++) {
        if (!refine_round(r, list, n * k, stage, round, t, st)) return false;
        for (int i = 0; i < n; i++) {
            double sum = 0;
            for (int g = 0; g < k; g++) sum += (double)list[i * k + g].verdict.score;
            r->out->refined[t->first + i][round] = (float)(sum / k);
        }
    }
    return true;
}

/* ---- Families ---- */

static bool eval_family(EvalRun *r, int source, Tally *tally, Status *st)
{
    const EvalSpec *s = r->spec;
    Samples x;
    int n = eval_problems(&s->reasoning->sources[source], s->n, s->file_n);
    tally->first = r->n;
    bool ok = sample_family(r, &(Family){s->reasoning, source, n, s->k, (uint32_t)source}, &x, st);
    float *rm = ok ? rate(r, &x, &ok, st) : NULL;
    JudgedText *judged = ok ? judge(r, &x.set, x.list, s->k, &ok, st) : NULL;
    for (int i = 0; i < n && ok; i++) {
        size_t at = (size_t)i * (size_t)s->k;
        r->keys[r->n] = problem_key(&x.set.problems[i]);
        float correct = tally_problem(tally, r, &x.list[at], &judged[at], rm ? rm + at : NULL);
        r->out->problems[r->n++] = correct;
    }
    tally->closed = x.forced.closed;
    tally->continued = x.forced.continued;
    ok = ok && refine_family(r, judged, n, (uint32_t)source, tally, st);
    judged_free(judged, n * s->k);
    free(rm);
    samples_free(&x);
    return ok;
}

/* What one answer to a general prompt is worth: a built-in family's oracle of the answer, else the verdict. */
static float general_score(const EvalRun *r, const JudgedText *judged, int sample)
{
    const Problem *p = judged->problem;
    char *answer = parsed_answer(completion_parse(judged->completion));
    float score = p->task->oracle && answer ? p->task->oracle(p, answer) : judged->verdict.score;
    if (r->spec->on_sample) r->spec->on_sample(r->spec->on_sample_ctx, sample, judged);
    free(answer);
    return judged->truncated ? 0 : score;
}

/* Means over the k samples of each problem of a general family; `best`: of the chosen ones. */
static void general_means(const EvalRun *r, const Samples *x, const JudgedText *judged, const float *rm,
                          GeneralEval *out)
{
    int n = x->set.n, k = x->k, harmless = 0, refused = 0;
    float *score = calloc((size_t)n + 1, sizeof *score), *best = calloc((size_t)n + 1, sizeof *best);
    uint64_t *key = calloc((size_t)n + 1, sizeof *key);
    CurveSample *samples = calloc((size_t)k, sizeof *samples);
    CHECK(score && best && key && samples);
    double all = 0, chosen = 0;
    for (int i = 0; i < n; i++) {
        const Problem *p = &x->set.problems[i];
        double sum = 0;
        for (int g = 0; g < k; g++) {
            int at = i * k + g;
            samples[g] = (CurveSample){NULL, general_score(r, &judged[at], g), mean_logprob(&x->list[at])};
            sum += (double)samples[g].score;
            refused += !p->unsafe && judged[at].verdict.reason == REASON_OVER_REFUSAL;
        }
        score[i] = (float)(sum / k);
        key[i] = problem_key(p);
        harmless += p->unsafe ? 0 : k;
        if (r->spec->best_of > 0) best[i] = best_of(r->spec, samples, rm ? rm + (size_t)i * (size_t)k : NULL, k);
        all += (double)score[i];
        chosen += (double)best[i];
    }
    out->n = n;
    out->score = all / (n ? n : 1);
    out->best = chosen / (n ? n : 1);
    out->se = eval_error(score, key, n, &out->distinct);
    out->best_se = eval_error(best, key, n, NULL);
    out->over_refusal = harmless ? (double)refused / harmless : 0;
    free(score);
    free(best);
    free(key);
    free(samples);
}

static bool eval_general(EvalRun *r, int source, Status *st)
{
    const EvalSpec *s = r->spec;
    const Source *from = &s->general->sources[source];
    GeneralEval *out = &r->out->general[r->out->n_general];
    Samples x;
    int n = eval_problems(from, s->general_n, s->general_n), k = s->best_of > 0 ? s->best_of : 1;
    bool ok = sample_family(r, &(Family){s->general, source, n, k, 64 + (uint32_t)source}, &x, st);
    float *rm = ok ? rate(r, &x, &ok, st) : NULL;
    JudgedText *judged = ok ? judge(r, &x.set, x.list, k, &ok, st) : NULL;
    if (ok) {
        *out = (GeneralEval){.kind = from->task ? from->task->kind : KIND_REASONING};
        snprintf(out->name, sizeof out->name, "%s", s->general_names[source]);
        general_means(r, &x, judged, rm, out);
        r->out->n_general++;
    }
    judged_free(judged, n * k);
    free(rm);
    samples_free(&x);
    return ok;
}

static bool eval_choices(EvalRun *r, int source, Status *st)
{
    const EvalSpec *s = r->spec;
    const Source *from = &s->reasoning->sources[source];
    ChoiceEval *out = &r->out->choices[r->out->n_choices++];
    snprintf(out->name, sizeof out->name, "%s", s->names[source]);
    if (from->dataset->choices < from->dataset->n)
        return fail(
            st,
            "%s: rows of the verifier choice are judged by likelihood, the others by samples: put them into files of "
            "their own",
            from->dataset->path);
    return choice_evaluate(r->policy, r->voice, from, s->seed, s->shots, eval_problems(from, s->n, s->file_n),
                           s->cancel, out, st);
}

bool evaluate(Policy *p, const Voice *v, const EvalSpec *s, EvalResult *out, Status *st)
{
    EvalResult result = {.best_of = s->best_of, .by = s->by, .feedback = s->feedback, .forced = s->effort.budget > 0};
    size_t most = (size_t)all_problems(s) + 1;
    EvalRun r = {.policy = p, .voice = v, .spec = s, .out = &result, .keys = calloc(most, sizeof *r.keys)};
    if (s->curve) r.curve = calloc(most, sizeof *r.curve);
    result.chosen = calloc(most, sizeof *result.chosen);
    result.refined = calloc(most, sizeof *result.refined);
    result.problems = calloc(most, sizeof *result.problems);
    CHECK(result.chosen && result.refined && s->best_of <= s->k && s->refine <= REFINE_ROUNDS);
    CHECK(r.keys && result.problems && (r.curve || !s->curve));
    Tally all = {0};
    bool ok = true;
    for (int i = 0; i < s->reasoning->n_sources && ok; i++) {
        const Dataset *file = s->reasoning->sources[i].dataset;
        if (file && file->choices > 0) {
            ok = eval_choices(&r, i, st);
            continue;
        }
        Tally tally = {0};
        ok = eval_family(&r, i, &tally, st);
        TaskEval *task = &result.tasks[result.n_tasks++];
        *task = finish(&r, &tally, s->names[i]);
        task->no_holdout = file && file->n_test == 0;
        tally_add(&all, &tally);
    }
    for (int i = 0; s->general && s->general_n > 0 && i < s->general->n_sources && ok; i++)
        ok = eval_general(&r, i, st);
    result.all = finish(&r, &all, "all");
    result.zh_language = all.zh ? all.zh_language / (double)all.zh : 1.0;
    free(r.keys);
    free(r.curve);
    if (ok) *out = result;
    else eval_result_free(&result);
    return ok;
}

void eval_result_free(EvalResult *r)
{
    free(r->problems);
    free(r->chosen);
    free(r->refined);
    r->problems = r->chosen = NULL;
    r->refined = NULL;
}
