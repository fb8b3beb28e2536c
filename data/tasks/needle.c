/* A needle in a haystack: digits, among them one number in brackets, which is asked for: find 48(7382)2915 -> 7382. What a model
 * makes of long contexts: level L has 16 * 2^L digits, the needle at any depth. */
#include <stdlib.h>
#include <string.h>

#include "data/tasks/common.h"
#include "data/tasks/needle.h"
#include "data/tasks/vocabulary.h"
#include "data/verify.h"

enum { DIGITS = 4 }; /* of the needle */

int needle_length(int level)
{
    return 16 << level;
}

double needle_depth(const char *prompt)
{
    const char *hay = prompt_operands(prompt), *open = strchr(prompt, '(');
    if (open && open < hay) hay = open; /* right at the start */
    size_t after = open ? strlen(open) - (DIGITS + 2) : 0, before = open ? (size_t)(open - hay) : 0;
    return before + after ? (double)before / (double)(before + after) : 0.0;
}

static void add_digits(Text *t, int n, Rng *r)
{
    for (int i = 0; i < n; i++) {
        char digit = (char)('0' + rng_below(r, 10));
        text_add_bytes(t, &digit, 1);
    }
}

static void generate(Problem *p, Rng *r)
{
    int length = needle_length(p->level), before = (int)rng_below(r, (uint32_t)length + 1);
    char needle[DIGITS + 1] = {0};
    for (int i = 0; i < DIGITS; i++) needle[i] = (char)('0' + rng_below(r, 10));
    Text t = {0};
    text_add(&t, word_for("find", p->language));
    text_add(&t, " ");
    add_digits(&t, before, r);
    text_add(&t, "(");
    text_add(&t, needle);
    text_add(&t, ")");
    add_digits(&t, length - before, r);
    p->prompt = text_take(&t);
    const char *operands = strchr(p->prompt, ' ') + 1;
    problem_answer(p, needle, operands, strlen(operands));
}

static Verdict verify(const Problem *p, const char *answer)
{
    return verdict_of(verify_digits(p->answer, answer));
}

/* The needle, read once. */
static int trace(const Problem *p, Language language, int slip, Rng *r, char **steps, int max, char **answer)
{
    Trace t = {steps, 0, max, language};
    char read[DIGITS + 1];
    memcpy(read, p->answer, sizeof read);
    if (slip >= 0) {
        int at = (int)rng_below(r, DIGITS);
        read[at] = (char)('0' + (read[at] - '0' + 1 + (int)rng_below(r, 9)) % 10);
    }
    trace_step(&t, "(%s)", read);
    *answer = text_copy(read, DIGITS);
    return t.n;
}

const Task task_needle = {
    .name = "needle",
    .help = "the number in brackets among 16 * 2^level digits, at any depth: long contexts (`r1 eval --task needle`)",
    .example = "find 4818(7382)29150265 -> 7382",
    .separator = ",",
    .kind = KIND_REASONING,
    .levels = NEEDLE_LEVELS,
    .generate = generate,
    .verify = verify,
    .trace = trace,
};
