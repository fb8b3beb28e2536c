/* Programs from examples: find one that passes them, and tests that are not shown: make 2:7 3:10 5:16 -> +5=7 8,*3+1=7
 * 10 16 -> *3+1. A trace tries programs on the examples, each up to the first wrong output. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "data/tasks/common.h"
#include "data/tasks/program.h"
#include "data/verify.h"

enum { LEVELS = 5, SHOWN = 3, INPUTS = 10, LONG_OPERAND = 29, TEXT_MAX = 32, STEP_TEXT = 64, TRACE_MAX = 44 };

/* The outputs for every input 0 .. INPUTS - 1: what a program is. */
typedef struct Outputs {
    unsigned char of[INPUTS];
} Outputs;

static Outputs outputs_of(const char *program)
{
    Outputs out;
    for (int i = 0; i < INPUTS; i++) {
        int value;
        ProgramStatus status = program_run(program, i, &value);
        CHECK(status == PROGRAM_RAN);
        out.of[i] = (unsigned char)value;
    }
    return out;
}

/* Appends n operations; a lonely one has larger numbers, so that there are enough programs of one. */
static int add_operations(char *out, int n, bool lonely, Rng *r)
{
    int length = 0;
    for (int i = 0; i < n; i++) {
        char op = "+-*"[rng_below(r, 3)];
        if (!lonely && rng_below(r, 8) == 0) length += sprintf(out + length, "%c@", op);
        else length += sprintf(out + length, "%c%d", op, rng_range(r, 2, lonely ? LONG_OPERAND : 9));
    }
    return length;
}

/* Levels 1 to 3: as many operations; 4: a loop over two; 5: such a loop, then an operation. */
static void random_program(char out[TEXT_MAX], int level, Rng *r)
{
    if (level < 4) {
        add_operations(out, level, level == 1, r);
        return;
    }
    int length = sprintf(out, "%d[", rng_range(r, 2, 4));
    length += add_operations(out + length, 2, false, r);
    length += sprintf(out + length, "]");
    if (level == 5) add_operations(out + length, 1, false, r);
}

/* SHOWN different inputs, ascending. */
static void draw_inputs(int inputs[SHOWN], Rng *r)
{
    int n = 0;
    for (int i = 0; i < INPUTS && n < SHOWN; i++)
        if ((int)rng_below(r, (uint32_t)(INPUTS - i)) < SHOWN - n) inputs[n++] = i;
}

static void generate(Problem *p, Rng *r)
{
    char program[TEXT_MAX];
    int inputs[SHOWN];
    random_program(program, p->level, r);
    draw_inputs(inputs, r);
    Outputs out = outputs_of(program);
    problem_prompt(p, "make", "%d:%d %d:%d %d:%d", inputs[0], out.of[inputs[0]], inputs[1], out.of[inputs[1]],
                   inputs[2], out.of[inputs[2]]);
    problem_answer(p, program, &out, sizeof out);
}

static Verdict verify(const Problem *p, const char *answer)
{
    for (int i = 0; i < INPUTS; i++) {
        int gold, value;
        if (program_run(p->answer, i, &gold) != PROGRAM_RAN) return verdict_of(REASON_UNPARSEABLE);
        ProgramStatus status = program_run(answer, i, &value);
        if (status == PROGRAM_UNREADABLE) return verdict_of(REASON_UNPARSEABLE);
        if (status == PROGRAM_TOO_LONG) return verdict_of(REASON_TIME);
        if (value != gold) return verdict_of(REASON_TEST_FAILED);
    }
    return verdict_of(REASON_CORRECT);
}

/* The examples of a prompt. */
static void read_examples(const char *prompt, int inputs[SHOWN], int expected[SHOWN])
{
    int n = sscanf(prompt_operands(prompt), "%d:%d %d:%d %d:%d", &inputs[0], &expected[0], &inputs[1], &expected[1],
                   &inputs[2], &expected[2]);
    CHECK_EQ(n, 2 * SHOWN);
}

/* "PROGRAM=" and its outputs up to the first that is not as expected. True: all are. */
static bool write_run(char step[STEP_TEXT], const char *program, const int *inputs, const int *expected)
{
    int length = snprintf(step, STEP_TEXT, "%s", program);
    for (int i = 0; i < SHOWN; i++) {
        int value;
        CHECK(program_run(program, inputs[i], &value) == PROGRAM_RAN);
        length += snprintf(step + length, STEP_TEXT - (size_t)length, "%c%d", i == 0 ? '=' : ' ', value);
        if (value != expected[i]) return false;
    }
    return true;
}

/* PROGRAM=OUTPUTS: true when they are the program's on the examples, up to the first that is wrong. */
static Attempt attempt(const Problem *p, const char *left, const char *right)
{
    char step[STEP_TEXT];
    int inputs[SHOWN], expected[SHOWN], value;
    read_examples(p->prompt, inputs, expected);
    for (int i = 0; i < SHOWN; i++)
        if (program_run(left, inputs[i], &value) != PROGRAM_RAN) return ATTEMPT_SLIP;
    if (strlen(left) > TEXT_MAX) return ATTEMPT_SLIP;
    bool fits = write_run(step, left, inputs, expected);
    if (strcmp(step + strlen(left) + 1, right) != 0) return ATTEMPT_SLIP;
    return fits ? ATTEMPT_FITS : ATTEMPT_FAILS;
}

static int trace(const Problem *p, Language language, int slip, Rng *r, char **steps, int max, char **answer)
{
    char step[STEP_TEXT], attempt[TEXT_MAX];
    int inputs[SHOWN], expected[SHOWN];
    Trace t = {steps, 0, max, language};
    read_examples(p->prompt, inputs, expected);
    size_t length = 2 * strlen(p->answer);
    for (int tries = (int)rng_below(r, 3); tries > 0; tries--) {
        random_program(attempt, p->level, r);
        bool fits = write_run(step, attempt, inputs, expected);
        length += strlen(step) + 1;
        if (length > TRACE_MAX) break;
        if (!fits) trace_step(&t, "%s", step);
    }
    snprintf(attempt, sizeof attempt, "%s", p->answer);
    /* The slip of a search: a program that fits nothing is taken for the solution. */
    for (bool fits = true; slip >= 0 && fits;) {
        random_program(attempt, p->level, r);
        fits = write_run(step, attempt, inputs, expected);
    }
    trace_step(&t, "%s=%d %d %d", attempt, expected[0], expected[1], expected[2]);
    *answer = text_copy(attempt, strlen(attempt));
    return t.n;
}

const Task task_code = {
    .name = "code",
    .help =
        "a program of + - * and loops from 3 examples, judged on 10 tests; levels 1-3: operations, 4-5: a loop; trace: "
        "attempts",
    .example = "make 2:7 3:10 5:16 -> *3+1",
    .separator = ",",
    .kind = KIND_REASONING,
    .levels = LEVELS,
    .generate = generate,
    .verify = verify,
    .trace = trace,
    .attempt = attempt,
};
