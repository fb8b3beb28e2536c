/* The exact verifiers against hand-written answers, right and wrong, each with its reason; completions taken apart. */
#include <stdlib.h>
#include <string.h>

#include "data/answer.h"
#include "data/text.h"
#include "data/verify.h"
#include "tests/unit/unit.h"

typedef struct Case {
    const char *gold, *answer;
    Reason reason;
} Case;

static void check_cases(Reason (*verifier)(const char *, const char *), const Case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        Reason r = verifier(cases[i].gold, cases[i].answer);
        if (r != cases[i].reason)
            fail_msg("gold \"%s\", answer \"%s\": %s, expected %s", cases[i].gold, cases[i].answer, reason_name(r),
                     reason_name(cases[i].reason));
    }
}
#define CHECK_CASES(verifier, cases) check_cases(verifier, cases, sizeof(cases) / sizeof((cases)[0]))

static void test_integer(void **state)
{
    (void)state;
    static const Case cases[] = {
        {"773", "773", REASON_CORRECT},
        {"773", "0773", REASON_CORRECT},
        {"773", "+773", REASON_CORRECT},
        {"0", "-0", REASON_CORRECT},
        {"0", "000", REASON_CORRECT},
        {"-5", "-05", REASON_CORRECT},
        {"773", "-773", REASON_WRONG_ANSWER},
        {"773", "774", REASON_WRONG_ANSWER},
        {"773", "7730", REASON_WRONG_ANSWER},
        {"773", "77", REASON_WRONG_ANSWER},
        {"773", "", REASON_UNPARSEABLE},
        {"773", "-", REASON_UNPARSEABLE},
        {"773", "--773", REASON_UNPARSEABLE},
        {"773", "773.0", REASON_CORRECT},
        {"773", "7 73", REASON_UNPARSEABLE},
        {"773", "1,773", REASON_WRONG_ANSWER},
        {"773", "0x305", REASON_UNPARSEABLE},
        {"773", "7e2", REASON_WRONG_ANSWER},
        {"773", "773 or 774 or 775", REASON_UNPARSEABLE},
        {"773", "773 773", REASON_UNPARSEABLE},
        {"773", "478+295", REASON_UNPARSEABLE},     /* echoes the prompt */
        {"773", "add 478+295", REASON_UNPARSEABLE}, /* echoes all of it */
        {"773", "773<answer>773", REASON_UNPARSEABLE},
        {"773", "７７３", REASON_CORRECT}, /* full-width digits */
        {"773", "七七三", REASON_UNPARSEABLE},
        {"773", "٧٧٣", REASON_UNPARSEABLE},
    };
    CHECK_CASES(verify_integer, cases);
}

static void test_huge_integers(void **state)
{
    (void)state;
    char gold[401], other[401], longer[VERIFY_MAX + 2];
    memset(gold, '9', 400);
    gold[400] = '\0';
    memcpy(other, gold, 401);
    other[200] = '8';
    memset(longer, '0', VERIFY_MAX + 1);
    longer[VERIFY_MAX + 1] = '\0';
    assert_int_equal(verify_integer(gold, gold), REASON_CORRECT);
    assert_int_equal(verify_integer(gold, other), REASON_WRONG_ANSWER);
    assert_int_equal(verify_rational(gold, gold), REASON_CORRECT);
    assert_int_equal(verify_rational(gold, other), REASON_WRONG_ANSWER);
    assert_int_equal(verify_integer("0", longer), REASON_UNPARSEABLE);
    assert_int_equal(verify_rational("0", longer), REASON_UNPARSEABLE);
    long numbers[] = {9};
    assert_int_equal(verify_expression("9", numbers, 1, gold), REASON_NUMBER_UNKNOWN);
    assert_int_equal(verify_expression("9", numbers, 1, longer), REASON_UNPARSEABLE);
}

static void test_rational(void **state)
{
    (void)state;
    static const Case cases[] = {
        {"1/2", "2/4", REASON_CORRECT},
        {"1/2", "0.5", REASON_CORRECT},
        {"0.5", "0.50", REASON_CORRECT},
        {"-1/3", "-2/6", REASON_CORRECT},
        {"3", "3.0", REASON_CORRECT},
        {"3", "+6/2", REASON_CORRECT},
        {"0", "-0.000", REASON_CORRECT},
        {"1/3", "0.3333333333333333", REASON_WRONG_ANSWER}, /* no tolerance */
        {"1/2", "-1/2", REASON_WRONG_ANSWER},
        {"1/2", "1/0", REASON_DIVISION_BY_ZERO},
        {"0", "0/0", REASON_DIVISION_BY_ZERO},
        {"1/2", "1/-2", REASON_WRONG_ANSWER},
        {"1/2", "1 / 2", REASON_CORRECT},
        {"1/2", "1//2", REASON_UNPARSEABLE},
        {"1/2", ".5", REASON_CORRECT},
        {"5", "5.", REASON_CORRECT},
        {"5", "5.0.0", REASON_UNPARSEABLE},
        {"1/2", "50%", REASON_CORRECT},
        {"1/2", "5e-1", REASON_CORRECT},
        {"1/2", "nan", REASON_UNPARSEABLE},
        {"1/2", "1/2 or 1/3", REASON_UNPARSEABLE},
        {"1/2", "½", REASON_UNPARSEABLE},
        {"1/0", "1/0", REASON_UNPARSEABLE}, /* a gold answer that does not parse rewards nothing */
        {"what", "what", REASON_UNPARSEABLE},
    };
    CHECK_CASES(verify_rational, cases);
}

/* One reader of the usual spellings, and what must stay wrong beside them: never two numbers, no units, no tolerance. */
static void test_spellings(void **state)
{
    (void)state;
    static const Case cases[] = {
        {"1234", "1,234", REASON_CORRECT},
        {"1234", "$1234$", REASON_CORRECT},
        {"1234", "$1,234.00", REASON_CORRECT},
        {"1234", "\\boxed{1234}", REASON_CORRECT},
        {"1234", "The answer is $\\boxed{1{,}234}$.", REASON_CORRECT},
        {"1234", "\\(1234\\)", REASON_CORRECT},
        {"1234", "**1234**", REASON_CORRECT},
        {"1234", "\\text{1234}", REASON_CORRECT},
        {"1234", "1\u202f234", REASON_CORRECT},
        {"1234", "1234.", REASON_CORRECT},
        {"1234", "1234\u3002", REASON_CORRECT},
        {"1234", "1234.0", REASON_CORRECT},
        {"1234", "1.234e3", REASON_CORRECT},
        {"1234", "1.234 \\times 10^{3}", REASON_CORRECT},
        {"1234", "1.234×10^3", REASON_CORRECT},
        {"-7", "\u22127", REASON_CORRECT},
        {"-7", "- 7", REASON_CORRECT},
        {"7", "７", REASON_CORRECT},
        {"3/4", "\\frac{3}{4}", REASON_CORRECT},
        {"3/4", "\\dfrac34", REASON_CORRECT},
        {"3/4", "\\cfrac{3}{4}", REASON_CORRECT},
        {"-3/4", "-\\frac{3}{4}", REASON_CORRECT},
        {"3/4", "75%", REASON_CORRECT},
        {"3/4", "75\\%", REASON_CORRECT},
        {"1234567", "1,234,567", REASON_CORRECT},
        /* wrong */
        {"75", "75%", REASON_WRONG_ANSWER}, /* a percentage is in hundredths */
        {"1234", "1,235", REASON_WRONG_ANSWER},
        {"1234", "12,34", REASON_UNPARSEABLE},
        {"1234", "1,2,3,4", REASON_UNPARSEABLE},
        {"1234", "1234,", REASON_UNPARSEABLE},
        {"1234", "1,234,5", REASON_UNPARSEABLE},
        {"1234", "0,1234", REASON_UNPARSEABLE},
        {"1234567", "1234,567", REASON_UNPARSEABLE}, /* no grouping: two numbers, maybe */
        {"234", "0,234", REASON_UNPARSEABLE},
        {"1234", "1 234", REASON_UNPARSEABLE}, /* two numbers, maybe */
        {"72", "72 or 73", REASON_UNPARSEABLE},
        {"72", "72, 73", REASON_UNPARSEABLE},
        {"72", "72 73", REASON_UNPARSEABLE},
        {"72", "$72$ or $73$", REASON_UNPARSEABLE},
        {"72", "71-72", REASON_UNPARSEABLE},
        {"72", "x=72", REASON_UNPARSEABLE},
        {"7", "7 apples", REASON_UNPARSEABLE},
        {"7", "7e", REASON_UNPARSEABLE},
        {"7", "7e99999", REASON_UNPARSEABLE},
        {"7", "7 * 1", REASON_UNPARSEABLE},
        {"3/4", "3/4/1", REASON_UNPARSEABLE},
        {"3/4", "\\frac{3}{4", REASON_UNPARSEABLE},
        {"3/4", "\\frac{3}{0}", REASON_DIVISION_BY_ZERO},
        {"3/2", "1 1/2", REASON_UNPARSEABLE},
        {"72", "..72", REASON_UNPARSEABLE},
        {"72", ".", REASON_UNPARSEABLE},
        {"72", "$", REASON_UNPARSEABLE},
        {"72", "\\boxed{}", REASON_UNPARSEABLE},
        {"72", "%", REASON_UNPARSEABLE},
        {"0", "", REASON_UNPARSEABLE},
        {"1000", "1.000", REASON_WRONG_ANSWER},
    };
    CHECK_CASES(verify_rational, cases);
    static const Case exact[] = {
        {"\\frac{\\pi}{2}", "$\\frac{\\pi}{2}$", REASON_CORRECT},
        {"B", "\\boxed{\\text{B}}", REASON_CORRECT},
        {"B", "B.", REASON_CORRECT},
        {"B", "AB", REASON_WRONG_ANSWER},
        {"B", "\\boxed{}", REASON_WRONG_ANSWER},
        {"(1, 2)", "(1,2)", REASON_WRONG_ANSWER},
    };
    CHECK_CASES(verify_exact, exact);
    char *a = answer_canonical("$\\frac{2}{4}$"), *b = answer_canonical("0.50"), *c = answer_canonical(" B. ");
    assert_string_equal(a, "1/2");
    assert_string_equal(b, "1/2");
    assert_string_equal(c, "B");
    free(a);
    free(b);
    free(c);
}

static void test_lists_and_exact(void **state)
{
    (void)state;
    static const Case digits[] = {
        {"35778", "35778", REASON_CORRECT},
        {"35778", "35787", REASON_NOT_SORTED},
        {"35778", "77835", REASON_NOT_SORTED}, /* echoes the prompt */
        {"35778", "3578", REASON_NOT_A_PERMUTATION},
        {"35778", "357788", REASON_NOT_A_PERMUTATION},
        {"35778", "35779", REASON_NOT_A_PERMUTATION},
        {"35778", "3 5 7 7 8", REASON_UNPARSEABLE},
        {"35778", "", REASON_UNPARSEABLE},
        {"35778", "三五七七八", REASON_UNPARSEABLE},
        {"012", "12", REASON_NOT_A_PERMUTATION},
        {"35778", "35778 or 35787", REASON_UNPARSEABLE},
    };
    CHECK_CASES(verify_digits, digits);
    static const Case exact[] = {
        {"B", "B", REASON_CORRECT},
        {"B", "b", REASON_WRONG_ANSWER},
        {"B", "A or B or C", REASON_WRONG_ANSWER},
        {"B", "", REASON_WRONG_ANSWER},
        /* A fraction in other spellings, as the sets of problems have them; another fraction is another text. */
        {"\\frac{3}{4}", "\\dfrac{3}{4}", REASON_CORRECT},
        {"\\frac{3}{4}", "\\boxed{\\tfrac34}", REASON_CORRECT},
        {"\\frac{3}{4}", "3/4", REASON_CORRECT},
        {"-\\frac{3}{4}", "\\cfrac{-3}{4}", REASON_CORRECT},
        {"3/4", "$\\frac{3}{4}$", REASON_CORRECT},
        {"3/4", "6/8", REASON_WRONG_ANSWER},
        {"3/4", "0.75", REASON_WRONG_ANSWER},
        {"3/4", "-3/4", REASON_WRONG_ANSWER},
        {"3/4", "4/3", REASON_WRONG_ANSWER},
        {"3/4", "34", REASON_WRONG_ANSWER},
        {"012", "12", REASON_WRONG_ANSWER},
        {"012", "+012", REASON_WRONG_ANSWER},
        {"a/b", "b/a", REASON_WRONG_ANSWER},
    };
    CHECK_CASES(verify_exact, exact);
}

static void test_expression(void **state)
{
    (void)state;
    static const long numbers[] = {3, 5, 7, 7};
    static const struct {
        const char *answer;
        Reason reason;
    } cases[] = {
        {"3*7+5+7-0", REASON_NUMBER_UNKNOWN},
        {"3*7+5+7", REASON_CORRECT}, /* 33 */
        {" ( 3*7 ) + (5+7) ", REASON_CORRECT},
        {"7+7*3+5", REASON_CORRECT},
        {"3*7+5-7", REASON_WRONG_ANSWER},
        {"3*7+5", REASON_NUMBER_MISSING},
        {"33", REASON_NUMBER_UNKNOWN},
        {"3*7+5+7+7-7", REASON_NUMBER_REUSED},
        {"3*7+5+7*3/3", REASON_NUMBER_REUSED},
        {"3*7+5+7=33", REASON_UNPARSEABLE},
        {"3 5 7 7", REASON_UNPARSEABLE}, /* echoes the prompt */
        {"33 with 3 5 7 7", REASON_UNPARSEABLE},
        {"3*7+5+7 or 7*3+5+7", REASON_UNPARSEABLE},
        {"3*7+5+7)", REASON_UNPARSEABLE},
        {"(3*7+5+7", REASON_UNPARSEABLE},
        {"3*7+5+", REASON_UNPARSEABLE},
        {"3**7+5+7", REASON_UNPARSEABLE},
        {"-3*7+5+7", REASON_UNPARSEABLE},
        {"3×7+5+7", REASON_CORRECT},
        {"3x7+5+7", REASON_UNPARSEABLE},
        {"37+5+7", REASON_NUMBER_UNKNOWN}, /* digits glued together */
        {"3.0*7+5+7", REASON_UNPARSEABLE},
        {"5/(7-7)+3", REASON_DIVISION_BY_ZERO},
        {"", REASON_UNPARSEABLE},
        {"()", REASON_UNPARSEABLE},
        {"三*七+五+七", REASON_UNPARSEABLE},
        {"99999999999999999999999*3", REASON_NUMBER_UNKNOWN},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Reason r = verify_expression("33", numbers, 4, cases[i].answer);
        if (r != cases[i].reason)
            fail_msg("\"%s\": %s, expected %s", cases[i].answer, reason_name(r), reason_name(cases[i].reason));
    }
}

static void test_expression_exact_and_deep(void **state)
{
    (void)state;
    /* 8/(3-8/3) = 24 needs exact rationals. */
    static const long numbers[] = {3, 3, 8, 8};
    assert_int_equal(verify_expression("24", numbers, 4, "8/(3-8/3)"), REASON_CORRECT);
    assert_int_equal(verify_expression("24", numbers, 4, "8/(3-(8/3))"), REASON_CORRECT);
    assert_int_equal(verify_expression_like("8/(3-8/3)", "8/(3-8/3)"), REASON_CORRECT);
    assert_int_equal(verify_expression_like("3*7+5", "5+7*3"), REASON_CORRECT);
    assert_int_equal(verify_expression_like("3*7+5", "26"), REASON_NUMBER_UNKNOWN);
    char deep[2 * 4000 + 2];
    memset(deep, '(', 4000);
    deep[4000] = '1';
    memset(deep + 4001, ')', 4000);
    deep[8001] = '\0';
    assert_int_equal(verify_expression("1", numbers, 4, deep), REASON_UNPARSEABLE);
    deep[90] = '\0';
    assert_int_equal(verify_expression("1", numbers, 4, deep), REASON_UNPARSEABLE);
    Text many = {0};
    for (int i = 0; i < 200; i++) text_add(&many, "1+");
    text_add(&many, "1");
    assert_int_equal(verify_expression("201", numbers, 4, many.p), REASON_UNPARSEABLE);
    free(many.p);
}

static void test_gold(void **state)
{
    (void)state;
    long numbers[] = {3, 5, 7};
    assert_true(verify_gold(VERIFIER_INTEGER, "-12", NULL, 0));
    assert_false(verify_gold(VERIFIER_INTEGER, "12.5", NULL, 0));
    assert_true(verify_gold(VERIFIER_RATIONAL, "12.5", NULL, 0));
    assert_false(verify_gold(VERIFIER_RATIONAL, "1/0", NULL, 0));
    assert_true(verify_gold(VERIFIER_EXPRESSION, "26", numbers, 3));
    assert_false(verify_gold(VERIFIER_EXPRESSION, "26", NULL, 0));
    assert_true(verify_gold(VERIFIER_EXPRESSION, "3*7+5", NULL, 0));
    assert_false(verify_gold(VERIFIER_EXPRESSION, "3/(5-5)", NULL, 0));
    assert_false(verify_gold(VERIFIER_EXACT, "", NULL, 0));
    Verifier v;
    assert_true(verifier_find("expression", &v) && v == VERIFIER_EXPRESSION);
    assert_false(verifier_find("sympy", &v));
}

/* What the format rule and the accuracy of an addition say of a whole completion. */
static void test_completions(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        Reason format, accuracy;
    } cases[] = {
        {"<think>8+5+0=13</think><answer>773</answer>", REASON_CORRECT, REASON_CORRECT},
        {" <think> a </think>\n<answer> 773 </answer>\n", REASON_CORRECT, REASON_CORRECT},
        {"<think></think><answer>773</answer>", REASON_EMPTY_THINK, REASON_CORRECT},
        {"<think> \n</think><answer>773</answer>", REASON_EMPTY_THINK, REASON_CORRECT},
        {"<answer>773</answer>", REASON_NO_THINK_TAG, REASON_CORRECT},
        {"<think>a<answer>773</answer>", REASON_NO_THINK_TAG, REASON_CORRECT},
        {"<think>a</think>773", REASON_NO_ANSWER_TAG, REASON_NO_ANSWER_TAG},
        {"<think>a</think><answer>773", REASON_NO_ANSWER_TAG, REASON_NO_ANSWER_TAG},
        {"<think>a</think><answer> </answer>", REASON_EMPTY_ANSWER, REASON_EMPTY_ANSWER},
        {"<think>a</think><answer>773</answer>!", REASON_EXTRA_TEXT, REASON_EXTRA_TEXT},
        {"<think>a</think>so<answer>773</answer>", REASON_EXTRA_TEXT, REASON_CORRECT},
        {"so<think>a</think><answer>773</answer>", REASON_EXTRA_TEXT, REASON_CORRECT},
        {"<think>a</think><answer>772</answer><answer>773</answer>", REASON_EXTRA_TEXT, REASON_EXTRA_TEXT},
        {"<think>a</think><answer>773</answer><answer>773</answer>", REASON_EXTRA_TEXT, REASON_EXTRA_TEXT},
        {"<think><answer>772</answer></think><answer>773</answer>", REASON_CORRECT, REASON_CORRECT},
        {"<think>a</think><answer>773<answer>773</answer></answer>", REASON_EXTRA_TEXT, REASON_EXTRA_TEXT},
        {"<think><answer>773</answer></think>", REASON_NO_ANSWER_TAG, REASON_NO_ANSWER_TAG},
        {"<think>a<think>b</think><answer>773</answer>", REASON_EXTRA_TEXT, REASON_CORRECT},
        {"<think>a</think><answer>773</answer></answer>", REASON_EXTRA_TEXT, REASON_EXTRA_TEXT},
        {"<think>a<user>b</think><answer>773</answer>", REASON_EXTRA_TEXT, REASON_CORRECT},
        {"<answer>773</answer><think>a</think>", REASON_NO_ANSWER_TAG, REASON_NO_ANSWER_TAG},
        {"<Think>a</Think><Answer>773</Answer>", REASON_NO_THINK_TAG, REASON_NO_ANSWER_TAG},
        {"<think>a</think><answer>773 or 774</answer>", REASON_CORRECT, REASON_UNPARSEABLE},
        {"", REASON_NO_THINK_TAG, REASON_NO_ANSWER_TAG},
        /* The answer stands behind the thought, whatever the thought says of answers. */
        {"<think>I end with <answer> tags</think><answer>773</answer>", REASON_CORRECT, REASON_CORRECT},
        {"<think>say <answer>773</answer>? no</think><answer>7</answer>", REASON_CORRECT, REASON_WRONG_ANSWER},
        {"thought</think><answer>773</answer>", REASON_NO_THINK_TAG, REASON_CORRECT},
        {"<think>a</think><answer><think>b</think><answer>773</answer>", REASON_EXTRA_TEXT, REASON_EXTRA_TEXT},
        /* As models of others end. */
        {"<think>x</think>\n\nThe answer is \\boxed{773}.", REASON_NO_ANSWER_TAG, REASON_CORRECT},
        {"<think>x</think>\\boxed{1} no, \\boxed{ 773 }", REASON_NO_ANSWER_TAG, REASON_CORRECT},
        {"<think>x</think>\\boxed{773} no, \\boxed{1}", REASON_NO_ANSWER_TAG, REASON_WRONG_ANSWER},
        {"<think>\\boxed{773}</think>it is 773", REASON_NO_ANSWER_TAG, REASON_NO_ANSWER_TAG},
        {"<think>so \\boxed{773}", REASON_NO_THINK_TAG, REASON_NO_ANSWER_TAG}, /* the thought goes on */
        {"<think>x</think>\\boxed{773 or 774}", REASON_NO_ANSWER_TAG, REASON_UNPARSEABLE},
        {"<think>x</think>\\boxed{773", REASON_NO_ANSWER_TAG, REASON_NO_ANSWER_TAG},
        {"<think>x</think>\\boxed{}", REASON_NO_ANSWER_TAG, REASON_EMPTY_ANSWER},
        {"<think>x</think>so\n#### 773", REASON_NO_ANSWER_TAG, REASON_CORRECT},
        {"<think>x</think><answer>\\boxed{773}</answer>", REASON_CORRECT, REASON_CORRECT},
    };
    Problem p = {.task = task_find("add"), .level = 3, .prompt = "add 478+295", .answer = "773"};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Parsed c = completion_parse(cases[i].text);
        Verdict v = task_verify(&p, cases[i].text, false);
        if (c.format_reason != cases[i].format || v.reason != cases[i].accuracy)
            fail_msg("\"%s\": format %s (expected %s), accuracy %s (expected %s)", cases[i].text,
                     reason_name(c.format_reason), reason_name(cases[i].format), reason_name(v.reason),
                     reason_name(cases[i].accuracy));
        assert_true(c.format_ok == (c.format_reason == REASON_CORRECT));
        assert_true(v.score == (v.reason == REASON_CORRECT ? 1.0f : 0.0f) && v.microseconds >= 0);
    }
    Verdict v = task_verify(&p, cases[0].text, true);
    assert_int_equal(v.reason, REASON_TRUNCATED);
    assert_true(v.score == 0);
}

static void test_language_share(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        float english;
    } cases[] = {
        {"8+5+0=13", 1.0f},
        {"八+五+零=一三", 0.0f},
        {"8+五=一3", 0.0f}, /* digits are of no language */
        {"hello cat 猫", 2.0f / 3},
        {"你好hello 12", 1.0f / 3},
        {"+=,", 1.0f},
        {"小明有 123456789 + 987654321 个", 0.0f},
        {"naïve café", 1.0f},
        {"the angle α is π/2", 1.0f}, /* names of mathematics */
        {"привет мир", 0.0f},         /* other scripts count against both */
        {"hello привет", 0.5f},
        {"hello こん", 1.0f / 3},
        {"so λόγος", 0.5f},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        float share = language_share(cases[i].text, strlen(cases[i].text), LANGUAGE_EN);
        assert_true(share > cases[i].english - 1e-6f && share < cases[i].english + 1e-6f);
    }
    const Problem built_in = {.language = LANGUAGE_EN};
    assert_true(task_language_share(&built_in, "8+五=一3", strlen("8+五=一3")) == 0.5f);
    assert_true(language_share("привет", strlen("привет"), LANGUAGE_ZH) == 0.0f);
    assert_true(language_share("+", 1, LANGUAGE_ZH) == 1.0f);
    assert_true(language_share("\xff\xe4", 2, LANGUAGE_ZH) == 1.0f); /* no UTF-8, no words */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_integer),        cmocka_unit_test(test_huge_integers),
        cmocka_unit_test(test_rational),       cmocka_unit_test(test_lists_and_exact),
        cmocka_unit_test(test_expression),     cmocka_unit_test(test_expression_exact_and_deep),
        cmocka_unit_test(test_gold),           cmocka_unit_test(test_completions),
        cmocka_unit_test(test_language_share), cmocka_unit_test(test_spellings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
