/* What the generators share. */
#ifndef DATA_TASKS_COMMON_H
#define DATA_TASKS_COMMON_H

#include "data/task.h"
#include "data/text.h"

/* Sets the prompt (formatted; takes a copy) of a problem: COMMAND of the problem's language, a blank, then the
 * format. */
void problem_prompt(Problem *p, const char *command_english, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Sets the answer, and the key from the bytes that say the problem without words. */
void problem_answer(Problem *p, const char *answer, const void *key, size_t key_length);

/* A trace being written: steps[0 .. n). */
typedef struct Trace {
    char **steps;
    int n, max;
    Language language;
} Trace;
/* Appends a step; ASCII digits become Chinese numerals, digit by digit, when the trace is Chinese. */
void trace_step(Trace *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The first digit of a prompt: where its operands begin. */
const char *prompt_operands(const char *prompt);

/* v with a likely slip of the pen in it: one up or down in one of its `digits` lowest decimal digits (never below
 * 0). */
long slip_number(long v, int digits, Rng *r);

#endif
