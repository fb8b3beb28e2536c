/* Status: one sentence, the first failure wins, prefixes, and texts that do not fit. */
#include "tests/unit/unit.h"

#include <string.h>

#include "core/base/status.h"

static void test_fail_formats_and_returns_false(void **state)
{
    (void)state;
    Status st = {0};
    assert_false(fail(&st, "%s: line %d: no key \"%s\"", "tiny.yaml", 3, "stepz"));
    assert_true(st.failed);
    assert_string_equal(st.text, "tiny.yaml: line 3: no key \"stepz\"");
}

static void test_first_failure_wins(void **state)
{
    (void)state;
    Status st = {0};
    fail(&st, "first");
    fail(&st, "second");
    assert_string_equal(st.text, "first");
}

static void test_prefix_goes_before(void **state)
{
    (void)state;
    Status st = {0};
    fail(&st, "line %d", 3);
    assert_false(fail_prefix(&st, "stage %s", "zero"));
    assert_string_equal(st.text, "stage zero: line 3");
    fail_prefix(&st, "tiny.yaml");
    assert_string_equal(st.text, "tiny.yaml: stage zero: line 3");
}

static void test_prefix_without_failure_changes_nothing(void **state)
{
    (void)state;
    Status st = {0};
    assert_false(fail_prefix(&st, "tiny.yaml"));
    assert_false(st.failed);
    assert_string_equal(st.text, "");
}

static void test_clear_forgets(void **state)
{
    (void)state;
    Status st = {0};
    fail(&st, "first");
    status_clear(&st);
    assert_false(st.failed);
    assert_string_equal(st.text, "");
    fail(&st, "second");
    assert_string_equal(st.text, "second");
}

static void test_no_status_is_allowed(void **state)
{
    (void)state;
    assert_false(fail(NULL, "nobody %s", "listens"));
    assert_false(fail_prefix(NULL, "nobody"));
}

static void test_long_texts_are_cut_not_overrun(void **state)
{
    (void)state;
    struct {
        Status st;
        char guard[16];
    } s;
    memset(&s, 0, sizeof s);
    memset(s.guard, 'g', sizeof s.guard);
    char longer[3000];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;

    fail(&s.st, "%s", longer);
    assert_int_equal(strlen(s.st.text), sizeof s.st.text - 1);
    fail_prefix(&s.st, "tiny.yaml");
    assert_int_equal(strlen(s.st.text), sizeof s.st.text - 1);
    assert_memory_equal(s.st.text, "tiny.yaml: xxx", 14);
    fail_prefix(&s.st, "%s", longer);
    assert_true(strlen(s.st.text) < sizeof s.st.text);
    for (size_t i = 0; i < sizeof s.guard; i++) assert_int_equal(s.guard[i], 'g');
    /* The middle goes: the cause stands at the end. */
    Status st = {0};
    fail(&st, "cannot read %s\xe6\x97\xa5%s: no such file", longer, longer);
    assert_memory_equal(st.text, "cannot read xxx", 15);
    assert_non_null(strstr(st.text, "x .. x"));
    assert_string_equal(st.text + strlen(st.text) - 16, "xx: no such file");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fail_formats_and_returns_false),
        cmocka_unit_test(test_first_failure_wins),
        cmocka_unit_test(test_prefix_goes_before),
        cmocka_unit_test(test_prefix_without_failure_changes_nothing),
        cmocka_unit_test(test_clear_forgets),
        cmocka_unit_test(test_no_status_is_allowed),
        cmocka_unit_test(test_long_texts_are_cut_not_overrun),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
