/* The tiny language of the family `code`, its limits, and what its problems ask. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/task.h"
#include "data/tasks/program.h"
#include "tests/unit/unit.h"

static void test_programs(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int input, output;
        ProgramStatus status;
    } cases[] = {
        {"*3+1", 2, 7, PROGRAM_RAN},
        {"+@", 7, 14, PROGRAM_RAN},
        {"-9", 2, 93, PROGRAM_RAN},
        {"-29", 2, 73, PROGRAM_RAN},
        {"*@*@", 7, 43, PROGRAM_RAN}, /* 7^3 = 343 */
        {"3[*2+1]", 2, 23, PROGRAM_RAN},
        {"@[+1]", 0, 0, PROGRAM_RAN},
        {"@[+1]", 9, 18, PROGRAM_RAN},
        {"2[3[+1]*2]", 1, 22, PROGRAM_RAN}, /* (1+3)*2 = 8, (8+3)*2 */
        {" + 1 2 [ + 1 ] ", 0, 3, PROGRAM_RAN},
        {"0[+1]+2", 5, 7, PROGRAM_RAN},
        {"99[99[+1]]", 5, 0, PROGRAM_TOO_LONG},
        {"9[9[9[9[9[9[9[9[+1]]]]]]]]", 5, 0, PROGRAM_TOO_LONG},
        {"99[99[+1]", 5, 0, PROGRAM_UNREADABLE}, /* what is behind the limit is read too */
        {"0[", 5, 0, PROGRAM_UNREADABLE},
        {"0[+]", 5, 0, PROGRAM_UNREADABLE},
        {"9[9[9[9[9[9[9[9[9[+1]]]]]]]]]", 5, 0, PROGRAM_UNREADABLE},
        {"", 5, 0, PROGRAM_UNREADABLE},
        {"  ", 5, 0, PROGRAM_UNREADABLE},
        {"+", 5, 0, PROGRAM_UNREADABLE},
        {"3", 5, 0, PROGRAM_UNREADABLE},
        {"3[]", 5, 0, PROGRAM_UNREADABLE},
        {"+1]", 5, 0, PROGRAM_UNREADABLE},
        {"+123", 5, 0, PROGRAM_UNREADABLE},
        {"/2", 5, 0, PROGRAM_UNREADABLE},
        {"+一", 5, 0, PROGRAM_UNREADABLE},
        {"+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1", 5, 37, PROGRAM_RAN},
        {"+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1 ", 5, 0, PROGRAM_UNREADABLE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int output;
        ProgramStatus status = program_run(cases[i].text, cases[i].input, &output);
        if (status != cases[i].status || (status == PROGRAM_RAN && output != cases[i].output))
            fail_msg("%s of %d: status %d, %d", cases[i].text, cases[i].input, status, output);
    }
}

static Reason judged(const Problem *p, const char *answer)
{
    return p->task->verify(p, answer).reason;
}

/* Any program that passes is right; one that passes the examples only is not. */
static void test_verdicts(void **state)
{
    (void)state;
    Problem p = {.task = task_find("code"), .level = 2, .prompt = "make 2:7 3:10 5:16", .answer = "*3+1"};
    assert_int_equal(judged(&p, "*3+1"), REASON_CORRECT);
    assert_int_equal(judged(&p, "+@+@-@*3+1+0"), REASON_TEST_FAILED);
    assert_int_equal(judged(&p, "*2-@+1+@+@"), REASON_CORRECT);
    assert_int_equal(judged(&p, "*3"), REASON_TEST_FAILED);
    assert_int_equal(judged(&p, "99[99[+1]]"), REASON_TIME);
    assert_int_equal(judged(&p, "7 10 16"), REASON_UNPARSEABLE);
    assert_true(task_agree(&p, "*3+1", "+@+@+1"));
    assert_false(task_agree(&p, "*3+1", "*3+2"));
    /* 0, 1, 2 and their cubes: @*@*@ is right there, but x^3 - x(x-1)(x-2) is another program that is so too. */
    Problem cube = {.task = task_find("code"), .level = 2, .prompt = "make 0:0 1:1 2:8", .answer = "*@*@"};
    assert_int_equal(judged(&cube, "*@*@"), REASON_CORRECT);
    assert_int_equal(judged(&cube, "*3-2*@"), REASON_TEST_FAILED); /* 3x^2 - 2x: 0, 1, 8, 21 */
}

/* How often a program that fits the examples is right: the examples must say enough. */
static void test_examples_suffice(void **state)
{
    (void)state;
    const Task *code = task_find("code");
    for (int level = 1; level <= code->levels; level++) {
        int fitting = 0, right = 0;
        for (uint64_t i = 0; i < 300; i++) {
            Problem p, other;
            task_problem(&p, code, level, LANGUAGE_EN, 1, SPLIT_TRAIN, i);
            for (uint64_t j = 0; j < 300; j++) {
                task_problem(&other, code, level, LANGUAGE_EN, 2, SPLIT_TRAIN, j);
                int in[3], out[3], value;
                assert_int_equal(sscanf(p.prompt, "make %d:%d %d:%d %d:%d", in, out, in + 1, out + 1, in + 2, out + 2),
                                 6);
                bool fits = true;
                for (int k = 0; k < 3; k++)
                    fits = fits && program_run(other.answer, in[k], &value) == 0 && value == out[k];
                fitting += fits;
                right += fits && judged(&p, other.answer) == REASON_CORRECT;
                problem_free(&other);
            }
            problem_free(&p);
        }
        if (fitting < 50 || right * 100 < fitting * 95)
            fail_msg("level %d: %d programs fit the examples, %d of them are right", level, fitting, right);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_programs),
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_examples_suffice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
