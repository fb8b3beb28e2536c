/* The report: numbers of the run are on the page, the page is whole, quiet about what is missing, and safe with any text. */
#include "tests/unit/unit.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "recipes/report/report.h"
#include "recipes/report/data.h"
#include "recipes/run/run_folder.h"
#include "recipes/report/svg.h"
#include "recipes/run/warnings.h"
#include "tests/unit/scratch.h"

static void put(Json *o, const char *key, double v)
{
    json_set(o, key, json_new_number(v));
}

static Json *evaluation(double pass1, double helpful)
{
    static const char *const tasks[] = {"add2", "all"};
    Json *e = json_new_object();
    for (int i = 0; i < 2; i++) {
        Json *t = json_new_object(), *reasons = json_new_object();
        put(t, "pass@1", pass1);
        put(t, "se", 0.021);
        put(t, "cons@16", pass1 + 0.1);
        put(t, "pass@16", pass1 + 0.2);
        put(t, "format", 0.9);
        put(t, "language", 0.8);
        put(t, "length", 27.5);
        put(t, "k", 16);
        put(reasons, "correct", 100 * pass1);
        put(reasons, "wrong answer", 100 - 100 * pass1);
        json_set(t, "reasons", reasons);
        json_set(e, tasks[i], t);
    }
    put(e, "helpful", helpful);
    return e;
}

static Json *sample(bool correct)
{
    Json *list = json_new_array(), *s = json_new_object();
    json_set(s, "prompt", json_new_text("add 1+1 <script>alert('x')</script> & \"so\" 加"));
    json_set(
        s, "completion",
        json_new_text("<think>1+1=2 <b></think> <answer>2</answer> \xe4\xbd\xa0\xe5\xa5\xbd, a long tail of text <i>"));
    json_set(s, "answer", json_new_text("2"));
    json_set(s, "correct", json_new_bool(correct));
    json_set(s, "reason", json_new_text(correct ? "correct" : "no answer tag"));
    json_append(list, s);
    return list;
}

static void write_stage(RunFolder *f, const char *name, int steps, double pass1, bool rl)
{
    Status st = {0};
    for (int i = 1; i <= steps; i++) {
        Json *line = json_new_object();
        put(line, "loss", 2.0 / i);
        put(line, "lr", 3e-4);
        put(line, "gap", 0);
        if (rl) put(line, "reward", (double)i / steps), put(line, "pass@1", pass1 * i / steps);
        assert_true(run_metrics_append(f, name, i, line, &st));
    }
    Json *entry = json_new_object(), *line = json_new_object();
    json_set(entry, "name", json_new_text(name));
    put(entry, "steps", steps);
    put(entry, "seconds", 65);
    put(entry, "tokens_trained", 1234567);
    put(entry, "flops", 3.25e12);
    json_set(entry, "weights_sha256", json_new_text("0123abcd"));
    json_set(entry, "eval", evaluation(pass1, 0.4));
    json_set(line, "eval", evaluation(pass1, 0.4));
    assert_true(run_metrics_append(f, name, steps, line, &st));
    assert_true(run_summary_stage(f, name, entry, &st));
    assert_true(run_samples_write(f, name, sample(pass1 > 0.5), &st));
}

static void write_run(const char *name, double shift)
{
    Status st = {0};
    bool resumed;
    RunFolder *f = run_folder_open(scratch_path(name), "title: \"a <run> & more\"\nseed: 3\n", &resumed, &st);
    if (!f) fail_msg("%s", st.text);
    assert_true(run_summary_set(f, "seed", json_new_int(3), &st));
    write_stage(f, "base", 300, 0.15 + shift, false);
    write_stage(f, "zero", 60, 0.701 + shift, true);
    write_stage(f, "distill", 5, 0.387 + shift, false);
    write_stage(f, "distill.rival1", 5, 0.111, true);
    write_stage(f, "distill.rival2", 5, 0.214, true);
    Json *line = json_new_object();
    Warning w = {.kind = WARN_LANGUAGE_DRIFTS, .step = 7, .evidence = "61 % here"};
    json_set(line, "warning", warning_json(&w));
    assert_true(run_metrics_append(f, "zero", 7, line, &st));
    run_folder_close(f);
}

/* Every tag that opens is closed, in order. */
static void check_tags(const char *page)
{
    char stack[64][16];
    int depth = 0;
    for (const char *c = strchr(page, '<'); c; c = strchr(c + 1, '<')) {
        bool closing = c[1] == '/';
        const char *name = c + 1 + closing, *end = strchr(c, '>');
        if (!end) fail_msg("a tag without end: %.40s", c);
        size_t n = 0;
        while (isalnum((unsigned char)name[n])) n++;
        if (c[1] == '!' || !strncmp(name, "meta", 4) || end[-1] == '/') continue;
        if (!n || n > 15) fail_msg("a bare '<': %.40s", c);
        if (!closing) {
            snprintf(stack[depth++], 16, "%.*s", (int)n, name);
            assert_true(depth < 64);
            continue;
        }
        if (!depth || strlen(stack[depth - 1]) != n || strncmp(stack[depth - 1], name, n))
            fail_msg("</%.*s> closes <%s>: %.60s", (int)n, name, depth ? stack[depth - 1] : "nothing", c);
        depth--;
    }
    assert_int_equal(depth, 0);
}

static char *read_page(const char *name)
{
    size_t n;
    char *page = scratch_read(scratch_path(name), &n);
    assert_int_equal(strlen(page), n);
    check_tags(page);
    if (strstr(page, "http") || strstr(page, "<script")) fail_msg("the page reaches out or runs something");
    return page;
}

static void expect(const char *page, const char *text)
{
    if (!strstr(page, text)) fail_msg("the page has no '%s'", text);
}

static void one_run(void **state)
{
    (void)state;
    Status st = {0};
    write_run("one", 0);
    const char *folder = scratch_path("one");
    if (!report_write(&folder, 1, NULL, &st)) fail_msg("%s", st.text);
    char *page = read_page("one/report.html");
    static const char *const words[] = {"<title>a &lt;run&gt; &amp; more</title>",
                                        ">70.1 <small>&#177;2.1</small>",
                                        "Zero<small>RL on the base",
                                        "by RL, best of 2",
                                        ">21.4 <small>",
                                        "by RL, lr 0.0003",
                                        "1.2M",
                                        "3.2T",
                                        "1:05",
                                        "cons@16",
                                        "pass@16",
                                        "language-drifts",
                                        "61 % here",
                                        "&lt;script&gt;alert",
                                        "<span class='tag'>&lt;think&gt;</span>1+1=2 &lt;b&gt;",
                                        "你好, a long tail of text &lt;i&gt;",
                                        "no answer tag",
                                        "wrong answer",
                                        "0123abcd",
                                        "prefers-color-scheme: dark",
                                        "seed: 3",
                                        "Largest gap"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) expect(page, words[i]);
    if (strstr(page, "nan") && !strstr(page, "nano")) fail_msg("the page says nan");
    free(page);
}

static void several_runs(void **state)
{
    (void)state;
    Status st = {0};
    char first[300], second[300];
    write_run("two", 0.02);
    snprintf(first, sizeof first, "%s", scratch_path("one"));
    snprintf(second, sizeof second, "%s", scratch_path("two"));
    const char *folders[] = {first, second};
    if (!report_write(folders, 2, NULL, &st)) fail_msg("%s", st.text);
    char *page = read_page("one/compare.html");
    expect(page, "2 runs compared");
    expect(page, "mean of the runs");
    expect(page, ">71.1 <small>&#177;1.0</small>"); /* 70.1 and 72.1 */
    free(page);
    assert_true(report_write(folders, 2, scratch_path("elsewhere.html"), &st));
    free(read_page("elsewhere.html"));
}

static void a_run_that_has_just_begun(void **state)
{
    (void)state;
    Status st = {0};
    bool resumed;
    const char *folder = scratch_path("begun");
    run_folder_close(run_folder_open(folder, "seed: 3\n", &resumed, &st));
    assert_true(report_write(&folder, 1, NULL, &st));
    char *page = read_page("begun/report.html");
    assert_null(strstr(page, "What every stage changed"));
    assert_null(strstr(page, "How it learned"));
    free(page);
}

static void no_run(void **state)
{
    (void)state;
    Status st = {0};
    const char *folder = scratch_path("nothing here");
    assert_false(report_write(&folder, 1, NULL, &st));
    assert_true(says(&st, "is no run folder"));
    status_clear(&st);
    mkdir(scratch_path("broken"), 0777);
    scratch_put("broken/summary.json", "{\"stages\": [", 12);
    folder = scratch_path("broken");
    assert_false(report_write(&folder, 1, NULL, &st));
    assert_true(st.failed);
}

static void series(void **state)
{
    (void)state;
    Status st = {0};
    ReportRun r;
    assert_true(report_run_read(&r, scratch_path("one"), &st));
    Points p = report_points(&r, "zero", "pass@1", false), e = report_points(&r, "zero", "all/pass@1", true);
    assert_int_equal(p.n, 60);
    assert_true(p.x[59] == 60 && fabs(p.y[59] - 0.701) < 1e-12);
    assert_int_equal(e.n, 1);
    assert_true(e.x[0] == 60 && e.y[0] == 0.701);
    report_points_free(&p);
    report_points_free(&e);
    assert_true(fabs(report_eval(&r, "zero", "all", "pass@") - 0.901) < 1e-12);
    assert_true(isnan(report_eval(&r, "nowhere", "all", "pass@1")));
    Column c[16];
    assert_int_equal(report_columns(&r, c, 16), 4);
    assert_string_equal(c[3].stage, "distill.rival2");
    report_run_free(&r);
}

/* Flat, single and huge series draw numbers only. */
static void odd_series(void **state)
{
    (void)state;
    static const double x[] = {1, 2, 3, 4}, flat[] = {5, 5, 5, 5}, zero[] = {0, 0, 0, 0},
                        huge[] = {1e-300, 1e300, -1e300, 4};
    const double *ys[] = {flat, zero, huge};
    for (int i = 0; i < 3; i++)
        for (int n = 1; n <= 4; n += 3) {
            char *text = NULL;
            size_t size = 0;
            FILE *f = open_memstream(&text, &size);
            SvgChart c = {
                .title = "t",
                .n = 2,
                .series = {{"a", 0, x, ys[i], n, false, NULL, NULL}, {"b", 9, x, ys[i], n, true, NULL, NULL}}};
            svg_chart(f, &c);
            fclose(f);
            check_tags(text);
            assert_null(strstr(text, "nan"));
            assert_null(strstr(text, "inf"));
            assert_true(size < 20000);
            free(text);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_run), cmocka_unit_test(several_runs), cmocka_unit_test(a_run_that_has_just_begun),
        cmocka_unit_test(no_run),  cmocka_unit_test(series),       cmocka_unit_test(odd_series),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
