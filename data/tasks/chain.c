/* A chain of + - * from left to right (no precedence), modulo 100 after every operation:
 * chain 47+8*3 -> 55,65 -> 65. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/tasks/common.h"
#include "data/verify.h"

enum { MODULUS = 100, OPERATIONS = 8 };

static int apply(int value, char op, int operand)
{
    int v = op == '+' ? value + operand : op == '-' ? value - operand + MODULUS : value * operand;
    return v % MODULUS;
}

static void generate(Problem *p, Rng *r)
{
    char line[8 + 2 * OPERATIONS], answer[16];
    int value = rng_range(r, 2, MODULUS - 1);
    int n = snprintf(line, sizeof line, "%d", value);
    for (int i = 0; i < p->level; i++) {
        char op = "+-*"[rng_below(r, 3)];
        int operand = rng_range(r, 2, 9);
        n += snprintf(line + n, sizeof line - (size_t)n, "%c%d", op, operand);
        value = apply(value, op, operand);
    }
    snprintf(answer, sizeof answer, "%d", value);
    problem_prompt(p, "chain", "%s", line);
    problem_answer(p, answer, line, (size_t)n);
}

static Verdict verify(const Problem *p, const char *answer)
{
    return verdict_of(verify_integer(p->answer, answer));
}

static int trace(const Problem *p, Language language, int slip, Rng *r, char **steps, int max, char **answer)
{
    char *at;
    int value = (int)strtol(prompt_operands(p->prompt), &at, 10);
    Trace t = {steps, 0, max, language};
    for (int i = 0; i < p->level; i++) {
        char op = *at;
        value = apply(value, op, (int)strtol(at + 1, &at, 10));
        if (slip >= 0 && slip % p->level == i) value = (int)slip_number(value, 2, r) % MODULUS;
        trace_step(&t, "%d", value);
    }
    Text text = {0};
    text_addf(&text, "%d", value);
    *answer = text_take(&text);
    return t.n;
}

const Task task_chain = {
    .name = "chain",
    .help = "+ - * from left to right modulo 100; level = operations (1-8); trace: the value after each",
    .example = "chain 47+8*3 -> 65",
    .separator = ",",
    .kind = KIND_REASONING,
    .levels = OPERATIONS,
    .generate = generate,
    .verify = verify,
    .trace = trace,
};
