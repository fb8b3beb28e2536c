/* The detectors behind the named warnings. */
#include "recipes/run/warnings.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"

enum { FIRST = 10, NOW = 10, LONG = 50, SERIES_MAX = 50 };

/* What is watched. The last LONG values are kept, the sum of the first FIRST, and the best mean of NOW so far. */
typedef enum { ZERO, TRUNCATED, ENTROPY, ACCURACY, FORMAT, LANGUAGE, THINK, RM, ORACLE, KL, SERIES } SeriesKind;
static const char *const series_names[SERIES] = {"zero",     "truncated", "entropy", "accuracy", "format",
                                                 "language", "think",     "rm",      "oracle",   "kl"};

typedef struct Series {
    double last[SERIES_MAX]; /* ring, newest at (n - 1) % SERIES_MAX */
    int64_t n;               /* values seen */
    double first_sum;
    double best;    /* highest mean of NOW values */
    double best_rm; /* oracle only: the reward model's mean at that time */
} Series;

struct Warnings {
    Series series[SERIES];
    bool active[WARN_KINDS];
};

typedef struct Text {
    const char *name, *what, *try_this;
} Text;

static const Text texts[WARN_KINDS] = {
    {"zero-gradient", "nearly all groups got equal rewards, so they teach nothing",
     "easier or harder levels, a larger group, refill: 3, or a warmer temperature"},
    {"all-truncated", "nearly all completions hit the length limit, so rewards judge the limit",
     "a larger max_tokens, an overlong reward, or a longer cold start"},
    {"entropy-collapse", "the policy has become almost deterministic before it became right",
     "a lower lr, a higher clip_high, an entropy_bonus, or beta above 0"},
    {"format-without-accuracy", "the format reward is being won without better answers",
     "a smaller weight for format (0.1), or easier levels so that accuracy can be won"},
    {"rm-vs-oracle", "the reward model's score rises while real quality falls: it is being exploited",
     "a smaller preference_last, less noise in the pairs, a smaller weight, or beta above 0"},
    {"thinking-vanishes", "completions stop thinking because answering at once pays as well",
     "a format reward (it needs a non-empty think part), or harder levels"},
    {"language-drifts", "the reasoning leaves the language of its prompt",
     "the language reward, or a cold start without mixed traces"},
    {"stale-reference", "the policy has moved so far from its reference that the KL term drowns the reward",
     "a smaller reference_reset, or a smaller beta"},
    {"training-flat", "training accuracy has not risen for 25 steps",
     "a lower lr (three times), more prompts a step, or stop here"},
};

const char *warning_name(WarningKind k)
{
    return texts[k].name;
}

const char *warning_what(WarningKind k)
{
    return texts[k].what;
}

const char *warning_try(WarningKind k)
{
    return texts[k].try_this;
}

Json *warning_json(const Warning *w)
{
    Json *j = json_new_object();
    json_set(j, "name", json_new_text(warning_name(w->kind)));
    json_set(j, "what", json_new_text(warning_what(w->kind)));
    json_set(j, "evidence", json_new_text(w->evidence));
    json_set(j, "try", json_new_text(warning_try(w->kind)));
    return j;
}

/* ---- Windows ---- */

/* Mean of `count` values that end `skip` before the newest; NAN when there are not so many. */
static double window(const Series *s, int count, int skip)
{
    if (s->n < count + skip) return NAN;
    double sum = 0;
    for (int i = 0; i < count; i++) sum += s->last[(s->n - 1 - skip - i) % SERIES_MAX];
    return sum / count;
}

static double first(const Series *s)
{
    return s->n < FIRST ? NAN : s->first_sum / FIRST;
}

static double now(const Series *s)
{
    return window(s, NOW, 0);
}

/* Standard error of the difference of two means of `count` values, from how much neighbours differ (a trend hardly
 * adds to that). */
static double difference_error(const Series *s, int count)
{
    int64_t pairs = s->n < SERIES_MAX ? s->n - 1 : SERIES_MAX - 1;
    if (pairs < 1) return NAN;
    double sum = 0;
    for (int64_t i = 0; i < pairs; i++) {
        double d = s->last[(s->n - 1 - i) % SERIES_MAX] - s->last[(s->n - 2 - i) % SERIES_MAX];
        sum += d * d;
    }
    return sqrt(sum / (double)(2 * pairs)) * sqrt(2.0 / count);
}

static void push(Series *s, double value)
{
    if (isnan(value)) return;
    s->last[s->n % SERIES_MAX] = value;
    if (s->n < FIRST) s->first_sum += value;
    s->n++;
}

static void update_best(Warnings *w)
{
    for (int i = 0; i < SERIES; i++) {
        Series *s = &w->series[i];
        double mean = now(s);
        if (isnan(mean) || (s->n > NOW && mean <= s->best)) continue;
        s->best = mean;
        s->best_rm = now(&w->series[RM]);
    }
}

/* ---- Detectors: 1 fires, -1 clears, 0 leaves things as they are. Comparisons with NAN are false, so that what is not
 * measured never fires. ---- */

typedef int (*Detector)(const Warnings *w, const StepStats *s, char *evidence, size_t size);

static int zero_gradient(const Warnings *w, const StepStats *s, char *evidence, size_t size)
{
    (void)s;
    double share = now(&w->series[ZERO]);
    snprintf(evidence, size, "%.0f %% of the groups of the last %d steps had equal rewards", 100 * share, NOW);
    return share >= 0.9 ? 1 : share < 0.7 ? -1 : 0;
}

static int all_truncated(const Warnings *w, const StepStats *s, char *evidence, size_t size)
{
    (void)s;
    double share = now(&w->series[TRUNCATED]);
    snprintf(evidence, size, "%.0f %% of the completions of the last %d steps were cut off", 100 * share, NOW);
    return share >= 0.8 ? 1 : share < 0.5 ? -1 : 0;
}

static int entropy_collapse(const Warnings *w, const StepStats *s, char *evidence, size_t size)
{
    (void)s;
    const Series *e = &w->series[ENTROPY];
    double start = first(e), end = now(e), accuracy = now(&w->series[ACCURACY]);
    snprintf(evidence, size, "entropy %.4f nats a token, %.4f at the start, at an accuracy of %.0f %%", end, start,
             100 * accuracy);
    bool low = end < 0.1 * start || end < 0.005;
    return low && accuracy < 0.9 ? 1 : end > 0.2 * start && end > 0.01 ? -1 : 0;
}

static int format_without_accuracy(const Warnings *w, const StepStats *s, char *evidence, size_t size)
{
    (void)s;
    const Series *f = &w->series[FORMAT], *a = &w->series[ACCURACY];
    double gain = now(f) - first(f), accuracy = now(a) - first(a), error = difference_error(a, NOW);
    snprintf(evidence, size, "format %.0f -> %.0f %%, accuracy %.0f -> %.0f %%", 100 * first(f), 100 * now(f),
             100 * first(a), 100 * now(a));
    return gain >= 0.2 && accuracy <= -1.5 * error ? 1 : accuracy > 0.05 || gain < 0.1 ? -1 : 0;
}

static int rm_vs_oracle(const Warnings *w, const StepStats *s, char *evidence, size_t size)
{
    (void)s;
    const Series *rm = &w->series[RM], *oracle = &w->series[ORACLE];
    double score = now(rm), quality = now(oracle);
    snprintf(evidence, size, "reward model %.2f -> %.2f while the oracle fell %.2f -> %.2f", oracle->best_rm, score,
             oracle->best, quality);
    return quality <= oracle->best - 0.1 && score > oracle->best_rm ? 1 : quality > oracle->best - 0.05 ? -1 : 0;
}

static int thinking_vanishes(const Warnings *w, const StepStats *s, char *evidence, size_t size)
{
    (void)s;
    const Series *t = &w->series[THINK], *a = &w->series[ACCURACY];
    double start = first(t), end = now(t);
    snprintf(evidence, size, "non-empty think parts %.0f -> %.0f %%, accuracy %.0f -> %.0f %%", 100 * start, 100 * end,
             100 * first(a), 100 * now(a));
    return start >= 0.05 && end <= 0.5 * start && now(a) >= first(a) ? 1 : end > 0.7 * start ? -1 : 0;
}

static int language_drifts(const Warnings *w, const StepStats *s, char *evidence, size_t size)
{
    (void)s;
    const Series *l = &w->series[LANGUAGE];
    double end = now(l), error = difference_error(l, NOW);
    snprintf(evidence, size, "%.0f %% of the reasoning in the prompt's language, %.0f %% at best (error %.0f)",
             100 * end, 100 * l->best, 100 * error);
    return end <= l->best - fmax(0.15, 4 * error) ? 1 : end > l->best - 0.08 ? -1 : 0;
}

static int stale_reference(const Warnings *w, const StepStats *s, char *evidence, size_t size)
{
    double kl = now(&w->series[KL]);
    snprintf(evidence, size, "KL %.2f nats a token to a reference of %.0f steps ago, beta %g", kl, s->reference_age,
             s->beta);
    return kl > 0.2 && s->beta > 0 && s->reference_age >= 20 ? 1 : kl < 0.1 || s->reference_age < 20 ? -1 : 0;
}

static int training_flat(const Warnings *w, const StepStats *s, char *evidence, size_t size)
{
    (void)s;
    const Series *a = &w->series[ACCURACY];
    double before = window(a, LONG / 2, LONG / 2), end = window(a, LONG / 2, 0), error = difference_error(a, LONG / 2);
    snprintf(evidence, size, "accuracy %.1f %% over the last %d steps, %.1f %% over the %d before (error %.1f)",
             100 * end, LONG / 2, 100 * before, LONG / 2, 100 * error);
    return end <= before + 0.5 * error && end < 0.7 ? 1 : end > before + fmax(0.02, 2 * error) ? -1 : 0;
}

static const Detector detectors[WARN_KINDS] = {zero_gradient,           all_truncated,   entropy_collapse,
                                               format_without_accuracy, rm_vs_oracle,    thinking_vanishes,
                                               language_drifts,         stale_reference, training_flat};

/* ---- */

Warnings *warnings_new(void)
{
    Warnings *w = calloc(1, sizeof *w);
    CHECK(w);
    return w;
}

void warnings_free(Warnings *w)
{
    free(w);
}

void warnings_stage(Warnings *w)
{
    memset(w, 0, sizeof *w);
}

int warnings_step(Warnings *w, const StepStats *s, Warning *fired)
{
    const double values[SERIES] = {s->zero_groups, s->truncated, s->entropy, s->accuracy, s->format,
                                   s->language,    s->think,     s->rm,      s->oracle,   s->kl};
    for (int i = 0; i < SERIES; i++) push(&w->series[i], values[i]);
    update_best(w);
    int n = 0;
    for (int k = 0; k < WARN_KINDS; k++) {
        Warning warning = {.kind = (WarningKind)k, .step = s->step};
        int verdict = detectors[k](w, s, warning.evidence, sizeof warning.evidence);
        if (verdict > 0 && !w->active[k]) fired[n++] = warning;
        if (verdict) w->active[k] = verdict > 0;
    }
    return n;
}

/* ---- State ---- */

static Json *series_state(const Series *s)
{
    Json *j = json_new_object(), *last = json_new_array();
    for (int i = 0; i < SERIES_MAX && i < s->n; i++) json_append(last, json_new_number(s->last[i]));
    json_set(j, "n", json_new_int(s->n));
    json_set(j, "last", last);
    json_set(j, "first_sum", json_new_number(s->first_sum));
    json_set(j, "best", json_new_number(s->best));
    json_set(j, "best_rm", json_new_number(s->best_rm));
    return j;
}

Json *warnings_state(const Warnings *w)
{
    Json *j = json_new_object(), *active = json_new_array();
    for (int i = 0; i < SERIES; i++) json_set(j, series_names[i], series_state(&w->series[i]));
    for (int k = 0; k < WARN_KINDS; k++)
        if (w->active[k]) json_append(active, json_new_text(warning_name((WarningKind)k)));
    json_set(j, "active", active);
    return j;
}

static bool restore_series(Series *s, const Json *j, Status *st)
{
    const Json *last = json_get(j, "last");
    if (!json_get_int(j, "n", 0, &s->n, st) || !json_get_double(j, "first_sum", 0, &s->first_sum, st) ||
        !json_get_double(j, "best", 0, &s->best, st) || !json_get_double(j, "best_rm", NAN, &s->best_rm, st))
        return false;
    size_t kept = s->n < SERIES_MAX ? (size_t)(s->n > 0 ? s->n : 0) : SERIES_MAX;
    if (s->n < 0 || json_count(last) != kept) return fail(st, "the state of the warnings in the checkpoint is damaged");
    for (size_t i = 0; i < kept; i++) s->last[i] = json_number(json_at(last, i));
    return true;
}

bool warnings_restore(Warnings *w, const Json *state, Status *st)
{
    Warnings read = {0};
    for (int i = 0; i < SERIES; i++)
        if (!restore_series(&read.series[i], json_get(state, series_names[i]), st)) return false;
    const Json *active = json_get(state, "active");
    for (size_t i = 0; i < json_count(active); i++)
        for (int k = 0; k < WARN_KINDS; k++) {
            const char *name = json_string(json_at(active, i), NULL);
            if (name && !strcmp(name, warning_name((WarningKind)k))) read.active[k] = true;
        }
    *w = read;
    return true;
}
