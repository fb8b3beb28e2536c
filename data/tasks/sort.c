/* Sorting digits by insertion, one sorted prefix a step: sort 77835 -> 7,77,778,3778,35778 -> 35778. */
#include <stdlib.h>
#include <string.h>

#include "data/tasks/common.h"
#include "data/verify.h"

enum { LENGTH_MIN = 3, LENGTH_MAX = 10 };

static int by_value(const void *a, const void *b)
{
    return *(const char *)a - *(const char *)b;
}

static void generate(Problem *p, Rng *r)
{
    char list[LENGTH_MAX + 1] = {0};
    int n = p->level < LENGTH_MIN ? LENGTH_MIN : p->level;
    for (int i = 0; i < n; i++) list[i] = (char)('0' + rng_below(r, 10));
    problem_prompt(p, "sort", "%s", list);
    char sorted[LENGTH_MAX + 1];
    memcpy(sorted, list, sizeof sorted);
    qsort(sorted, (size_t)n, 1, by_value);
    problem_answer(p, sorted, list, (size_t)n);
}

static Verdict verify(const Problem *p, const char *answer)
{
    return verdict_of(verify_digits(p->answer, answer));
}

/* Puts digit into prefix[0 .. n) where it belongs. */
static void insert(char *prefix, int n, char digit)
{
    int at = n;
    while (at > 0 && prefix[at - 1] > digit) {
        prefix[at] = prefix[at - 1];
        at--;
    }
    prefix[at] = digit;
}

/* A careless insertion: two unequal neighbours exchanged, or one digit misread. */
static void spoil(char *prefix, int n, Rng *r)
{
    int at = (int)rng_below(r, (uint32_t)n);
    if (at + 1 < n && prefix[at] != prefix[at + 1]) {
        char keep = prefix[at];
        prefix[at] = prefix[at + 1];
        prefix[at + 1] = keep;
    } else {
        prefix[at] = (char)('0' + (prefix[at] - '0' + 1 + rng_below(r, 9)) % 10);
    }
}

static int trace(const Problem *p, Language language, int slip, Rng *r, char **steps, int max, char **answer)
{
    const char *list = prompt_operands(p->prompt);
    int n = (int)strlen(list);
    Trace t = {steps, 0, max, language};
    char prefix[LENGTH_MAX + 1] = {0};
    for (int i = 0; i < n; i++) {
        insert(prefix, i, list[i]);
        if (slip >= 0 && slip % n == i) spoil(prefix, i + 1, r);
        trace_step(&t, "%s", prefix);
    }
    *answer = text_copy(prefix, (size_t)n);
    return t.n;
}

const Task task_sort = {
    .name = "sort",
    .help = "sorting digits; level = how many (3-10; levels 1 and 2 are as 3); trace: sorted prefixes",
    .example = "sort 77835 -> 35778",
    .separator = ",",
    .kind = KIND_REASONING,
    .levels = LENGTH_MAX,
    .generate = generate,
    .verify = verify,
    .trace = trace,
};
