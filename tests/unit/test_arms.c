/* Arms out of --arm, --grid and --seeds: names, settings, combinations, and what is refused. */
#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"

#include "core/base/check.h"
#include "recipes/ablate/ablate.h"

static Ablation *fresh(void)
{
    Ablation *a = calloc(1, sizeof *a);
    CHECK(a);
    ablate_source(a, "micro");
    return a;
}

static void test_split(void **state)
{
    (void)state;
    char parts[4][SET_TEXT];
    assert_int_equal(arms_split("a,b", parts, 4), 2);
    assert_string_equal(parts[1], "b");
    assert_int_equal(arms_split("{x: 1, y: 2},[3, 4],'5,6'", parts, 4), 3);
    assert_string_equal(parts[0], "{x: 1, y: 2}");
    assert_string_equal(parts[2], "'5,6'");
    assert_int_equal(arms_split("", parts, 4), 1);
    assert_int_equal(arms_split("1,2,3,4,5", parts, 4), -1);
}

static void test_grid(void **state)
{
    (void)state;
    Ablation *a = fresh();
    Status st = {0};
    assert_true(arms_grid(a, "zero.lr=1e-4,2e-4", &st));
    assert_true(arms_grid(a, "zero.rewards={accuracy: 1},{accuracy: 1, format: 1}", &st));
    assert_int_equal(a->n_arms, 4);
    assert_string_equal(a->arms[0].name, "lr=1e-4+rewards=-accuracy-1");
    assert_int_equal(a->arms[3].n, 2);
    assert_string_equal(a->arms[3].sets[0], "zero.lr=2e-4");
    assert_string_equal(a->arms[3].sets[1], "zero.rewards={accuracy: 1, format: 1}");
    assert_true(arms_seeds(a, "3", 7, &st));
    assert_true(a->n_seeds == 3 && a->seeds[0] == 7 && a->seeds[2] == 9);
    assert_true(arms_check(a, &st));
    assert_string_equal(a->until, "zero");
    free(a);
}

static void test_arm(void **state)
{
    (void)state;
    Ablation *a = fresh();
    Status st = {0};
    assert_true(arms_add(a, "recipe:", &st) && arms_add(a, "hot one:zero.temperature=1.2,cold_start.traces=50", &st));
    assert_string_equal(a->arms[1].name, "hot-one");
    assert_int_equal(a->arms[1].n, 2);
    assert_true(arms_seeds(a, "5,1", 0, &st) && a->n_seeds == 2 && a->seeds[0] == 5);
    assert_true(arms_check(a, &st));
    assert_string_equal(a->until, "cold_start"); /* the last stage that a setting names */
    char folder[FOLDER];
    strcpy(a->out, "x");
    arm_folder(a, &a->arms[1], 5, folder);
    assert_string_equal(folder, "x/hot-one-s5");
    Recipe *r = arm_recipe(a, &a->arms[1], 5, &st);
    assert_true(r && r->seed == 5 && recipe_stage(r, "cold_start")->traces == 50);
    free(r);
    free(a);
}

/* Options of the runs stand beside settings; arms that differ in them alone are two. */
static void test_options(void **state)
{
    (void)state;
    Ablation *a = fresh();
    Status st = {0};
    assert_true(arms_add(a, "memory:", &st));
    assert_false(arms_with_options(a));
    assert_true(arms_add(a, "disk:--memory=0.2,zero.lr=1e-4,--state", &st) && arms_add(a, "slow:--threads=1", &st));
    assert_true(arms_with_options(a) && a->arms[1].n == 1 && a->arms[1].n_options == 2);
    assert_string_equal(a->arms[1].sets[0], "zero.lr=1e-4");
    assert_string_equal(a->arms[1].options[0], "--memory=0.2");
    assert_string_equal(a->arms[1].options[1], "--state");
    assert_true(arms_seeds(a, "1", 0, &st) && arms_check(a, &st));
    assert_true(arms_add(a, "slow again:--threads=1", &st));
    assert_false(arms_check(a, &st));
    assert_non_null(strstr(st.text, "arms slow and slow-again are the same recipe"));
    free(a);
}

static void refuse(bool (*take)(Ablation *a, const char *text, Status *st), const char *text, const char *part)
{
    Ablation *a = fresh();
    Status st = {0};
    assert_true(arms_add(a, "there:zero.lr=1", &st));
    assert_false(take(a, text, &st));
    if (!strstr(st.text, part)) fail_msg("'%s' says: %s", text, st.text);
    free(a);
}

static bool seeds(Ablation *a, const char *text, Status *st)
{
    return arms_seeds(a, text, 1, st);
}

static void test_refused(void **state)
{
    (void)state;
    refuse(arms_add, "zero.lr=1", "expected NAME:KEY=VALUE");
    refuse(arms_add, "there:zero.lr=2", "two arms are called 'there'");
    refuse(arms_add, ":zero.lr=2", "an arm needs a name");
    refuse(arms_add, "../up:zero.lr=2", "an arm needs a name");
    refuse(arms_add, "x:lr", "'lr' is no KEY=VALUE");
    refuse(arms_add, "x:seed=3", "name seeds with --seeds");
    refuse(arms_add, "x:--precision=bf16", "'--precision=bf16' is no option that an arm can have");
    refuse(arms_add, "x:--memory=much", "is no option");
    refuse(arms_add, "x:--state=dir", "is no option");
    refuse(arms_grid, "zero.lr=1", "with 2 to");
    refuse(arms_grid, "zero.lr", "with 2 to");
    refuse(seeds, "0", "from 1 to");
    refuse(seeds, "65", "from 1 to");
    refuse(seeds, "1,1", "1 is there twice");
    refuse(seeds, "1,x", "expected a number of seeds");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_split), cmocka_unit_test(test_grid),
                                       cmocka_unit_test(test_arm), cmocka_unit_test(test_options),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
