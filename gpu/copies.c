/* Copies between the host and the device, and waiting for them. Calls and copies are queued on one stream, in order;
 * only downloads that are fetched later have a stream of their own, so that the calls behind them need not wait. Where
 * memory is counted (no stream) nothing is copied, and what is downloaded is 0. */
#include <stdlib.h>

#include "gpu/internal.h"
#if defined(R1_EMULATED)
#include "gpu/emu/control.h"
#endif

static bool event_open(cudaEvent_t *e)
{
    return cudaEventCreateWithFlags(e, cudaEventDisableTiming) == cudaSuccess;
}

bool gpu_streams_open(Backend *b)
{
    bool ok = cudaStreamCreateWithFlags(&b->stream, cudaStreamNonBlocking) == cudaSuccess &&
              cudaStreamCreateWithFlags(&b->copies, cudaStreamNonBlocking) == cudaSuccess && event_open(&b->written);
    for (int i = 0; i < DOWNLOADS && ok; i++) ok = event_open(&b->arrived[i]);
    return ok;
}

void gpu_streams_close(Backend *b)
{
    for (int i = 0; i < DOWNLOADS; i++)
        if (b->arrived[i]) cudaEventDestroy(b->arrived[i]);
    if (b->written) cudaEventDestroy(b->written);
    if (b->copies) cudaStreamDestroy(b->copies);
    if (b->stream) cudaStreamDestroy(b->stream);
}

cudaError_t gpu_finish(Backend *b)
{
    if (!b->stream) return cudaSuccess;
    b->waits++;
    cudaError_t e = cudaStreamSynchronize(b->stream), copies = cudaStreamSynchronize(b->copies);
    return e == cudaSuccess ? copies : e;
}

long gpu_waits(const Backend *b)
{
    return b->waits;
}

void gpu_upload(Backend *b, void *to, const void *from, size_t bytes)
{
    if (bytes && b->stream) cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, b->stream);
}

void gpu_download(Backend *b, void *to, const void *from, size_t bytes)
{
    if (!b->stream) {
        memset(to, 0, bytes);
        return;
    }
    if (bytes) cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, b->stream);
    cudaStreamSynchronize(b->stream);
    b->waits++;
}

void gpu_move(Backend *b, void *to, const void *from, size_t bytes)
{
    if (bytes && b->stream) cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, b->stream);
}

uint64_t gpu_download_later(Backend *b, void *to, const void *from, size_t bytes)
{
    uint64_t ticket = ++b->downloads;
    if (!b->stream) {
        memset(to, 0, bytes);
        return ticket;
    }
    cudaEventRecord(b->written, b->stream);
    cudaStreamWaitEvent(b->copies, b->written, 0);
    if (bytes) cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, b->copies);
    cudaEventRecord(b->arrived[ticket % DOWNLOADS], b->copies);
    return ticket;
}

void gpu_wait(Backend *b, uint64_t ticket)
{
    CHECK(ticket <= b->downloads);
    if (!ticket || !b->stream) {
        gpu_finish(b);
        return;
    }
    b->waits++;
    cudaEventSynchronize(b->arrived[ticket % DOWNLOADS]);
}

void *gpu_host_new(Backend *b, size_t bytes)
{
    void *p = NULL;
    if (!b->stream) return malloc(bytes ? bytes : 1);
    if (cudaMallocHost(&p, bytes ? bytes : 1) == cudaSuccess) return p;
    cudaGetLastError(); /* the caller says so */
    return NULL;
}

void gpu_host_free(Backend *b, void *p)
{
    if (!p) return;
    if (!b->stream) {
        free(p);
        return;
    }
    gpu_finish(b);
    cudaFreeHost(p);
}

#if defined(R1_EMULATED)
void gpu_note(Backend *b, const void *p, size_t bytes)
{
    emu_note(p, bytes, b->stream);
}
#endif
