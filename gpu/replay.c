/* Recorded calls (CUDA graphs): a decode step of a small model is a hundred launches whose arguments do not change.
 *
 * A key is issued plainly when it is met first, so that scratch has its size, recorded when it is met again, and replayed from
 * then on. A recording holds addresses: it is forgotten as soon as any memory of the device is freed or moved. */
#include <stdlib.h>

#include "gpu/internal.h"

enum { RECORDINGS = 128 };

typedef struct Recording {
    uint64_t key;
    bool refused;         /* it could not be recorded */
    cudaGraphExec_t exec; /* NULL: met once */
} Recording;

typedef struct Recordings {
    Recording list[RECORDINGS];
    int n;
    Recording *now; /* being recorded */
    bool failed;    /* the one that is being recorded */
    long replays;
} Recordings;

static Recordings *recordings_of(Backend *b)
{
    if (!b->recordings) b->recordings = calloc(1, sizeof *b->recordings);
    return b->recordings;
}

bool gpu_recording(const Backend *b)
{
    return b->recordings && b->recordings->now;
}

void gpu_recording_fails(Backend *b)
{
    CHECK(gpu_recording(b));
    b->recordings->failed = true;
}

long gpu_replays(const Backend *b)
{
    return b->recordings ? b->recordings->replays : 0;
}

void gpu_recordings_drop(Backend *b)
{
    Recordings *r = b->recordings;
    if (!r || r->n == 0) return;
    CHECK(!r->now);
    cudaStreamSynchronize(b->stream);
    for (int i = 0; i < r->n; i++)
        if (r->list[i].exec) cudaGraphExecDestroy(r->list[i].exec);
    r->n = 0;
}

void gpu_recordings_free(Backend *b)
{
    gpu_recordings_drop(b);
    free(b->recordings);
    b->recordings = NULL;
}

static Recording *find(Recordings *r, uint64_t key)
{
    for (int i = 0; i < r->n; i++)
        if (r->list[i].key == key) return &r->list[i];
    return NULL;
}

bool gpu_replay(Backend *b, uint64_t key)
{
    Recordings *r = recordings_of(b);
    if (!r) return false;
    CHECK(!r->now);
    Recording *found = find(r, key);
    if (!found) {
        if (r->n == RECORDINGS) gpu_recordings_drop(b);
        r->list[r->n++] = (Recording){.key = key};
        return false;
    }
    if (found->exec) {
        r->replays++;
        cudaGraphLaunch(found->exec, b->stream);
        return true;
    }
    if (!found->refused && cudaStreamBeginCapture(b->stream, cudaStreamCaptureModeGlobal) == cudaSuccess)
        r->now = found, r->failed = false;
    return false;
}

bool gpu_recorded(Backend *b)
{
    Recordings *r = b->recordings;
    if (!r || !r->now) return true;
    Recording *now = r->now;
    cudaGraph_t graph = NULL;
    r->now = NULL;
    bool good = cudaStreamEndCapture(b->stream, &graph) == cudaSuccess && !r->failed;
    good = good && cudaGraphInstantiate(&now->exec, graph, 0) == cudaSuccess;
    if (graph) cudaGraphDestroy(graph);
    if (!good) {
        cudaGetLastError(); /* the calls are made plainly */
        now->refused = true, now->exec = NULL;
        return false;
    }
    cudaGraphLaunch(now->exec, b->stream);
    return true;
}
