/* What the emulator's files share. */
#ifndef GPU_EMU_INTERNAL_H
#define GPU_EMU_INTERNAL_H

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "gpu/emu/control.h"
#include "gpu/emu/emu.h"

namespace emu
{

/* The largest block of shared memory, and what a launch gets without asking (as on sm_90). */
enum : size_t { SHARED_MOST = 227 << 10, SHARED_DEFAULT = 48 << 10, SHARED_ROOM = 320 << 10 };

/* A sentence about a fault; at most four of a format and kernel are printed, all are counted. */
void report(const char *format, ...) __attribute__((format(printf, 1, 2)));
uint64_t random_next();
void random_seed(uint64_t seed);

/* The kernel that runs, for reports; NULL outside. */
extern const char *kernel_name;

enum class Region { GONE, DEVICE, PINNED, ARGUMENTS };

/* What the checked build adds; its calls come in this order: launch (block (thread | barrier | warp_sync)* )* end. */
struct Checker {
    void (*launch)(const void *arguments, size_t bytes);
    void (*block)(unsigned number);
    void (*thread)(unsigned number);
    void (*barrier)();
    void (*warp_sync)(unsigned warp, unsigned mask);
    void (*end)();
    void (*access)(const void *p, size_t bytes, bool write);
    void (*region)(const void *p, size_t bytes, Region kind);
    void (*note)(const void *p, size_t bytes);
    void (*foreign)(bool allowed);
};
extern const Checker *checker; /* NULL in the plain build */

/* Whether the block's shared memory has [p, p + bytes) inside one variable. */
bool shared_has(const void *p, size_t bytes);
void shared_range(const char **low, size_t *bytes);

/* Runs all blocks of a launch, one after another. False: a deadlock ended it. */
struct Grid {
    dim3 grid, block;
    size_t shared;
    const char *name;
    std::shared_ptr<void> arguments;
    size_t bytes;
    void (*invoke)(void *);
};
bool grid_run(const Grid &g);

/* Queues work on a stream; ready: NULL, or asked before it may run. */
void stream_push(cudaStream_t s, std::function<void()> work, std::function<bool()> ready = nullptr);
/* Until nothing is queued on the device's streams. */
void device_drain(int device);
/* Reports a call that ends a recording on a card. */
void recording_forbids(const char *what);
void device_count(int device, uint64_t EmuCounters::*counter, uint64_t by);
int device_current();
size_t launch_limit(const void *kernel);
cudaError_t failed(cudaError_t e);

} // namespace emu

struct CUstream_st {
    int device;
    struct Queue *queue;
};
#endif
