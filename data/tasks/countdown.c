/* Countdown: reach a target with + - * / and parentheses, each number once. The trace tries expressions until one fits:
 * reach 26 with 3 5 7 -> 7+5-3=9,3*7+5=26 -> 3*7+5. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/tasks/common.h"
#include "data/tasks/vocabulary.h"
#include "data/verify.h"

enum { NUMBERS_MAX = 4, NUMBER_MAX = 12, TARGET_MAX = 99, TEXT_MAX = 48, TRACE_MAX = 44 };

/* A part of an expression: its text, value and how tightly its outermost operator binds (3: a number). */
typedef struct Part {
    char text[TEXT_MAX];
    int value, binds;
} Part;

static int binding(char op)
{
    return op == '+' || op == '-' ? 1 : 2;
}

/* left op right with no more parentheses than needed; false when the value is not a whole number in [1, TARGET_MAX]. */
static bool join(Part *out, const Part *left, char op, const Part *right)
{
    int a = left->value, b = right->value;
    if (op == '/' && (b == 0 || a % b != 0)) return false;
    int value = op == '+' ? a + b : op == '-' ? a - b : op == '*' ? a * b : a / b;
    if (value < 1 || value > TARGET_MAX) return false;
    int binds = binding(op);
    bool open_left = left->binds < binds;
    bool open_right = right->binds < binds || (right->binds == binds && (op == '-' || op == '/'));
    char text[2 * TEXT_MAX + 8];
    snprintf(text, sizeof text, "%s%s%s%c%s%s%s", open_left ? "(" : "", left->text, open_left ? ")" : "", op,
             open_right ? "(" : "", right->text, open_right ? ")" : "");
    *out = (Part){.value = value, .binds = binds};
    memcpy(out->text, text, strnlen(text, TEXT_MAX - 1));
    return true;
}

/* A random expression over all the numbers whose every part is a whole positive number. */
static Part random_expression(const int *numbers, int n, Rng *r)
{
    Part parts[NUMBERS_MAX];
    for (int i = 0; i < n; i++) {
        parts[i] = (Part){.value = numbers[i], .binds = 3};
        snprintf(parts[i].text, TEXT_MAX, "%d", numbers[i]);
    }
    while (n > 1) {
        int i = (int)rng_below(r, (uint32_t)n), j = (int)rng_below(r, (uint32_t)n - 1);
        j += j >= i;
        Part joined;
        /* The sum of two parts is always allowed except beyond the limit; then another pair or operator is drawn, and
         * the difference of two unequal parts or the quotient of equal ones always exists. */
        if (!join(&joined, &parts[i], "+-*/"[rng_below(r, 4)], &parts[j])) continue;
        parts[i] = joined;
        parts[j] = parts[--n];
    }
    return parts[0];
}

static int by_value(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static void generate(Problem *p, Rng *r)
{
    int numbers[NUMBERS_MAX + 1], n = p->level + 1;
    for (int i = 0; i < n; i++) numbers[i] = rng_range(r, 1, NUMBER_MAX);
    qsort(numbers, (size_t)n, sizeof numbers[0], by_value);
    Part solution = random_expression(numbers, n, r);
    char list[8 * NUMBERS_MAX];
    int length = 0;
    for (int i = 0; i < n; i++) length += snprintf(list + length, sizeof list - (size_t)length, " %d", numbers[i]);
    problem_prompt(p, "reach", "%d %s%s", solution.value, word_for("with", p->language), list);
    numbers[n] = solution.value;
    problem_answer(p, solution.text, numbers, (size_t)(n + 1) * sizeof numbers[0]);
}

/* The target and the numbers of a prompt; returns how many numbers. */
static int read_prompt(const char *prompt, int *target, long *numbers)
{
    char *at;
    *target = (int)strtol(prompt_operands(prompt), &at, 10);
    int n = 0;
    for (const char *s = prompt_operands(at); *s != '\0' && n < NUMBERS_MAX; s = prompt_operands(at))
        numbers[n++] = strtol(s, &at, 10);
    return n;
}

static Verdict verify(const Problem *p, const char *answer)
{
    long numbers[NUMBERS_MAX];
    int target, n = read_prompt(p->prompt, &target, numbers);
    char text[16];
    snprintf(text, sizeof text, "%d", target);
    return verdict_of(verify_expression(text, numbers, n, answer));
}

/* EXPRESSION=VALUE: true when the numbers are used as they must be, and the value is the expression's. */
static Attempt attempt(const Problem *p, const char *left, const char *right)
{
    long numbers[NUMBERS_MAX];
    int target, n = read_prompt(p->prompt, &target, numbers);
    char aim[16];
    if (verify_expression(right, numbers, n, left) != REASON_CORRECT) return ATTEMPT_SLIP;
    snprintf(aim, sizeof aim, "%d", target);
    return verify_rational(aim, right) == REASON_CORRECT ? ATTEMPT_FITS : ATTEMPT_FAILS;
}

static int trace(const Problem *p, Language language, int slip, Rng *r, char **steps, int max, char **answer)
{
    long read[NUMBERS_MAX];
    int target, numbers[NUMBERS_MAX], n = read_prompt(p->prompt, &target, read);
    for (int i = 0; i < n; i++) numbers[i] = (int)read[i];
    Trace t = {steps, 0, max, language};
    size_t length = strlen(p->answer) * 2;
    int tries = (int)rng_below(r, 3);
    for (int i = 0; i < tries; i++) {
        Part attempt = random_expression(numbers, n, r);
        length += strlen(attempt.text) + 4;
        if (length > TRACE_MAX) break;
        if (attempt.value != target) trace_step(&t, "%s=%d", attempt.text, attempt.value);
    }
    if (slip < 0) {
        trace_step(&t, "%s=%d", p->answer, target);
        *answer = text_copy(p->answer, strlen(p->answer));
        return t.n;
    }
    /* The slip of a search: a wrong attempt is taken for the solution. */
    Part attempt = random_expression(numbers, n, r);
    for (int i = 0; i < 8 && attempt.value == target; i++) attempt = random_expression(numbers, n, r);
    trace_step(&t, "%s=%d", attempt.text, target);
    *answer = text_copy(attempt.text, strlen(attempt.text));
    return t.n;
}

const Task task_countdown = {
    .name = "countdown",
    .help = "reach a target with + - * / ( ), each number once; level + 1 numbers (2-4); trace: attempts",
    .example = "reach 26 with 3 5 7 -> 3*7+5",
    .separator = ",",
    .kind = KIND_REASONING,
    .levels = NUMBERS_MAX - 1,
    .generate = generate,
    .verify = verify,
    .trace = trace,
    .attempt = attempt,
};
