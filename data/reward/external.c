/* The process of a reward program, and the exchange of a batch with it. */
#include "data/reward/external.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/base/check.h"
#include "core/base/clock.h"
#include "data/json.h"
#include "data/process.h"
#include "data/text.h"
#include "data/utf8.h"

enum { READ_SIZE = 65536, LINE_MAX_BYTES = 1 << 20, CLOSE_WAIT_MS = 500 };

struct External {
    char *command;
    double timeout, startup;
    Process process;
    Text replies; /* read, not yet a whole line */
    int64_t next_id;
    bool replied;  /* this process gave a reply */
    bool answered; /* any process gave a score */
    char said[EXTERNAL_TAIL + 1];
    size_t said_n;
    long said_all; /* bytes of its standard error */
    char *skipped; /* the first line that was no object */
    bool skipped_shown;
};

External *external_open(const char *command, double timeout_seconds, double startup_seconds)
{
    External *e = calloc(1, sizeof *e);
    CHECK(e != NULL);
    e->process.err = -1;
    e->next_id = 1;
    e->command = text_copy(command, strlen(command));
    e->timeout = timeout_seconds;
    e->startup = startup_seconds > timeout_seconds ? startup_seconds : timeout_seconds;
    return e;
}

bool external_answered(const External *e)
{
    return e->answered;
}

const char *external_skipped(External *e)
{
    const char *line = e->skipped_shown ? NULL : e->skipped;
    if (line) e->skipped_shown = true;
    return line;
}

const char *external_said(const External *e, long *cut)
{
    *cut = e->said_all > EXTERNAL_STDERR ? e->said_all - EXTERNAL_STDERR : 0;
    if (e->said_all <= EXTERNAL_TAIL) return e->said;
    const char *newline = strchr(e->said, '\n'); /* whole lines only */
    return newline && newline[1] ? newline + 1 : e->said;
}

/* ---- Standard error ---- */

static void keep_said(External *e, const char *bytes, size_t n)
{
    if (n > EXTERNAL_TAIL) {
        bytes += n - EXTERNAL_TAIL;
        n = EXTERNAL_TAIL;
    }
    size_t left = e->said_n + n > EXTERNAL_TAIL ? EXTERNAL_TAIL - n : e->said_n;
    memmove(e->said, e->said + e->said_n - left, left);
    memcpy(e->said + left, bytes, n);
    e->said_n = left + n;
    e->said[e->said_n] = '\0';
}

/* Reads what is there; passes the first EXTERNAL_STDERR bytes on. */
static void read_said(External *e)
{
    char bytes[READ_SIZE];
    for (ssize_t n; e->process.err >= 0;) {
        n = read(e->process.err, bytes, sizeof bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return; /* nothing there now */
        if (n == 0) {
            close(e->process.err);
            e->process.err = -1;
            return;
        }
        long room = EXTERNAL_STDERR - e->said_all;
        if (room > 0) fwrite(bytes, 1, n < room ? (size_t)n : (size_t)room, stderr);
        e->said_all += n;
        keep_said(e, bytes, (size_t)n);
    }
}

/* ---- The process ---- */

static bool start(External *e)
{
    if (e->process.pid != 0) return true;
    char *const arguments[] = {"/bin/sh", "-c", e->command, NULL};
    if (!process_start(&e->process, arguments, NULL, 0)) return false;
    e->replies.n = 0;
    e->replied = false;
    return true;
}

/* Ends the program; `patience` in milliseconds before it is killed. */
static void stop(External *e, int patience)
{
    if (e->process.pid == 0) return;
    process_stop(&e->process, patience);
    read_said(e);
    if (e->process.err >= 0) close(e->process.err);
    e->process.err = -1;
}

void external_close(External *e)
{
    if (e == NULL) return;
    stop(e, CLOSE_WAIT_MS);
    free(e->replies.p);
    free(e->skipped);
    free(e->command);
    free(e);
}

/* ---- A batch ---- */

typedef struct Exchange {
    char *const *lines;
    ExternalReply *out;
    bool *done;       /* [n] */
    int n, open;      /* open: requests without a reply */
    int64_t first_id; /* of the batch; request i has first_id + i */
    Text unsent;      /* open requests as they go over the pipe */
    size_t sent;
    int restarts, without_id;
    size_t skipped; /* bytes of lines that are no reply */
    double deadline;
} Exchange;

static void set_failure(ExternalReply *reply, const char *reason)
{
    *reply = (ExternalReply){.failed = true};
    size_t n = strlen(reason) < EXTERNAL_REASON ? strlen(reason) : utf8_valid_length(reason, EXTERNAL_REASON - 1);
    memcpy(reply->reason, reason, n);
}

static int oldest(const Exchange *b)
{
    int i = 0;
    while (i < b->n && b->done[i]) i++;
    return i;
}

static void settle(Exchange *b, int i)
{
    b->open -= !b->done[i];
    b->done[i] = true;
}

static void fail_one(Exchange *b, int i, const char *reason)
{
    if (i == b->n) return;
    set_failure(&b->out[i], reason);
    settle(b, i);
}

static void fail_rest(Exchange *b, const char *reason)
{
    while (b->open > 0) fail_one(b, oldest(b), reason);
}

/* {"id": N, and what the line has behind its brace. */
static void queue(Exchange *b)
{
    b->unsent.n = b->sent = 0;
    for (int i = 0; i < b->n; i++)
        if (!b->done[i])
            text_addf(&b->unsent, "{\"id\": %lld%s%s\n", (long long)b->first_id + i, b->lines[i][1] == '}' ? "" : ", ",
                      b->lines[i] + 1);
}

/* The oldest open request fails; the rest goes to a fresh program. */
static void restart(External *e, Exchange *b, const char *reason)
{
    stop(e, 0);
    fail_one(b, oldest(b), reason);
    if (!e->answered && !e->replied) b->restarts += 2; /* it does not even start: one more try */
    if (b->restarts++ == EXTERNAL_RESTARTS || (b->open > 0 && !start(e))) {
        fail_rest(b, reason);
        return;
    }
    queue(b);
    b->deadline = clock_seconds() + e->startup;
}

/* A number, or what truth values are worth. */
static bool read_score(const Json *v, float *out)
{
    if (json_is_bool(v)) *out = json_bool(v);
    else if (json_is_number(v)) *out = (float)json_number(v);
    else return false;
    return true;
}

static void read_reply(External *e, ExternalReply *reply, const Json *v, const char *line, size_t length)
{
    float score;
    if (!read_score(json_get(v, "score"), &score)) {
        char reason[EXTERNAL_REASON];
        snprintf(reason, sizeof reason, "bad reply: %.*s", (int)(length < 60 ? length : 60), line);
        set_failure(reply, reason);
        return;
    }
    const char *reason = json_get_string(v, "reason", "");
    set_failure(reply, reason);
    reply->failed = false;
    reply->score = score;
    e->answered = true;
}

static void skip_line(External *e, const char *line, size_t length)
{
    if (e->skipped || strspn(line, " \t\r") >= length) return;
    e->skipped = text_copy(line, length < 200 ? length : 200);
}

/* One line: whose reply it is, and what it says. A broken object counts as the oldest request's. */
static void take_line(External *e, Exchange *b, const char *line, size_t length)
{
    Status fault = {0};
    Json *v = json_parse(line, length, "a reply", &fault);
    const Json *id = json_get(v, "id");
    int i = b->n;
    if (!json_is_object(v) && !(v == NULL && length > 0 && line[0] == '{')) {
        skip_line(e, line, length);
        b->skipped += length + 1;
        json_free(v);
        return;
    }
    if (json_is_integer_value(id)) {
        int64_t at = json_integer(id) - b->first_id;
        if (at >= 0 && at < b->n && !b->done[at]) i = (int)at;
        else skip_line(e, line, length); /* of another batch, or a second one */
    } else {
        b->without_id++;
        i = oldest(b);
    }
    if (i < b->n) {
        read_reply(e, &b->out[i], v, line, length);
        settle(b, i);
    }
    if (!e->replied) b->deadline = clock_seconds() + e->timeout; /* it has started */
    e->replied = true;
    json_free(v);
}

/* Takes the whole lines out of what was read; those behind the last reply stay. */
static void take_lines(External *e, Exchange *b)
{
    if (e->replies.n == 0) return;
    char *at = e->replies.p, *end = at + e->replies.n, *newline;
    while (b->open > 0 && (newline = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        take_line(e, b, at, (size_t)(newline - at));
        at = newline + 1;
    }
    e->replies.n = (size_t)(end - at);
    memmove(e->replies.p, at, e->replies.n);
}

/* Reads what is there. False at its end. */
static bool read_some(External *e)
{
    char bytes[READ_SIZE];
    for (;;) {
        ssize_t n = read(e->process.out, bytes, sizeof bytes);
        if (n > 0) text_add_bytes(&e->replies, bytes, (size_t)n);
        else if (n == 0 || (errno != EINTR && errno != EAGAIN)) return false;
        else if (errno == EAGAIN) return true;
        if (e->replies.n > LINE_MAX_BYTES) return true;
    }
}

static void time_is_up(External *e, Exchange *b)
{
    char reason[EXTERNAL_REASON];
    snprintf(reason, sizeof reason, e->replied ? "timeout" : "timeout: no reply within %g seconds of its start",
             e->startup);
    stop(e, 0);
    fail_rest(b, reason);
}

static void send_some(External *e, Exchange *b)
{
    ssize_t n = write(e->process.in, b->unsent.p + b->sent, b->unsent.n - b->sent);
    /* A closed pipe is seen again when reading: replies may still stand in the other one. */
    b->sent = n > 0 ? b->sent + (size_t)n : errno == EPIPE ? b->unsent.n : b->sent;
}

/* One turn of the loop: waits for the program, writes, reads, takes lines. */
static void pump(External *e, Exchange *b)
{
    double left = b->deadline - clock_seconds();
    bool writing = b->sent < b->unsent.n;
    struct pollfd fds[3] = {{e->process.out, POLLIN, 0}, {e->process.err, POLLIN, 0}, {e->process.in, POLLOUT, 0}};
    if (left <= 0) {
        time_is_up(e, b);
        return;
    }
    if (poll(fds, writing ? 3 : 2, left > 1e5 ? 100000000 : (int)(left * 1e3) + 1) < 0) return;
    if (fds[1].revents != 0) read_said(e);
    if (writing && fds[2].revents != 0) send_some(e, b);
    if (fds[0].revents == 0) return;
    bool open = read_some(e);
    take_lines(e, b);
    bool flood = e->replies.n > LINE_MAX_BYTES || b->skipped > LINE_MAX_BYTES;
    if (flood) b->skipped = 0;
    if (flood) restart(e, b, "bad reply: a megabyte without a reply");
    else if (!open && b->open > 0) restart(e, b, "crashed");
}

/* Replies nobody asked for: without ids the program is out of step. Part of a line is one too; lines that are no object are
 * nothing. */
static bool has_extra(External *e)
{
    if (e->process.pid == 0) return false;
    bool open = read_some(e), extra = !open;
    char *at = e->replies.p, *end = at + e->replies.n, *newline;
    while (at != NULL && at < end) {
        newline = memchr(at, '\n', (size_t)(end - at));
        char *stop = newline != NULL ? newline : end;
        if (*at == '{') extra = true;
        if (*at == '{' || newline != NULL) skip_line(e, at, (size_t)(stop - at));
        if (newline == NULL) break;
        at = newline + 1;
    }
    e->replies.n = at != NULL ? (size_t)(end - at) : 0;
    if (e->replies.n > 0) memmove(e->replies.p, at, e->replies.n);
    return extra;
}

/* More replies than requests, none of them with an id: which one is whose cannot be told. */
static void check_surplus(External *e, Exchange *b)
{
    if (e->process.pid == 0 || b->without_id < b->n || !has_extra(e)) return;
    for (int i = 0; i < b->n; i++) set_failure(&b->out[i], "bad reply: more replies than requests");
    stop(e, 0);
}

void external_score(External *e, char *const *lines, int n, ExternalReply *out)
{
    Exchange b = {.lines = lines, .out = out, .n = n, .open = n, .first_id = e->next_id};
    b.done = calloc((size_t)n + 1, sizeof *b.done);
    CHECK(b.done != NULL);
    e->next_id += n;
    sigset_t pipe_signal, before;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
    if (has_extra(e)) stop(e, 0);
    if (!start(e)) fail_rest(&b, "crashed");
    b.deadline = clock_seconds() + (e->replied ? e->timeout : e->startup);
    queue(&b);
    while (b.open > 0) pump(e, &b);
    check_surplus(e, &b);
    read_said(e);
    free(b.unsent.p);
    free(b.done);
    /* A write to a dead program left its signal pending: it is taken away before others would see it. */
    while (!sigismember(&before, SIGPIPE) && sigtimedwait(&pipe_signal, NULL, &(struct timespec){0, 0}) == SIGPIPE)
        ;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}
