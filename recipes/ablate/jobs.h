/* `r1 run` as child processes, several at a time. */
#ifndef RECIPES_ABLATE_JOBS_H
#define RECIPES_ABLATE_JOBS_H

#include <stdbool.h>
#include <sys/types.h>

#include "core/base/status.h"

enum { JOB_ARGS = 160 };

typedef enum { JOB_WAITING, JOB_RUNNING, JOB_DONE, JOB_FAILED, JOB_STOPPED } JobState;

typedef struct Job {
    const char *args[JOB_ARGS]; /* of `r1`, NULL-terminated: "run", "micro", "--out", .. */
    int n_args;
    const char *log; /* file for its output */
    JobState state;
    pid_t pid;
    double started, seconds; /* clock_seconds; of its run */
} Job;

/* Appends an argument (a view). */
void job_arg(Job *j, const char *text);

/* Called a few times a second while jobs run. */
typedef void JobsTick(void *context);

/* Runs the waiting jobs in order, at most `parallel` at once, until all are over or *cancel is set: then every
 * running one gets SIGINT and is waited for (it saves its state). A child also gets SIGINT when this process dies.
 * After a failure no further job is started. False with a sentence: a job failed (the last line of its log says
 * why), or "interrupted". */
bool jobs_run(Job *jobs, int n, int parallel, JobsTick *tick, void *context, const volatile int *cancel, Status *st);

/* Processors that this process may use. */
int jobs_processors(void);

#endif
