/* What the built-in tasks share. */
#include "data/tasks/common.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "data/tasks/vocabulary.h"
#include "data/tasks/words.h"

enum { STEP_MAX = 256 };

void problem_prompt(Problem *p, const char *command_english, const char *format, ...)
{
    char operands[STEP_MAX], line[STEP_MAX + 32];
    va_list args;
    va_start(args, format);
    vsnprintf(operands, sizeof operands, format, args);
    va_end(args);
    int n = snprintf(line, sizeof line, "%s %s", word_for(command_english, p->language), operands);
    p->prompt = text_copy(line, (size_t)n);
}

void problem_answer(Problem *p, const char *answer, const void *key, size_t key_length)
{
    p->answer = text_copy(answer, strlen(answer));
    p->key = task_key(p->task, key, key_length);
}

void trace_step(Trace *t, const char *format, ...)
{
    char line[STEP_MAX];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    CHECK(t->n < t->max && n < STEP_MAX);
    if (t->language == LANGUAGE_EN) {
        t->steps[t->n++] = text_copy(line, (size_t)n);
        return;
    }
    Text text = {0};
    for (int i = 0; i < n; i++) {
        if (line[i] >= '0' && line[i] <= '9') text_add(&text, task_characters[line[i] - '0']);
        else text_add_bytes(&text, line + i, 1);
    }
    t->steps[t->n++] = text_take(&text);
}

const char *prompt_operands(const char *prompt)
{
    return prompt + strcspn(prompt, "0123456789");
}

long slip_number(long v, int digits, Rng *r)
{
    long unit = 1;
    for (int i = (int)rng_below(r, (uint32_t)digits); i > 0; i--) unit *= 10;
    return rng_below(r, 2) == 0 && v >= unit ? v - unit : v + unit;
}
