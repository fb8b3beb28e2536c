/* The list of tasks, problems and worked completions, verdicts. */
#include "data/task.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/check.h"
#include "core/base/clock.h"
#include "core/base/hash.h"
#include "data/conversation.h"
#include "data/sandbox/code_tests.h"
#include "data/text.h"
#include "data/verify.h"

#define TASK(name) extern const Task task_##name;
#include "data/tasks/list.h"
#undef TASK

#define TASK(name) &task_##name,
static const Task *const tasks[] = {
#include "data/tasks/list.h"
};
#undef TASK

const char *language_name(int k)
{
    static const char *const names[] = {"en", "zh"};
    return (size_t)k < sizeof names / sizeof *names ? names[k] : NULL;
}

const char *prompt_kind_name(int k)
{
    static const char *const names[] = {"reasoning", "helpful", "safety"};
    return (size_t)k < sizeof names / sizeof *names ? names[k] : NULL;
}

enum { STEPS_MAX = 64, TEST_SHARE = 10, ATTEMPTS = 100000 };

static const char *const reason_names[REASON_COUNT] = {
    [REASON_CORRECT] = "correct",
    [REASON_WRONG_ANSWER] = "wrong answer",
    [REASON_NO_ANSWER_TAG] = "no answer tag",
    [REASON_NO_THINK_TAG] = "no think tag",
    [REASON_EMPTY_THINK] = "empty think",
    [REASON_EMPTY_ANSWER] = "empty answer",
    [REASON_EXTRA_TEXT] = "extra text",
    [REASON_UNPARSEABLE] = "unparseable",
    [REASON_NUMBER_REUSED] = "number used twice",
    [REASON_NUMBER_UNKNOWN] = "wrong number used",
    [REASON_NUMBER_MISSING] = "number not used",
    [REASON_DIVISION_BY_ZERO] = "division by zero",
    [REASON_NOT_A_PERMUTATION] = "not a permutation",
    [REASON_NOT_SORTED] = "not sorted",
    [REASON_TRUNCATED] = "truncated",
    [REASON_NOT_HELPFUL] = "not helpful",
    [REASON_UNSAFE] = "unsafe",
    [REASON_OVER_REFUSAL] = "over-refusal",
    [REASON_TEST_FAILED] = "test failed",
    [REASON_TIME] = "time limit",
    [REASON_PROGRAM_FAILED] = "program failed",
    [REASON_OUTPUT] = "output limit",
    [REASON_NO_PROGRAM] = "no program",
    [REASON_NOT_RUN] = "not run",
};

const char *reason_name(Reason r)
{
    CHECK((int)r >= 0 && r < REASON_COUNT);
    return reason_names[r];
}

int task_count(void)
{
    return (int)(sizeof tasks / sizeof tasks[0]);
}

const Task *task_at(int i)
{
    CHECK(i >= 0 && i < task_count());
    return tasks[i];
}

const Task *task_find(const char *name)
{
    for (int i = 0; i < task_count(); i++) {
        if (strcmp(tasks[i]->name, name) == 0) return tasks[i];
    }
    return NULL;
}

void problem_free(Problem *p)
{
    free(p->prompt);
    free(p->answer);
    json_free(p->messages);
    json_free(p->tools);
    json_free(p->row);
    *p = (Problem){0};
}

Json *problem_messages(const Problem *p)
{
    return p->messages ? json_copy(p->messages) : conversation_of_prompt(p->prompt);
}

uint64_t task_key(const Task *t, const void *bytes, size_t length)
{
    return hash_spread(hash_bytes(bytes, length, hash_bytes(t->name, strlen(t->name), 0)));
}

void task_problem(Problem *out, const Task *t, int level, Language language, uint32_t seed, Split split, uint64_t index)
{
    CHECK(level >= 1 && level <= t->levels);
    uint32_t list = hash_name(t->name) + 0x9e3779b9u * (uint32_t)(1 + level * 4 + (int)language * 2 + (int)split);
    Rng r = rng_stream(seed, RNG_DATA, list, index);
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        *out = (Problem){.task = t, .index = index, .level = level, .language = language, .kind = t->kind};
        t->generate(out, &r);
        if ((out->key % TEST_SHARE == 0) == (split == SPLIT_TEST)) return;
        problem_free(out);
    }
    CHECK(!"every level of every task has problems in both splits");
}

/* The steps from `first` on, without the separator before the first one. */
static void add_steps(Text *out, char **steps, int n, int first, const char *separator)
{
    for (int i = first; i < n; i++) {
        if (i > first) text_add(out, separator);
        text_add(out, steps[i]);
    }
}

char *task_completion(const Problem *p, Language trace_language, TraceStyle style, Rng *r)
{
    char *steps[STEPS_MAX], *answer;
    bool careless = style == STYLE_CORRUPT || (p->kind != KIND_REASONING && style != STYLE_CLEAN);
    int slip = careless ? (int)rng_below(r, 1 << 16) : -1;
    int n = p->task->trace(p, trace_language, slip, r, steps, STEPS_MAX, &answer);
    bool tags = style != STYLE_DIRECT && style != STYLE_UNTAGGED;
    bool worked = style != STYLE_DIRECT && style != STYLE_EMPTY;
    Text out = {0};
    if (tags) text_add(&out, "<think>");
    if (worked) add_steps(&out, steps, n, style == STYLE_HALF ? n / 2 : 0, p->task->separator);
    text_add(&out, tags ? "</think><answer>" : worked ? " " : "");
    text_add(&out, answer);
    if (tags) text_add(&out, "</answer>");
    for (int i = 0; i < n; i++) free(steps[i]);
    free(answer);
    return text_take(&out);
}

static Reason answer_fault(const Parsed *c, bool truncated)
{
    if (truncated) return REASON_TRUNCATED;
    if (!c->has_answer) return REASON_NO_ANSWER_TAG;
    if (!c->answer_final) return REASON_EXTRA_TEXT;
    return c->answer_length == 0 ? REASON_EMPTY_ANSWER : REASON_CORRECT;
}

static bool has_tests(const Problem *p)
{
    return p->row != NULL && p->verifier == VERIFIER_TESTS;
}

static Verdict verify_text(const Problem *p, const char *completion, bool truncated)
{
    double start = clock_seconds();
    Parsed c = completion_parse(completion);
    Reason fault = answer_fault(&c, truncated);
    Verdict v = verdict_of(fault);
    if (fault == REASON_CORRECT) {
        char *answer = text_copy(c.answer, c.answer_length);
        v = p->task->verify(p, answer);
        free(answer);
    }
    v.microseconds = (float)(1e6 * (clock_seconds() - start));
    return v;
}

/* The programs of those whose rows have tests; `of[i]`: whose the trial is. */
static bool run_tests(JudgedText *list, int n, Status *st)
{
    CodeTrial *trials = calloc((size_t)n + 1, sizeof *trials);
    int *of = calloc((size_t)n + 1, sizeof *of), count = 0;
    CHECK(trials != NULL && of != NULL);
    for (int i = 0; i < n; i++) {
        JudgedText *j = &list[i];
        if (!has_tests(j->problem)) continue;
        char *program = j->truncated ? NULL : code_program(j->completion);
        j->verdict = verdict_of(j->truncated ? REASON_TRUNCATED : REASON_NO_PROGRAM);
        if (program == NULL) continue;
        of[count] = i;
        TestVerdict *tests = calloc((size_t)code_tests_count(j->problem->row), sizeof *tests);
        CHECK(tests != NULL);
        trials[count++] = (CodeTrial){j->problem->row, program, tests};
    }
    bool ok = count == 0 || code_tests_run(trials, count, st);
    for (int i = 0; i < count; i++) {
        list[of[i]].verdict = ok ? code_tests_verdict(&trials[i]) : verdict_of(REASON_NOT_RUN);
        list[of[i]].tests = ok ? code_tests_json(&trials[i]) : NULL;
        free((char *)trials[i].program);
        free(trials[i].tests);
    }
    free(trials);
    free(of);
    return ok;
}

bool task_verify_all(JudgedText *list, int n, Status *st)
{
    for (int i = 0; i < n; i++)
        if (!has_tests(list[i].problem))
            list[i].verdict = verify_text(list[i].problem, list[i].completion, list[i].truncated);
    return run_tests(list, n, st);
}

Verdict task_verify(const Problem *p, const char *completion, bool truncated)
{
    Status st = {0};
    JudgedText one = {.problem = p, .completion = completion, .truncated = truncated};
    task_verify_all(&one, 1, &st);
    json_free(one.tests);
    return one.verdict;
}

/* Whether the verifier takes `answer` for right where `gold` is the gold answer. */
static bool right_for(const Problem *p, const char *gold, const char *answer)
{
    Problem other = *p;
    other.answer = (char *)gold;
    return p->task->verify(&other, answer).score >= 1.0f;
}

bool task_agree(const Problem *p, const char *a, const char *b)
{
    if (strcmp(a, b) == 0) return true;
    if (!p->task->verify || has_tests(p) || *a == '\0' || *b == '\0') return false;
    return right_for(p, a, a) && right_for(p, a, b) && right_for(p, b, a);
}
