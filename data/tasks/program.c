/* An interpreter that reads a program while it runs it; what is not reached is read with a value that nobody sees. */
#include "data/tasks/program.h"

#include <stdbool.h>
#include <string.h>

typedef struct Machine {
    const char *at; /* where the text is read */
    int input, value, steps, depth;
    bool running; /* false: only read */
    ProgramStatus status;
} Machine;

static bool stop(Machine *m, ProgramStatus status)
{
    if (m->status == PROGRAM_RAN || status == PROGRAM_UNREADABLE) m->status = status;
    m->running = false;
    return false;
}

static void skip_blanks(Machine *m)
{
    while (*m->at == ' ') m->at++;
}

/* A number of one or two digits, or the input. */
static bool read_operand(Machine *m, int *out)
{
    skip_blanks(m);
    if (*m->at == '@') {
        m->at++;
        *out = m->input;
        return true;
    }
    int digits = 0;
    for (*out = 0; *m->at >= '0' && *m->at <= '9' && digits < 2; digits++) *out = 10 * *out + (*m->at++ - '0');
    return digits > 0 || stop(m, PROGRAM_UNREADABLE);
}

static void count_step(Machine *m)
{
    if (m->running && ++m->steps > PROGRAM_STEPS) stop(m, PROGRAM_TOO_LONG);
}

static void apply(Machine *m, char op, int n)
{
    count_step(m);
    if (!m->running) return;
    int v = op == '+' ? m->value + n : op == '-' ? m->value - n + PROGRAM_MODULUS : m->value * n;
    m->value = v % PROGRAM_MODULUS;
}

static bool run_items(Machine *m);

/* The part in brackets, which is read once for every round, and once without running where there is no round. */
static bool run_rounds(Machine *m, int rounds)
{
    skip_blanks(m);
    if (*m->at != '[' || ++m->depth > PROGRAM_DEPTH) return stop(m, PROGRAM_UNREADABLE);
    const char *body = m->at + 1;
    bool running = m->running;
    m->running = running && rounds > 0;
    do {
        m->at = body;
        count_step(m);
        if (!run_items(m) || *m->at != ']') return stop(m, PROGRAM_UNREADABLE);
    } while (--rounds > 0 && m->running);
    m->at++;
    m->depth--;
    m->running = running && m->status == PROGRAM_RAN;
    return true;
}

/* One or more items, up to the end or a closing bracket. */
static bool run_items(Machine *m)
{
    int n;
    skip_blanks(m);
    if (*m->at == '\0' || *m->at == ']') return stop(m, PROGRAM_UNREADABLE);
    for (; *m->at != '\0' && *m->at != ']'; skip_blanks(m)) {
        char op = *m->at;
        if (op == '+' || op == '-' || op == '*') {
            m->at++;
            if (!read_operand(m, &n)) return false;
            apply(m, op, n);
        } else if (!read_operand(m, &n) || !run_rounds(m, n)) {
            return stop(m, PROGRAM_UNREADABLE);
        }
    }
    return true;
}

ProgramStatus program_run(const char *text, int input, int *output)
{
    Machine m = {.at = text, .input = input, .value = input, .running = true};
    if (strnlen(text, PROGRAM_TEXT + 1) > PROGRAM_TEXT) return PROGRAM_UNREADABLE;
    if (run_items(&m) && *m.at != '\0') stop(&m, PROGRAM_UNREADABLE);
    *output = m.value;
    return m.status;
}
