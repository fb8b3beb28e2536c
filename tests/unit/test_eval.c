/* What the numbers of an evaluation mean: votes, standard errors, which rows are judged. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "recipes/model/eval_numbers.h"
#include "tests/unit/scratch.h"
#include "tests/unit/unit.h"

static Problem row_problem(const Dataset *d, int row)
{
    Problem p;
    dataset_problem(&p, d, SPLIT_TRAIN, (uint64_t)row);
    return p;
}

static Dataset *read_rows(const char *name, const char *rows, double heldout)
{
    Status st = {0};
    scratch_put(name, rows, strlen(rows));
    Dataset *d = dataset_read(scratch_path(name), heldout, false, &st);
    if (!d) fail_msg("%s", st.text);
    return d;
}

static float vote(const Problem *p, const char *const *answers, int k)
{
    CurveSample s[8] = {0};
    for (int i = 0; i < k; i++) s[i].answer = answers[i];
    return curve_vote(p, s, NULL, k);
}

/* The majority's answer is judged, not the sample that gave it first; equal values vote together; a tie goes to the first. */
static void votes(void **state)
{
    (void)state;
    Dataset *d = read_rows("votes.jsonl",
                           "{\"prompt\": \"a\", \"answer\": 42, \"verifier\": \"integer\"}\n"
                           "{\"prompt\": \"b\", \"answer\": \"1/2\", \"verifier\": \"rational\"}\n"
                           "{\"prompt\": \"c\", \"answer\": \"x\", \"verifier\": \"exact\"}\n",
                           0);
    Problem integer = row_problem(d, 0), rational = row_problem(d, 1), exact = row_problem(d, 2);
    assert_float_equal(vote(&integer, (const char *[]){"42", "42", "42", "42", "7"}, 5), 1, 0);
    assert_float_equal(vote(&integer, (const char *[]){"7", "07", "42", "42", "+7"}, 5), 0, 0);
    assert_float_equal(vote(&integer, (const char *[]){"7", "042", "42"}, 3), 1, 0);
    assert_float_equal(vote(&rational, (const char *[]){"3", "3", "1/2", "0.5", "2/4"}, 5), 1, 0);
    assert_float_equal(vote(&rational, (const char *[]){"1/2", "3", "3"}, 3), 0, 0);
    assert_float_equal(vote(&exact, (const char *[]){NULL, NULL, NULL, "x"}, 4), 1, 0); /* no answer is no vote */
    assert_float_equal(vote(&exact, (const char *[]){"y", "x"}, 2), 0, 0);
    assert_float_equal(vote(&exact, (const char *[]){"x", "y"}, 2), 1, 0);
    assert_float_equal(vote(&exact, (const char *[]){NULL, NULL}, 2), 0, 0);
    problem_free(&integer);
    problem_free(&rational);
    problem_free(&exact);
    dataset_free(d);
}

/* Four samples, one right and the likeliest: pass@k by counting, votes of pairs by hand, weights that turn a vote. */
static void curve(void **state)
{
    (void)state;
    Dataset *d = read_rows("curve.jsonl", "{\"prompt\": \"a\", \"answer\": 42, \"verifier\": \"integer\"}\n", 0);
    Problem p = row_problem(d, 0);
    const CurveSample s[4] = {{"42", 1, -0.1f}, {"7", 0, -3}, {"7", 0, -4}, {NULL, 0, -0.2f}};
    float out[CURVE_POINTS][CURVE_KINDS];
    assert_int_equal(curve_points(4), 3);
    assert_int_equal(curve_points(5), 3);
    assert_int_equal(curve_points(1), 1);
    curve_problem(out, &p, s, 4);
    for (int kind = 0; kind < CURVE_KINDS; kind++) assert_float_equal(out[0][kind], 0.25, 1e-6); /* k = 1: pass@1 */
    assert_float_equal(out[1][CURVE_PASS], 0.5, 1e-6); /* of six pairs three hold the right one */
    assert_float_equal(out[1][CURVE_VOTE], 0.5, 1e-6); /* 42 against 7: the first; 7 against nothing: 7 */
    assert_float_equal(out[1][CURVE_BEST], 0.5, 1e-6);
    assert_float_equal(out[2][CURVE_PASS], 1, 1e-6);
    assert_float_equal(out[2][CURVE_VOTE], 0, 1e-6);     /* 7 twice */
    assert_float_equal(out[2][CURVE_WEIGHTED], 1, 1e-6); /* 0.90 against 0.05 + 0.02 */
    assert_float_equal(out[2][CURVE_BEST], 1, 1e-6);
    const CurveSample partly[2] = {{"7", 0.5f, -1}, {"8", 0.25f, -2}};
    curve_problem(out, &p, partly, 2);
    assert_float_equal(out[1][CURVE_PASS], 0, 0); /* partly right is not right */
    problem_free(&p);
    dataset_free(d);
}

/* The highest rating chooses, of equal ones the first; samples beyond the last whole group are not asked. */
static void best_of(void **state)
{
    (void)state;
    const CurveSample s[5] = {{"a", 0.25f, 0}, {"b", 1, 0}, {"c", 0.5f, 0}, {"d", 0, 0}, {"e", 1, 0}};
    assert_float_equal(curve_best(s, (const float[]){1, 2, 3, 4, 9}, 5, 1), 0.55, 1e-6);
    assert_float_equal(curve_best(s, (const float[]){1, 2, 3, 4, 9}, 5, 2), 0.5, 1e-6);    /* b, d */
    assert_float_equal(curve_best(s, (const float[]){2, 1, 3, -4, 9}, 5, 2), 0.375, 1e-6); /* a, c */
    assert_float_equal(curve_best(s, (const float[]){7, 7, 7, 7, 9}, 5, 4), 0.25, 1e-6);   /* a */
    assert_float_equal(curve_best(s, (const float[]){-5, -4, -3, -4, -1}, 5, 5), 1, 1e-6); /* e */
}

/* s / sqrt(n) where every problem is another one. */
static void standard_error(void **state)
{
    (void)state;
    const float x[] = {0, 1, 1, 0.5f};
    const uint64_t key[] = {1, 2, 3, 4};
    int distinct = 0;
    double mean = 0.625, s = 0;
    for (int i = 0; i < 4; i++) s += (x[i] - mean) * (x[i] - mean);
    assert_float_equal(eval_error(x, key, 4, &distinct), sqrt(s / 3 / 4), 1e-12);
    assert_int_equal(distinct, 4);
    assert_float_equal(eval_error(x, key, 1, &distinct), 0, 0);
    assert_int_equal(distinct, 1);
}

/* A problem that comes m times counts once: copies of a sample make no error smaller (but for C / (C - 1) nothing changes). */
static void clustered_error(void **state)
{
    (void)state;
    const float once[] = {0, 1, 1, 0.5f};
    float x[40];
    uint64_t one[] = {1, 2, 3, 4}, key[40];
    int distinct = 0;
    for (int i = 0; i < 40; i++) x[i] = once[i % 4], key[i] = one[i % 4];
    assert_float_equal(eval_error(x, key, 40, &distinct), eval_error(once, one, 4, NULL), 1e-9);
    assert_int_equal(distinct, 4);
    for (int i = 0; i < 40; i++) key[i] = 7;
    assert_float_equal(eval_error(x, key, 40, &distinct), 0, 0);
}

/* Of a file no row is judged twice: the rows held out, all when none are. */
static void rows_of_a_file(void **state)
{
    (void)state;
    char rows[4096] = "", line[80];
    for (int i = 0; i < 40; i++) {
        snprintf(line, sizeof line, "{\"prompt\": \"question %d\", \"answer\": %d}\n", i, i);
        strcat(rows, line);
    }
    Dataset *all = read_rows("all.jsonl", rows, 0), *part = read_rows("part.jsonl", rows, 0.25);
    Source whole = {.dataset = all}, held = {.dataset = part}, task = {.task = task_find("add")};
    assert_int_equal(eval_problems(&whole, 200, 0), 40);
    assert_int_equal(eval_problems(&whole, 200, 10), 10);
    assert_int_equal(eval_problems(&whole, 200, 500), 40);
    assert_in_range(part->n_test, 4, 16);
    assert_int_equal(eval_problems(&held, 200, 0), part->n_test);
    assert_int_equal(eval_problems(&held, 200, 2), 2);
    assert_int_equal(eval_problems(&task, 200, 0), 200);
    dataset_free(all);
    dataset_free(part);
}

/* Families of a kind are averaged, and each is shown; a file is no helpful family. */
static void general_families(void **state)
{
    (void)state;
    EvalResult r = {.n_general = 4,
                    .general = {{.name = "kind", .kind = KIND_HELPFUL, .n = 4, .score = 0.2, .se = 0.3},
                                {.name = "polite", .kind = KIND_HELPFUL, .n = 4, .score = 0.6, .se = 0.4},
                                {.name = "refusal", .kind = KIND_SAFETY, .n = 4, .score = 0.5, .over_refusal = 0.25},
                                {.name = "rows", .kind = KIND_REASONING, .n = 4, .score = 0.9}}};
    Json *o = eval_json(&r), *general = (Json *)json_get(o, "general");
    assert_float_equal(json_get_number(o, "helpful"), 0.4, 1e-12);
    assert_float_equal(json_get_number(o, "helpful_se"), 0.25, 1e-12);
    assert_float_equal(json_get_number(o, "safe"), 0.5, 1e-12);
    assert_float_equal(json_get_number(o, "over_refusal"), 0.25, 1e-12);
    assert_int_equal(json_count(general), 4);
    assert_float_equal(json_get_number(json_get(general, "rows"), "score"), 0.9, 1e-12);
    assert_float_equal(json_get_number(json_get(general, "kind"), "score"), 0.2, 1e-12);
    json_free(o);
}

/* Paired: the error of the differences, not of the two means. */
static void paired(void **state)
{
    (void)state;
    float x[] = {0, 1, 0, 1}, y[] = {0.5f, 1.5f, 0.5f, 1.5f};
    EvalResult a = {.all = {.n = 4}, .problems = x}, b = {.all = {.n = 4}, .problems = y};
    double se = 1;
    assert_float_equal(eval_paired(&a, &b, &se), 0.5, 1e-12);
    assert_float_equal(se, 0, 1e-12);
    y[3] = 2.5f;
    assert_float_equal(eval_paired(&a, &b, &se), 0.75, 1e-12);
    assert_float_equal(se, sqrt((3 * 0.0625 + 0.5625) / 3 / 4), 1e-12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(votes),
        cmocka_unit_test(curve),
        cmocka_unit_test(best_of),
        cmocka_unit_test(standard_error),
        cmocka_unit_test(clustered_error),
        cmocka_unit_test(rows_of_a_file),
        cmocka_unit_test(general_families),
        cmocka_unit_test(paired),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
