/* Tests of a row: read, run, judged. */
#include "data/sandbox/code_tests.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/base/check.h"
#include "data/conversation.h"
#include "data/text.h"

static const char python[] = "python3 -I -B";

/* ---- Columns ---- */

/* The row's list of tests, or an object of lists; a copy. NULL: failed. */
static Json *read_column(const Json *row, Status *st)
{
    static const char *const names[] = {"tests", "test_list", "official_tests", "test_cases", "input_output"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const Json *v = json_get(row, names[i]);
        size_t n;
        const char *text = json_string(v, &n);
        if (v == NULL || json_is_null_value(v)) continue;
        return text != NULL ? json_parse(text, n, names[i], st) : json_copy(v);
    }
    fail(st, "the verifier tests needs \"tests\": a list of {\"stdin\", \"stdout\"} pairs, or of texts with asserts");
    return NULL;
}

typedef struct Test {
    char *input, *output; /* of a pair */
    char *text;           /* of a text, else NULL */
} Test;

typedef struct Tests {
    Test list[CODE_TESTS_MAX];
    int n;
} Tests;

static void tests_free(Tests *t)
{
    for (int i = 0; i < t->n; i++) {
        free(t->list[i].input);
        free(t->list[i].output);
        free(t->list[i].text);
    }
    free(t);
}

/* A string, or lines as a list of strings. NULL: neither. */
static char *text_of(const Json *v)
{
    if (json_is_string(v)) return json_text_copy(v);
    if (!json_is_array(v)) return NULL;
    Text lines = {0};
    for (size_t i = 0; i < json_count(v); i++) {
        char *line = json_text_copy(json_at(v, i));
        if (line == NULL) {
            free(lines.p);
            return NULL;
        }
        text_addf(&lines, "%s\n", line);
        free(line);
    }
    return text_take(&lines);
}

static bool add_pair(Tests *t, const Json *input, const Json *output, Status *st)
{
    int number = t->n + 1;
    if (t->n == CODE_TESTS_MAX) return fail(st, "more than %d tests", CODE_TESTS_MAX);
    Test *test = &t->list[t->n++];
    *test = (Test){.input = input != NULL ? text_of(input) : text_copy("", 0), .output = text_of(output)};
    if (test->input == NULL || test->output == NULL)
        return fail(st, "test %d: \"stdin\" and \"stdout\" must be strings (or lists of lines)", number);
    return true;
}

static bool add_test(Tests *t, const Json *v, Status *st)
{
    if (json_is_object(v)) {
        const Json *input = json_get(v, "stdin"), *output = json_get(v, "stdout");
        return add_pair(t, input != NULL ? input : json_get(v, "input"),
                        output != NULL ? output : json_get(v, "output"), st);
    }
    if (t->n == CODE_TESTS_MAX) return fail(st, "more than %d tests", CODE_TESTS_MAX);
    Test *test = &t->list[t->n++];
    *test = (Test){.text = json_is_string(v) ? json_text_copy(v) : NULL};
    return test->text != NULL || fail(st, "test %d is neither a {\"stdin\", \"stdout\"} pair nor a text", t->n);
}

/* {"inputs": [..], "outputs": [..]} */
static bool add_lists(Tests *t, const Json *v, Status *st)
{
    const Json *inputs = json_get(v, "inputs"), *outputs = json_get(v, "outputs");
    if (!json_is_array(inputs) || !json_is_array(outputs) || json_count(inputs) != json_count(outputs))
        return fail(st, "\"inputs\" and \"outputs\" of the tests must be lists of equal length");
    for (size_t i = 0; i < json_count(inputs); i++)
        if (!add_pair(t, json_at(inputs, i), json_at(outputs, i), st)) return false;
    return true;
}

/* NULL: failed. */
static Tests *tests_read(const Json *row, Status *st)
{
    Json *v = read_column(row, st);
    if (v == NULL) return NULL;
    Tests *t = calloc(1, sizeof *t);
    CHECK(t != NULL);
    bool ok = json_is_array(v) || json_is_object(v) || fail(st, "\"tests\" must be a list");
    if (ok && json_is_object(v)) ok = add_lists(t, v, st);
    for (size_t i = 0; ok && json_is_array(v) && i < json_count(v); i++) ok = add_test(t, json_at(v, i), st);
    if (ok && t->n == 0) ok = fail(st, "\"tests\" is empty");
    json_free(v);
    if (ok) return t;
    tests_free(t);
    return NULL;
}

static bool read_limit(const Json *row, const char *name, double least, double most, double *out, Status *st)
{
    const Json *v = json_get(row, name);
    if (v == NULL || json_is_null_value(v)) return true;
    if (!json_is_number(v) || !(json_number(v) >= least && json_number(v) <= most))
        return fail(st, "\"%s\" must be a number between %g and %g", name, least, most);
    *out = json_number(v);
    return true;
}

/* The row's limits, or the usual ones. */
static bool read_limits(const Json *row, SandboxLimits *out, Status *st)
{
    *out = sandbox_limits();
    double memory = (double)(out->memory >> 20), processes = out->processes;
    if (!read_limit(row, "seconds", 0.1, 600, &out->seconds, st) ||
        !read_limit(row, "memory", 16, 1 << 20, &memory, st) || !read_limit(row, "processes", 1, 4096, &processes, st))
        return false;
    out->memory = (long)memory << 20;
    out->processes = (int)processes;
    return true;
}

static const char *interpreter_of(const Json *row)
{
    return json_get_string(row, "interpreter", python);
}

static bool interpreter_check(const char *interpreter, Status *st)
{
    int words = 0;
    for (const char *at = interpreter + strspn(interpreter, " "); *at; words++) {
        at += strcspn(at, " ");
        at += strspn(at, " ");
    }
    if (words == 0 || words > SANDBOX_WORDS)
        return fail(st, "\"interpreter\" must be a command of 1 to %d words", SANDBOX_WORDS);
    return sandbox_has(interpreter) ||
           fail(st, "the interpreter \"%.60s\" is not there: a sandbox has what is installed in /usr", interpreter);
}

static bool is_python(const char *interpreter)
{
    const char *word = interpreter + strspn(interpreter, " ");
    size_t n = strcspn(word, " ");
    const char *name = memrchr(word, '/', n);
    return strncmp(name != NULL ? name + 1 : word, "python", 6) == 0;
}

bool code_tests_check(const Json *row, Status *st)
{
    SandboxLimits limits;
    const char *interpreter = interpreter_of(row);
    Tests *t = tests_read(row, st);
    if (t == NULL) return false;
    bool asserts = false;
    for (int i = 0; i < t->n; i++) asserts |= t->list[i].text != NULL;
    tests_free(t);
    if (asserts && !is_python(interpreter))
        return fail(st,
                    "tests that are texts are Python's; with \"interpreter\": \"%.60s\" they must be {\"stdin\", "
                    "\"stdout\"} pairs",
                    interpreter);
    return read_limits(row, &limits, st) && interpreter_check(interpreter, st);
}

int code_tests_count(const Json *row)
{
    Status st = {0};
    Tests *t = tests_read(row, &st);
    CHECK(t != NULL);
    int n = t->n;
    tests_free(t);
    return n;
}

/* ---- Programs ---- */

/* The last part between ``` fences that begin lines; what stands behind the opening one (a language) is left out. */
static bool find_fenced(const char *text, size_t n, const char **from, size_t *length)
{
    const char *end = text + n, *open = NULL;
    bool found = false;
    for (const char *line = text; line < end;) {
        const char *newline = memchr(line, '\n', (size_t)(end - line)), *next = newline != NULL ? newline + 1 : end;
        if (end - line >= 3 && strncmp(line, "```", 3) == 0) {
            if (open == NULL) {
                open = next;
            } else {
                *from = open;
                *length = (size_t)(line - open);
                found = true;
                open = NULL;
            }
        }
        line = next;
    }
    return found;
}

char *code_program(const char *completion)
{
    const char *close = strstr(completion, "</think>"), *behind = close != NULL ? close + 8 : completion, *from,
               *to = NULL;
    size_t length;
    if (close == NULL && strstr(completion, "<think>") != NULL) return NULL; /* it still thinks */
    const char *tag = strstr(behind, "<answer>");
    if (tag != NULL) to = strstr(tag, "</answer>");
    if (tag != NULL && to == NULL) return NULL;
    const char *inside = tag != NULL ? tag + 8 : behind;
    size_t n = tag != NULL ? (size_t)(to - inside) : strlen(behind);
    if (find_fenced(inside, n, &from, &length)) return text_copy(from, length);
    return tag != NULL ? text_copy(inside, n) : NULL;
}

/* ---- Runs ---- */

/* A word that no program has been told: what a text's last line writes when everything before it was passed. */
static void draw_word(char out[33])
{
    unsigned char bytes[16];
    CHECK(getrandom(bytes, sizeof bytes, 0) == sizeof bytes);
    for (int i = 0; i < 16; i++) sprintf(out + 2 * i, "%02x", bytes[i]);
}

static char *program_with_text(const char *setup, const char *program, const char *text, const char *word)
{
    Text t = {0};
    text_addf(&t, "%s\n%s\n%s\nimport sys\nsys.stdout.flush()\nsys.stdout.write('\\n%s\\n')\n", setup, program, text,
              word);
    return text_take(&t);
}

/* Without the blanks at the ends of lines and the empty lines at the end. Caller frees. */
static char *bare_lines(const char *text)
{
    Text out = {0};
    while (*text != '\0') {
        size_t n = strcspn(text, "\n"), line = n;
        while (line > 0 && strchr(" \t\r", text[line - 1])) line--;
        text_add_bytes(&out, text, line);
        text_add(&out, "\n");
        text += n + (text[n] == '\n');
    }
    while (out.n > 0 && out.p[out.n - 1] == '\n') out.p[--out.n] = '\0';
    return text_take(&out);
}

static bool same_output(const char *a, const char *b)
{
    char *x = bare_lines(a), *y = bare_lines(b);
    bool same = strcmp(x, y) == 0;
    free(x);
    free(y);
    return same;
}

static bool ends_with_word(const SandboxResult *r, const char *word)
{
    char line[40];
    int n = snprintf(line, sizeof line, "\n%s\n", word);
    return r->n >= (size_t)n && memcmp(r->output + r->n - (size_t)n, line, (size_t)n) == 0;
}

static Reason judge(const SandboxResult *r, const Test *test, const char *word)
{
    switch (r->end) {
    case SANDBOX_TIMEOUT: return REASON_TIME;
    case SANDBOX_FLOOD: return REASON_OUTPUT;
    case SANDBOX_UNSTARTED: return REASON_NOT_RUN;
    default: break;
    }
    if (test->text != NULL) {
        if (r->code == 0) return ends_with_word(r, word) ? REASON_CORRECT : REASON_TEST_FAILED;
        return strncmp(r->said, "AssertionError", 14) == 0 ? REASON_TEST_FAILED : REASON_PROGRAM_FAILED;
    }
    if (r->code != 0) return REASON_PROGRAM_FAILED;
    return strlen(r->output) == r->n && same_output(r->output, test->output) ? REASON_CORRECT : REASON_TEST_FAILED;
}

/* All tests of all trials as jobs of one pool. */
typedef struct Batch {
    Tests **tests;   /* [trials] */
    char **programs; /* [jobs] owned, where a text was added; else NULL */
    SandboxJob *jobs;
    SandboxResult *results;
    char word[33];
    int n, trials;
} Batch;

static void batch_open(Batch *b, const CodeTrial *trials, int n)
{
    Status st = {0};
    *b = (Batch){.trials = n, .tests = calloc((size_t)n + 1, sizeof *b->tests)};
    CHECK(b->tests != NULL);
    draw_word(b->word);
    int jobs = 0;
    for (int i = 0; i < n; i++) {
        b->tests[i] = tests_read(trials[i].row, &st);
        CHECK(b->tests[i] != NULL);
        jobs += b->tests[i]->n;
    }
    b->programs = calloc((size_t)jobs + 1, sizeof *b->programs);
    b->jobs = calloc((size_t)jobs + 1, sizeof *b->jobs);
    b->results = calloc((size_t)jobs + 1, sizeof *b->results);
    CHECK(b->programs != NULL && b->jobs != NULL && b->results != NULL);
}

static void batch_fill(Batch *b, const CodeTrial *trials)
{
    Status st = {0};
    for (int i = 0; i < b->trials; i++) {
        const CodeTrial *trial = &trials[i];
        SandboxLimits limits;
        bool ok = read_limits(trial->row, &limits, &st);
        CHECK(ok);
        const char *setup = json_get_string(trial->row, "test_setup_code", "");
        for (int k = 0; k < b->tests[i]->n; k++, b->n++) {
            const Test *test = &b->tests[i]->list[k];
            if (test->text != NULL) b->programs[b->n] = program_with_text(setup, trial->program, test->text, b->word);
            b->jobs[b->n] = (SandboxJob){.interpreter = interpreter_of(trial->row),
                                         .program = test->text != NULL ? b->programs[b->n] : trial->program,
                                         .input = test->text != NULL ? "" : test->input,
                                         .limits = limits};
        }
    }
}

static void batch_judge(const Batch *b, CodeTrial *trials)
{
    int job = 0;
    for (int i = 0; i < b->trials; i++)
        for (int k = 0; k < b->tests[i]->n; k++, job++) {
            const SandboxResult *r = &b->results[job];
            TestVerdict *v = &trials[i].tests[k];
            *v = (TestVerdict){.reason = judge(r, &b->tests[i]->list[k], b->word), .microseconds = r->microseconds};
            memcpy(v->said, r->said, sizeof v->said);
        }
}

static void batch_close(Batch *b)
{
    for (int i = 0; i < b->n; i++) free(b->programs[i]);
    for (int i = 0; i < b->trials; i++) tests_free(b->tests[i]);
    free(b->programs);
    free(b->tests);
    free(b->jobs);
    free(b->results);
}

bool code_tests_run(CodeTrial *trials, int n, Status *st)
{
    Batch b;
    batch_open(&b, trials, n);
    batch_fill(&b, trials);
    bool ok = sandbox_run(b.jobs, b.n, b.results, st);
    if (ok) {
        batch_judge(&b, trials);
        sandbox_results_free(b.results, b.n);
    }
    batch_close(&b);
    return ok;
}

Verdict code_tests_verdict(const CodeTrial *trial)
{
    Verdict v = {.score = 1, .reason = REASON_CORRECT};
    int n = code_tests_count(trial->row);
    for (int i = 0; i < n; i++) {
        v.microseconds += trial->tests[i].microseconds;
        if (v.reason == REASON_CORRECT) v.reason = trial->tests[i].reason;
    }
    v.score = v.reason == REASON_CORRECT ? 1.0f : 0.0f;
    return v;
}

Json *code_tests_json(const CodeTrial *trial)
{
    Json *list = json_new_array();
    int n = code_tests_count(trial->row);
    for (int i = 0; i < n; i++) {
        const TestVerdict *v = &trial->tests[i];
        Json *o = json_new_object();
        json_set(o, "reason", json_new_text(reason_name(v->reason)));
        json_set(o, "microseconds", json_new_number((double)v->microseconds));
        if (v->said[0]) json_set(o, "said", json_new_text(v->said));
        json_append(list, o);
    }
    return list;
}
