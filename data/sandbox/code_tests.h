/* The tests of a row {"prompt", "verifier": "tests", "tests": [..]}: the program of an answer is run once for each of
 * them in a sandbox.  A test is a pair {"stdin": .., "stdout": ..} (also "input", "output": open-r1, APPS), judged by
 * what the program writes, blanks at the ends of lines and empty lines at the end left aside; or a text of Python,
 * such as MBPP's "assert f(2) == 3", which is run behind the program: it passes when it is reached and nothing is
 * raised. Columns with other names for the same: "test_list" (MBPP), "official_tests", "test_cases", "input_output"
 * ({"inputs": [..], "outputs": [..]}, or its JSON in a text). "test_setup_code" is run before the program of such
 * texts. "interpreter" (default "python3 -I -B"), "seconds", "memory" (MiB), "processes": how. */
#ifndef DATA_CODE_TESTS_H
#define DATA_CODE_TESTS_H

#include "data/sandbox/sandbox.h"
#include "data/task.h"

enum { CODE_TESTS_MAX = 256, CODE_PROGRAM_MAX = 65536 };

/* Whether the tests of a row can be read, and its interpreter is there; says what is wrong. */
bool code_tests_check(const Json *row, Status *st);
/* How many tests a checked row has. */
int code_tests_count(const Json *row);

/* The program of a completion: what stands in its answer's tags, or (where there are none) behind its thought; of that
 * the last part in ``` fences, where there is one. Without tags only a fenced part is a program. Caller frees; NULL:
 * there is none. */
char *code_program(const char *completion);

typedef struct TestVerdict {
    Reason reason; /* correct, test failed (wrong output or an assert), program failed, time limit, output limit */
    float microseconds;
    char said[SANDBOX_SAID]; /* the last line of its standard error */
} TestVerdict;

/* A program and the row whose tests it is to pass; tests: [code_tests_count(row)], written. */
typedef struct CodeTrial {
    const Json *row;
    const char *program;
    TestVerdict *tests;
} CodeTrial;

/* Runs every test of every trial in one pool. */
bool code_tests_run(CodeTrial *trials, int n, Status *st);
/* 1 when all tests passed, else 0 and the reason of the first that did not; the sum of their times. */
Verdict code_tests_verdict(const CodeTrial *trial);
/* [{"reason", "microseconds", and "said" where its standard error was not empty}] */
Json *code_tests_json(const CodeTrial *trial);

#endif
