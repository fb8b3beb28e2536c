/* Every warning is provoked, fires once, clears, and fires again; a healthy run says nothing. */
#include "tests/unit/unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "recipes/run/warnings.h"
#include "tests/unit/scratch.h"

static StepStats healthy(int step)
{
    double x = step < 100 ? step / 100.0 : 1;
    return (StepStats){.step = step,
                       .zero_groups = 0.2 * x,
                       .truncated = 0.01,
                       .entropy = 0.36 - 0.25 * x,
                       .accuracy = 0.15 + 0.6 * x,
                       .format = 0.2 + 0.78 * x,
                       .language = 0.8 + 0.1 * x,
                       .think = 0.2 + 0.78 * x,
                       .rm = 1 + x,
                       .oracle = 0.5 + 0.3 * x,
                       .kl = 0.05,
                       .beta = 0.04,
                       .reference_age = step};
}

/* What goes wrong from step 30 on (x grows from 0 to 1 in 30 steps). */
static void spoil(StepStats *s, WarningKind k, double x)
{
    switch (k) {
    case WARN_ZERO_GRADIENT: s->zero_groups = 0.95; break;
    case WARN_ALL_TRUNCATED: s->truncated = 0.99; break;
    case WARN_ENTROPY_COLLAPSE: s->entropy = 0.001; break;
    case WARN_FORMAT_WITHOUT_ACCURACY: s->accuracy = 0.14; break;
    case WARN_RM_VS_ORACLE: s->oracle = 0.6 - 0.4 * x, s->rm = 2 + x; break;
    case WARN_THINKING_VANISHES: s->think = 0.05; break;
    case WARN_LANGUAGE_DRIFTS: s->language = 0.8 - 0.5 * x; break;
    case WARN_STALE_REFERENCE: s->kl = 1.4; break;
    case WARN_TRAINING_FLAT: s->accuracy = 0.33; break;
    default: break;
    }
}

typedef struct Seen {
    int count[WARN_KINDS];
    int64_t step[WARN_KINDS];
    char evidence[WARN_KINDS][200];
} Seen;

static void feed(Warnings *w, const StepStats *s, Seen *seen)
{
    Warning fired[WARN_KINDS];
    int n = warnings_step(w, s, fired);
    for (int i = 0; i < n; i++) {
        seen->count[fired[i].kind]++;
        seen->step[fired[i].kind] = fired[i].step;
        strcpy(seen->evidence[fired[i].kind], fired[i].evidence);
    }
}

static void healthy_runs_are_silent(void **state)
{
    (void)state;
    Warnings *w = warnings_new();
    Seen seen = {0};
    for (int i = 1; i <= 200; i++) {
        StepStats s = healthy(i);
        feed(w, &s, &seen);
    }
    for (int k = 0; k < WARN_KINDS; k++)
        if (seen.count[k]) fail_msg("%s: %s", warning_name((WarningKind)k), seen.evidence[k]);
    warnings_free(w);
}

static void each_fires_once_clears_and_fires_again(void **state)
{
    (void)state;
    for (int k = 0; k < WARN_KINDS; k++) {
        Warnings *w = warnings_new();
        Seen seen = {0};
        for (int i = 1; i <= 300; i++) {
            StepStats s = healthy(i);
            bool bad = (i > 30 && i <= 100) || i > 200;
            if (bad) spoil(&s, (WarningKind)k, i > 200 ? (i - 200) / 30.0 : (i - 30) / 30.0 > 1 ? 1 : (i - 30) / 30.0);
            feed(w, &s, &seen);
            if (i == 30 && seen.count[k]) fail_msg("%s too early", warning_name((WarningKind)k));
            if (i == 100 && seen.count[k] != 1)
                fail_msg("%s fired %d times", warning_name((WarningKind)k), seen.count[k]);
        }
        if (seen.count[k] != 2) fail_msg("%s fired %d times in all", warning_name((WarningKind)k), seen.count[k]);
        assert_true(strlen(warning_what((WarningKind)k)) > 20 && strlen(warning_try((WarningKind)k)) > 10);
        warnings_free(w);
    }
}

static void unmeasured_never_fires(void **state)
{
    (void)state;
    Warnings *w = warnings_new();
    Seen seen = {0};
    for (int i = 1; i <= 100; i++) {
        StepStats s = {i, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN};
        feed(w, &s, &seen);
    }
    for (int k = 0; k < WARN_KINDS; k++) assert_int_equal(seen.count[k], 0);
    warnings_free(w);
}

static void resumed_warns_the_same(void **state)
{
    (void)state;
    for (int stop = 1; stop < 110; stop += 9) {
        Warnings *whole = warnings_new(), *cut = warnings_new();
        Seen a = {0}, b = {0};
        for (int i = 1; i <= 110; i++) {
            StepStats s = healthy(i);
            if (i > 40) spoil(&s, WARN_RM_VS_ORACLE, (i - 40) / 30.0), spoil(&s, WARN_TRAINING_FLAT, 0);
            feed(whole, &s, &a);
            feed(cut, &s, &b);
            if (i != stop) continue;
            Status st = {0};
            Json *kept = warnings_state(cut);
            char *text = json_write(kept, false);
            json_free(kept);
            warnings_free(cut);
            cut = warnings_new();
            kept = json_parse(text, strlen(text), "state", &st);
            assert_true(warnings_restore(cut, kept, &st));
            json_free(kept);
            free(text);
        }
        assert_memory_equal(&a, &b, sizeof a);
        assert_int_equal(a.count[WARN_RM_VS_ORACLE], 1);
        warnings_free(whole);
        warnings_free(cut);
    }
}

static void damaged_state(void **state)
{
    (void)state;
    Status st = {0};
    Warnings *w = warnings_new();
    Json *j = json_parse("{\"zero\": {\"n\": 3, \"last\": [1]}}", 31, "state", &st);
    assert_non_null(j);
    assert_false(warnings_restore(w, j, &st));
    assert_true(says(&st, "damaged"));
    json_free(j);
    warnings_free(w);
}

static void as_json(void **state)
{
    (void)state;
    Warning w = {.kind = WARN_STALE_REFERENCE, .step = 3, .evidence = "KL 1.40"};
    Json *j = warning_json(&w);
    assert_string_equal(json_get_string(j, "name", ""), "stale-reference");
    assert_string_equal(json_get_string(j, "evidence", ""), "KL 1.40");
    json_free(j);
}

/* Between the two thresholds nothing changes: a warning neither clears nor fires again. */
static void hysteresis(void **state)
{
    (void)state;
    Warnings *w = warnings_new();
    Seen seen = {0};
    StepStats s = healthy(0);
    warnings_stage(w);
    for (int step = 1; step <= 90; step++) {
        s.step = step;
        s.zero_groups = step <= 30 || step > 60 ? 0.95 : 0.8;
        feed(w, &s, &seen);
    }
    assert_int_equal(seen.count[WARN_ZERO_GRADIENT], 1);
    for (int step = 91; step <= 150; step++) {
        s.step = step;
        s.zero_groups = step <= 120 ? 0.6 : 0.95;
        feed(w, &s, &seen);
    }
    assert_int_equal(seen.count[WARN_ZERO_GRADIENT], 2);
    warnings_free(w);
}

/* A reference matters only where there is a KL term, and only once it is old. */
static void reference_matters(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++) { /* stale; beta 0; young */
        Warnings *w = warnings_new();
        Seen seen = {0};
        StepStats s = healthy(50);
        s.kl = 1;
        if (kind == 1) s.beta = 0;
        s.reference_age = kind == 2 ? 19 : 20;
        warnings_stage(w);
        for (int step = 1; step <= 20; step++) {
            s.step = step;
            feed(w, &s, &seen);
        }
        assert_int_equal(seen.count[WARN_STALE_REFERENCE], kind == 0);
        warnings_free(w);
    }
}

/* Runs of 20 (as many noises) in which the warning fires, where a number goes from `from` to `to` over 100 steps, evenly or at
 * step 50, under uniform noise of +-width. */
static int fires_under_noise(WarningKind k, double from, double to, bool at_once, double width)
{
    int runs = 0;
    uint64_t x = 88172645463325252ull;
    for (int run = 0; run < 20; run++) {
        Warnings *w = warnings_new();
        Seen seen = {0};
        for (int i = 1; i <= 100; i++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            double share = at_once ? i > 50 : i / 100.0, u = 2.0 * (double)(x >> 11) / 9007199254740992.0 - 1;
            StepStats s = healthy(i);
            *(k == WARN_LANGUAGE_DRIFTS ? &s.language : &s.accuracy) = from + (to - from) * share + width * u;
            feed(w, &s, &seen);
        }
        runs += seen.count[k] > 0;
        warnings_free(w);
    }
    return runs;
}

static void noise_is_told_from_change(void **state)
{
    (void)state;
    assert_in_range(fires_under_noise(WARN_LANGUAGE_DRIFTS, 0.75, 0.75, true, 0.25), 0, 1);
    assert_in_range(fires_under_noise(WARN_LANGUAGE_DRIFTS, 0.75, 0.25, true, 0.25), 19, 20);
    assert_in_range(fires_under_noise(WARN_TRAINING_FLAT, 0.3, 0.3, false, 0.1), 18, 20);
    assert_in_range(fires_under_noise(WARN_TRAINING_FLAT, 0.1, 0.5, false, 0.1), 0, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hysteresis),
        cmocka_unit_test(noise_is_told_from_change),
        cmocka_unit_test(reference_matters),
        cmocka_unit_test(healthy_runs_are_silent),
        cmocka_unit_test(each_fires_once_clears_and_fires_again),
        cmocka_unit_test(unmeasured_never_fires),
        cmocka_unit_test(resumed_warns_the_same),
        cmocka_unit_test(damaged_state),
        cmocka_unit_test(as_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
