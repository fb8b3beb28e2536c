/* Multiplication by partial products, a running sum after each: mul 617*4 -> 28+40=68+2400=2468 -> 2468. */
#include <stdio.h>
#include <stdlib.h>

#include "data/tasks/common.h"
#include "data/verify.h"

/* Digits of the two factors at each level. */
static const int digits[][2] = {{2, 1}, {3, 1}, {2, 2}, {4, 1}};

static long number_of(int n, Rng *r)
{
    long v = rng_range(r, n > 1 ? 1 : 2, 9);
    for (int i = 1; i < n; i++) v = v * 10 + rng_range(r, 0, 9);
    return v;
}

static void generate(Problem *p, Rng *r)
{
    const int *n = digits[p->level - 1];
    long a = number_of(n[0], r), b = number_of(n[1], r);
    problem_prompt(p, "mul", "%ld*%ld", a, b);
    char answer[32];
    snprintf(answer, sizeof answer, "%ld", a * b);
    long key[2] = {a < b ? a : b, a < b ? b : a};
    problem_answer(p, answer, key, sizeof key);
}

static Verdict verify(const Problem *p, const char *answer)
{
    return verdict_of(verify_integer(p->answer, answer));
}

static int trace(const Problem *p, Language language, int slip, Rng *r, char **steps, int max, char **answer)
{
    char *end;
    long a = strtol(prompt_operands(p->prompt), &end, 10), b = strtol(end + 1, NULL, 10), sum = 0;
    const int *count = digits[p->level - 1];
    int n = count[0] * count[1], step = 0;
    Trace t = {steps, 0, max, language};
    for (long ub = 1; ub <= b; ub *= 10) {
        for (long ua = 1; ua <= a; ua *= 10, step++) {
            long partial = (a / ua % 10) * (b / ub % 10) * ua * ub;
            bool wrong = slip >= 0 && slip % n == step;
            /* A slip is in the product of two digits (once the sum is there: in the sum as often). */
            if (wrong && (step == 0 || rng_below(r, 2) == 0)) {
                partial = slip_number(partial / (ua * ub), 2, r) * ua * ub;
                wrong = false;
            }
            sum += partial;
            if (wrong) sum = slip_number(sum, 3, r);
            if (step == 0) trace_step(&t, "%ld", sum);
            else trace_step(&t, "%ld=%ld", partial, sum);
        }
    }
    Text text = {0};
    text_addf(&text, "%ld", sum);
    *answer = text_take(&text);
    return t.n;
}

const Task task_mul = {
    .name = "mul",
    .help = "multiplication; levels: 2x1, 3x1, 2x2, 4x1 digits; trace: partial products and their running sum",
    .example = "mul 617*4 -> 2468",
    .separator = "+",
    .kind = KIND_REASONING,
    .levels = sizeof digits / sizeof digits[0],
    .generate = generate,
    .verify = verify,
    .trace = trace,
};
