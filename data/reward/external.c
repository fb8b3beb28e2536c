#include "data/reward/external.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/check.h"
#include "core/clock.h"
#include "data/json.h"
#include "data/text.h"
#include "data/utf8.h"

extern char **environ;

enum { READ_SIZE = 65536, LINE_MAX_BYTES = 1 << 20, CLOSE_WAIT_MS = 500 };

struct External {
    char *command;
    double timeout;
    pid_t pid; /* 0: not running; also its process group */
    int in, out;
    Text replies; /* read, not yet a whole line */
};

External *external_open(const char *command, double timeout_seconds)
{
    External *e = calloc(1, sizeof *e);
    CHECK(e != NULL);
    e->command = text_copy(command, strlen(command));
    e->timeout = timeout_seconds;
    return e;
}

/* ---- The process ---- */

/* In its own process group, so that Ctrl-C at our terminal is not also its end and that killing it kills its
 * children. */
static int spawn(External *e, int child_in, int child_out)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t how;
    sigset_t defaults, none;
    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    sigaddset(&defaults, SIGINT);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, child_in, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&files, child_out, STDOUT_FILENO);
    posix_spawnattr_init(&how);
    posix_spawnattr_setflags(&how, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setpgroup(&how, 0);
    posix_spawnattr_setsigdefault(&how, &defaults);
    posix_spawnattr_setsigmask(&how, &none);
    char *arguments[] = {"sh", "-c", e->command, NULL};
    int error = posix_spawn(&e->pid, "/bin/sh", &files, &how, arguments, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&how);
    return error;
}

static bool start(External *e)
{
    int to[2], from[2];
    if (e->pid != 0) return true;
    if (pipe2(to, O_CLOEXEC) != 0) return false;
    if (pipe2(from, O_CLOEXEC) != 0) {
        close(to[0]);
        close(to[1]);
        return false;
    }
    int error = spawn(e, to[0], from[1]);
    close(to[0]);
    close(from[1]);
    if (error != 0) {
        e->pid = 0;
        close(to[1]);
        close(from[0]);
        return false;
    }
    e->in = to[1];
    e->out = from[0];
    fcntl(e->in, F_SETFL, O_NONBLOCK);
    fcntl(e->out, F_SETFL, O_NONBLOCK);
    e->replies.n = 0;
    return true;
}

/* Ends the program; `patience` in milliseconds before it is killed. */
static void stop(External *e, int patience)
{
    if (e->pid == 0) return;
    close(e->in);
    close(e->out);
    bool gone = false;
    for (int waited = 0; waited < patience && !gone; waited += 10) {
        gone = waitpid(e->pid, NULL, WNOHANG) != 0;
        if (!gone) nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
    kill(-e->pid, SIGKILL);
    while (!gone && waitpid(e->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    e->pid = 0;
}

void external_close(External *e)
{
    if (e == NULL) return;
    stop(e, CLOSE_WAIT_MS);
    free(e->replies.p);
    free(e->command);
    free(e);
}

/* ---- A batch ---- */

typedef struct Batch {
    char *const *lines;
    ExternalReply *out;
    int n, next; /* next: the request whose reply comes next */
    Text unsent; /* lines next .. n as they go over the pipe */
    size_t sent;
    int restarts;
    double deadline;
} Batch;

static void set_failure(ExternalReply *reply, const char *reason)
{
    *reply = (ExternalReply){.failed = true};
    strcpy(reply->reason, reason);
}

static void fail_rest(Batch *b, const char *reason)
{
    while (b->next < b->n) set_failure(&b->out[b->next++], reason);
}

/* The request whose turn it is fails; the rest goes to a fresh program. */
static void restart(External *e, Batch *b, const char *reason)
{
    stop(e, 0);
    if (b->next < b->n) set_failure(&b->out[b->next++], reason);
    if (b->restarts++ == EXTERNAL_RESTARTS || (b->next < b->n && !start(e))) {
        fail_rest(b, reason);
        return;
    }
    b->unsent.n = b->sent = 0;
    for (int i = b->next; i < b->n; i++) text_addf(&b->unsent, "%s\n", b->lines[i]);
}

/* False when the line is no JSON object: then it cannot be told whose reply it was. */
static bool take_reply(ExternalReply *reply, const char *line, size_t length)
{
    Status fault = {0};
    Json *v = json_parse(line, length, "a reply", &fault);
    const Json *score = json_get(v, "score");
    bool in_step = json_is_object(v) || (length > 0 && line[0] == '{');
    *reply = (ExternalReply){0};
    if (json_is_number(score) && isfinite((float)json_number(score))) {
        reply->score = (float)json_number(score);
        const char *reason = json_get_string(v, "reason", "");
        size_t n = strlen(reason) < EXTERNAL_REASON ? strlen(reason) : utf8_valid_length(reason, EXTERNAL_REASON - 1);
        memcpy(reply->reason, reason, n);
    } else {
        set_failure(reply, "bad reply");
    }
    json_free(v);
    return in_step;
}

/* Takes the whole lines out of what was read. False when the program is out of step. */
static bool take_lines(External *e, Batch *b)
{
    char *at = e->replies.p, *end = at + e->replies.n, *newline;
    while (b->next < b->n && (newline = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        if (!take_reply(&b->out[b->next], at, (size_t)(newline - at))) return false;
        b->next++;
        at = newline + 1;
    }
    e->replies.n = (size_t)(end - at);
    memmove(e->replies.p, at, e->replies.n);
    return e->replies.n <= LINE_MAX_BYTES;
}

/* Reads what is there. False at its end. */
static bool read_some(External *e)
{
    char bytes[READ_SIZE];
    for (;;) {
        ssize_t n = read(e->out, bytes, sizeof bytes);
        if (n > 0) text_add_bytes(&e->replies, bytes, (size_t)n);
        else if (n == 0 || (errno != EINTR && errno != EAGAIN)) return false;
        else if (errno == EAGAIN) return true;
        if (e->replies.n > LINE_MAX_BYTES) return true;
    }
}

/* One turn of the loop: waits for the program, writes, reads, takes lines. */
static void pump(External *e, Batch *b)
{
    double left = b->deadline - clock_seconds();
    bool writing = b->sent < b->unsent.n;
    struct pollfd fds[2] = {{e->out, POLLIN, 0}, {e->in, POLLOUT, 0}};
    if (left <= 0) {
        stop(e, 0);
        fail_rest(b, "timeout");
        return;
    }
    if (poll(fds, writing ? 2 : 1, left > 1e5 ? 100000000 : (int)(left * 1e3) + 1) < 0) return;
    if (writing && fds[1].revents != 0) {
        ssize_t n = write(e->in, b->unsent.p + b->sent, b->unsent.n - b->sent);
        /* A closed pipe is seen again when reading: replies may still stand in the other one. */
        b->sent = n > 0 ? b->sent + (size_t)n : errno == EPIPE ? b->unsent.n : b->sent;
    }
    if (fds[0].revents == 0) return;
    bool open = read_some(e);
    if (e->replies.n > 0 && !take_lines(e, b)) restart(e, b, "bad reply");
    else if (!open && b->next < b->n) restart(e, b, "crashed");
}

/* Output nobody asked for since the last batch: the program is out of step (or gone). */
static bool is_stale(External *e)
{
    return e->pid != 0 && (e->replies.n > 0 || !read_some(e) || e->replies.n > 0);
}

void external_score(External *e, char *const *lines, int n, ExternalReply *out)
{
    Batch b = {.lines = lines, .out = out, .n = n, .deadline = clock_seconds() + e->timeout};
    sigset_t pipe_signal, before;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
    if (is_stale(e)) stop(e, 0);
    if (!start(e)) fail_rest(&b, "crashed");
    for (int i = 0; i < n; i++) text_addf(&b.unsent, "%s\n", lines[i]);
    while (b.next < b.n) pump(e, &b);
    free(b.unsent.p);
    /* A write to a dead program left its signal pending: it is taken away before others would see it. */
    while (!sigismember(&before, SIGPIPE) && sigtimedwait(&pipe_signal, NULL, &(struct timespec){0, 0}) == SIGPIPE)
        ;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}
