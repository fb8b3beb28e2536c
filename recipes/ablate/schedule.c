/* Jobs out of arms and seeds, the way they share the machine, and the live table. */
#include "recipes/ablate/schedule.h"

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

#include "core/base/check.h"
#include "core/base/clock.h"
#include "data/file.h"
#include "data/json.h"
#include "recipes/ablate/jobs.h"
#include "recipes/config/recipe_diff.h"
#include "recipes/config/recipe_load.h"
#include "recipes/run/progress.h"

enum { RUNS = ARMS * STATS_SEEDS, PROBE_STEPS = 30, TAIL = 8192 };

/* A run of an arm under a seed, and what its command is made of. */
typedef struct ArmRun {
    const Arm *arm;
    uint32_t seed;
    char folder[FOLDER], log[FOLDER + 16], state[FOLDER + 16], seed_set[32], threads[16], reuse[2 * FOLDER];
} ArmRun;

typedef struct Board {
    const Ablation *ablation;
    ArmRun *runs; /* [n] */
    Job *jobs;
    int n, parallel;
    double started, shown;
    bool live;
    int lines; /* of the table that stands on the terminal */
} Board;

/* ---- Commands ---- */

static void add_sets(Job *j, const Ablation *a, const Arm *arm)
{
    for (int i = 0; i < a->n_shared; i++) job_arg(j, "--set"), job_arg(j, a->shared[i]);
    for (int i = 0; arm && i < arm->n; i++) job_arg(j, "--set"), job_arg(j, arm->sets[i]);
}

/* Its options, after the others: of two --threads the later holds. */
static void add_options(Job *j, ArmRun *r)
{
    for (int i = 0; i < r->arm->n_options; i++) {
        const char *option = r->arm->options[i], *equal = strchr(option, '=');
        if (equal) {
            job_arg(j, !strncmp(option, "--memory", 8) ? "--memory" : "--threads");
            job_arg(j, equal + 1);
        } else {
            snprintf(r->state, sizeof r->state, "%s.state", r->folder);
            job_arg(j, "--state"), job_arg(j, r->state);
        }
    }
}

static void run_command(Job *j, const Ablation *a, const ScheduleOptions *o, ArmRun *r, int threads)
{
    snprintf(r->seed_set, sizeof r->seed_set, "seed=%u", r->seed);
    snprintf(r->threads, sizeof r->threads, "%d", threads);
    snprintf(r->reuse, sizeof r->reuse, "%s%s%s", a->out, o->reuse ? ":" : "", o->reuse ? o->reuse : "");
    job_arg(j, "run");
    job_arg(j, a->recipe_file);
    if (a->device) job_arg(j, "--device"), job_arg(j, a->device);
    add_sets(j, a, r->arm);
    const char *const rest[] = {"--set",     r->seed_set, "--out",  r->folder, "--only", o->only ? o->only : a->until,
                                "--threads", r->threads,  "--quiet"};
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) job_arg(j, rest[i]);
    if (!arms_with_options(a)) job_arg(j, "--reuse"), job_arg(j, r->reuse);
    add_options(j, r);
    if (o->logger) job_arg(j, "--log"), job_arg(j, o->logger);
    j->log = r->log;
}

/* ---- What is there already ---- */

/* Whether the run has all stages of "A,B". */
static bool is_finished(const ArmRun *r, const char *list)
{
    char path[FOLDER + 32], name[RECIPE_NAME];
    Status ignored = {0};
    snprintf(path, sizeof path, "%s/summary.json", r->folder);
    Json *summary = access(path, F_OK) ? NULL : json_read(path, &ignored);
    const Json *stages = json_get(summary, "stages");
    bool all = summary != NULL;
    while (*list) {
        bool done = false;
        snprintf(name, sizeof name, "%.*s", (int)strcspn(list, ","), list);
        for (size_t i = 0; i < json_count(stages); i++)
            done = done || !strcmp(json_get_string(json_at(stages, i), "name", ""), name);
        all = all && done;
        list += strcspn(list, ",");
        list += *list == ',';
    }
    json_free(summary);
    return all;
}

/* A folder of that name must hold the same recipe. */
static bool check_folder(const Ablation *a, const ArmRun *r, Status *st)
{
    char path[FOLDER + 32], difference[300];
    size_t n;
    snprintf(path, sizeof path, "%s/recipe.yaml", r->folder);
    if (access(path, F_OK)) return true;
    char *there = file_read(path, &n, st);
    Recipe *recipe = there ? arm_recipe(a, r->arm, r->seed, st) : NULL;
    char *here = recipe ? recipe_write(recipe) : NULL;
    if (here && !recipe_same(here, there, difference, sizeof difference))
        fail(st, "%s holds another run: %s; choose another folder with --out", r->folder, difference);
    free(there);
    free(here);
    free(recipe);
    return !st->failed;
}

/* The run of a process that is ending (it was killed, its parent too) holds the folder for a moment. */
static void wait_unlocked(const ArmRun *r, const volatile int *cancel)
{
    char path[FOLDER + 32];
    snprintf(path, sizeof path, "%s/lock", r->folder);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    for (int i = 0; fd >= 0 && i < 200 && !*cancel && flock(fd, LOCK_EX | LOCK_NB); i++)
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    if (fd >= 0) close(fd);
}

/* ---- The live table ---- */

/* The newest numbers in the last lines of a run's metrics. */
typedef struct Newest {
    char stage[64];
    int64_t step;
    double reward, pass1;
} Newest;

static void take_line(Newest *n, const char *line, size_t length)
{
    Status ignored = {0};
    Json *v = json_parse(line, length, "metrics", &ignored);
    const char *stage = json_get_string(v, "stage", "");
    if (strcmp(stage, n->stage)) n->reward = n->pass1 = NAN;
    snprintf(n->stage, sizeof n->stage, "%.60s", stage);
    n->step = json_integer(json_get(v, "step"));
    double reward = json_get_number(v, "reward"), pass1 = json_get_number(v, "pass@1"),
           eval = json_get_number(json_get(json_get(v, "eval"), "all"), "pass@1");
    if (!isnan(reward)) n->reward = reward;
    if (!isnan(pass1)) n->pass1 = pass1;
    if (!isnan(eval)) n->pass1 = eval;
    json_free(v);
}

static Newest newest_of(const char *folder)
{
    Newest n = {"", 0, NAN, NAN};
    char path[FOLDER + 32], text[TAIL + 1];
    snprintf(path, sizeof path, "%s/metrics.jsonl", folder);
    FILE *f = fopen(path, "rb");
    if (!f) return n;
    bool whole = fseek(f, -TAIL, SEEK_END) != 0;
    if (whole) rewind(f);
    size_t size = fread(text, 1, TAIL, f);
    text[size] = 0;
    fclose(f);
    char *line = text;
    if (!whole) line += strcspn(line, "\n"), line += *line == '\n';
    for (char *end; (end = strchr(line, '\n')); line = end + 1) take_line(&n, line, (size_t)(end - line));
    return n;
}

static void number_cell(char out[16], double v, double factor)
{
    if (isnan(v)) snprintf(out, 16, "-");
    else snprintf(out, 16, "%.2f", factor * v);
}

static int counted(const Board *s, JobState state)
{
    int n = 0;
    for (int i = 0; i < s->n; i++) n += s->jobs[i].state == state;
    return n;
}

/* Seconds left, from the mean of the runs that have ended; NAN before the first. */
static double time_left(const Board *s)
{
    double mean = 0, left = 0;
    int done = 0;
    for (int i = 0; i < s->n; i++)
        if (s->jobs[i].state == JOB_DONE && s->jobs[i].seconds > 0) mean += s->jobs[i].seconds, done++;
    if (!done) return NAN;
    mean /= done;
    for (int i = 0; i < s->n; i++) {
        if (s->jobs[i].state == JOB_WAITING) left += mean;
        if (s->jobs[i].state == JOB_RUNNING) left += fmax(0, mean - (clock_seconds() - s->jobs[i].started));
    }
    return left / s->parallel;
}

static int print_head(const Board *s)
{
    char time[24], left[24];
    double seconds = time_left(s);
    fprintf(stderr, "\033[K%d of %d runs done, %s so far, %s left\n", counted(s, JOB_DONE), s->n,
            progress_time(clock_seconds() - s->started, time), isnan(seconds) ? "?" : progress_time(seconds, left));
    fprintf(stderr, "\033[K%-32s %10s  %-20s %6s %8s %8s\n", "arm", "seed", "stage", "step", "reward", "pass@1");
    return 2;
}

static void print_run(const Board *s, int i)
{
    char reward[16], pass1[16];
    Newest n = newest_of(s->runs[i].folder);
    number_cell(reward, n.reward, 1);
    number_cell(pass1, n.pass1, 100);
    fprintf(stderr, "\033[K%-32.32s %10u  %-20.20s %6lld %8s %8s\n", s->runs[i].arm->name, s->runs[i].seed,
            n.stage[0] ? n.stage : "starting", (long long)n.step, reward, pass1);
}

static void draw(void *context)
{
    Board *s = context;
    double now = clock_seconds();
    bool over = !counted(s, JOB_RUNNING);
    if (!s->live || (now - s->shown < 0.5 && !over)) return;
    s->shown = now;
    if (s->lines) fprintf(stderr, "\033[%dA", s->lines);
    int lines = print_head(s);
    for (int i = 0; i < s->n; i++)
        if (s->jobs[i].state == JOB_RUNNING) print_run(s, i), lines++;
    for (int i = lines; i < s->lines; i++) fputs("\033[K\n", stderr);
    if (lines > s->lines) s->lines = lines;
    fflush(stderr);
}

/* Without a terminal: a line when a run has ended. */
static void tell(void *context)
{
    Board *s = context;
    draw(s);
    for (int i = 0; !s->live && i < s->n; i++) {
        if (s->jobs[i].state != JOB_DONE || s->jobs[i].pid == 0) continue;
        Newest n = newest_of(s->runs[i].folder);
        char time[24];
        fprintf(stderr, "%s, seed %u: done in %s", s->runs[i].arm->name, s->runs[i].seed,
                progress_time(s->jobs[i].seconds, time));
        if (!isnan(n.pass1)) fprintf(stderr, ", pass@1 %.1f %%", 100 * n.pass1);
        fprintf(stderr, " (%d of %d)\n", counted(s, JOB_DONE), s->n);
        s->jobs[i].pid = 0;
    }
}

/* ---- How the machine is shared ---- */

static void remove_folder(const char *path)
{
    char below[FOLDER + 300];
    struct dirent **names;
    int n = scandir(path, &names, NULL, NULL);
    for (int i = 0; i < n; i++) {
        snprintf(below, sizeof below, "%.1000s/%.255s", path, names[i]->d_name);
        struct stat info;
        if (strcmp(names[i]->d_name, ".") && strcmp(names[i]->d_name, "..") && !lstat(below, &info)) {
            if (S_ISDIR(info.st_mode)) remove_folder(below);
            else unlink(below);
        }
        free(names[i]);
    }
    if (n >= 0) free(names);
    rmdir(path);
}

/* Seconds that `together` probes take at once, with `threads` each. */
static double probe(const Ablation *a, const RecipeStage *first, int together, int threads, const volatile int *cancel,
                    Status *st)
{
    Job *jobs = calloc((size_t)together, sizeof *jobs);
    char steps[160], evals[160], after[160], number[16], root[FOLDER + 16], folder[64][FOLDER + 64], log[FOLDER + 64];
    CHECK(jobs && together <= 64);
    snprintf(steps, sizeof steps, "%s.steps=%d", first->name, PROBE_STEPS);
    snprintf(evals, sizeof evals, "%s.eval_every=0", first->name);
    snprintf(after, sizeof after, "%s.eval_after=false", first->name);
    snprintf(number, sizeof number, "%d", threads);
    snprintf(root, sizeof root, "%.900s/.probe", a->out);
    mkdir(root, 0777);
    snprintf(log, sizeof log, "%s/log.txt", root);
    for (int i = 0; i < together; i++) {
        snprintf(folder[i], sizeof folder[i], "%s/%d", root, i);
        job_arg(&jobs[i], "run");
        job_arg(&jobs[i], a->recipe_file);
        if (a->device) job_arg(&jobs[i], "--device"), job_arg(&jobs[i], a->device);
        add_sets(&jobs[i], a, NULL);
        const char *const rest[] = {"--set",   steps,     "--set",     evals,       "--set", after,    "--out",
                                    folder[i], "--until", first->name, "--threads", number,  "--quiet"};
        for (size_t k = 0; k < sizeof rest / sizeof *rest; k++) job_arg(&jobs[i], rest[k]);
        jobs[i].log = log;
    }
    double start = clock_seconds();
    jobs_run(jobs, together, together, NULL, NULL, cancel, st);
    double seconds = clock_seconds() - start;
    free(jobs);
    if (!st->failed) remove_folder(root); /* else its log says why */
    return seconds;
}

bool schedule_measure(const Ablation *a, int runs, Sharing *out, const volatile int *cancel, Status *st)
{
    int processors = jobs_processors(), together = processors < runs ? processors : runs;
    *out = (Sharing){.jobs = 1, .threads = processors};
    if (processors < 2 || runs < 2) return true;
    if (together > 64) together = 64;
    Recipe *r = arm_recipe(a, &a->arms[0], a->seeds[0], st);
    if (!r) return false;
    if (r->stages[0].kind == STAGE_PRETRAIN) {
        out->after = probe(a, &r->stages[0], 1, processors, cancel, st);
        out->beside = st->failed ? 0 : probe(a, &r->stages[0], together, 1, cancel, st) / together;
    }
    free(r);
    if (!(out->after > 0) || out->beside < out->after) out->jobs = together, out->threads = 1;
    return !st->failed;
}

/* ---- */

static void make_runs(const Ablation *a, Board *s)
{
    for (int i = 0; i < a->n_arms; i++)
        for (int k = 0; k < a->n_seeds; k++) {
            ArmRun *r = &s->runs[s->n++];
            r->arm = &a->arms[i];
            r->seed = a->seeds[k];
            arm_folder(a, r->arm, r->seed, r->folder);
            snprintf(r->log, sizeof r->log, "%s.log", r->folder);
        }
}

static void say_sharing(const Sharing *s, int runs)
{
    fprintf(stderr, "%d run%s, %d at once with %d thread%s each", runs, runs == 1 ? "" : "s", s->jobs, s->threads,
            s->threads == 1 ? "" : "s");
    if (s->after > 0)
        fprintf(stderr, " (measured: %.2f s a short run side by side, %.2f s one after the other)", s->beside,
                s->after);
    fputc('\n', stderr);
}

static bool prepare(Board *s, const ScheduleOptions *o, Sharing *sharing, const volatile int *cancel, Status *st)
{
    int left = 0;
    for (int i = 0; i < s->n && !st->failed; i++) {
        if (!check_folder(s->ablation, &s->runs[i], st)) return false;
        s->jobs[i].state = is_finished(&s->runs[i], o->only ? o->only : s->ablation->until) ? JOB_DONE : JOB_WAITING;
        left += s->jobs[i].state == JOB_WAITING;
    }
    if (o->jobs) *sharing = (Sharing){.jobs = o->jobs, .threads = jobs_processors() / o->jobs};
    else if (sharing->jobs == 0 && !schedule_measure(s->ablation, left, sharing, cancel, st)) return false;
    if (sharing->threads < 1) sharing->threads = 1;
    s->parallel = sharing->jobs;
    sharing->begun = true;
    if (left < s->n) fprintf(stderr, "%d of %d runs are there already\n", s->n - left, s->n);
    if (left) say_sharing(sharing, left);
    for (int i = 0; i < s->n; i++) {
        if (s->jobs[i].state != JOB_WAITING) continue;
        run_command(&s->jobs[i], s->ablation, o, &s->runs[i], sharing->threads);
        wait_unlocked(&s->runs[i], cancel);
    }
    return true;
}

bool schedule_run(const Ablation *a, const ScheduleOptions *o, Sharing *sharing, const volatile int *cancel, Status *st)
{
    Board s = {.ablation = a, .started = clock_seconds(), .live = !o->quiet && isatty(2)};
    s.runs = calloc(RUNS, sizeof *s.runs);
    s.jobs = calloc(RUNS, sizeof *s.jobs);
    CHECK(s.runs && s.jobs);
    make_runs(a, &s);
    bool ok = prepare(&s, o, sharing, cancel, st) && jobs_run(s.jobs, s.n, s.parallel, tell, &s, cancel, st);
    free(s.runs);
    free(s.jobs);
    return ok;
}
