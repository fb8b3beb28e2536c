/* Does the emulator find what it is there for? Each fault that people write into kernels and into the calls around them is
 * planted once; it must be found, and its twin without the fault must be silent, in every order of threads and of streams.
 * A fault is found by a wrong number, a report, an error code, or (address sanitizer) by the end of the process.
 * Usage: emu_selftest; the build decides whether accesses are checked. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gpu/emu/control.h"
#include "gpu/kernel.h"

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#else
#define WITH_ASAN 0
#endif

enum { THREADS = 64, PLAIN = 1, ASAN = 2, CHECKED = 4, ALL = 7 };

/* ---- Inside a block ---- */

template <bool BUG> __global__ void reduce(float *sum, const float *x)
{
    SMEM(float, part, [THREADS]);
    int t = threadIdx.x;
    part[t] = x[blockIdx.x * THREADS + t];
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (!BUG) __syncthreads();
        if (t < half) part[t] += part[t + half];
    }
    if (t == 0) sum[blockIdx.x] = part[0];
}

template <bool BUG> __global__ void neighbour(float *y, const float *x)
{
    SMEM(float, row, [32]);
    int l = threadIdx.x;
    row[l] = x[l];
    if (!BUG) __syncwarp();
    y[l] = row[l ^ 1];
}

template <bool BUG> __global__ void unwaited_copy(float *y, const float *x)
{
    SMEM(float, rows, [32 * 4]);
    int l = threadIdx.x;
    copy_async16(&rows[4 * l], x + 4 * l, true);
    copy_async_commit();
    if (!BUG) copy_async_wait<0>();
    __syncwarp();
    for (int i = 0; i < 4; i++) y[4 * l + i] = rows[4 * (l ^ 1) + i];
}

template <bool BUG> __global__ void misaligned_copy(float *y, const float *x)
{
    SMEM(float, rows, [32 * 4 + 4]);
    int l = threadIdx.x, off = BUG ? 1 : 0;
    copy_async16(&rows[4 * l + off], x + 4 * l, true);
    copy_async_commit();
    copy_async_wait<0>();
    for (int i = 0; i < 4; i++) y[4 * l + i] = rows[4 * l + off + i];
}

template <bool BUG> __global__ void divergent(float *y, const float *x)
{
    SMEM(float, row, [THREADS]);
    int t = threadIdx.x;
    row[t] = x[t];
    if (BUG && t < 32) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    y[t] = row[THREADS - 1 - t];
}

template <bool BUG> __global__ void left_lane(float *y, const float *x)
{
    int l = threadIdx.x;
    if (BUG && l == 5) return;
    y[l] = __shfl_xor_sync(0xffffffffu, x[l], 1);
}

template <bool BUG> __global__ void never_met(float *y, const float *x)
{
    int l = threadIdx.x;
    float v = x[l];
    if (!BUG || l < 16) v = __shfl_xor_sync(0xffffffffu, v, 1);
    else __syncwarp(0xffff0000u);
    if (BUG && l >= 16) __syncthreads();
    y[l] = v;
}

template <bool BUG> __global__ void past_shared(float *y, const float *x)
{
    SMEM(float, a, [32]);
    SMEM(float, b, [32]);
    int l = threadIdx.x;
    a[l] = x[l], b[l] = x[l];
    __syncwarp();
    y[l] = a[BUG ? l + 1 : l ^ 1] + b[l];
}

template <bool BUG> __global__ void unwritten_shared(float *y, const float *x)
{
    SMEM(float, a, [33]);
    int l = threadIdx.x;
    a[l] = x[l];
    __syncwarp();
    y[l] = a[l] + (BUG && l == 31 ? a[32] : 0.0f);
}

/* ---- Between blocks, at borders ---- */

template <bool BUG> __global__ void shared_sum(float *y, const float *x)
{
    if (threadIdx.x == 0) y[BUG ? 0 : blockIdx.x] = x[blockIdx.x];
}

__global__ void copy_some(float *y, const float *x, int n)
{
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i < n) y[i] = x[i];
}

__global__ void double_all(float *y, int n)
{
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i < n) y[i] *= 2.0f;
}

__global__ void large_shared(float *y, const float *x)
{
    DSMEM(float, rows);
    rows[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = rows[threadIdx.x];
}

/* ---- The calls around kernels ---- */

enum { N = 256 };

typedef struct Bench {
    float *x, *y, host[N], out[N];
    cudaStream_t s;
} Bench;

static void open(Bench *b)
{
    memset(b, 0, sizeof *b);
    for (int i = 0; i < N; i++) b->host[i] = (float)(i + 1);
    cudaMalloc((void **)&b->x, sizeof b->host);
    cudaMalloc((void **)&b->y, sizeof b->host);
    cudaStreamCreateWithFlags(&b->s, cudaStreamNonBlocking);
    cudaMemcpyAsync(b->x, b->host, sizeof b->host, cudaMemcpyHostToDevice, b->s);
    cudaMemsetAsync(b->y, 0, sizeof b->host, b->s);
}

static bool end(Bench *b, const float *want, int n)
{
    cudaMemcpyAsync(b->out, b->y, sizeof b->out, cudaMemcpyDeviceToHost, b->s);
    bool good = cudaStreamSynchronize(b->s) == cudaSuccess && memcmp(b->out, want, (size_t)n * sizeof(float)) == 0;
    cudaFree(b->x), cudaFree(b->y), cudaStreamDestroy(b->s);
    return good && cudaGetLastError() == cudaSuccess;
}

#define IN_ONE_WARP(name, kernel, expected)                                                                            \
    static bool name(bool bug)                                                                                         \
    {                                                                                                                  \
        Bench b;                                                                                                       \
        open(&b);                                                                                                      \
        float want[N];                                                                                                 \
        for (int i = 0; i < N; i++) want[i] = (expected);                                                              \
        if (bug) LAUNCH((kernel<true>), 1, 32, 0, b.s, b.y, b.x);                                                      \
        else LAUNCH((kernel<false>), 1, 32, 0, b.s, b.y, b.x);                                                         \
        return end(&b, want, 32);                                                                                      \
    }
IN_ONE_WARP(missing_warp_sync, neighbour, (float)((i ^ 1) + 1))
IN_ONE_WARP(copy_not_waited_for, unwaited_copy, (float)((i ^ 4) + 1))
IN_ONE_WARP(copy_misaligned, misaligned_copy, (float)(i + 1))
IN_ONE_WARP(mask_names_left_lane, left_lane, (float)((i ^ 1) + 1))
IN_ONE_WARP(lanes_never_meet, never_met, (float)((i ^ 1) + 1))
IN_ONE_WARP(past_a_shared_array, past_shared, (float)((i ^ 1) + 1 + i + 1))
IN_ONE_WARP(shared_not_written, unwritten_shared, (float)(i + 1))

static bool missing_barrier(bool bug)
{
    Bench b;
    open(&b);
    float want[4] = {0};
    for (int i = 0; i < N; i++) want[i / THREADS] += (float)(i + 1);
    if (bug) LAUNCH((reduce<true>), 4, THREADS, 0, b.s, b.y, b.x);
    else LAUNCH((reduce<false>), 4, THREADS, 0, b.s, b.y, b.x);
    return end(&b, want, 4);
}

static bool divergent_barrier(bool bug)
{
    Bench b;
    open(&b);
    float want[THREADS];
    for (int i = 0; i < THREADS; i++) want[i] = (float)(THREADS - i);
    if (bug) LAUNCH((divergent<true>), 1, THREADS, 0, b.s, b.y, b.x);
    else LAUNCH((divergent<false>), 1, THREADS, 0, b.s, b.y, b.x);
    return end(&b, want, THREADS);
}

static bool blocks_share_an_element(bool bug)
{
    Bench b;
    open(&b);
    float want[1] = {1};
    if (bug) LAUNCH((shared_sum<true>), 4, 32, 0, b.s, b.y, b.x);
    else LAUNCH((shared_sum<false>), 4, 32, 0, b.s, b.y, b.x);
    return end(&b, want, bug ? 0 : 1); /* only the checked build is asked */
}

static bool past_an_allocation(bool bug)
{
    Bench b;
    open(&b);
    LAUNCH(copy_some, N / THREADS + 1, THREADS, 0, b.s, b.y, b.x, bug ? N + 1 : N);
    return end(&b, b.host, N);
}

static bool past_an_array_of_an_arena(bool bug)
{
    Bench b;
    open(&b);
    emu_note(b.y, N / 2 * sizeof(float), b.s);
    emu_note(b.y + N / 2 + 16, 32, b.s);
    LAUNCH(copy_some, N / THREADS, THREADS, 0, b.s, b.y, b.x, bug ? N / 2 + 1 : N / 2);
    return end(&b, b.host, N / 2);
}

static bool pointer_of_the_host(bool bug)
{
    Bench b;
    open(&b);
    LAUNCH(copy_some, 1, THREADS, 0, b.s, b.y, bug ? (const float *)b.host : b.x, THREADS);
    return end(&b, b.host, THREADS);
}

static bool large_shared_not_asked_for(bool bug)
{
    Bench b;
    open(&b);
    if (!bug) ALLOW_SHARED(large_shared, 60 << 10);
    else ALLOW_SHARED(large_shared, 48 << 10);
    LAUNCH(large_shared, 1, THREADS, 60 << 10, b.s, b.y, b.x);
    return end(&b, b.host, THREADS);
}

/* Two streams: the second doubles what the first copied, once an event says so. */
static bool event_not_waited_for(bool bug)
{
    Bench b;
    open(&b);
    cudaStream_t other;
    cudaEvent_t copied, doubled;
    cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&copied, cudaEventDisableTiming);
    cudaEventCreateWithFlags(&doubled, cudaEventDisableTiming);
    LAUNCH(copy_some, N / THREADS, THREADS, 0, b.s, b.y, b.x, (int)N);
    cudaEventRecord(copied, b.s);
    if (!bug) cudaStreamWaitEvent(other, copied, 0);
    LAUNCH(double_all, N / THREADS, THREADS, 0, other, b.y, (int)N);
    cudaEventRecord(doubled, other);
    cudaStreamWaitEvent(b.s, doubled, 0);
    float want[N];
    for (int i = 0; i < N; i++) want[i] = 2.0f * b.host[i];
    bool good = end(&b, want, N);
    cudaEventDestroy(copied), cudaEventDestroy(doubled), cudaStreamDestroy(other);
    return good;
}

/* Pinned memory is read when the copy runs. */
static bool pinned_memory_changed_too_early(bool bug)
{
    Bench b;
    open(&b);
    float *pinned;
    cudaMallocHost((void **)&pinned, sizeof b.host);
    memcpy(pinned, b.host, sizeof b.host);
    cudaMemcpyAsync(b.y, pinned, sizeof b.host, cudaMemcpyHostToDevice, b.s);
    if (!bug) cudaStreamSynchronize(b.s);
    memset(pinned, 0, sizeof b.host);
    bool good = end(&b, b.host, N);
    cudaFreeHost(pinned);
    return good;
}

static bool result_read_too_early(bool bug)
{
    Bench b;
    open(&b);
    float *pinned, first;
    cudaMallocHost((void **)&pinned, sizeof b.host);
    memset(pinned, 0, sizeof b.host);
    LAUNCH(copy_some, N / THREADS, THREADS, 0, b.s, b.y, b.x, (int)N);
    cudaMemcpyAsync(pinned, b.y, sizeof b.host, cudaMemcpyDeviceToHost, b.s);
    if (!bug) cudaStreamSynchronize(b.s);
    first = pinned[0];
    bool good = end(&b, b.host, N) && first == 1.0f;
    cudaFreeHost(pinned);
    return good;
}

static bool more_than_the_device_has(bool bug)
{
    void *p = NULL;
    size_t left, total;
    cudaMemGetInfo(&left, &total);
    bool good = cudaMalloc(&p, bug ? left + 4096 : 4096) == cudaSuccess;
    cudaFree(p);
    cudaGetLastError();
    return good;
}

/* A recording plays what was called while it was made, at the addresses of then. */
static bool recording_is_stale(bool bug)
{
    Bench b;
    open(&b);
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    float want[N];
    cudaStreamBeginCapture(b.s, cudaStreamCaptureModeGlobal);
    LAUNCH(copy_some, N / THREADS, THREADS, 0, b.s, b.y, b.x, bug ? N / 2 : (int)N);
    LAUNCH(double_all, N / THREADS, THREADS, 0, b.s, b.y, (int)N);
    cudaStreamEndCapture(b.s, &graph);
    cudaGraphInstantiate(&exec, graph, 0);
    cudaGraphDestroy(graph);
    for (int i = 0; i < 2; i++) cudaGraphLaunch(exec, b.s);
    for (int i = 0; i < N; i++) want[i] = 2.0f * b.host[i];
    bool good = end(&b, want, N);
    cudaGraphExecDestroy(exec);
    return good;
}

static const struct Fault {
    const char *name;
    bool (*run)(bool bug);
    int found_by; /* builds that must find it */
} faults[] = {
    {"a missing barrier", missing_barrier, ALL},
    {"a missing warp sync", missing_warp_sync, CHECKED},
    {"cp.async not waited for", copy_not_waited_for, ALL},
    {"cp.async misaligned", copy_misaligned, ALL},
    {"a divergent barrier", divergent_barrier, ALL},
    {"a mask that names a lane that left", mask_names_left_lane, ALL},
    {"lanes that never meet", lanes_never_meet, ALL},
    {"a read past a shared array", past_a_shared_array, CHECKED},
    {"shared memory not written", shared_not_written, ALL},
    {"two blocks write one element", blocks_share_an_element, CHECKED},
    {"a write past an allocation", past_an_allocation, ASAN | CHECKED},
    {"a write past an array of an arena", past_an_array_of_an_arena, CHECKED},
    {"a pointer of the host", pointer_of_the_host, CHECKED},
    {"60 KB of shared memory not asked for", large_shared_not_asked_for, ALL},
    {"an event not waited for", event_not_waited_for, ALL},
    {"pinned memory changed too early", pinned_memory_changed_too_early, ALL},
    {"a result read too early", result_read_too_early, ALL},
    {"more memory than there is", more_than_the_device_has, ALL},
    {"a stale recording", recording_is_stale, ALL},
};

/* Every order of threads with every order of streams; true: right numbers and no report in any. */
static bool all_good(const Fault *f, bool bug)
{
    bool good = true;
    for (int order = 0; order < 6; order++)
        for (int queue = 0; queue < 5; queue++) {
            emu_reports_clear();
            emu_schedule(order < 2 ? (EmuSchedule)order : EMU_SEEDED, (uint64_t)order);
            emu_streams(queue < 2 ? (EmuStreams)queue : EMU_RANDOM, (uint64_t)(10 * order + queue));
            good = f->run(bug) && emu_reports() == 0 && good;
        }
    return good;
}

/* In a process of its own: the address sanitizer ends it. */
static bool found(const Fault *f, bool bug)
{
    pid_t child = fork();
    if (child == 0) {
        emu_quiet(bug);
        if (bug && !freopen("/dev/null", "w", stderr)) _exit(2);
        _exit(all_good(f, bug) ? 0 : 1);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) return !bug;
    return !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void)
{
    int mode = emu_is_checked() ? CHECKED : WITH_ASAN ? ASAN : PLAIN, wrong = 0, asked = 0;
    for (const Fault &f : faults) {
        if (found(&f, false)) wrong++, printf("%s: the twin without the fault is not silent\n", f.name);
        if (!(f.found_by & mode)) continue;
        asked++;
        if (!found(&f, true)) wrong++, printf("%s: not found\n", f.name);
    }
    printf("emulator, %s: %d planted faults, %d twins, %d wrong\n",
           mode == CHECKED ? "checked"
           : mode == ASAN  ? "address sanitizer"
                           : "plain",
           asked, (int)(sizeof faults / sizeof *faults), wrong);
    return wrong != 0;
}
