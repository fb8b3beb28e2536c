/* fork, exec, wait. */
#include "recipes/ablate/jobs.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/base/check.h"
#include "core/base/clock.h"
#include "data/file.h"

int jobs_processors(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set)) return 1;
    int n = CPU_COUNT(&set);
    return n > 0 ? n : 1;
}

void job_arg(Job *j, const char *text)
{
    CHECK(j->n_args + 1 < JOB_ARGS);
    j->args[j->n_args++] = text;
    j->args[j->n_args] = NULL;
}

/* In the child: never returns. */
static void become(const Job *j, pid_t parent)
{
    char program[4096], *argv[JOB_ARGS + 2] = {"r1"};
    int log = open(j->log, O_WRONLY | O_CREAT | O_TRUNC, 0666), nothing = open("/dev/null", O_RDONLY);
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    prctl(PR_SET_PDEATHSIG, SIGINT);
    if (getppid() != parent || n <= 0 || log < 0) _exit(127);
    program[n] = 0;
    dup2(nothing, 0);
    dup2(log, 1);
    dup2(log, 2);
    for (int i = 0; i < j->n_args; i++) argv[i + 1] = (char *)j->args[i];
    execv(program, argv);
    _exit(127);
}

static bool start(Job *j, Status *st)
{
    pid_t parent = getpid();
    fflush(NULL);
    j->pid = fork();
    if (j->pid < 0) return fail(st, "no process for a run can be started: %s; try fewer --jobs", strerror(errno));
    if (j->pid == 0) become(j, parent);
    j->state = JOB_RUNNING;
    j->started = clock_seconds();
    return true;
}

/* The last line of a log that says something. */
static void last_line(const char *path, char *out, size_t size)
{
    Status ignored = {0};
    size_t n = 0;
    char *text = file_read(path, &n, &ignored);
    out[0] = 0;
    if (!text) return;
    while (n && (text[n - 1] == '\n' || text[n - 1] == '\r')) text[--n] = 0;
    char *line = text + n;
    while (line > text && line[-1] != '\n' && line[-1] != '\r') line--;
    snprintf(out, size, "%s", strncmp(line, "r1: ", 4) ? line : line + 4);
    free(text);
}

static void end(Job *j, int status, bool cancelled, Status *st)
{
    char why[400];
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    j->seconds = clock_seconds() - j->started;
    j->state = code == 0 ? JOB_DONE : code == 130 && cancelled ? JOB_STOPPED : JOB_FAILED;
    if (j->state != JOB_FAILED || st->failed) return;
    last_line(j->log, why, sizeof why);
    fail(st, "%s (exit code %d, its output: %s)", why[0] ? why : "a run ended without a word", code, j->log);
}

static int count(const Job *jobs, int n, JobState s)
{
    int sum = 0;
    for (int i = 0; i < n; i++) sum += jobs[i].state == s;
    return sum;
}

static void reap(Job *jobs, int n, bool cancelled, Status *st)
{
    for (int i = 0; i < n; i++) {
        int status;
        if (jobs[i].state == JOB_RUNNING && waitpid(jobs[i].pid, &status, WNOHANG) == jobs[i].pid)
            end(&jobs[i], status, cancelled, st);
    }
}

static void interrupt_all(Job *jobs, int n)
{
    for (int i = 0; i < n; i++)
        if (jobs[i].state == JOB_RUNNING) kill(jobs[i].pid, SIGINT);
}

bool jobs_run(Job *jobs, int n, int parallel, JobsTick *tick, void *context, const volatile int *cancel, Status *st)
{
    bool told = false;
    for (int beat = 0;; beat++) {
        reap(jobs, n, *cancel, st);
        if (*cancel && !told) {
            interrupt_all(jobs, n);
            told = true;
        }
        for (int i = 0; i < n && !*cancel && !st->failed && count(jobs, n, JOB_RUNNING) < parallel; i++)
            if (jobs[i].state == JOB_WAITING) start(&jobs[i], st);
        if (tick && beat % 5 == 0) tick(context);
        if (!count(jobs, n, JOB_RUNNING) && (*cancel || st->failed || !count(jobs, n, JOB_WAITING))) break;
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
    if (tick) tick(context);
    if (*cancel && !st->failed) return fail(st, "interrupted");
    return !st->failed;
}
