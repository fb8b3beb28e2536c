/* A ring of jobs, a lock and two conditions. */
#include "checkpoints/state_queue.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/base/clock.h"

enum { JOBS = 8 };

typedef struct Job {
    int record, plane; /* plane -1: a write */
    void *out;
    const void *planes[STATE_PLANES];
} Job;

struct StateQueue {
    StateFile *file;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t asked, finished;
    Job jobs[JOBS];
    int64_t last, done; /* jobs asked for, jobs done: job k is in jobs[k % JOBS] */
    bool stop, started;
    Status failure; /* of the first that failed */
    double waited;
};

static bool perform(StateQueue *q, const Job *j, Status *st)
{
    return j->plane < 0 ? state_file_write(q->file, j->record, j->planes, st)
                        : state_file_read(q->file, j->record, j->plane, j->out, st);
}

static void *work(void *of)
{
    StateQueue *q = of;
    pthread_mutex_lock(&q->lock);
    for (;;) {
        while (q->done == q->last && !q->stop) pthread_cond_wait(&q->asked, &q->lock);
        if (q->done == q->last) break;
        Job job = q->jobs[(q->done + 1) % JOBS];
        Status st = {0};
        bool skipped = q->failure.failed;
        pthread_mutex_unlock(&q->lock);
        bool ok = skipped || perform(q, &job, &st);
        pthread_mutex_lock(&q->lock);
        if (!ok) q->failure = st;
        q->done++;
        pthread_cond_broadcast(&q->finished);
    }
    pthread_mutex_unlock(&q->lock);
    return NULL;
}

StateQueue *state_queue_open(StateFile *f, Status *st)
{
    StateQueue *q = calloc(1, sizeof *q);
    CHECK(q);
    q->file = f;
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->asked, NULL);
    pthread_cond_init(&q->finished, NULL);
    q->started = !pthread_create(&q->thread, NULL, work, q);
    if (q->started) return q;
    fail(st, "no thread to read and write the optimizer's state with");
    state_queue_close(q);
    return NULL;
}

void state_queue_close(StateQueue *q)
{
    if (!q) return;
    pthread_mutex_lock(&q->lock);
    q->stop = true;
    pthread_cond_signal(&q->asked);
    pthread_mutex_unlock(&q->lock);
    if (q->started) pthread_join(q->thread, NULL);
    pthread_mutex_destroy(&q->lock);
    pthread_cond_destroy(&q->asked);
    pthread_cond_destroy(&q->finished);
    free(q);
}

static int64_t ask(StateQueue *q, const Job *job)
{
    pthread_mutex_lock(&q->lock);
    while (q->last - q->done == JOBS) pthread_cond_wait(&q->finished, &q->lock);
    int64_t number = ++q->last;
    q->jobs[number % JOBS] = *job;
    pthread_cond_signal(&q->asked);
    pthread_mutex_unlock(&q->lock);
    return number;
}

int64_t state_queue_read(StateQueue *q, int record, int plane, void *out)
{
    return ask(q, &(Job){.record = record, .plane = plane, .out = out});
}

int64_t state_queue_write(StateQueue *q, int record, const void *const planes[STATE_PLANES])
{
    Job job = {.record = record, .plane = -1};
    memcpy(job.planes, planes, sizeof job.planes);
    return ask(q, &job);
}

bool state_queue_wait(StateQueue *q, int64_t job, Status *st)
{
    double start = clock_seconds();
    pthread_mutex_lock(&q->lock);
    while (q->done < job) pthread_cond_wait(&q->finished, &q->lock);
    bool failed = q->failure.failed;
    if (failed) fail(st, "%s", q->failure.text);
    pthread_mutex_unlock(&q->lock);
    q->waited += clock_seconds() - start;
    return !failed;
}

bool state_queue_drain(StateQueue *q, Status *st)
{
    pthread_mutex_lock(&q->lock);
    int64_t last = q->last;
    pthread_mutex_unlock(&q->lock);
    return state_queue_wait(q, last, st);
}

double state_queue_waited(const StateQueue *q)
{
    return q->waited;
}
