/* Addition with a carry scratchpad, lowest digit first (Lee et al., arXiv:2307.03381):
 * add 478+295 -> 8+5+0=13,7+9+1=17,4+2+1=7 -> 773. */
#include <stdio.h>
#include <stdlib.h>

#include "data/tasks/common.h"
#include "data/verify.h"

/* A number of exactly `digits` digits. */
static long number_of(int digits, Rng *r)
{
    long v = rng_range(r, digits > 1 ? 1 : 0, 9);
    for (int i = 1; i < digits; i++) v = v * 10 + rng_range(r, 0, 9);
    return v;
}

static void generate(Problem *p, Rng *r)
{
    long a = number_of(p->level, r), b = number_of(p->level, r);
    problem_prompt(p, "add", "%ld+%ld", a, b);
    char answer[32];
    snprintf(answer, sizeof answer, "%ld", a + b);
    /* a+b and b+a are one problem to the split. */
    long key[2] = {a < b ? a : b, a < b ? b : a};
    problem_answer(p, answer, key, sizeof key);
}

static Verdict verify(const Problem *p, const char *answer)
{
    return verdict_of(verify_integer(p->answer, answer));
}

/* A wrong sum that a careless hand might write: one off, or the carry forgotten or invented. */
static int slip_sum(int sum, Rng *r)
{
    static const int off[] = {1, -1, 10, -10};
    int wrong;
    do {
        wrong = sum + off[rng_below(r, 4)];
    } while (wrong < 0 || wrong > 19);
    return wrong;
}

static int trace(const Problem *p, Language language, int slip, Rng *r, char **steps, int max, char **answer)
{
    char *end;
    long a = strtol(prompt_operands(p->prompt), &end, 10), b = strtol(end + 1, NULL, 10);
    Trace t = {steps, 0, max, language};
    int n = p->level, carry = 0;
    long result = 0, unit = 1;
    for (int i = 0; i < n; i++) {
        int da = (int)(a % 10), db = (int)(b % 10), sum = da + db + carry;
        if (slip >= 0 && slip % n == i) sum = slip_sum(sum, r);
        trace_step(&t, "%d+%d+%d=%d", da, db, carry, sum);
        carry = sum / 10;
        result += (i + 1 < n ? sum % 10 : sum) * unit;
        unit *= 10;
        a /= 10;
        b /= 10;
    }
    Text text = {0};
    text_addf(&text, "%ld", result);
    *answer = text_take(&text);
    return t.n;
}

const Task task_add = {
    .name = "add",
    .help = "addition; level = digits of both numbers (1-8); trace: digit + digit + carry, lowest first",
    .example = "add 478+295 -> 773",
    .separator = ",",
    .kind = KIND_REASONING,
    .levels = 8,
    .generate = generate,
    .verify = verify,
    .trace = trace,
};
