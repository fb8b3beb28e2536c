/* A run's folder: lock, metrics, samples, summary. */
#include "recipes/run/run_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/base/durable.h"
#include "core/base/check.h"
#include "data/file.h"
#include "recipes/config/recipe_diff.h"
#include "recipes/config/recipe_longer.h"
#include "recipes/run/logger.h"
#include "recipes/run/tfevents.h"

enum { MAX_TAGS = 256, TAG = 200 };

struct RunFolder {
    char *path;
    size_t made; /* letters of the first folder of the path that was not there; 0: all of them were */
    bool fresh;  /* it had no recipe */
    int lock;    /* file descriptor */
    char longer[RECIPE_NAME];
    FILE *metrics;
    EventWriter *events;
    Logger *logger; /* a view; NULL: none */
    Json *summary;
};

static char *join(const char *folder, const char *name)
{
    char *path;
    CHECK(asprintf(&path, "%s/%s", folder, name) > 0);
    return path;
}

/* ---- Whole files ---- */

/* NULL when there is none. */
static char *read_whole(const char *path, size_t *n)
{
    Status ignored = {0};
    return access(path, F_OK) ? NULL : file_read(path, n, &ignored);
}

bool run_write_file(const char *path, const char *text, size_t n, Status *st)
{
    Durable d;
    if (!durable_begin(&d, path, st)) return false;
    FILE *f = fopen(d.temp, "wb");
    bool ok = f && fwrite(text, 1, n, f) == n;
    if (f && fclose(f)) ok = false;
    if (ok) return durable_commit(&d, st);
    durable_fail(path, errno, st);
    durable_abandon(&d);
    return false;
}

/* ---- Opening ---- */

static bool make_folders(RunFolder *f, Status *st)
{
    char *part = strdup(f->path);
    CHECK(part);
    bool ok = true;
    for (char *c = part + 1; ok; c++) {
        char end = *c;
        if (end && end != '/') continue;
        *c = 0;
        if (mkdir(part, 0777) == 0) f->made = f->made ? f->made : strlen(part);
        else if (errno != EEXIST)
            ok = fail(st, "cannot create the run folder %s: %s; choose another with --out", part, strerror(errno));
        *c = end;
        if (!end) break;
    }
    free(part);
    return ok;
}

static bool take_lock(RunFolder *f, Status *st)
{
    char *path = join(f->path, "lock");
    f->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (f->lock < 0)
        fail(st, "cannot write to the run folder %s: %s; choose another with --out", f->path, strerror(errno));
    free(path);
    if (f->lock < 0) return false;
    char text[32] = "";
    bool held = flock(f->lock, LOCK_EX | LOCK_NB) != 0;
    if (held && errno != EWOULDBLOCK) {
        fprintf(stderr, "r1: the file system of %s keeps no locks (%s); let no other process run there\n", f->path,
                strerror(errno));
        held = false;
    }
    if (held) {
        ssize_t n = pread(f->lock, text, sizeof text - 1, 0);
        text[n > 0 ? strcspn(text, "\n") : 0] = 0;
        return fail(st, "the run folder %s is in use by process %s; wait for it, or choose another with --out", f->path,
                    text[0] ? text : "(unknown)");
    }
    int n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(f->lock, 0) || pwrite(f->lock, text, (size_t)n, 0) != n) return durable_fail(f->path, errno, st);
    return true;
}

/* A folder without recipe.yaml must be empty but for our lock: anything else is not ours to fill. */
static bool is_fresh(const RunFolder *f)
{
    char *names[] = {"metrics.jsonl", "summary.json", "checkpoints", "rollouts"};
    for (int i = 0; i < 4; i++) {
        char *path = join(f->path, names[i]);
        bool there = !access(path, F_OK);
        free(path);
        if (there) return false;
    }
    return true;
}

static bool match_recipe(RunFolder *f, const char *recipe_text, bool *resumed, Status *st)
{
    char *path = join(f->path, "recipe.yaml"), difference[300], why[300];
    size_t n;
    char *old = read_whole(path, &n);
    bool ok = true, same = old && recipe_same(recipe_text, old, difference, sizeof difference);
    *resumed = old != NULL;
    if (old && !same && !recipe_longer(old, recipe_text, f->longer, why, sizeof why))
        ok = fail(st,
                  "the run folder %s holds another recipe: %s%s%s; take the same one, or choose another folder with "
                  "--out",
                  f->path, difference, why[0] ? "; " : "", why);
    else if (!old && !is_fresh(f))
        ok = fail(st, "%s has results but no recipe.yaml, so it is no run to resume; choose another folder with --out",
                  f->path);
    else if (!old) ok = f->fresh = run_write_file(path, recipe_text, strlen(recipe_text), st);
    free(old);
    free(path);
    return ok;
}

static bool make_subfolders(const RunFolder *f, Status *st)
{
    static const char *const names[] = {"checkpoints", "rollouts"};
    for (int i = 0; i < 2; i++) {
        char *path = join(f->path, names[i]);
        bool bad = mkdir(path, 0777) && errno != EEXIST;
        if (bad) durable_fail(path, errno, st);
        free(path);
        if (bad) return false;
    }
    return true;
}

static bool open_metrics(RunFolder *f, Status *st)
{
    char *path = join(f->path, "metrics.jsonl");
    f->metrics = fopen(path, "abe");
    if (!f->metrics) durable_fail(path, errno, st);
    free(path);
    return f->metrics != NULL;
}

static bool open_summary(RunFolder *f, Status *st)
{
    char *path = join(f->path, "summary.json");
    f->summary = access(path, F_OK) ? json_new_object() : json_read(path, st);
    free(path);
    return f->summary != NULL;
}

RunFolder *run_folder_open(const char *path, const char *recipe_text, bool *resumed, Status *st)
{
    RunFolder *f = calloc(1, sizeof *f);
    CHECK(f);
    f->path = strdup(path);
    for (size_t n = strlen(f->path); n > 1 && f->path[n - 1] == '/'; n--) f->path[n - 1] = 0;
    f->lock = -1;
    if (make_folders(f, st) && take_lock(f, st) && match_recipe(f, recipe_text, resumed, st) &&
        make_subfolders(f, st) && open_summary(f, st) && open_metrics(f, st))
        return f;
    run_folder_close(f);
    return NULL;
}

void run_folder_close(RunFolder *f)
{
    if (!f) return;
    if (f->metrics) fclose(f->metrics);
    events_close(f->events);
    json_free(f->summary);
    if (f->lock >= 0) close(f->lock);
    free(f->path);
    free(f);
}

/* What run_folder_open makes, folders first. */
static const char *const own_names[] = {"checkpoints",  "rollouts",    "metrics.jsonl",
                                        "summary.json", "recipe.yaml", "lock"};
enum { OWN_FOLDERS = 2, OWN_NAMES = sizeof own_names / sizeof own_names[0] };

static int is_foreign(const struct dirent *e)
{
    for (int i = 0; i < OWN_NAMES; i++)
        if (!strcmp(e->d_name, own_names[i])) return 0;
    return strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
}

/* Nothing but what was made, no step in it, and its folders, which are gone then, were empty. */
static bool is_untouched(const RunFolder *f)
{
    struct dirent **list;
    struct stat info;
    int foreign = scandir(f->path, &list, is_foreign, NULL), removed = 0;
    for (int i = 0; i < foreign; i++) free(list[i]);
    if (foreign >= 0) free(list);
    if (foreign || !f->metrics || fstat(fileno(f->metrics), &info) || info.st_size) return false;
    for (; removed < OWN_FOLDERS; removed++) {
        char *path = join(f->path, own_names[removed]);
        bool stays = rmdir(path) != 0;
        free(path);
        if (stays) break;
    }
    Status ignored = {0};
    return removed == OWN_FOLDERS || (make_subfolders(f, &ignored) && false);
}

void run_folder_abandon(RunFolder *f)
{
    if (f->fresh && is_untouched(f)) {
        for (int i = OWN_FOLDERS; i < OWN_NAMES; i++) {
            char *path = join(f->path, own_names[i]);
            unlink(path);
            free(path);
        }
        for (size_t n = strlen(f->path); f->made && n >= f->made && !rmdir(f->path);) {
            char *slash = strrchr(f->path, '/');
            if (!slash) break;
            *slash = 0;
            n = strlen(f->path);
        }
    }
    run_folder_close(f);
}

const char *run_folder_longer(const RunFolder *f)
{
    return f->longer;
}

bool run_folder_take_recipe(RunFolder *f, const char *recipe_text, Status *st)
{
    char *path = join(f->path, "recipe.yaml");
    bool ok = run_write_file(path, recipe_text, strlen(recipe_text), st);
    free(path);
    f->longer[0] = 0;
    return ok;
}

char *run_folder_file(const RunFolder *f, const char *folder, const char *name, const char *suffix)
{
    char *path = NULL;
    if (asprintf(&path, "%s/%s/%s%s", f->path, folder, name, suffix) < 0) path = NULL;
    CHECK(path != NULL);
    return path;
}

const char *run_folder_path(const RunFolder *f)
{
    return f->path;
}

/* ---- Events ---- */

typedef struct Scalars {
    char text[MAX_TAGS][TAG];
    const char *tags[MAX_TAGS];
    float values[MAX_TAGS];
    int n;
} Scalars;

static void collect(Scalars *s, const char *prefix, const Json *object)
{
    for (size_t i = 0; i < json_count(object); i++) {
        const Json *v;
        const char *key = json_member(object, i, &v);
        char tag[TAG];
        snprintf(tag, sizeof tag, "%.120s/%.70s", prefix, key);
        if (json_is_object(v)) collect(s, tag, v);
        if (!json_is_number(v) || s->n == MAX_TAGS || !strcmp(key, "step") || !strcmp(key, "wall")) continue;
        strcpy(s->text[s->n], tag);
        s->tags[s->n] = s->text[s->n];
        s->values[s->n++] = (float)json_number(v);
    }
}

/* A metrics line -> one event (none for warnings). */
static bool mirror(RunFolder *f, const Json *line, Status *st)
{
    const char *stage = json_get_string(line, "stage", "");
    if (json_get(line, "warning")) return true;
    if (!f->events && !(f->events = events_open(f->path, st))) return false;
    Scalars *s = malloc(sizeof *s);
    CHECK(s);
    s->n = 0;
    collect(s, stage, line);
    bool ok = !s->n || events_scalars(f->events, json_number(json_get(line, "wall")),
                                      json_integer(json_get(line, "step")), s->tags, s->values, s->n, st);
    free(s);
    return ok;
}

/* ---- Metrics ---- */

void run_folder_log(RunFolder *f, Logger *l)
{
    f->logger = l;
}

static bool write_line(RunFolder *f, const Json *line, Status *st)
{
    char *text = json_write(line, false);
    bool ok = fprintf(f->metrics, "%s\n", text) >= 0 && !fflush(f->metrics);
    if (ok) logger_line(f->logger, text);
    free(text);
    if (ok) return true;
    char *path = join(f->path, "metrics.jsonl");
    durable_fail(path, errno, st);
    free(path);
    return false;
}

bool run_metrics_append(RunFolder *f, const char *stage, int64_t step, Json *line, Status *st)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    Json *all = json_new_object();
    json_set(all, "stage", json_new_text(stage));
    json_set(all, "step", json_new_int(step));
    for (size_t i = 0; i < json_count(line); i++) {
        const Json *v;
        const char *key = json_member(line, i, &v);
        json_set(all, key, json_copy(v));
    }
    json_set(all, "wall", json_new_number(floor(((double)now.tv_sec + 1e-9 * (double)now.tv_nsec) * 1000) / 1000));
    bool ok = write_line(f, all, st) && mirror(f, all, st);
    json_free(all);
    json_free(line);
    return ok;
}

static bool survives(const Json *line, const RunPoint *points, int n)
{
    const char *stage = json_get_string(line, "stage", "");
    for (int i = 0; i < n; i++)
        if (!strcmp(points[i].stage, stage)) return json_integer(json_get(line, "step")) <= points[i].step;
    return false;
}

static bool replay_events(RunFolder *f, const Json *lines, Status *st)
{
    events_close(f->events);
    f->events = NULL;
    if (!events_remove(f->path, st)) return false;
    for (size_t i = 0; i < json_count(lines); i++)
        if (!mirror(f, json_at(lines, i), st)) return false;
    return true;
}

static bool rewrite_lines(const char *path, const Json *lines, Status *st)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    CHECK(out);
    for (size_t i = 0; i < json_count(lines); i++) {
        char *line = json_write(json_at(lines, i), false);
        fprintf(out, "%s\n", line);
        free(line);
    }
    CHECK(!fclose(out));
    bool ok = run_write_file(path, text, size, st);
    free(text);
    return ok;
}

bool run_folder_cut(RunFolder *f, const RunPoint *points, int n, Status *st)
{
    Json *lines = run_read_lines(f->path, "metrics.jsonl"), *kept = json_new_array();
    for (size_t i = 0; i < json_count(lines); i++)
        if (survives(json_at(lines, i), points, n)) json_append(kept, json_copy(json_at(lines, i)));
    fclose(f->metrics);
    f->metrics = NULL;
    char *path = join(f->path, "metrics.jsonl");
    bool ok = rewrite_lines(path, kept, st) && open_metrics(f, st) && replay_events(f, kept, st);
    free(path);
    json_free(lines);
    json_free(kept);
    return ok;
}

Json *run_read_lines(const char *folder, const char *name)
{
    char *path = join(folder, name);
    size_t n;
    char *text = read_whole(path, &n);
    Json *lines = json_new_array();
    for (char *line = text; line && *line;) {
        char *end = strchr(line, '\n');
        if (!end) break; /* torn */
        Status ignored = {0};
        Json *v = end > line ? json_parse(line, (size_t)(end - line), path, &ignored) : NULL;
        if (v && json_is_object(v)) json_append(lines, v);
        else json_free(v);
        line = end + 1;
    }
    free(text);
    free(path);
    return lines;
}

/* ---- Samples and summary ---- */

bool run_samples_write(RunFolder *f, const char *stage, Json *samples, Status *st)
{
    Json *old = run_read_lines(f->path, "samples.jsonl"), *all = json_new_array();
    for (size_t i = 0; i < json_count(old); i++)
        if (strcmp(json_get_string(json_at(old, i), "stage", ""), stage)) json_append(all, json_copy(json_at(old, i)));
    for (size_t i = 0; i < json_count(samples); i++) {
        const Json *sample = json_at(samples, i), *v;
        Json *line = json_new_object();
        json_set(line, "stage", json_new_text(stage));
        for (size_t k = 0; k < json_count(sample); k++) {
            const char *key = json_member(sample, k, &v);
            json_set(line, key, json_copy(v));
        }
        json_append(all, line);
    }
    char *path = join(f->path, "samples.jsonl");
    bool ok = rewrite_lines(path, all, st);
    free(path);
    json_free(old);
    json_free(all);
    json_free(samples);
    return ok;
}

static bool write_summary(RunFolder *f, Status *st)
{
    char *path = join(f->path, "summary.json");
    bool ok = json_write_file(f->summary, path, st);
    free(path);
    return ok;
}

bool run_summary_set(RunFolder *f, const char *key, Json *value, Status *st)
{
    json_set(f->summary, key, value);
    return write_summary(f, st);
}

bool run_summary_stage(RunFolder *f, const char *name, Json *entry, Status *st)
{
    const Json *old = json_get(f->summary, "stages");
    Json *stages = json_new_array();
    bool placed = false;
    for (size_t i = 0; i < json_count(old); i++) {
        const Json *e = json_at(old, i);
        bool same = !strcmp(json_get_string(e, "name", ""), name);
        json_append(stages, same ? json_copy(entry) : json_copy(e));
        placed = placed || same;
    }
    if (!placed) json_append(stages, json_copy(entry));
    json_free(entry);
    return run_summary_set(f, "stages", stages, st);
}

bool run_summary_drop(RunFolder *f, const char *name, Status *st)
{
    const Json *old = json_get(f->summary, "stages");
    Json *stages = json_new_array();
    for (size_t i = 0; i < json_count(old); i++)
        if (strcmp(json_get_string(json_at(old, i), "name", ""), name)) json_append(stages, json_copy(json_at(old, i)));
    return run_summary_set(f, "stages", stages, st);
}

const Json *run_summary_value(const RunFolder *f, const char *key)
{
    return json_get(f->summary, key);
}

const Json *run_summary_get(const RunFolder *f, const char *name)
{
    const Json *stages = json_get(f->summary, "stages");
    for (size_t i = 0; i < json_count(stages); i++)
        if (!strcmp(json_get_string(json_at(stages, i), "name", ""), name)) return json_at(stages, i);
    return NULL;
}

double run_summary_flops(const RunFolder *f, const char *name)
{
    const Json *entry = run_summary_get(f, name);
    return entry ? json_number(json_get(entry, "flops")) : 0;
}
