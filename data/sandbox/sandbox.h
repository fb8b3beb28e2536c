/* Programs that nobody has read, run by an interpreter inside bubblewrap: a user namespace of its own without
 * capabilities, its own processes, network (none), host name and IPC; no file but /usr (read-only), the program and
 * /dev; nowhere to write; no new privileges, no further user namespaces. Limits of memory, processes, processor time,
 * output and time are in SandboxLimits. docs/code-rewards.md says what that stops and what it does not. Without
 * bubblewrap, or where user namespaces are refused, nothing is run. */
#ifndef DATA_SANDBOX_H
#define DATA_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/status.h"

enum { SANDBOX_SAID = 160, SANDBOX_WORDS = 16, SANDBOX_OUTPUT = 65536 };

typedef struct SandboxLimits {
    double seconds; /* of processor time a process, rounded up; of clock time twice as much and one more */
    long memory;    /* bytes of address space a process */
    int processes;  /* processes and threads at once, the interpreter among them (Linux 5.14: counted in the sandbox) */
} SandboxLimits;
SandboxLimits sandbox_limits(void); /* 4 seconds, 1 GiB, 16 */

typedef struct SandboxJob {
    const char *interpreter; /* its command, words apart by blanks: "python3 -I -B" */
    const char *program;     /* text: the interpreter's last argument is a file that holds it */
    const char *input;       /* standard input */
    SandboxLimits limits;
} SandboxJob;

typedef enum {
    SANDBOX_ENDED,    /* by itself: code */
    SANDBOX_TIMEOUT,  /* either time was up: killed */
    SANDBOX_FLOOD,    /* more than SANDBOX_OUTPUT bytes of output, or of standard error: killed */
    SANDBOX_UNSTARTED /* no process could be had */
} SandboxEnd;

typedef struct SandboxResult {
    SandboxEnd end;
    int code;     /* exit status; 128 + the signal that ended it */
    char *output; /* standard output, NUL-terminated; owned */
    size_t n;
    char said[SANDBOX_SAID]; /* the last line of its standard error, UTF-8 */
    float microseconds;      /* from its start to its end */
} SandboxResult;

/* Whether a sandbox can be had on this machine: tried once, by running `true` in one. */
bool sandbox_ready(Status *st);
/* Whether the first word of an interpreter's command is a program in /usr, so that a sandbox has it. */
bool sandbox_has(const char *interpreter);

/* Runs n jobs, as many at once as there are processors (at most 8). Nothing that a job does ends or stops the pool.
 * Fails, having run nothing, where no sandbox can be had. */
bool sandbox_run(const SandboxJob *jobs, int n, SandboxResult *out, Status *st);
void sandbox_results_free(SandboxResult *r, int n); /* what they own */

#endif
