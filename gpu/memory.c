/* Memory of a device: blocks, ranges of addresses for arenas. */
#include <stdlib.h>

#include <cuda.h>

#include "gpu/internal.h"

/* The driver's calls that make memory behind addresses; the runtime finds them, so that nothing links with the driver. */
struct DriverCalls {
    CUresult (*granularity)(size_t *bytes, const CUmemAllocationProp *prop, CUmemAllocationGranularity_flags option);
    CUresult (*reserve)(CUdeviceptr *p, size_t bytes, size_t alignment, CUdeviceptr addr, unsigned long long flags);
    CUresult (*address_free)(CUdeviceptr p, size_t bytes);
    CUresult (*create)(CUmemGenericAllocationHandle *handle, size_t bytes, const CUmemAllocationProp *prop,
                       unsigned long long flags);
    CUresult (*release)(CUmemGenericAllocationHandle handle);
    CUresult (*map)(CUdeviceptr p, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle,
                    unsigned long long flags);
    CUresult (*unmap)(CUdeviceptr p, size_t bytes);
    CUresult (*access)(CUdeviceptr p, size_t bytes, const CUmemAccessDesc *desc, size_t count);
};

/* A range: `mapped` of its bytes have memory, in steps of at least GROW_LEAST. */
typedef struct Range {
    CUdeviceptr at;
    size_t bytes, mapped;
    struct Range *next;
} Range;

enum { GROW_LEAST = 4 << 20, SCRATCH_LEAST = 1 << 16, BLOCK_STEP = 512, DRIVER_VERSION = 12000 };

/* What is held for `bytes` that are used: a multiple of `least`, or of that times a power of two, and at most an eighth
 * more. What was asked for before has no part in it, so that what is counted before a run is what the run takes. */
static size_t held(size_t bytes, size_t least)
{
    while (bytes / least >= 16) least *= 2;
    return ceil_div(bytes, least) * least;
}

static void *driver_call(const char *name)
{
    void *call = NULL;
    enum cudaDriverEntryPointQueryResult found;
    cudaError_t e = cudaGetDriverEntryPointByVersion(name, &call, DRIVER_VERSION, cudaEnableDefault, &found);
    return e == cudaSuccess && found == cudaDriverEntryPointSuccess ? call : NULL;
}

const struct DriverCalls *gpu_driver_calls(Status *st)
{
    static struct DriverCalls calls;
    static const char *const names[] = {"cuMemGetAllocationGranularity",
                                        "cuMemAddressReserve",
                                        "cuMemAddressFree",
                                        "cuMemCreate",
                                        "cuMemRelease",
                                        "cuMemMap",
                                        "cuMemUnmap",
                                        "cuMemSetAccess"};
    void *found[sizeof names / sizeof *names];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        found[i] = driver_call(names[i]);
        if (found[i]) continue;
        fail(st, "the NVIDIA driver has no %s: it is too old; install a driver of version 525 or later", names[i]);
        return NULL;
    }
    memcpy(&calls, found, sizeof calls);
    return &calls;
}

static void count(Backend *b, size_t bytes)
{
    b->used += bytes;
    if (b->used > b->peak) b->peak = b->used;
}

/* Addresses without memory. */
static void *counted_block(Backend *b, size_t bytes)
{
    void *p = gpu_range_open(b, bytes);
    if (!p) return NULL;
    size_t charged = ceil_div(bytes, BLOCK_STEP) * BLOCK_STEP;
    b->ranges->mapped = charged;
    count(b, charged);
    return p;
}

void *gpu_alloc(Backend *b, size_t bytes)
{
    void *p = NULL;
    if (!b->stream) return counted_block(b, bytes ? bytes : 1);
    if (cudaMalloc(&p, bytes ? bytes : 1) != cudaSuccess) {
        cudaGetLastError(); /* the caller says so */
        return NULL;
    }
    return p;
}

void gpu_free(Backend *b, void *p)
{
    if (!p) return;
    if (!b->stream) {
        gpu_range_close(b, p, 0);
        return;
    }
    gpu_recordings_drop(b);
    gpu_finish(b);
    cudaFree(p);
}

static void *grown(Backend *b, void **block, size_t *size, size_t bytes)
{
    if (bytes <= *size) return *block;
    if (gpu_recording(b)) { /* what is recorded with the old block is thrown away */
        gpu_recording_fails(b);
        return *block;
    }
    gpu_free(b, *block);
    *size = held(bytes, SCRATCH_LEAST);
    *block = gpu_alloc(b, *size);
    if (!*block) *size = 0, fail(&b->fault, "GPU backend: no %zu bytes of device memory for scratch", bytes);
    return *block;
}

void *gpu_scratch(Backend *b, size_t bytes)
{
    return grown(b, &b->scratch, &b->scratch_bytes, bytes);
}

const void *gpu_table(Backend *b, const void *from, size_t bytes)
{
    if (gpu_recording(b)) gpu_recording_fails(b); /* a recorded copy would read `from` when it is replayed */
    void *table = from ? grown(b, &b->table, &b->table_bytes, bytes) : NULL;
    if (!table && !gpu_recording(b)) fail(&b->fault, "GPU backend: no memory for a list of %zu bytes", bytes);
    else if (b->stream && !gpu_recording(b)) /* read at the call: the memory is pageable */
        cudaMemcpyAsync(table, from, bytes, cudaMemcpyHostToDevice, b->stream);
    return table;
}

static CUmemAllocationProp memory_of(const Backend *b)
{
    CUmemAllocationProp prop;
    memset(&prop, 0, sizeof prop);
    prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    prop.location.id = b->device;
    return prop;
}

static size_t granularity(const Backend *b)
{
    CUmemAllocationProp prop = memory_of(b);
    size_t bytes = 0;
    CHECK(b->driver->granularity(&bytes, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM) == CUDA_SUCCESS && bytes > 0);
    return bytes;
}

static Range *find_range(Backend *b, const void *p)
{
    for (Range *r = b->ranges; r; r = r->next)
        if ((CUdeviceptr)(uintptr_t)p == r->at) return r;
    CHECK(!"a range of this backend");
    return NULL;
}

void *gpu_range_open(Backend *b, size_t bytes)
{
    size_t step = granularity(b);
    Range *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    r->bytes = ceil_div(bytes, step) * step;
    if (b->driver->reserve(&r->at, r->bytes, 0, 0, 0) != CUDA_SUCCESS) {
        free(r);
        return NULL;
    }
    r->next = b->ranges;
    b->ranges = r;
    return (void *)(uintptr_t)r->at;
}

/* Memory for [mapped, mapped + bytes). */
static bool grow(Backend *b, Range *r, size_t bytes)
{
    if (!b->stream) {
        r->mapped += bytes;
        count(b, bytes);
        return true;
    }
    CUmemAllocationProp prop = memory_of(b);
    CUmemGenericAllocationHandle handle;
    CUmemAccessDesc desc = {prop.location, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    if (b->driver->create(&handle, bytes, &prop, 0) != CUDA_SUCCESS) return false;
    bool good = b->driver->map(r->at + r->mapped, bytes, 0, handle, 0) == CUDA_SUCCESS;
    b->driver->release(handle); /* it lives as long as it is mapped */
    if (!good) return false;
    CHECK(b->driver->access(r->at + r->mapped, bytes, &desc, 1) == CUDA_SUCCESS);
    r->mapped += bytes;
    return true;
}

bool gpu_range_use(Backend *b, void *range, size_t upto)
{
    Range *r = find_range(b, range);
    if (upto <= r->mapped) return true;
    if (upto > r->bytes) return false;
    size_t step = granularity(b), least = ceil_div(upto - r->mapped, step) * step,
           more = held(upto, ceil_div(GROW_LEAST, step) * step) - r->mapped;
    if (more > r->bytes - r->mapped) more = r->bytes - r->mapped;
    return grow(b, r, more) || grow(b, r, least);
}

void gpu_range_close(Backend *b, void *range, size_t bytes)
{
    (void)bytes;
    if (!range) return;
    Range *r = find_range(b, range), **link = &b->ranges;
    gpu_recordings_drop(b);
    gpu_finish(b);
    if (!b->stream) b->used -= r->mapped;
    else if (r->mapped) b->driver->unmap(r->at, r->mapped);
    b->driver->address_free(r->at, r->bytes);
    while (*link != r) link = &(*link)->next;
    *link = r->next;
    free(r);
}

size_t gpu_bytes(const Backend *b)
{
    if (!b->stream) return b->peak;
    size_t total = b->scratch_bytes + b->table_bytes;
    for (const Range *r = b->ranges; r; r = r->next) total += r->mapped;
    return total;
}
