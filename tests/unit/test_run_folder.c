/* Run folders: lock, another recipe, cutting back, summary, samples. */
#include "tests/unit/unit.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "recipes/run/run_folder.h"
#include "tests/unit/scratch.h"

static const char recipe[] = "seed: 1\nstages:\n  -\n    name: zero\n    steps: 5\n";

static RunFolder *open_run(const char *name, bool *resumed)
{
    Status st = {0};
    RunFolder *f = run_folder_open(scratch_path(name), recipe, resumed, &st);
    if (!f) fail_msg("%s", st.text);
    return f;
}

static Json *numbers(double loss)
{
    Json *line = json_new_object(), *parts = json_new_object();
    json_set(line, "loss", json_new_number(loss));
    json_set(parts, "format", json_new_number(0.5));
    json_set(line, "reward_parts", parts);
    return line;
}

static void another_recipe(void **state)
{
    (void)state;
    Status st = {0};
    bool resumed = true;
    run_folder_close(open_run("deep/er/run", &resumed));
    assert_false(resumed);
    run_folder_close(open_run("deep/er/run/", &resumed));
    assert_true(resumed);
    assert_null(run_folder_open(scratch_path("deep/er/run"), "seed: 2\nstages:\n  -\n    name: zero\n    steps: 5\n",
                                &resumed, &st));
    assert_true(says(&st, "seed is 2 here and 1 there"));
    assert_true(says(&st, "--out"));
    status_clear(&st);
    assert_null(run_folder_open(scratch_path("deep/er/run"), "seed: 1\nstages:\n  -\n    name: zero\n    steps: 6\n",
                                &resumed, &st));
    assert_true(says(&st, "stages.zero.steps is 6 here and 5 there"));
}

static void no_run_folder(void **state)
{
    (void)state;
    Status st = {0};
    bool resumed;
    mkdir(scratch_path("foreign"), 0777);
    scratch_put("foreign/metrics.jsonl", "", 0);
    assert_null(run_folder_open(scratch_path("foreign"), recipe, &resumed, &st));
    assert_true(says(&st, "no recipe.yaml"));
    status_clear(&st);
    scratch_put("file", "x", 1);
    assert_null(run_folder_open(scratch_path("file/run"), recipe, &resumed, &st));
    assert_true(says(&st, "cannot create the run folder"));
    status_clear(&st);
    if (!geteuid()) return;
    mkdir(scratch_path("closed"), 0555);
    assert_null(run_folder_open(scratch_path("closed"), recipe, &resumed, &st));
    assert_true(says(&st, "cannot write to the run folder"));
}

static void second_process(void **state)
{
    (void)state;
    bool resumed;
    RunFolder *f = open_run("locked", &resumed);
    fflush(NULL);
    pid_t child = fork();
    if (!child) {
        Status st = {0};
        RunFolder *second = run_folder_open(scratch_path("locked"), recipe, &resumed, &st);
        char who[64];
        snprintf(who, sizeof who, "in use by process %ld", (long)getppid());
        _exit(second || !says(&st, who));
    }
    int code;
    waitpid(child, &code, 0);
    assert_int_equal(code, 0);
    run_folder_close(f);
    run_folder_close(open_run("locked", &resumed));
}

static bool is_there(const char *name)
{
    return access(scratch_path(name), F_OK) == 0;
}

/* What a refused run made is gone again; what was there before, or has come about, stays. */
static void abandoned(void **state)
{
    (void)state;
    Status st = {0};
    bool resumed;
    run_folder_abandon(open_run("no/such/run", &resumed));
    assert_false(is_there("no"));

    mkdir(scratch_path("empty"), 0777);
    run_folder_abandon(open_run("empty", &resumed));
    assert_true(is_there("empty") && !is_there("empty/recipe.yaml") && !is_there("empty/lock"));

    run_folder_close(open_run("old", &resumed));
    run_folder_abandon(open_run("old", &resumed));
    assert_true(is_there("old/recipe.yaml") && is_there("old/checkpoints") && is_there("old/rollouts"));

    RunFolder *f = open_run("begun", &resumed);
    assert_true(run_metrics_append(f, "zero", 1, numbers(1), &st));
    run_folder_abandon(f);
    assert_true(is_there("begun/recipe.yaml") && is_there("begun/checkpoints"));

    f = open_run("saved", &resumed);
    scratch_put("saved/rollouts/zero", "x", 1);
    run_folder_abandon(f);
    assert_true(is_there("saved/recipe.yaml") && is_there("saved/checkpoints") && is_there("saved/rollouts/zero"));

    f = open_run("noted", &resumed);
    scratch_put("noted/notes.txt", "x", 1);
    run_folder_abandon(f);
    assert_true(is_there("noted/recipe.yaml") && is_there("noted/checkpoints") && is_there("noted/notes.txt"));
}

static size_t line_count(const char *folder, const char *name)
{
    Json *lines = run_read_lines(folder, name);
    size_t n = json_count(lines);
    json_free(lines);
    return n;
}

/* One event file of a version record and n equal records (steps below 128, two values). */
static void expect_events(size_t n)
{
    DIR *d = opendir(scratch_path("cut"));
    char name[300] = "";
    int files = 0;
    for (struct dirent *e; (e = readdir(d));)
        if (strstr(e->d_name, "tfevents")) snprintf(name, sizeof name, "cut/%.200s", e->d_name), files++;
    closedir(d);
    assert_int_equal(files, 1);
    size_t size, frame = 8 + 4 + 4, version = frame + 9 + 15;
    free(scratch_read(scratch_path(name), &size));
    size_t values = strlen("zero/loss") + 9 + strlen("zero/reward_parts/format") + 9;
    assert_int_equal(size, version + n * (frame + 9 + 2 + 2 + values));
}

static void cut(void **state)
{
    (void)state;
    Status st = {0};
    bool resumed;
    RunFolder *f = open_run("cut", &resumed);
    for (int i = 1; i <= 4; i++) assert_true(run_metrics_append(f, "base", i, numbers(i), &st));
    for (int i = 1; i <= 6; i++) assert_true(run_metrics_append(f, "zero", i, numbers(i), &st));
    assert_int_equal(line_count(scratch_path("cut"), "metrics.jsonl"), 10);
    run_folder_close(f);

    FILE *torn = fopen(scratch_path("cut/metrics.jsonl"), "ab");
    fputs("{\"stage\": \"base\", \"st", torn);
    fclose(torn);
    f = open_run("cut", &resumed);
    const RunPoint points[] = {{"base", INT64_MAX}, {"zero", 2}};
    assert_true(run_folder_cut(f, points, 2, &st));
    assert_int_equal(line_count(scratch_path("cut"), "metrics.jsonl"), 6);
    assert_true(run_metrics_append(f, "zero", 3, numbers(3), &st));
    Json *lines = run_read_lines(scratch_path("cut"), "metrics.jsonl");
    const Json *last = json_at(lines, 6), *v;
    assert_int_equal(json_count(lines), 7);
    assert_string_equal(json_member(last, 0, &v), "stage");
    assert_int_equal(json_integer(json_get(last, "step")), 3);
    assert_true(json_number(json_get(last, "wall")) > 1e9);
    json_free(lines);

    expect_events(7);
    assert_true(run_folder_cut(f, NULL, 0, &st));
    assert_int_equal(line_count(scratch_path("cut"), "metrics.jsonl"), 0);
    run_folder_close(f);
}

static void summary(void **state)
{
    (void)state;
    Status st = {0};
    bool resumed;
    RunFolder *f = open_run("sum", &resumed);
    assert_null(run_summary_get(f, "zero"));
    assert_true(run_summary_set(f, "seed", json_new_int(1), &st));
    for (int i = 0; i < 3; i++) {
        Json *entry = json_new_object();
        const char *name = i == 1 ? "zero" : "base";
        json_set(entry, "name", json_new_text(name));
        json_set(entry, "steps", json_new_int(i));
        assert_true(run_summary_stage(f, name, entry, &st));
    }
    run_folder_close(f);
    f = open_run("sum", &resumed);
    assert_int_equal(json_integer(json_get(run_summary_get(f, "base"), "steps")), 2);
    run_folder_close(f);
    Json *read = json_read(scratch_path("sum/summary.json"), &st);
    assert_int_equal(json_count(json_get(read, "stages")), 2);
    assert_string_equal(json_get_string(json_at(json_get(read, "stages"), 1), "name", ""), "zero");
    json_free(read);
}

static Json *sample(const char *prompt)
{
    Json *list = json_new_array(), *s = json_new_object();
    json_set(s, "prompt", json_new_text(prompt));
    json_append(list, s);
    return list;
}

static void samples(void **state)
{
    (void)state;
    Status st = {0};
    bool resumed;
    RunFolder *f = open_run("samples", &resumed);
    assert_true(run_samples_write(f, "base", sample("1+1="), &st));
    assert_true(run_samples_write(f, "zero", sample("1+2="), &st));
    assert_true(run_samples_write(f, "base", sample("1+3="), &st));
    Json *lines = run_read_lines(scratch_path("samples"), "samples.jsonl");
    assert_int_equal(json_count(lines), 2);
    assert_string_equal(json_get_string(json_at(lines, 1), "prompt", ""), "1+3=");
    assert_string_equal(json_get_string(json_at(lines, 1), "stage", ""), "base");
    json_free(lines);
    run_folder_close(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_recipe), cmocka_unit_test(no_run_folder), cmocka_unit_test(abandoned),
        cmocka_unit_test(second_process), cmocka_unit_test(cut),           cmocka_unit_test(summary),
        cmocka_unit_test(samples),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
