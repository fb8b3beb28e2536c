/* Checks, slips, revisions and corrections, counted on thoughts written by hand. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/reflection.h"
#include "tests/unit/unit.h"

typedef struct Case {
    const char *task, *prompt, *answer, *completion;
    int steps, checks, slips, revisions;
    bool corrected;
} Case;

static const Case cases[] = {
    /* A search: worked out, worked out wrongly, gone on from what fails. */
    {"countdown", "reach 26 with 3 5 7", "3*7+5", "<think>3*7+5=26</think><answer>3*7+5</answer>", 1, 1, 0, 0, false},
    {"countdown", "reach 26 with 3 5 7", "3*7+5", "<think>7+5-3=9,3*7+5=26</think><answer>3*7+5</answer>", 2, 2, 0, 1,
     true},
    {"countdown", "reach 26 with 3 5 7", "3*7+5", "<think>七+五-三=九,三*七+五=二六</think><answer>3*7+5</answer>", 2,
     2, 0, 1, true},
    {"countdown", "reach 26 with 3 5 7", "3*7+5", "<think>7+5-3=9,7-5+3=5</think><answer>7-5+3</answer>", 2, 2, 0, 1,
     false},
    {"countdown", "reach 26 with 3 5 7", "3*7+5", "<think>7+5-3=26</think><answer>7+5-3</answer>", 1, 0, 1, 0, false},
    {"countdown", "reach 26 with 3 5 7", "3*7+5", "<think>7+5-3=8,3*7+5=26</think><answer>3*7+5</answer>", 2, 1, 1, 0,
     false},
    {"countdown", "reach 26 with 3 5 7", "3*7+5", "<think>7+5-3=9,7+5-3=9</think><answer>7+5-3</answer>", 2, 2, 0, 0,
     false},
    {"countdown", "reach 26 with 3 5 7", "3*7+5", "<think>7+5=12,3*7+5=26</think><answer>3*7+5</answer>", 2, 1, 1, 0,
     false},
    {"countdown", "reach 26 with 3 5 7", "3*7+5", "<think>3*7+5=26,7+5-3=9</think><answer>3*7+5</answer>", 2, 2, 0, 0,
     false},
    {"countdown", "reach 26 with 3 5 7", "3*7+5", "<answer>3*7+5</answer>", 0, 0, 0, 0, false},
    {"countdown", "reach 26 with 3 5 7", "3*7+5", "<think>who knows, ,=,</think><answer>3*7+5</answer>", 2, 0, 1, 0,
     false},
    {"code", "make 2:7 3:10 5:16", "*3+1", "<think>+5=7 8,*3+1=7 10 16</think><answer>*3+1</answer>", 2, 2, 0, 1, true},
    {"code", "make 2:7 3:10 5:16", "*3+1", "<think>+5=7 10 16</think><answer>+5</answer>", 1, 0, 1, 0, false},
    {"code", "make 2:7 3:10 5:16", "*3+1", "<think>+5=7 8 10,*3+1=7 10 16</think><answer>*3+1</answer>", 2, 1, 1, 0,
     false},
    {"code", "make 2:7 3:10 5:16", "*3+1", "<think>+五=七 八,*三+一=七 一零 一六</think><answer>*3+1</answer>", 2, 2, 0,
     1, true},
    /* Going through steps: again with the same end, or with another. */
    {"add", "add 478+295", "773", "<think>8+5+0=13,7+9+1=17,4+2+1=7</think><answer>773</answer>", 3, 0, 0, 0, false},
    {"add", "add 478+295", "773", "<think>8+5+0=13,8+5+0=13,7+9+1=17,4+2+1=7</think><answer>773</answer>", 4, 1, 0, 0,
     false},
    {"add", "add 478+295", "773", "<think>8+5+0=12,8+5+0=13,7+9+1=17,4+2+1=7</think><answer>773</answer>", 4, 0, 0, 1,
     true},
    {"add", "add 478+295", "773", "<think>8+5+0=12,8+5+0=13,7+9+1=17,4+2+1=8</think><answer>873</answer>", 4, 0, 0, 1,
     false},
    {"sort", "sort 312", "123", "<think>3,13,13,123</think><answer>123</answer>", 4, 1, 0, 0, false},
};

static void counts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const Case *c = &cases[i];
        Problem p = {.task = task_find(c->task),
                     .level = 1,
                     .kind = KIND_REASONING,
                     .prompt = strdup(c->prompt),
                     .answer = strdup(c->answer)};
        Verdict v = task_verify(&p, c->completion, false);
        Reflection r = reflection_of(&p, c->completion, &v);
        if (r.steps != c->steps || r.checks != c->checks || r.slips != c->slips || r.revisions != c->revisions ||
            r.corrected != c->corrected)
            fail_msg("%s: %d steps, %d checks, %d slips, %d revisions, corrected %d", c->completion, r.steps, r.checks,
                     r.slips, r.revisions, r.corrected);
        problem_free(&p);
    }
}

/* Worked traces of the searching families are all checks, those that try twice all revise; a corrupt one holds a slip. */
static void worked(void **state)
{
    (void)state;
    static const char *const families[] = {"countdown", "code"};
    int revised = 0;
    for (int f = 0; f < 2; f++) {
        for (uint64_t i = 0; i < 200; i++) {
            Problem p;
            task_problem(&p, task_find(families[f]), 1 + (int)(i % 3), (Language)(i & 1), 3, SPLIT_TRAIN, i);
            Rng r = rng_stream(3, RNG_DATA, 1, i);
            for (int style = 0; style < 2; style++) {
                char *text = task_completion(&p, p.language, style ? STYLE_CORRUPT : STYLE_CLEAN, &r);
                Verdict v = task_verify(&p, text, false);
                Reflection n = reflection_of(&p, text, &v);
                if (n.checks + n.slips != n.steps || n.slips != style)
                    fail_msg("%s: %d checks of %d, %d slips", text, n.checks, n.steps, n.slips);
                revised += n.corrected;
                free(text);
            }
            assert_true(reflection_counts(&p));
            problem_free(&p);
        }
    }
    assert_true(revised > 50);
}

/* Nothing that a model writes breaks it. */
static void hostile(void **state)
{
    (void)state;
    static const char bytes[] = "0123456789+-*/()=[]@, 零九七<think></answer>\xe4\xff";
    Verdict v = {.reason = REASON_WRONG_ANSWER};
    for (int t = 0; t < task_count(); t++) {
        Problem p;
        task_problem(&p, task_at(t), 1, LANGUAGE_EN, 1, SPLIT_TRAIN, 0);
        for (uint64_t i = 0; i < 300 && reflection_counts(&p); i++) {
            char text[2048] = "<think>";
            size_t n = strlen(text);
            Rng r = rng_stream(1, RNG_DATA, 2, i);
            for (int length = (int)rng_below(&r, 1900); length > 0; length--)
                text[n++] = bytes[rng_below(&r, sizeof bytes - 1)];
            strcpy(text + n, "</think>");
            Reflection f = reflection_of(&p, text, &v);
            assert_true(f.steps <= REFLECTION_STEPS && f.checks + f.slips <= f.steps && f.revisions <= f.steps &&
                        !f.corrected);
        }
        problem_free(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(counts), cmocka_unit_test(worked), cmocka_unit_test(hostile)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
