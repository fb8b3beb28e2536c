#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/json.h"
#include "data/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static Json *parse(const char *text)
{
    Status st = {0};
    Json *v = json_parse(text, strlen(text), "test", &st);
    if (!v) fail_msg("%s", st.text);
    return v;
}

static void expect_written(const char *text, const char *want)
{
    Json *v = parse(text);
    char *got = json_write(v, false);
    assert_string_equal(got, want);
    free(got);
    json_free(v);
}

static void reads_every_kind(void **state)
{
    (void)state;
    Json *v = parse("{\"b\": [1, -2.5, true, null, \"x\\u0000y\"], \"a\": {}, \"big\": 9223372036854775807}");
    assert_true(json_is_object(v));
    assert_int_equal(json_count(v), 3);
    const Json *list = json_get(v, "b"), *value;
    assert_int_equal(json_count(list), 5);
    assert_int_equal(json_integer(json_at(list, 0)), 1);
    assert_true(json_number(json_at(list, 1)) == -2.5);
    assert_true(json_bool(json_at(list, 2)) && json_is_null_value(json_at(list, 3)));
    size_t length;
    assert_memory_equal(json_string(json_at(list, 4), &length), "x\0y", 3);
    assert_int_equal(length, 3);
    assert_string_equal(json_member(v, 1, &value), "a");
    assert_null(json_member(v, 3, &value));
    assert_null(json_at(list, 5));
    assert_null(json_get(list, "b"));
    assert_null(json_get(NULL, "b"));
    assert_int_equal(json_count(NULL), 0);
    assert_true(json_integer(json_get(v, "big")) == INT64_MAX);
    json_free(v);
}

static void walks_in_insertion_order(void **state)
{
    (void)state;
    Json *v = parse("{\"z\": 0, \"a\": 1, \"m\": 2}");
    void *cursor = NULL;
    const Json *value;
    const char *key, *want[] = {"z", "a", "m"};
    int n = 0;
    while ((key = json_next(v, &cursor, &value))) {
        assert_string_equal(key, want[n]);
        assert_int_equal(json_integer(value), n++);
    }
    assert_int_equal(n, 3);
    json_free(v);
}

static void writes_as_python_does(void **state)
{
    (void)state;
    expect_written(
        "{\"b\":[1,2.0,1e-7,0.1,1e22,123456789.125,-0.0],\"a\":{\"x\":\"\\u00e9\\n\\u0001\\\"\\\\\"},\"e\":[]}",
        "{\"b\": [1, 2.0, 1e-07, 0.1, 1e+22, 123456789.125, -0.0], \"a\": {\"x\": \"\xc3\xa9\\n\\u0001\\\"\\\\\"}, "
        "\"e\": []}");
    /* What other readers take for the end of a line is escaped; its neighbours are not. */
    expect_written("[\"a\xc2\x85\xc2\x86\xe2\x80\xa8\xe2\x80\xa7\xe2\x80\xa9\"]",
                   "[\"a\\u0085\xc2\x86\\u2028\xe2\x80\xa7\\u2029\"]");
    expect_written("[5e-324, 1.7976931348623157e308, 1e15, 1e16, 0.0001, 0.00001]",
                   "[5e-324, 1.7976931348623157e+308, 1000000000000000.0, 1e+16, 0.0001, 1e-05]");
}

static void indents(void **state)
{
    (void)state;
    Json *v = parse("{\"a\": [1, {}], \"b\": []}");
    char *got = json_write(v, true);
    assert_string_equal(got, "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": []\n}");
    free(got);
    json_free(v);
}

static void reals_read_back_equal(void **state)
{
    (void)state;
    uint64_t bits = 0x9E3779B97F4A7C15u;
    for (int i = 0; i < 2000; i++) {
        bits = bits * 6364136223846793005u + 1442695040888963407u;
        double v;
        memcpy(&v, &bits, sizeof v);
        if (!isfinite(v)) continue;
        Json *made = json_new_number(v);
        char *text = json_write(made, false);
        Json *again = parse(text);
        double got = json_number(again);
        assert_memory_equal(&got, &v, sizeof v);
        free(text);
        json_free(made);
        json_free(again);
    }
}

static void builds(void **state)
{
    (void)state;
    Json *v = json_new_object(), *list = json_new_array();
    json_append(list, json_new_int(-3));
    json_append(list, json_new_number(NAN));
    json_append(list, json_new_bool(true));
    json_append(list, json_new_text("a\xff"
                                    "b"));
    json_append(list, json_new_string("n\0m", 3));
    json_append(list, json_new_null());
    json_set(v, "list", list);
    char *got = json_write(v, false);
    assert_string_equal(got, "{\"list\": [-3, null, true, \"a\xef\xbf\xbd"
                             "b\", \"n\\u0000m\", null]}");
    free(got);
    Json *copy = json_copy(v);
    json_free(v);
    assert_int_equal(json_count(json_get(copy, "list")), 6);
    json_free(copy);
}

static void typed_members(void **state)
{
    (void)state;
    Json *v = parse("{\"i\": 4, \"r\": 2.5, \"whole\": 4096.0, \"s\": \"x\", \"n\": null, \"b\": false}");
    Status st = {0};
    int64_t i = 0;
    double d = 0;
    bool b = true;
    assert_true(json_get_int(v, "i", 7, &i, &st) && i == 4);
    assert_true(json_get_int(v, "whole", 7, &i, &st) && i == 4096);
    assert_true(json_get_int(v, "n", 7, &i, &st) && i == 7);
    assert_true(json_get_double(v, "i", 0, &d, &st) && d == 4);
    assert_true(json_get_double(v, "absent", 1.5, &d, &st) && d == 1.5);
    assert_true(json_get_bool(v, "b", true, &b, &st) && !b);
    assert_string_equal(json_get_string(v, "s", "y"), "x");
    assert_string_equal(json_get_string(v, "i", "y"), "y");
    assert_false(json_get_int(v, "r", 7, &i, &st));
    assert_string_equal(st.text, "\"r\" must be an integer, but is a real number");
    status_clear(&st);
    assert_false(json_get_double(v, "s", 7, &d, &st));
    assert_string_equal(st.text, "\"s\" must be a number, but is a string");
    status_clear(&st);
    assert_false(json_get_bool(v, "i", false, &b, &st));
    assert_true(i == 7 && d == 1.5 && !b);
    json_free(v);
}

static void refuses(const char *text, size_t length, const char *part)
{
    Status st = {0};
    assert_null(json_parse(text, length, "f.json", &st));
    if (!strstr(st.text, part) || strncmp(st.text, "f.json: line ", 13)) fail_msg("%s", st.text);
}

static void refuses_what_is_broken(void **state)
{
    (void)state;
    refuses("", 0, "line 1: ");
    refuses("{\n\"a\": 1,\n\"a\": 2}", 18, "line 3: duplicate object key");
    refuses("[1, 2", 5, "line 1: ");
    refuses("[1] x", 5, "line 1: end of file expected");
    refuses("99999999999999999999", 20, "too big integer");
    refuses("1e999", 5, "real number overflow");
    refuses("\"\xff\"", 3, "line 1: ");
    refuses("\"\\ud800\"", 8, "line 1: ");
    refuses("NaN", 3, "line 1: ");
    size_t n = 1000000;
    char *deep = malloc(n);
    memset(deep, '[', n);
    refuses(deep, n, "maximum parsing depth");
    free(deep);
}

static void files(void **state)
{
    (void)state;
    Status st = {0};
    assert_null(json_read("tests", &st));
    assert_string_equal(st.text, "tests: cannot be read: Is a directory");
    status_clear(&st);
    assert_null(json_read("tests/none.json", &st));
    assert_non_null(strstr(st.text, "No such file"));
    status_clear(&st);
    char folder[] = "/tmp/r1-json-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/x.json", folder);
    Json *v = parse("{\"a\": [0.1]}");
    assert_true(json_write_file(v, path, &st));
    Json *again = json_read(path, &st);
    assert_true(json_number(json_at(json_get(again, "a"), 0)) == 0.1);
    json_free(again);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
    assert_false(json_write_file(v, path, &st));
    assert_non_null(strstr(st.text, "cannot write"));
    json_free(v);
}

static void utf8_is_repaired_as_unicode_says(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"plain", "plain"},    {"\xe4\xbd\xa0", "\xe4\xbd\xa0"}, {"\xe4\xbd", "?"},  {"\xe4\xbdx", "?x"},
        {"\xf0\x9f\x98", "?"}, {"\xed\xa0\x80", "???"},          {"\xc0\xaf", "??"}, {"\xf4\x90\x80\x80", "????"},
        {"\x80\xbf", "??"},    {"\xf0\x80\x80\x41", "???A"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char want[64] = "", *at = want;
        for (const char *c = cases[i].out; *c; c++)
            at += *c == '?' ? sprintf(at, "\xef\xbf\xbd") : sprintf(at, "%c", *c);
        char *got = utf8_repair(cases[i].in, strlen(cases[i].in), NULL);
        assert_string_equal(got, want);
        free(got);
    }
    for (int32_t code = 0; code < 0x110000; code++) {
        if (code >= 0xD800 && code < 0xE000) continue;
        char bytes[4];
        int32_t again;
        size_t n = utf8_put(code, bytes);
        assert_int_equal(utf8_next(bytes, n, &again), n);
        assert_int_equal(again, code);
        for (size_t cut = 1; cut < n; cut++) assert_int_equal(utf8_incomplete_tail(bytes, cut), cut);
        assert_int_equal(utf8_incomplete_tail(bytes, n), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_kind),
        cmocka_unit_test(walks_in_insertion_order),
        cmocka_unit_test(writes_as_python_does),
        cmocka_unit_test(indents),
        cmocka_unit_test(reals_read_back_equal),
        cmocka_unit_test(builds),
        cmocka_unit_test(typed_members),
        cmocka_unit_test(refuses_what_is_broken),
        cmocka_unit_test(files),
        cmocka_unit_test(utf8_is_repaired_as_unicode_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
