/* Devices: memory with a budget of bytes, pinned memory of the host, virtual ranges; faults and what a test asks for. */
#include <sys/mman.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "gpu/emu/cuda.h"
#include "gpu/emu/internal.h"

namespace emu
{

void schedule_set(EmuSchedule how);

enum { HOST = -1, RANGE_PAGE = 1 << 16 };

struct Block {
    int device; /* HOST: pinned */
    size_t bytes;
};

struct Device {
    size_t room;
    EmuCounters counters;
};

struct Range { /* reserved addresses, of which the first `mapped` bytes have memory */
    size_t bytes, mapped;
};

static std::vector<Device> devices;
static std::map<uintptr_t, Block> blocks;
static std::map<uintptr_t, Range> ranges;
static std::map<const void *, size_t> limits; /* dynamic shared memory of kernels that asked */
static int current;
static cudaError_t last_error;
static std::vector<std::string> reports;
static bool quiet;
static uint64_t random_state = 88172645463325252u;

uint64_t random_next()
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
}

void random_seed(uint64_t seed)
{
    random_state = (seed + 1) * 0x9e3779b97f4a7c15u;
}

/* "word:number": the number, or 0. */
static uint64_t number_behind(const char *text)
{
    const char *colon = strchr(text, ':');
    return colon ? strtoull(colon + 1, nullptr, 10) : 0;
}

static void settings()
{
    const char *memory = getenv("R1_EMU_MEMORY"), *number = getenv("R1_EMU_DEVICES"),
               *order = getenv("R1_EMU_SCHEDULE"), *queue = getenv("R1_EMU_STREAMS");
    size_t room = memory ? strtoull(memory, nullptr, 10) : (size_t)1 << 34;
    devices.assign(number ? (size_t)atoi(number) : 1, Device{room, {}});
    if (order && order[0] == 'r') emu_schedule(EMU_REVERSE, 0);
    if (order && order[0] == 's') emu_schedule(EMU_SEEDED, number_behind(order));
    if (queue && queue[0] == 'l') emu_streams(EMU_LAZY, 0);
    if (queue && queue[0] == 'r') emu_streams(EMU_RANDOM, number_behind(queue));
}

static std::vector<Device> &all_devices()
{
    if (devices.empty()) settings();
    return devices;
}

void report(const char *format, ...)
{
    static std::map<std::pair<const char *, const char *>, int> printed;
    char text[400], whole[600];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    if (kernel_name) {
        snprintf(whole, sizeof whole, "kernel %s, block (%u, %u, %u), thread %u: %s", kernel_name, blockIdx.x,
                 blockIdx.y, blockIdx.z, threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z), text);
        last_error = cudaErrorLaunchFailure;
    } else {
        snprintf(whole, sizeof whole, "%s", text);
    }
    if (reports.size() < 1000) reports.push_back(whole);
    if (!quiet && printed[{kernel_name, format}]++ < 4) fprintf(stderr, "emulated GPU: %s\n", whole);
}

cudaError_t failed(cudaError_t e)
{
    if (e != cudaSuccess) last_error = e;
    return e;
}

int device_current()
{
    return current;
}

void device_count(int device, uint64_t EmuCounters::*counter, uint64_t by)
{
    all_devices()[(size_t)device].counters.*counter += by;
}

size_t launch_limit(const void *kernel)
{
    auto found = limits.find(kernel);
    return found == limits.end() ? (size_t)SHARED_DEFAULT : found->second;
}

cudaError_t allow_shared(const void *kernel, size_t bytes)
{
    if (bytes > SHARED_MOST) return failed(cudaErrorInvalidValue);
    limits[kernel] = bytes;
    return cudaSuccess;
}

static bool take(int device, size_t bytes)
{
    Device &d = all_devices()[(size_t)device];
    if (d.counters.used + bytes > d.room) return false;
    d.counters.used += bytes;
    if (d.counters.used > d.counters.peak) d.counters.peak = d.counters.used;
    return true;
}

static void give(int device, size_t bytes)
{
    all_devices()[(size_t)device].counters.used -= bytes;
}

static size_t charged(size_t bytes)
{
    return (bytes + 511) & ~(size_t)511;
}

static void tell_region(const void *p, size_t bytes, Region kind)
{
    if (checker) checker->region(p, bytes, kind);
}

static cudaError_t block_new(void **p, int device, size_t bytes)
{
    *p = nullptr;
    if (bytes == 0) return cudaSuccess;
    if (device != HOST && !take(device, charged(bytes))) return failed(cudaErrorMemoryAllocation);
    if (posix_memalign(p, 256, bytes) != 0) return failed(cudaErrorMemoryAllocation);
    memset(*p, 0xff, bytes); /* NaN: what nobody wrote is seen */
    blocks[(uintptr_t)*p] = Block{device, bytes};
    tell_region(*p, bytes, device == HOST ? Region::PINNED : Region::DEVICE);
    return cudaSuccess;
}

static cudaError_t block_free(void *p, bool pinned)
{
    if (!p) return cudaSuccess;
    auto found = blocks.find((uintptr_t)p);
    if (found == blocks.end() || pinned != (found->second.device == HOST)) return failed(cudaErrorInvalidValue);
    for (size_t d = 0; d < all_devices().size(); d++) device_drain((int)d);
    if (!pinned) give(found->second.device, charged(found->second.bytes));
    tell_region(p, found->second.bytes, Region::GONE);
    blocks.erase(found);
    free(p);
    return cudaSuccess;
}

/* Where p lies: HOST for pinned memory, -2 for memory the emulator does not know; room: bytes from p to its end. */
int memory_home(const void *p, size_t *room)
{
    auto range = ranges.upper_bound((uintptr_t)p);
    if (range != ranges.begin() && (uintptr_t)p - (--range)->first < range->second.bytes) {
        size_t at = (uintptr_t)p - range->first;
        *room = at < range->second.mapped ? range->second.mapped - at : 0;
        return 0;
    }
    auto found = blocks.upper_bound((uintptr_t)p);
    if (found == blocks.begin() || (uintptr_t)p - (--found)->first >= found->second.bytes) return -2;
    *room = found->second.bytes - ((uintptr_t)p - found->first);
    return found->second.device;
}

/* ---- Virtual ranges: the driver's calls, as far as memory.c makes them. ---- */

static CUresult range_granularity(size_t *bytes, const CUmemAllocationProp *, CUmemAllocationGranularity_flags)
{
    *bytes = RANGE_PAGE;
    return CUDA_SUCCESS;
}

static CUresult range_reserve(CUdeviceptr *p, size_t bytes, size_t, CUdeviceptr, unsigned long long)
{
    if (bytes == 0 || bytes % RANGE_PAGE) return CUDA_ERROR_INVALID_VALUE;
    void *at = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
    ranges[(uintptr_t)at] = Range{bytes, 0};
    *p = (CUdeviceptr)(uintptr_t)at;
    return CUDA_SUCCESS;
}

/* A handle is the number of its bytes: what it is mapped to is new memory. */
static CUresult memory_create(CUmemGenericAllocationHandle *handle, size_t bytes, const CUmemAllocationProp *prop,
                              unsigned long long)
{
    if (bytes == 0 || bytes % RANGE_PAGE) return CUDA_ERROR_INVALID_VALUE;
    if (!take(prop->location.id, bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
    *handle = bytes;
    return CUDA_SUCCESS;
}

static CUresult memory_release(CUmemGenericAllocationHandle)
{
    return CUDA_SUCCESS; /* lives on while it is mapped */
}

static CUresult range_map(CUdeviceptr p, size_t bytes, size_t, CUmemGenericAllocationHandle handle, unsigned long long)
{
    auto range = ranges.upper_bound((uintptr_t)p);
    if (range == ranges.begin() || handle != bytes) return CUDA_ERROR_INVALID_VALUE;
    --range;
    if ((uintptr_t)p != range->first + range->second.mapped || range->second.mapped + bytes > range->second.bytes)
        return CUDA_ERROR_INVALID_VALUE;
    range->second.mapped += bytes;
    return CUDA_SUCCESS;
}

static CUresult range_access(CUdeviceptr p, size_t bytes, const CUmemAccessDesc *, size_t)
{
    if (mprotect((void *)(uintptr_t)p, bytes, PROT_READ | PROT_WRITE) != 0) return CUDA_ERROR_OUT_OF_MEMORY;
    memset((void *)(uintptr_t)p, 0xff, bytes);
    auto range = --ranges.upper_bound((uintptr_t)p);
    tell_region((void *)range->first, range->second.mapped, Region::DEVICE);
    return CUDA_SUCCESS;
}

static CUresult range_unmap(CUdeviceptr p, size_t bytes)
{
    auto range = ranges.find((uintptr_t)p);
    if (range == ranges.end() || bytes != range->second.mapped) return CUDA_ERROR_INVALID_VALUE;
    device_drain(current);
    give(current, bytes);
    tell_region((void *)(uintptr_t)p, bytes, Region::GONE);
    range->second.mapped = 0;
    return CUDA_SUCCESS;
}

static CUresult range_free(CUdeviceptr p, size_t bytes)
{
    auto range = ranges.find((uintptr_t)p);
    if (range == ranges.end() || bytes != range->second.bytes || range->second.mapped) return CUDA_ERROR_INVALID_VALUE;
    munmap((void *)(uintptr_t)p, bytes);
    ranges.erase(range);
    return CUDA_SUCCESS;
}

static void *driver_call(const char *name)
{
    static const struct {
        const char *name;
        void *call;
    } calls[] = {
        {"cuMemGetAllocationGranularity", (void *)range_granularity},
        {"cuMemAddressReserve", (void *)range_reserve},
        {"cuMemAddressFree", (void *)range_free},
        {"cuMemCreate", (void *)memory_create},
        {"cuMemRelease", (void *)memory_release},
        {"cuMemMap", (void *)range_map},
        {"cuMemUnmap", (void *)range_unmap},
        {"cuMemSetAccess", (void *)range_access},
    };
    for (const auto &c : calls)
        if (strcmp(c.name, name) == 0) return c.call;
    return nullptr;
}

} // namespace emu

using namespace emu;

extern "C" {

const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
    case cudaErrorLaunchFailure: return "unspecified launch failure";
    default: return "unknown error";
    }
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t e = last_error;
    last_error = cudaSuccess;
    return e;
}

cudaError_t cudaPeekAtLastError(void)
{
    return last_error;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    return cudaRuntimeGetVersion(version);
}

cudaError_t cudaGetDeviceCount(int *number)
{
    *number = (int)all_devices().size();
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    if (device < 0 || device >= (int)all_devices().size()) return failed(cudaErrorInvalidDevice);
    current = device;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device)
{
    *device = current;
    return cudaSuccess;
}

/* All memory is the process's. */
cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr, int)
{
    *value = 1;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *prop, int device)
{
    if (device < 0 || device >= (int)all_devices().size()) return failed(cudaErrorInvalidDevice);
    memset(prop, 0, sizeof *prop);
    strcpy(prop->name, "emulated");
    prop->totalGlobalMem = devices[(size_t)device].room;
    prop->sharedMemPerBlockOptin = SHARED_MOST;
    prop->major = 9;
    prop->multiProcessorCount = 4;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *left, size_t *total)
{
    const Device &d = all_devices()[(size_t)current];
    *total = d.room;
    *left = d.room - d.counters.used;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    recording_forbids("cudaMalloc");
    return block_new(p, current, bytes);
}

cudaError_t cudaFree(void *p)
{
    recording_forbids("cudaFree");
    return block_free(p, false);
}

cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    return block_new(p, HOST, bytes);
}

cudaError_t cudaFreeHost(void *p)
{
    return block_free(p, true);
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **call, unsigned int, unsigned long long,
                                             enum cudaDriverEntryPointQueryResult *status)
{
    *call = driver_call(symbol);
    if (status) *status = *call ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
    return cudaSuccess;
}

void emu_schedule(EmuSchedule how, uint64_t seed)
{
    schedule_set(how);
    random_seed(seed);
}

void emu_devices(int number, size_t bytes)
{
    devices.assign((size_t)number, Device{bytes, {}});
    current = 0;
}

int emu_reports(void)
{
    return (int)reports.size();
}

const char *emu_report_text(int i)
{
    return i >= 0 && i < (int)reports.size() ? reports[(size_t)i].c_str() : "";
}

void emu_reports_clear(void)
{
    reports.clear();
    last_error = cudaSuccess;
}

void emu_quiet(bool yes)
{
    quiet = yes;
}

bool emu_is_checked(void)
{
    return checker != nullptr;
}

void emu_note(const void *p, size_t bytes, struct CUstream_st *stream)
{
    if (checker) stream_push(stream, [p, bytes] { checker->note(p, bytes); });
}

void emu_foreign(bool allowed)
{
    if (checker) checker->foreign(allowed);
}

EmuCounters emu_counters(int device)
{
    return all_devices()[(size_t)device].counters;
}
}
