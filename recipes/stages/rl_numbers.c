/* What an RL step reports about its samples. */
#include <math.h>

#include "data/reflection.h"
#include "recipes/stages/rl_numbers.h"

typedef struct Means {
    double length_correct, length_wrong, helpful, oracle, language, reasoning;
    int correct, wrong, helpful_prompts, thinking;
    double logprobs; /* sum over all tokens */
} Means;

static void add_reflection(RlNumbers *r, const Problem *p, const Sample *s)
{
    if (!reflection_counts(p)) return;
    Reflection f = reflection_of(p, s->text, &s->reward.verdict);
    r->reflecting++;
    r->checks += f.checks;
    r->slips += f.slips;
    r->revisions += f.revisions;
    r->corrected += f.corrected;
}

static void add_sample(RlNumbers *r, Means *m, const Problem *p, const Sample *s, const RecipeRewards *rewards)
{
    bool correct = s->reward.verdict.score >= 1;
    r->failures += s->reward.failed;
    if (!s->reward.failed) r->reward += (double)s->reward.total;
    for (int i = 0; i < rewards->n && !s->reward.failed; i++) r->parts[i] += (double)s->reward.parts[i];
    r->format += s->format_ok;
    r->thinks += s->thinks;
    r->truncated += s->truncated;
    r->length += s->n;
    for (int i = 0; i < s->n; i++) m->logprobs += (double)s->logprobs[i];
    r->reasons[s->reward.verdict.reason]++;
    *(correct ? &m->length_correct : &m->length_wrong) += s->n;
    *(correct ? &m->correct : &m->wrong) += 1;
    if (s->thinks) {
        m->language += (double)s->language;
        m->thinking++;
    }
    add_reflection(r, p, s);
    if (p->kind == KIND_REASONING) {
        r->pass1 += (double)s->reward.verdict.score;
        m->reasoning++;
    }
    for (int i = 0; i < rewards->n; i++) {
        if (rewards->list[i].kind != REWARD_HELPFUL_RM || !s->reward.applies[i]) continue;
        m->helpful += (double)s->reward.parts[i];
        m->oracle += (double)s->reward.verdict.score;
        m->helpful_prompts++;
    }
}

static double ratio(double sum, double n)
{
    return n > 0 ? sum / n : (double)NAN;
}

RlNumbers rl_numbers(const Group *groups, int n, int G, const RecipeRewards *rewards)
{
    RlNumbers r = {.samples = n * G,
                   .groups = n,
                   .gap = (double)NAN,
                   .kl_exact = (double)NAN,
                   .explained = (double)NAN,
                   .kl_penalty = (double)NAN,
                   .correction = (double)NAN,
                   .routing_gap = (double)NAN};
    Means m = {0};
    for (int g = 0; g < n; g++) {
        r.zero_groups += !groups[g].signal;
        for (int i = 0; i < G; i++) add_sample(&r, &m, &groups[g].problem, &groups[g].samples[i], rewards);
    }
    double count = n * G;
    double rewarded = count - r.failures;
    r.reward = ratio(r.reward, rewarded);
    for (int i = 0; i < rewards->n; i++) r.parts[i] = ratio(r.parts[i], rewarded);
    r.pass1 = ratio(r.pass1, m.reasoning);
    r.format /= count;
    r.thinks /= count;
    r.truncated /= count;
    r.surprise = ratio(-m.logprobs, r.length);
    r.length /= count;
    r.checks = ratio(r.checks, r.reflecting);
    r.slips = ratio(r.slips, r.reflecting);
    r.revisions = ratio(r.revisions, r.reflecting);
    r.corrected = ratio(r.corrected, r.reflecting);
    r.language = ratio(m.language, m.thinking);
    r.length_correct = ratio(m.length_correct, m.correct);
    r.length_wrong = ratio(m.length_wrong, m.wrong);
    r.helpful = ratio(m.helpful, m.helpful_prompts);
    r.oracle = ratio(m.oracle, m.helpful_prompts);
    return r;
}

/* Takes x, of `weight` of `total` so far, into a running mean. */
static void into_mean(double *mean, double x, double weight, double total)
{
    *mean = weight == total ? x : *mean + (x - *mean) * weight / total;
}

void rl_numbers_add(RlNumbers *n, const RlUpdate *u)
{
    double tokens = u->tokens, all = (double)(n->tokens += u->tokens), updates = (double)++n->updates;
    into_mean(&n->loss, u->loss, 1, updates);
    into_mean(&n->grad_norm, u->grad_norm, 1, updates);
    into_mean(&n->entropy, u->entropy, tokens, all);
    into_mean(&n->kl, u->kl, tokens, all);
    into_mean(&n->kl_exact, u->kl_exact, tokens, all);
    into_mean(&n->clip_low, u->clip_low, tokens, all);
    into_mean(&n->clip_high, u->clip_high, tokens, all);
    n->kl_clamps += u->kl_clamps;
    n->updated = true;
}

void rl_numbers_add_value(RlNumbers *n, double loss, double norm, double clip)
{
    double updates = (double)++n->value_updates;
    into_mean(&n->value_loss, loss, 1, updates);
    into_mean(&n->value_norm, norm, 1, updates);
    into_mean(&n->value_clip, clip, 1, updates);
}

static void number(Json *o, const char *key, double v)
{
    json_set(o, key, json_new_number(v));
}

void rl_numbers_json(const RlNumbers *r, const RecipeRewards *rewards, Json *o)
{
    Json *parts = json_new_object(), *reasons = json_new_object();
    number(o, "loss", r->loss);
    number(o, "grad_norm", r->grad_norm);
    number(o, "reward", r->reward);
    for (int i = 0; i < rewards->n; i++) number(parts, rewards->list[i].name, r->parts[i]);
    json_set(o, "reward_parts", parts);
    if (r->failures) json_set(o, "reward_failures", json_new_int(r->failures));
    number(o, "pass@1", r->pass1);
    number(o, "zero_groups", (double)r->zero_groups / r->groups);
    number(o, "refills", r->refills);
    if (!isnan(r->routing_gap)) number(o, "routing_gap", r->routing_gap);
    if (!isnan(r->correction)) {
        number(o, "correction", r->correction);
        number(o, "correction_capped", r->corrected_share);
    }
    if (r->value_updates) {
        number(o, "value_loss", r->value_loss);
        number(o, "value_grad_norm", r->value_norm);
        number(o, "value_clip", r->value_clip);
        number(o, "value", r->value);
        number(o, "explained_variance", r->explained);
    }
    number(o, "truncated", r->truncated);
    number(o, "length", r->length);
    number(o, "length_correct", r->length_correct);
    number(o, "length_wrong", r->length_wrong);
    number(o, "format", r->format);
    number(o, "thinks", r->thinks);
    number(o, "language", r->language);
    if (r->reflecting > 0) {
        number(o, "checks", r->checks);
        number(o, "slips", r->slips);
        number(o, "revisions", r->revisions);
        number(o, "corrected", r->corrected);
    }
    number(o, "entropy", r->updated ? r->entropy : (double)NAN);
    number(o, "surprise", r->surprise);
    number(o, "kl", isnan(r->kl_penalty) ? r->kl : r->kl_penalty);
    number(o, "kl_exact", r->kl_exact);
    number(o, "clip_low", r->clip_low);
    number(o, "clip_high", r->clip_high);
    number(o, "kl_clamps", (double)r->kl_clamps);
    number(o, "gap", r->gap);
    number(o, "rm", r->helpful);
    number(o, "oracle", r->oracle);
    for (int i = 0; i < REASON_COUNT; i++)
        if (r->reasons[i]) json_set(reasons, reason_name((Reason)i), json_new_int(r->reasons[i]));
    json_set(o, "reasons", reasons);
}
