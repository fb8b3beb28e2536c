/* Files that a run depends on: found in the recipe, hashed, recorded, compared. */
#include "recipes/run/inputs.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "checkpoints/hash.h"
#include "checkpoints/model_file.h"
#include "core/base/check.h"
#include "recipes/config/paths.h"
#include "recipes/run/progress.h"
#include "recipes/run/run_folder.h"

enum { HASH_WHOLE = 1 << 30, HASH_ENDS = 1 << 20, BUFFER = 1 << 16 };

/* ---- One file ---- */

static void add_bytes(Sha256 *h, FILE *f, int64_t n)
{
    char buffer[BUFFER];
    size_t got = 1;
    for (; n > 0 && got; n -= (int64_t)got) {
        got = fread(buffer, 1, n < BUFFER ? (size_t)n : BUFFER, f);
        sha256_add(h, buffer, got);
    }
}

static bool add_file(Sha256 *h, const char *path, int64_t bytes, Status *st)
{
    FILE *f = fopen(path, "rb");
    if (!f) return fail(st, "%s cannot be read: %s", path, strerror(errno));
    add_bytes(h, f, bytes <= HASH_WHOLE ? bytes : HASH_ENDS);
    if (bytes > HASH_WHOLE && !fseeko(f, -(off_t)HASH_ENDS, SEEK_END)) add_bytes(h, f, HASH_ENDS);
    fclose(f);
    return true;
}

/* Names and sizes of a folder's files, in the order of their names. */
static void add_folder(Sha256 *h, const char *path, int64_t *bytes)
{
    struct dirent **list;
    int n = scandir(path, &list, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char file[PATH_MAX], line[PATH_MAX];
        struct stat info;
        snprintf(file, sizeof file, "%s/%s", path, list[i]->d_name);
        if (list[i]->d_name[0] != '.' && !stat(file, &info) && S_ISREG(info.st_mode)) {
            int length = snprintf(line, sizeof line, "%s %lld\n", list[i]->d_name, (long long)info.st_size);
            sha256_add(h, line, (size_t)length);
            *bytes += info.st_size;
        }
        free(list[i]);
    }
    if (n >= 0) free(list);
}

/* ---- All of a recipe ---- */

typedef struct Inputs {
    Json *list;
    Status *st;
} Inputs;

static bool is_listed(const Json *list, const char *path)
{
    for (size_t i = 0; i < json_count(list); i++)
        if (!strcmp(json_get_string(json_at(list, i), "path", ""), path)) return true;
    return false;
}

/* What is not there is not listed. */
static bool add_input(Inputs *in, const char *path)
{
    struct stat info;
    char hex[65];
    if (!path[0] || stat(path, &info) || is_listed(in->list, path)) return true;
    int64_t bytes = S_ISREG(info.st_mode) ? info.st_size : 0;
    Sha256 *h = sha256_new();
    bool ok = true;
    if (S_ISDIR(info.st_mode)) add_folder(h, path, &bytes);
    else ok = add_file(h, path, bytes, in->st);
    sha256_finish(h, hex);
    if (!ok) return false;
    Json *o = json_new_object();
    json_set(o, "path", json_new_text(path));
    json_set(o, "bytes", json_new_int(bytes));
    json_set(o, "sha256", json_new_text(hex));
    json_append(in->list, o);
    return true;
}

static bool add_model(Inputs *in, const Recipe *r, const char *from)
{
    char stage[PATH_MAX];
    if (!from[0] || recipe_stage_of(r, from)) return true;
    return add_input(in, model_stage_path(from, stage, sizeof stage) ? stage : from);
}

static bool add_tasks(Inputs *in, const RecipeTasks *tasks)
{
    for (int i = 0; i < tasks->n; i++)
        if (!add_input(in, tasks->list[i].file)) return false;
    return true;
}

static bool add_programs(Inputs *in, const RecipeRewards *rewards)
{
    for (int i = 0; i < rewards->n; i++) {
        const char *command = rewards->list[i].command, *at = command;
        char word[PATH_MAX];
        struct stat info;
        while (command_word(&at, command, word, sizeof word))
            if (!stat(word, &info) && S_ISREG(info.st_mode) && !add_input(in, word)) return false;
    }
    return true;
}

static bool add_all(Inputs *in, const Recipe *r)
{
    bool ok = add_model(in, r, r->model.from) && add_input(in, r->lora.from) && add_model(in, r, r->student.from) &&
              add_tasks(in, &r->tasks) && add_tasks(in, &r->general);
    if (ok && r->tokenizer.kind == TOKENIZER_FILE) ok = add_input(in, r->tokenizer.path);
    for (int i = 0; i < r->n_stages && ok; i++) {
        const RecipeStage *s = &r->stages[i];
        ok = add_model(in, r, s->from) && add_model(in, r, s->sample_from) && add_model(in, r, s->reward_models) &&
             add_model(in, r, s->critic_from) && add_tasks(in, &s->tasks) && add_tasks(in, &s->preferences) &&
             add_programs(in, &s->rl.rewards);
    }
    return ok;
}

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Entry number `at` of those that are called so; NULL: none. */
static const Json *entry_called(const Json *list, const char *name, int at)
{
    for (size_t i = 0; i < json_count(list); i++)
        if (!strcmp(last_part(json_get_string(json_at(list, i), "path", "")), name) && !at--) return json_at(list, i);
    return NULL;
}

static bool same_input(const Json *then, const Json *now, Status *st)
{
    const char *a = json_get_string(then, "sha256", ""), *b = json_get_string(now, "sha256", "");
    if (!strcmp(a, b)) return true;
    return fail(st,
                "%s is not what this run began with (%lld bytes then, sha256 %.12s..; %lld now, %.12s..): put the old "
                "one back, or begin a new run with --out",
                json_get_string(now, "path", ""), (long long)json_integer(json_get(then, "bytes")), a,
                (long long)json_integer(json_get(now, "bytes")), b);
}

bool run_inputs(Run *r, bool resumed, Status *st)
{
    Inputs in = {json_new_array(), st};
    const Json *old = run_summary_value(r->folder, "inputs");
    bool ok = add_all(&in, r->recipe);
    for (size_t i = 0; old && ok && i < json_count(in.list); i++) {
        const char *name = last_part(json_get_string(json_at(in.list, i), "path", ""));
        int before = 0;
        for (size_t k = 0; k < i; k++)
            before += !strcmp(last_part(json_get_string(json_at(in.list, k), "path", "")), name);
        const Json *then = entry_called(old, name, before);
        if (then) ok = same_input(then, json_at(in.list, i), st);
    }
    if (ok && resumed && !old && json_count(in.list))
        progress_note(r->progress, "this run was begun without a record of its files; it has one from now on");
    if (ok && json_count(in.list) && (!old || json_count(old) < json_count(in.list)))
        return run_summary_set(r->folder, "inputs", in.list, st);
    json_free(in.list);
    return ok;
}
