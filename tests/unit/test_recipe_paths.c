/* Where a recipe's files are looked for, and when two paths mean the same. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "recipes/config/paths.h"
#include "recipes/config/recipe_load.h"
#include "tests/unit/scratch.h"
#include "tests/unit/unit.h"

/* The command of a reward as it stands in a recipe of scratch/beside, and what becomes of it ("@": that folder). */
static void commands(void **state)
{
    (void)state;
    static const struct {
        const char *command, *want;
    } list[] = {
        {"pay.py", "@/pay.py"},
        {"python3 pay.py", "python3 @/pay.py"},
        {"python3 'pay.py' --x", "python3 @/pay.py --x"},
        {"python3 \"odd name.py\"", "python3 '@/odd name.py'"},
        {"python3 'odd name.py'|cat", "python3 '@/odd name.py'|cat"},
        {"python3 odd name.py", "python3 odd name.py"},
        {"cat<rows.jsonl", "cat<@/rows.jsonl"},
        {"cat <rows.jsonl", "cat <@/rows.jsonl"},
        {"(cd /tmp; python3 pay.py)", "(cd /tmp; python3 @/pay.py)"},
        {"echo \"$HOME/pay.py\" pay.py", "echo \"$HOME/pay.py\" @/pay.py"},
        {"awk '{print $1}' rows.jsonl", "awk '{print $1}' @/rows.jsonl"},
        {"X=pay.py python3 -c 'import json'", "X=pay.py python3 -c 'import json'"},
        {"python3 /abs/pay.py", "python3 /abs/pay.py"},
        {"python3 ./pay.py; true", "python3 @/pay.py; true"},
        {"gone.py", "gone.py"},
    };
    char folder[PATH_MAX];
    assert_non_null(realpath(scratch_path("beside"), folder));
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        char text[1000], want[3 * PATH_MAX] = "";
        snprintf(text, sizeof text, "extends: micro\nrewards:\n  - kind: external\n    command: >-\n      %s\n",
                 list[i].command);
        scratch_put("beside/c.yaml", text, strlen(text));
        Status st = {0};
        Recipe *r = recipe_load(scratch_path("beside/c.yaml"), NULL, 0, &st);
        if (!r) fail_msg("%s: %s", list[i].command, st.text);
        for (const char *c = list[i].want; *c; c++)
            snprintf(want + strlen(want), sizeof want - strlen(want), *c == '@' ? "%s" : "%.1s",
                     *c == '@' ? folder : c);
        assert_string_equal(r->rewards.list[0].command, want);
        free(r);
    }
}

static void same(void **state)
{
    (void)state;
    static const struct {
        PathKind kind;
        const char *a, *b;
        bool same;
    } list[] = {
        {PATH_NONE, "/x/a", "/y/a", false},
        {PATH_NONE, "a", "a", true},
        {PATH_FILE, "/x/rows.jsonl", "/y/z/rows.jsonl", true},
        {PATH_FILE, "/x/rows.jsonl", "rows.jsonl", true},
        {PATH_FILE, "/x/rows.jsonl", "/x/lines.jsonl", false},
        {PATH_FILE, "/x/rows.jsonl", "/x/myrows.jsonl", false},
        {PATH_FILE, "", "rows.jsonl", false},
        {PATH_COMMAND, "python3 /x/pay.py --k 3", "python3 pay.py --k 3", true},
        {PATH_COMMAND, "python3 /x/pay.py --k 3", "python3 pay.py --k 4", false},
        {PATH_COMMAND, "python3 /x/pay.py", "python3 /x/pay.py --k", false},
        {PATH_COMMAND, "python3 /x/pay.py", "/x/pay.py", false},
        {PATH_MODEL, "/data/a/runs/tiny/base", "runs/tiny/base", true},
        {PATH_MODEL, "/data/a/runs/tiny/base", "./runs/tiny/base", true},
        {PATH_MODEL, "/data/a/runs/tiny/base", "ns/tiny/base", false},
        {PATH_MODEL, "/data/a/runs/tiny/base", "/data/b/runs/tiny/base", false},
        {PATH_STAGE, "runs/a/base", "runs/b/base", false},
        {PATH_STAGE, "base", "zero", false},
        {PATH_STAGE, "base", "", false},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (paths_same(list[i].kind, list[i].a, list[i].b) != list[i].same ||
            paths_same(list[i].kind, list[i].b, list[i].a) != list[i].same)
            fail_msg("%s and %s", list[i].a, list[i].b);
}

static void put(const char *name)
{
    scratch_put(name, "{}\n", 3);
}

/* beside/ holds rows.jsonl, pay.py, only.jsonl, model/ and stage folder run/; the working folder rows.jsonl, here.jsonl, base. */
static void looked_for(void **state)
{
    (void)state;
    char before[PATH_MAX], root[PATH_MAX], beside[PATH_MAX + 8];
    assert_non_null(getcwd(before, sizeof before));
    assert_non_null(realpath(scratch_folder(), root));
    snprintf(beside, sizeof beside, "%s/beside", root);
    mkdir(scratch_path("beside"), 0777);
    mkdir(scratch_path("beside/model"), 0777);
    mkdir(scratch_path("work"), 0777);
    mkdir(scratch_path("work/base"), 0777);
    mkdir(scratch_path("work/other.h5"), 0777);
    static const char *const files[] = {"beside/rows.jsonl", "beside/pay.py", "beside/odd name.py", "work/rows.jsonl",
                                        "work/here.jsonl"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) put(files[i]);
    static const char text[] =
        "model: {from: model}\n"
        "tokenizer: {kind: file, path: nowhere.json}\n"
        "tasks: [{file: rows.jsonl, heldout: 0}, {name: b, file: here.jsonl}, {name: c, file: gone.jsonl}, "
        "{name: d, file: /abs/e.jsonl}]\n"
        "rewards: [{kind: external, command: 'python3 pay.py here.jsonl --out=pay.py | cat; ./pay.py'}]\n"
        "stages:\n"
        "  - {name: base, kind: sft, steps: 1}\n"
        "  - {name: zero, kind: rl, from: base, steps: 1}\n"
        "  - {name: more, kind: rl, from: other.h5, steps: 1}\n";
    scratch_put("beside/r.yaml", text, strlen(text));
    char recipe[PATH_MAX];
    snprintf(recipe, sizeof recipe, "%s/r.yaml", "../beside");
    assert_int_equal(chdir(scratch_path("work")), 0);
    Status st = {0};
    const char *set = "tasks.extra.file=here.jsonl";
    Recipe *r = recipe_load(recipe, &set, 1, &st);
    assert_int_equal(chdir(before), 0);
    if (!r) fail_msg("%s", st.text);
    char want[4 * PATH_MAX];
    const struct {
        const char *got, *format;
    } list[] = {
        {r->model.from, "%s/beside/model"},
        {r->tokenizer.path, "nowhere.json"},
        {r->tasks.list[0].file, "%s/beside/rows.jsonl"}, /* beside the recipe first */
        {r->tasks.list[1].file, "%s/work/here.jsonl"},
        {r->tasks.list[2].file, "gone.jsonl"},
        {r->tasks.list[3].file, "/abs/e.jsonl"},
        {r->tasks.list[4].file, "%s/work/here.jsonl"},
        {r->stages[1].from, "base"}, /* a stage, although a folder is called so */
        {r->stages[2].from, "%s/work/other.h5"},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        snprintf(want, sizeof want, list[i].format, root);
        assert_string_equal(list[i].got, want);
    }
    assert_string_equal(r->tasks.list[0].name, "rows.jsonl");
    snprintf(want, sizeof want, "python3 %s/beside/pay.py %s/work/here.jsonl --out=pay.py | cat; %s/beside/pay.py",
             root, root, root);
    assert_string_equal(r->rewards.list[0].command, want);
    free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(same), cmocka_unit_test(looked_for),
                                       cmocka_unit_test(commands)};
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
