/* Streams, events and recordings. A stream is a queue of closures; an event is a number that rises. */
#include <deque>
#include <map>
#include <vector>

#include "gpu/emu/internal.h"

struct Queue {
    struct Work {
        std::function<void()> run;
        std::function<bool()> ready;
    };
    std::deque<Work> work;
    CUgraph_st *recording; /* NULL: none */
};
struct CUevent_st {
    uint64_t asked, done;
};
struct CUgraph_st {
    std::vector<std::function<void()>> work;
};
struct CUgraphExec_st {
    std::shared_ptr<CUgraph_st> graph;
};

namespace emu
{

int memory_home(const void *p, size_t *room);

static std::vector<cudaStream_t> streams;
static EmuStreams mode;

static bool step(cudaStream_t s)
{
    auto &q = s->queue->work;
    if (q.empty() || (q.front().ready && !q.front().ready())) return false;
    auto run = std::move(q.front().run);
    q.pop_front();
    run();
    return true;
}

/* Runs queued work, of any stream, until `done`. */
static void drain(const std::function<bool()> &done)
{
    while (!done()) {
        bool any = false;
        size_t n = streams.size(), first = mode == EMU_RANDOM && n ? random_next() % n : 0;
        for (size_t i = 0; i < n && !any; i++) any = step(streams[(first + i) % n]);
        if (!any) {
            report("streams: queued work waits for what nobody will do");
            for (auto s : streams) s->queue->work.clear();
            return;
        }
    }
}

void device_drain(int device)
{
    drain([device] {
        for (auto s : streams)
            if (s->device == device && !s->queue->work.empty()) return false;
        return true;
    });
}

void stream_push(cudaStream_t s, std::function<void()> work, std::function<bool()> ready)
{
    if (!s) {
        report("streams: the default stream waits for all others; every call names its own");
        device_drain(device_current());
        work();
        return;
    }
    if (s->queue->recording) {
        s->queue->recording->work.push_back(std::move(work));
        return;
    }
    s->queue->work.push_back(Queue::Work{std::move(work), std::move(ready)});
    if (mode == EMU_EAGER)
        while (step(s)) {}
}

void recording_forbids(const char *what)
{
    for (auto s : streams)
        if (s->queue->recording) report("streams: %s while calls are recorded", what);
}

bool launch_possible(dim3 grid, dim3 block, size_t shared, const void *kernel)
{
    size_t n = (size_t)block.x * block.y * block.z;
    bool shape = n > 0 && n <= 1024 && block.z <= 64 && grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.x < 1u << 31 &&
                 grid.y < 65536 && grid.z < 65536;
    if (!shape) failed(cudaErrorInvalidConfiguration);
    else if (shared > launch_limit(kernel)) failed(cudaErrorInvalidValue);
    return shape && shared <= launch_limit(kernel);
}

void launch(dim3 grid, dim3 block, size_t shared, cudaStream_t s, const char *name, std::shared_ptr<void> arguments,
            size_t bytes, void (*invoke)(void *))
{
    Grid g{grid, block, shared, name, std::move(arguments), bytes, invoke};
    int device = s ? s->device : device_current();
    uint64_t blocks = (uint64_t)grid.x * grid.y * grid.z, threads = blocks * block.x * block.y * block.z;
    stream_push(s, [g, device, blocks, threads] {
        device_count(device, &EmuCounters::launches, 1);
        device_count(device, &EmuCounters::blocks, blocks);
        device_count(device, &EmuCounters::threads, threads);
        if (!grid_run(g)) failed(cudaErrorLaunchFailure);
    });
}

static void count_copy(int to, int from, size_t bytes)
{
    if (to >= 0 && from >= 0) device_count(to, to == from ? &EmuCounters::d2d : &EmuCounters::peer, bytes);
    else if (to >= 0) device_count(to, &EmuCounters::h2d, bytes);
    else if (from >= 0) device_count(from, &EmuCounters::d2h, bytes);
}

/* Pageable memory is read at the call, pinned memory when the copy runs. A copy to pageable memory waits; pinned memory holds NaN
 * until the copy has run, so that who reads it too early is found. */
static cudaError_t copy(void *to, const void *from, size_t bytes, cudaStream_t s)
{
    if (bytes == 0) return cudaSuccess;
    size_t room_to = bytes, room_from = bytes;
    int home_to = memory_home(to, &room_to), home_from = memory_home(from, &room_from);
    if (room_to < bytes || room_from < bytes) {
        report("a copy of %zu bytes leaves its allocation (to: %zu are left, from: %zu)", bytes, room_to, room_from);
        return failed(cudaErrorInvalidValue);
    }
    if (s && s->queue->recording && (home_from == -2 || home_to == -2))
        report("streams: a recorded copy reads or writes memory of the process when it is replayed");
    if (home_from == -2 && home_to != -2) {
        auto staged = std::make_shared<std::vector<char>>((const char *)from, (const char *)from + bytes);
        stream_push(s, [to, staged, bytes, home_to] {
            memcpy(to, staged->data(), bytes);
            count_copy(home_to, -2, bytes);
        });
        return cudaSuccess;
    }
    if (home_to == -1 && home_from >= 0) memset(to, 0xff, bytes);
    stream_push(s, [to, from, bytes, home_to, home_from] {
        memmove(to, from, bytes);
        count_copy(home_to, home_from, bytes);
    });
    return home_to == -2 && s ? cudaStreamSynchronize(s) : cudaSuccess;
}

static cudaError_t waited(int device)
{
    device_count(device, &EmuCounters::waits, 1);
    return cudaPeekAtLastError();
}

} // namespace emu

using namespace emu;

extern "C" {

cudaError_t cudaDeviceSynchronize(void)
{
    device_drain(device_current());
    return waited(device_current());
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind, cudaStream_t s)
{
    return copy(to, from, bytes, s);
}

cudaError_t cudaMemcpyPeerAsync(void *to, int, const void *from, int, size_t bytes, cudaStream_t s)
{
    return copy(to, from, bytes, s);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind)
{
    device_drain(device_current());
    size_t room_to = bytes, room_from = bytes;
    int home_to = memory_home(to, &room_to), home_from = memory_home(from, &room_from);
    if (room_to < bytes || room_from < bytes) return failed(cudaErrorInvalidValue);
    memmove(to, from, bytes);
    count_copy(home_to, home_from, bytes);
    return waited(device_current());
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t s)
{
    size_t room = bytes;
    if (memory_home(p, &room) != -2 && room < bytes) return failed(cudaErrorInvalidValue);
    stream_push(s, [p, value, bytes] { memset(p, value, bytes); });
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned)
{
    *s = new CUstream_st{device_current(), new Queue()};
    streams.push_back(*s);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    cudaStreamSynchronize(s);
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i] == s) {
            streams.erase(streams.begin() + (long)i);
            break;
        }
    delete s->queue;
    delete s;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    if (!s) return cudaDeviceSynchronize();
    if (s->queue->recording) return failed(cudaErrorStreamCaptureUnsupported);
    drain([s] { return s->queue->work.empty(); });
    return waited(s->device);
}

cudaError_t cudaStreamQuery(cudaStream_t s)
{
    return s->queue->work.empty() ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned)
{
    *e = new CUevent_st{0, 0};
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    drain([e] { return e->done >= e->asked; });
    delete e;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    uint64_t value = ++e->asked;
    stream_push(s, [e, value] { e->done = value > e->done ? value : e->done; });
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t e)
{
    return e->done >= e->asked ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    uint64_t value = e->asked;
    drain([e, value] { return e->done >= value; });
    return waited(device_current());
}

cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned)
{
    uint64_t value = e->asked;
    stream_push(
        s, [] {}, [e, value] { return e->done >= value; });
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode)
{
    if (s->queue->recording) return failed(cudaErrorStreamCaptureUnsupported);
    s->queue->recording = new CUgraph_st();
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *graph)
{
    *graph = s->queue->recording;
    s->queue->recording = nullptr;
    return *graph ? cudaSuccess : failed(cudaErrorInvalidValue);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
    *exec = new CUgraphExec_st{std::make_shared<CUgraph_st>(*graph)};
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s)
{
    auto graph = exec->graph;
    stream_push(s, [graph] {
        for (const auto &work : graph->work) work();
    });
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    delete exec;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}

void emu_streams(EmuStreams how, uint64_t seed)
{
    mode = how;
    if (how == EMU_RANDOM) random_seed(seed);
}
}
