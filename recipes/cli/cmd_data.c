/* r1 data: the built-in tasks, and problems of a task with their worked traces. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "data/text.h"
#include "recipes/cli/command.h"
#include "recipes/cli/commands.h"
#include "recipes/cli/json_lines.h"
#include "recipes/cli/task_source.h"

enum { BLOCK = 64 }; /* problems that are judged at once */

typedef struct DataArgs {
    const char *task;
    int split, language; /* Split, Language */
    int n, level, seed;
    bool one_language, list, json, skip_bad, verify;
} DataArgs;

static const char *split_name(int k)
{
    static const char *const names[] = {"train", "test", NULL};
    return names[k];
}

static void list_tasks(bool json)
{
    for (int i = 0; i < task_count(); i++) {
        const Task *t = task_at(i);
        if (json) {
            Json *o = json_new_object();
            json_set(o, "name", json_new_text(t->name));
            json_set(o, "kind", json_new_text(prompt_kind_name(t->kind)));
            json_set(o, "levels", json_new_int(t->levels));
            json_set(o, "help", json_new_text(t->help));
            json_set(o, "example", json_new_text(t->example));
            json_line_print(o);
        } else {
            printf("%-10s %-9s  levels 1-%d  %s\n%*s%s\n", t->name, prompt_kind_name(t->kind), t->levels, t->help, 35,
                   "e.g. ", t->example);
        }
    }
}

/* A clean worked completion: the task's, or the one a row of a file came with; NULL when there is none. */
static char *trace_of(const DataArgs *a, const Problem *p, const Dataset *d, Split split)
{
    if (d) {
        const DatasetRow *row = dataset_row(d, split, p->index);
        return row->completion ? strdup(row->completion) : NULL;
    }
    Rng r = rng_stream((uint32_t)a->seed, RNG_DATA, hash_name("r1 data"), p->index);
    return task_completion(p, p->language, STYLE_CLEAN, &r);
}

static Json *problem_json(const Problem *p, const char *trace, const JudgedText *gold)
{
    Json *o = json_new_object();
    json_set(o, "prompt", json_new_text(p->prompt));
    json_set(o, "answer", p->answer ? json_new_text(p->answer) : json_new_null());
    json_set(o, "trace", trace ? json_new_text(trace) : json_new_null());
    json_set(o, "level", json_new_int(p->level));
    json_set(o, "language", json_new_text(language_name(p->language)));
    if (gold) json_set(o, "verdict", json_new_text(reason_name(gold->verdict.reason)));
    if (gold && gold->tests) json_set(o, "tests", json_copy(gold->tests));
    return o;
}

static void print_tests(const Json *tests)
{
    for (size_t i = 0; i < json_count(tests); i++) {
        const Json *t = json_at(tests, i);
        const char *said = json_get_string(t, "said", "");
        printf("  test %zu: %s, %.0f ms%s%s\n", i + 1, json_get_string(t, "reason", ""),
               json_number(json_get(t, "microseconds")) / 1e3, *said ? ": " : "", said);
    }
}

/* gold: the verdict on the gold answer; NULL: not asked for. */
static void print_problem(const Problem *p, const char *trace, const JudgedText *gold, bool json)
{
    if (json) {
        json_line_print(problem_json(p, trace, gold));
        return;
    }
    printf("[level %d, %s] %s\n  answer: %s\n", p->level, language_name(p->language), p->prompt,
           p->answer ? p->answer : "(none)");
    if (trace) printf("  trace:  %s\n", trace);
    if (gold) printf("  verdict: %s\n", reason_name(gold->verdict.reason));
    if (gold && gold->tests) print_tests(gold->tests);
}

/* Gold answers as completions, judged. */
static JudgedText *judge_gold(const Problem *problems, int n, Status *st)
{
    JudgedText *list = calloc((size_t)n + 1, sizeof *list);
    CHECK(list);
    for (int i = 0; i < n; i++) {
        Text text = {0};
        text_addf(&text, "<answer>%s</answer>", problems[i].answer ? problems[i].answer : "");
        list[i] = (JudgedText){.problem = &problems[i], .completion = text_take(&text)};
    }
    task_verify_all(list, n, st);
    return list;
}

/* Problems first .. first + n - 1. */
static void print_some(const DataArgs *a, const TaskSource *s, const CorpusSpec *c, int first, int n, Status *st)
{
    Problem problems[BLOCK];
    for (int i = 0; i < n; i++)
        corpus_problem(&problems[i], c, (uint32_t)a->seed, (Split)a->split, (uint64_t)(first + i));
    JudgedText *gold = a->verify ? judge_gold(problems, n, st) : NULL;
    for (int i = 0; i < n; i++) {
        char *trace = trace_of(a, &problems[i], s->dataset, (Split)a->split);
        if (!st->failed) print_problem(&problems[i], trace, gold ? &gold[i] : NULL, a->json);
        free(trace);
        if (gold) json_free(gold[i].tests);
        if (gold) free((char *)gold[i].completion);
        problem_free(&problems[i]);
    }
    free(gold);
}

static bool print_problems(const DataArgs *a, const TaskSource *s, Status *st)
{
    CorpusSpec c = {.sources = {s->source}, .n_sources = 1, .zh_share = 0.5f};
    if (a->one_language) c.zh_share = a->language == LANGUAGE_ZH;
    int n = a->n, rows = s->source.dataset ? dataset_rows(s->source.dataset, (Split)a->split) : n;
    if (n > rows) n = rows; /* each row of a file once */
    for (int first = 0; first < n && !st->failed; first += BLOCK)
        print_some(a, s, &c, first, n - first < BLOCK ? n - first : BLOCK, st);
    return !st->failed;
}

int cmd_data(int argc, char **argv)
{
    DataArgs a = {.n = 10, .seed = 1};
    const Option options[] = {
        {"--list", NULL, OPTION_FLAG, &a.list, 0, 0, "the built-in tasks"},
        {"--split", "NAME", OPTION_CHOICE, &(OptionChoice){&a.split, split_name, NULL}, 0, 0,
         "train (default) or test: apart by a hash of the problem"},
        {"--n", "N", OPTION_INT, &a.n, 1, 1e9, "problems to print (default 10), of a file each row once"},
        {"--level", "N", OPTION_INT, &a.level, 1, 1000, "one level (default: all of them, drawn evenly)"},
        {"--language", "L", OPTION_CHOICE, &(OptionChoice){&a.language, language_name, &a.one_language}, 0, 0,
         "en or zh (default: half of each)"},
        {"--seed", "N", OPTION_INT, &a.seed, 0, 2147483647, "of the list of problems (default 1)"},
        {"--verify", NULL, OPTION_FLAG, &a.verify, 0, 0,
         "the verdict on the gold answer too; of a program with tests that of each test"},
        {"--json", NULL, OPTION_FLAG, &a.json, 0, 0, "a JSON object a line: prompt, answer, trace, level, language"},
        {"--skip-bad", NULL, OPTION_FLAG, &a.skip_bad, 0, 0, "leave broken lines of a file out instead of failing"},
    };
    const Usage usage = {
        .name = "data",
        .arguments = "TASK|FILE.jsonl [options], or --list",
        .text =
            "Prints problems of a task: prompt, gold answer, and a worked completion as supervised training sees it.\n",
        .examples = "r1 data --list\nr1 data add --split test --n 5 --level 2 --json\n",
        .options = options,
        .n = sizeof options / sizeof *options,
        .least = 0,
        .most = 1};
    Status st = {0};
    int count, code = command_read(&usage, argc, argv, &a.task, &count);
    if (code != COMMAND_GO) return code;
    if (a.list) return list_tasks(a.json), 0;
    if (!a.task) return command_usage(&usage, "it needs a task, or --list");
    TaskSource source;
    if (!task_source_open(&source, a.task, (int[2]){a.level, a.level}, 0.1, a.skip_bad, &st))
        return command_failed(&st);
    bool ok = print_problems(&a, &source, &st);
    task_source_close(&source);
    return ok ? 0 : command_failed(&st);
}
