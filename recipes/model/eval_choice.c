/* Log-likelihoods of options, and what is chosen by them. */
#include "recipes/model/eval_choice.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/base/hash.h"
#include "core/train.h"
#include "data/choice.h"
#include "data/text.h"
#include "recipes/model/eval_numbers.h"
#include "recipes/model/shots.h"

/* The conversation that ends with an option as the answer, its tokens alone to be predicted. */
static bool add_option(BatchBuilder *b, const Voice *v, const Problem *p, const Json *before, const char *option,
                       Status *st)
{
    Document d = {.messages = json_copy(before), .tools = p->tools != NULL ? json_copy(p->tools) : NULL};
    Sequences s = {0};
    conversation_add(d.messages, "assistant", option);
    bool ok = document_encode(v, &d, TURNS_LAST, &s, st);
    if (ok) {
        const Sequence *q = &s.list[s.n - 1];
        TokenSpan span = q->spans[q->n_spans - 1];
        while (span.end > span.first + 1 && voice_stops(v, q->ids[span.end - 1])) span.end--;
        batch_add_spans(b, q->ids, q->n, &span, 1);
    }
    sequences_free(&s);
    document_free(&d);
    return ok;
}

/* l of every sequence of a batch. */
static void sum_log_probs(Policy *p, const BatchBuilder *b, const int *first, double *l)
{
    float *lp = malloc(((size_t)b->m + 1) * sizeof *lp);
    CHECK(lp != NULL);
    Predictions predict = batch_predictions(b);
    train_log_probs(&p->engine, &p->w, batch_view(b), &predict, 1.0f, lp, NULL);
    for (int i = 0; i < b->nseq; i++) {
        l[i] = 0;
        for (int k = first[i]; k < first[i + 1]; k++) l[i] += (double)lp[k];
    }
    free(lp);
}

bool choice_log_likelihoods(Policy *p, const Voice *v, const Problem *problem, const Source *source, uint32_t seed,
                            int shots, double *l, Status *st)
{
    Choice c;
    BatchBuilder b = {0};
    int first[CHOICE_OPTIONS + 1] = {0};
    Json *messages = conversation_new();
    bool ok = choice_read(&c, problem->row, st) && shots_before(messages, problem, source, seed, shots, st);
    Json *question = problem_messages(problem);
    for (size_t i = 0; i < json_count(question); i++) json_append(messages, json_copy(json_at(question, i)));
    for (int i = 0; i < c.n && ok; i++) {
        ok = add_option(&b, v, problem, messages, c.text[i], st);
        first[i + 1] = b.m;
    }
    ok = ok && (batch_fits(&b, &p->config, st) || fail_prefix(st, "a row of %s", problem->task->name));
    if (ok) sum_log_probs(p, &b, first, l);
    json_free(question);
    json_free(messages);
    choice_free(&c);
    batch_free(&b);
    return ok;
}

/* Which option has the highest l, or l a byte; the first of equal ones. */
static int likeliest(const Choice *c, const double *l, bool normalised)
{
    int best = 0;
    double highest = 0;
    for (int i = 0; i < c->n; i++) {
        double value = normalised ? l[i] / (double)strlen(c->text[i]) : l[i];
        if (i > 0 && value <= highest) continue;
        highest = value;
        best = i;
    }
    return best;
}

static double mean_of(const float *x, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)x[i];
    return sum / (n > 0 ? n : 1);
}

bool choice_evaluate(Policy *p, const Voice *v, const Source *source, uint32_t seed, int shots, int n,
                     const volatile int *cancel, ChoiceEval *out, Status *st)
{
    float *raw = calloc((size_t)n + 1, sizeof *raw), *normalised = calloc((size_t)n + 1, sizeof *normalised);
    uint64_t *key = calloc((size_t)n + 1, sizeof *key);
    double chance = 0;
    bool ok = true;
    CHECK(raw != NULL && normalised != NULL && key != NULL);
    for (int i = 0; i < n && ok; i++) {
        Problem problem;
        Choice c = {0};
        double l[CHOICE_OPTIONS];
        dataset_problem(&problem, source->dataset, SPLIT_TEST, (uint64_t)i);
        ok = (!cancel || !*cancel || fail(st, "interrupted")) && choice_read(&c, problem.row, st) &&
             choice_log_likelihoods(p, v, &problem, source, seed, shots, l, st);
        if (ok) {
            raw[i] = likeliest(&c, l, false) == c.right;
            normalised[i] = likeliest(&c, l, true) == c.right;
            key[i] = hash_bytes(problem.prompt, strlen(problem.prompt), 0);
            chance += 1.0 / c.n;
        }
        choice_free(&c);
        problem_free(&problem);
    }
    out->n = n;
    out->no_holdout = source->dataset->n_test == 0;
    out->raw = mean_of(raw, n);
    out->normalised = mean_of(normalised, n);
    out->raw_se = eval_error(raw, key, n, &out->distinct);
    out->normalised_se = eval_error(normalised, key, n, NULL);
    out->chance = chance / (n > 0 ? n : 1);
    free(raw);
    free(normalised);
    free(key);
    return ok;
}
