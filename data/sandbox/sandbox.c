/* A pool of sandboxes: as many at once as there are processors, each with its pipes and its time. */
#include "data/sandbox/sandbox.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <unistd.h>

#include "core/base/check.h"
#include "core/base/clock.h"
#include "data/process.h"
#include "data/sandbox/command.h"
#include "data/text.h"
#include "data/utf8.h"

enum { WORKERS_MAX = 8, READ_SIZE = 16384, ENDED_PATIENCE = 2000, POLLED = 3 };

SandboxLimits sandbox_limits(void)
{
    return (SandboxLimits){.seconds = 4, .memory = 1L << 30, .processes = 16};
}

/* ---- One sandbox ---- */

typedef struct Worker {
    Process process; /* pid 0: idle */
    int watch;       /* a descriptor of the process, readable when it has ended */
    int job;
    double started, deadline;
    Text output, said;
    SandboxEnd end; /* of a sandbox that was killed */
    bool killed;
} Worker;

/* A text as a file that nobody can change, from its beginning. */
static int text_file(const char *text)
{
    size_t n = strlen(text), done = 0;
    int fd = memfd_create("r1", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    while (fd >= 0 && done < n) {
        ssize_t wrote = write(fd, text + done, n - done);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) {
            close(fd);
            return -1;
        }
        done += (size_t)wrote;
    }
    if (fd < 0) return -1;
    lseek(fd, 0, SEEK_SET);
    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
    return fd;
}

static double clock_limit(const SandboxLimits *l)
{
    return 2 * l->seconds + 1;
}

static bool worker_start(Worker *w, const SandboxJob *job, int index)
{
    int files[2] = {text_file(job->input), text_file(job->program)};
    SandboxCommand command;
    sandbox_command(&command, job->interpreter, &job->limits, true);
    *w = (Worker){.job = index, .watch = -1, .started = clock_seconds()};
    bool ok = files[0] >= 0 && files[1] >= 0 && process_start(&w->process, command.words, files, 2);
    if (ok) w->watch = (int)syscall(SYS_pidfd_open, w->process.pid, 0);
    w->deadline = w->started + clock_limit(&job->limits);
    for (int i = 0; i < 2; i++)
        if (files[i] >= 0) close(files[i]);
    sandbox_command_free(&command);
    return ok;
}

/* Reads what is there; what is over the limit is thrown away, and true returned. */
static bool drain(int *fd, Text *into)
{
    char bytes[READ_SIZE];
    while (*fd >= 0) {
        ssize_t n = read(*fd, bytes, sizeof bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) break; /* nothing there now */
        if (n == 0) {
            close(*fd);
            *fd = -1;
            break;
        }
        if (into->n + (size_t)n > SANDBOX_OUTPUT) return true;
        text_add_bytes(into, bytes, (size_t)n);
    }
    return false;
}

/* The last line that is not empty. */
static void keep_last_line(const Text *said, char out[SANDBOX_SAID])
{
    size_t end = said->n, from;
    while (end > 0 && strchr(" \t\r\n", said->p[end - 1])) end--;
    for (from = end; from > 0 && said->p[from - 1] != '\n';) from--;
    size_t n = end - from;
    out[0] = '\0';
    if (n == 0) return;
    n = utf8_valid_length(said->p + from, n < SANDBOX_SAID - 1 ? n : SANDBOX_SAID - 1);
    memcpy(out, said->p + from, n);
    out[n] = '\0';
}

/* Its end: everything in its namespace of processes dies with it. */
static void worker_finish(Worker *w, SandboxResult *out)
{
    int err = w->process.err;
    int status = process_stop(&w->process, w->killed ? 0 : ENDED_PATIENCE);
    if (err >= 0) close(err);
    if (w->watch >= 0) close(w->watch);
    *out = (SandboxResult){.end = w->killed ? w->end : SANDBOX_ENDED,
                           .code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
                           .n = w->output.n,
                           .microseconds = (float)(1e6 * (clock_seconds() - w->started))};
    if (out->end == SANDBOX_ENDED && out->code == 128 + SIGXCPU) out->end = SANDBOX_TIMEOUT;
    keep_last_line(&w->said, out->said);
    out->output = text_take(&w->output);
    free(w->said.p);
    w->process.pid = 0;
}

static void worker_kill(Worker *w, SandboxEnd why)
{
    if (!w->killed) w->end = why;
    w->killed = true;
}

/* ---- The pool ---- */

static int pool_size(int jobs)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    int n = processors < 1 ? 1 : processors > WORKERS_MAX ? WORKERS_MAX : (int)processors;
    return n < jobs ? n : jobs;
}

/* Waits until one of them has something to read, has ended, or has no time left. */
static void pool_wait(const Worker *workers, int n)
{
    struct pollfd fds[POLLED * WORKERS_MAX];
    double soonest = clock_seconds() + 1;
    int polled = 0;
    for (int i = 0; i < n; i++) {
        const Worker *w = &workers[i];
        if (w->process.pid == 0) continue;
        const int watched[POLLED] = {w->process.out, w->process.err, w->watch};
        for (int k = 0; k < POLLED; k++)
            if (watched[k] >= 0) fds[polled++] = (struct pollfd){watched[k], POLLIN, 0};
        if (w->deadline < soonest) soonest = w->deadline;
        /* A kernel without pidfd (before 5.3): it is asked ten times a second. */
        if (w->watch < 0 && clock_seconds() + 0.1 < soonest) soonest = clock_seconds() + 0.1;
    }
    double left = soonest - clock_seconds();
    poll(fds, (nfds_t)polled, left > 0 ? (int)(left * 1e3) + 1 : 0);
}

static bool has_ended(const Worker *w)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)w->process.pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0;
}

/* Whether the worker is done with its job. */
static bool worker_step(Worker *w)
{
    bool ended = has_ended(w); /* asked first: what it wrote before its end is there to be read */
    if (drain(&w->process.out, &w->output) || drain(&w->process.err, &w->said)) worker_kill(w, SANDBOX_FLOOD);
    else if (!ended && clock_seconds() > w->deadline) worker_kill(w, SANDBOX_TIMEOUT);
    return ended || w->killed;
}

static bool pool_run(const SandboxJob *jobs, int n, SandboxResult *out)
{
    Worker workers[WORKERS_MAX] = {0};
    int size = pool_size(n), next = 0, busy = 0;
    bool started = false;
    while (next < n || busy > 0) {
        for (int i = 0; i < size && next < n; i++) {
            if (workers[i].process.pid != 0) continue;
            bool ok = worker_start(&workers[i], &jobs[next], next);
            if (!ok && busy > 0) break; /* no process to be had now: when one of ours has ended */
            if (!ok) out[next] = (SandboxResult){.end = SANDBOX_UNSTARTED, .output = text_copy("", 0)};
            started |= ok;
            busy += ok;
            next++;
        }
        if (busy == 0) continue;
        pool_wait(workers, size);
        for (int i = 0; i < size; i++) {
            if (workers[i].process.pid == 0 || !worker_step(&workers[i])) continue;
            worker_finish(&workers[i], &out[workers[i].job]);
            busy--;
        }
    }
    return started;
}

/* ---- Whether it can be had ---- */

bool sandbox_has(const char *interpreter)
{
    static const char *const folders[] = {"", "/usr/local/bin/", "/usr/bin/", "/bin/"};
    const char *word = interpreter + strspn(interpreter, " ");
    int n = (int)strcspn(word, " ");
    char path[512];
    bool absolute = *word == '/';
    if (n == 0 || (absolute && strncmp(word, "/usr/", 5) != 0 && strncmp(word, "/bin/", 5) != 0)) return false;
    if (!absolute && memchr(word, '/', (size_t)n)) return false;
    for (size_t i = absolute ? 0 : 1; i < (absolute ? 1 : sizeof folders / sizeof *folders); i++) {
        if (snprintf(path, sizeof path, "%s%.*s", folders[i], n, word) < (int)sizeof path && access(path, X_OK) == 0)
            return true;
    }
    return false;
}

/* Runs `true` in a sandbox. */
static bool probe(char said[SANDBOX_SAID])
{
    SandboxLimits limits = sandbox_limits();
    SandboxCommand command;
    Worker w = {.watch = -1};
    SandboxResult r;
    sandbox_command(&command, "true", &limits, false);
    bool started = process_start(&w.process, command.words, NULL, 0);
    w.started = clock_seconds();
    w.deadline = w.started + clock_limit(&limits);
    snprintf(said, SANDBOX_SAID, "%s could not be started", command.words[0]);
    sandbox_command_free(&command);
    if (!started) return false;
    while (!worker_step(&w)) pool_wait(&w, 1);
    worker_finish(&w, &r);
    if (r.end != SANDBOX_ENDED) snprintf(said, SANDBOX_SAID, "it did not end in time");
    else snprintf(said, SANDBOX_SAID, "%s", r.said);
    bool ok = r.end == SANDBOX_ENDED && r.code == 0;
    sandbox_results_free(&r, 1);
    return ok;
}

bool sandbox_ready(Status *st)
{
    static bool tried, ready;
    static char said[SANDBOX_SAID];
    if (!tried) ready = probe(said);
    tried = true;
    if (ready) return true;
    return fail(st,
                "programs of answers are run in a sandbox only, and there is none here (%.120s): install bubblewrap "
                "0.8 (bwrap) and "
                "util-linux, on a machine that allows user namespaces",
                said);
}

bool sandbox_run(const SandboxJob *jobs, int n, SandboxResult *out, Status *st)
{
    if (!sandbox_ready(st)) return false;
    if (n > 0 && !pool_run(jobs, n, out)) {
        sandbox_results_free(out, n);
        return fail(st, "no process for a sandbox could be started: %s", strerror(errno));
    }
    return true;
}

void sandbox_results_free(SandboxResult *r, int n)
{
    for (int i = 0; i < n; i++) free(r[i].output);
}
