/* Finding a unit of the same identity in other runs, and linking what it left. */
#include "recipes/run/reuse.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "checkpoints/rollouts/rollouts.h"
#include "core/base/check.h"
#include "core/base/durable.h"
#include "data/file.h"
#include "recipes/run/identity.h"
#include "recipes/run/progress.h"
#include "recipes/run/run_folder.h"
#include "recipes/run/unit_state.h"

enum { PATH = 4096, FOLDERS = 8 };

struct Reuse {
    char *folder; /* the first: where claims are */
    char *folders[FOLDERS];
    int n;
    int claim; /* descriptor of the lock of the identity that is being computed; -1: none */
};

Reuse *reuse_open(const char *folders, Status *st)
{
    Reuse *r = calloc(1, sizeof *r);
    char *list = strdup(folders), *rest = NULL;
    CHECK(r && list);
    r->claim = -1;
    for (char *part = strtok_r(list, ":", &rest); part; part = strtok_r(NULL, ":", &rest)) {
        struct stat info;
        if (stat(part, &info) || !S_ISDIR(info.st_mode))
            fail(st, "--reuse %s: it is no folder; give a run's, or one that holds runs", part);
        else if (r->n < FOLDERS) r->folders[r->n++] = strdup(part);
        else fail(st, "--reuse takes at most %d folders", FOLDERS);
    }
    free(list);
    if (!r->n) fail(st, "--reuse needs a folder");
    r->folder = r->folders[0];
    if (!st->failed) return r;
    reuse_close(r);
    return NULL;
}

void reuse_close(Reuse *r)
{
    if (!r) return;
    reuse_release(r);
    for (int i = 0; i < r->n; i++) free(r->folders[i]);
    free(r);
}

void reuse_release(Reuse *r)
{
    if (r && r->claim >= 0) close(r->claim);
    if (r) r->claim = -1;
}

/* ---- One process computes an identity at a time ---- */

static void claim_path(const Reuse *r, const char *hash, char *out, size_t size)
{
    snprintf(out, size, "%.3900s/.claims", r->folder);
    mkdir(out, 0777);
    snprintf(out, size, "%.3900s/.claims/%.64s", r->folder, hash);
}

/* Waits while another process holds it. A folder where no lock can be made is used without. */
static bool take_claim(Run *r, const Unit *u, const char *hash, Status *st)
{
    char path[PATH];
    bool said = false;
    claim_path(r->reuse, hash, path, sizeof path);
    reuse_release(r->reuse);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    while (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK) {
        if (!said) progress_note(r->progress, "%s: waiting for the run that computes the same", u->name);
        said = true;
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
        if (!*r->cancel) continue;
        close(fd);
        r->saved = true;
        return fail(st, "interrupted");
    }
    r->reuse->claim = fd;
    return true;
}

/* ---- Candidates ---- */

typedef struct Candidates {
    char list[1024][PATH];
    int n;
} Candidates;

static void add_candidate(Candidates *c, const Run *r, const char *folder)
{
    char summary[PATH + 16];
    struct stat own, other;
    snprintf(summary, sizeof summary, "%s/summary.json", folder);
    if (c->n == 1024 || access(summary, F_OK)) return;
    if (!stat(run_folder_path(r->folder), &own) && !stat(folder, &other) && own.st_ino == other.st_ino) return;
    snprintf(c->list[c->n++], PATH, "%s", folder);
}

static void add_folder(Candidates *c, const Run *r, const char *folder)
{
    struct dirent **names;
    char path[PATH];
    add_candidate(c, r, folder);
    int n = scandir(folder, &names, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%.3800s/%.255s", folder, names[i]->d_name);
        if (names[i]->d_name[0] != '.') add_candidate(c, r, path);
        free(names[i]);
    }
    if (n >= 0) free(names);
}

static Candidates *find_candidates(const Run *r)
{
    Candidates *c = calloc(1, sizeof *c);
    CHECK(c);
    for (int i = 0; i < r->reuse->n; i++) add_folder(c, r, r->reuse->folders[i]);
    return c;
}

/* The entry of a unit in the summary of another run; NULL: none. *summary is the caller's. */
static const Json *entry_in(const char *folder, const char *name, Json **summary)
{
    char path[PATH + 16];
    Status ignored = {0};
    snprintf(path, sizeof path, "%s/summary.json", folder);
    *summary = json_read(path, &ignored);
    const Json *stages = json_get(*summary, "stages");
    for (size_t i = 0; i < json_count(stages); i++)
        if (!strcmp(json_get_string(json_at(stages, i), "name", ""), name)) return json_at(stages, i);
    return NULL;
}

/* ---- Why not ---- */

/* What a line says, after the name of the list's element that it belongs to: "language, weight: 0.5"; hashes are
 * cut. */
static void show_line(char out[80], const char *element, const char *line)
{
    line += strspn(line, " ");
    snprintf(out, 80, "%s%s%.*s", element, element[0] ? ", " : "", (int)strnlen(line, 40), line);
    out[strcspn(out, "\n")] = 0;
}

static void keep_element(char element[32], const char *line)
{
    line += strspn(line, " ");
    if (line[0] == '-') element[0] = 0;
    if (!strncmp(line, "name: ", 6)) snprintf(element, 32, "%.*s", (int)strcspn(line + 6, "\n") % 32, line + 6);
}

/* Lines of `text` that `other` has at the same place; differs: the first of each that is not. */
static int equal_lines(const char *text, const char *other, char differs[2][80])
{
    int equal = 0;
    char element[32] = "";
    for (bool found = false; *text && *other;) {
        size_t n = strcspn(text, "\n"), m = strcspn(other, "\n");
        bool same = n == m && !memcmp(text, other, n);
        keep_element(element, text);
        equal += same;
        if (!same && !found) {
            found = true;
            show_line(differs[0], element, text);
            show_line(differs[1], element, other);
        }
        text += n + (text[n] == '\n');
        other += m + (other[m] == '\n');
    }
    return equal;
}

/* The run that comes nearest, and what it has otherwise. */
static void say_why_not(Run *r, const Unit *u, const Candidates *c, const Identity *id)
{
    char nearest[PATH] = "", best[2][80] = {"", ""};
    int most = -1;
    for (int i = 0; i < c->n; i++) {
        char path[PATH + UNIT_NAME + 16], differs[2][80] = {"", ""};
        size_t n;
        Status ignored = {0};
        snprintf(path, sizeof path, "%s/units/%s.txt", c->list[i], u->name);
        char *text = access(path, F_OK) ? NULL : file_read(path, &n, &ignored);
        int equal = text ? equal_lines(id->text, text, differs) : -1;
        free(text);
        if (equal <= most) continue;
        most = equal;
        snprintf(nearest, sizeof nearest, "%s", c->list[i]);
        memcpy(best, differs, sizeof best);
    }
    if (most < 0) progress_note(r->progress, "%s: computed, no run in %s has it", u->name, r->reuse->folder);
    else
        progress_note(r->progress, "%s: computed, for %s has '%s' where this run has '%s'", u->name, nearest, best[1],
                      best[0]);
}

/* ---- Taking ---- */

static bool copy_file(const char *from, const char *to, Status *st)
{
    size_t n;
    char *bytes = file_read(from, &n, st);
    bool ok = bytes && run_write_file(to, bytes, n, st);
    free(bytes);
    return ok;
}

static bool link_file(const char *from, const char *to, Status *st)
{
    unlink(to);
    if (!link(from, to)) return true;
    if (errno == EXDEV || errno == EPERM || errno == EMLINK || errno == ENOTSUP) return copy_file(from, to, st);
    return fail(st, "%s cannot be linked to %s: %s", from, to, strerror(errno));
}

static bool link_result(const Run *r, const Unit *u, const char *from, Status *st)
{
    char *to = unit_result_path(r, u), source[PATH * 2];
    const char *name = strrchr(to, '/') + 1;
    snprintf(source, sizeof source, "%s/%s/%s", from, u->kind->makes_samples ? "samples" : "checkpoints", name);
    if (u->kind->makes_samples) {
        char *folder = run_folder_file(r->folder, "samples", "", "");
        mkdir(folder, 0777); /* a failure shows in the link */
        free(folder);
    }
    bool ok = link_file(source, to, st);
    free(to);
    return ok;
}

/* Whether a file's name in rollouts/ is one of the unit's: "UNIT-000001.h5", "UNIT.replies.jsonl". */
static bool is_rollout_of(const char *name, const char *unit)
{
    size_t n = strlen(unit);
    if (strncmp(name, unit, n)) return false;
    return !strcmp(name + n, ".replies.jsonl") || (name[n] == '-' && strspn(name + n + 1, "0123456789") == 6);
}

static bool link_rollouts(const Run *r, const Unit *u, const char *from, Status *st)
{
    char folder[PATH + 16], source[PATH * 2];
    struct dirent **names;
    bool ok = true, any = false;
    snprintf(folder, sizeof folder, "%s/rollouts", from);
    int n = scandir(folder, &names, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        if (ok && is_rollout_of(names[i]->d_name, u->name)) {
            char *to = run_folder_file(r->folder, "rollouts", names[i]->d_name, "");
            snprintf(source, sizeof source, "%s/%.255s", folder, names[i]->d_name);
            ok = link_file(source, to, st);
            any = true;
            free(to);
        }
        free(names[i]);
    }
    if (n >= 0) free(names);
    return ok && (!any || rollouts_index(run_folder_path(r->folder), st));
}

/* The unit's lines of a JSONL file of another run. */
static Json *lines_of(const char *folder, const char *file, const char *unit)
{
    Json *all = run_read_lines(folder, file), *own = json_new_array();
    for (size_t i = 0; i < json_count(all); i++)
        if (!strcmp(json_get_string(json_at(all, i), "stage", ""), unit)) json_append(own, json_copy(json_at(all, i)));
    json_free(all);
    return own;
}

static bool take_lines(const Run *r, const Unit *u, const char *from, Status *st)
{
    Json *metrics = lines_of(from, "metrics.jsonl", u->name), *samples = lines_of(from, "samples.jsonl", u->name);
    bool ok = json_count(samples) == 0 || run_samples_write(r->folder, u->name, json_copy(samples), st);
    for (size_t i = 0; ok && i < json_count(metrics); i++) {
        const Json *line = json_at(metrics, i);
        ok = run_metrics_append(r->folder, u->name, json_integer(json_get(line, "step")), json_copy(line), st);
    }
    json_free(metrics);
    json_free(samples);
    return ok;
}

static bool link_evaluation(const Run *r, const Unit *u, const char *from, Status *st)
{
    char source[PATH * 2];
    snprintf(source, sizeof source, "%s/evals/%s.jsonl", from, u->name);
    if (access(source, F_OK)) return true;
    char *folder = run_folder_file(r->folder, "evals", "", ""),
         *to = run_folder_file(r->folder, "evals", u->name, ".jsonl");
    mkdir(folder, 0777); /* a failure shows in the link */
    bool ok = link_file(source, to, st);
    free(folder);
    free(to);
    return ok;
}

/* The summary's entry comes last: until it is there, the unit is not done. */
static bool take_unit(Run *r, const Unit *u, const char *from, const Json *theirs, Status *st)
{
    Json *entry = json_copy(theirs);
    json_set(entry, "reused", json_new_text(from));
    if (unit_cut_before(r, u, st) && link_result(r, u, from, st) && link_rollouts(r, u, from, st) &&
        link_evaluation(r, u, from, st) && take_lines(r, u, from, st) && reuse_record(r, u, entry, st))
        return run_summary_stage(r->folder, u->name, entry, st);
    json_free(entry);
    return false;
}

static bool search(Run *r, const Unit *u, const Identity *id, bool *done, Status *st)
{
    Candidates *c = find_candidates(r);
    bool ok = true;
    for (int i = 0; i < c->n && ok && !*done; i++) {
        Json *summary = NULL;
        const Json *entry = entry_in(c->list[i], u->name, &summary);
        if (!strcmp(json_get_string(entry, "identity", ""), id->hash)) {
            ok = take_unit(r, u, c->list[i], entry, st);
            *done = ok;
            if (ok) progress_note(r->progress, "%s: reused from %s", u->name, c->list[i]);
        }
        json_free(summary);
    }
    if (ok && !*done) say_why_not(r, u, c, id);
    free(c);
    return ok;
}

bool reuse_unit(Run *r, const Unit *u, bool *done, Status *st)
{
    Identity id;
    *done = false;
    if (!identity_of(r, u, &id)) {
        progress_note(r->progress, "%s: computed, for it depends on a file that cannot be told by a hash", u->name);
        return true;
    }
    bool ok = take_claim(r, u, id.hash, st) && search(r, u, &id, done, st);
    if (*done) reuse_release(r->reuse);
    free(id.text);
    return ok;
}

bool reuse_record(const Run *r, const Unit *u, Json *entry, Status *st)
{
    Identity id;
    if (!identity_of(r, u, &id)) return true;
    char *folder = run_folder_file(r->folder, "units", "", ""),
         *path = run_folder_file(r->folder, "units", u->name, ".txt");
    mkdir(folder, 0777); /* a failure shows when the file is written */
    bool ok = run_write_file(path, id.text, strlen(id.text), st);
    json_set(entry, "identity", json_new_text(id.hash));
    free(folder);
    free(path);
    free(id.text);
    return ok;
}
