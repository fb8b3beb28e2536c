/* Inside of the GPU backend: what its host code (C) and its kernels' files (CUDA C++) share. Nobody else includes this.
 *
 * An op is a function gpu_<op> with the signature of its slot in Ops, beside its kernels in gpu/kernels/<file>.cu; it queues
 * launches on the backend's stream and returns. All pointers it gets are the device's. */
#ifndef GPU_INTERNAL_H
#define GPU_INTERNAL_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

#include <string.h>

#include "core/base/check.h"
#include "core/config.h"
#include "core/ops/ops.h"
#include "core/base/status.h"

/* The tile of gemm_mma: chosen by the sizes, or one for all (tests: their bits are equal). */
typedef enum MmaTile { MMA_BY_SIZE, MMA_DECODE, MMA_MIDDLE, MMA_WIDE } MmaTile;

typedef enum CublasUse { CUBLAS_NEVER, CUBLAS_BACKWARD, CUBLAS_ALWAYS } CublasUse;

/* Downloads on their way whose ends can be told apart; waiting for an older one waits for one of these. */
enum { DOWNLOADS = 8 };

struct Backend {
    int device, processors;
    DType dtype;        /* GpuOptions.dtype */
    const char *matmul; /* of products in it */
    bool mma;           /* bf16 on tensor cores */
    CublasUse use;      /* which dense products are cuBLAS's */
    struct Cublas *cublas;
    MmaTile mma_tile;
    bool rows_independent;       /* by construction, or as gpu_self_test found */
    cudaStream_t stream, copies; /* of all calls (NULL: nothing is launched and nothing copied, memory is counted,
                                  * GpuOptions.counts); of downloads that are fetched later */
    cudaEvent_t written, arrived[DOWNLOADS];
    uint64_t downloads; /* fetched later, so far: the last one's ticket */
    long waits;         /* of the host for the device */
    size_t used, peak;  /* bytes, of those that are counted */
    void *scratch;      /* of the op that runs */
    size_t scratch_bytes;
    void *table; /* of addresses of an op's matrices */
    size_t table_bytes;
    Ops *ops;
    Status fault;
    const struct DriverCalls *driver; /* of memory.c */
    struct Range *ranges;
    struct Recordings *recordings; /* of replay.c */
    char describe[400], machine_kind[160];
};

/* gpu/memory.c: the words of core/ops/device.h. */
const struct DriverCalls *gpu_driver_calls(Status *st);
void *gpu_alloc(Backend *b, size_t bytes);
void gpu_free(Backend *b, void *p);
void *gpu_range_open(Backend *b, size_t bytes);
bool gpu_range_use(Backend *b, void *range, size_t upto);
void gpu_range_close(Backend *b, void *range, size_t bytes);
void gpu_note(Backend *b, const void *p, size_t bytes); /* emulated only */
void gpu_upload(Backend *b, void *to, const void *from, size_t bytes);
void gpu_download(Backend *b, void *to, const void *from, size_t bytes);
void gpu_move(Backend *b, void *to, const void *from, size_t bytes);
uint64_t gpu_download_later(Backend *b, void *to, const void *from, size_t bytes);
void gpu_wait(Backend *b, uint64_t ticket);
void *gpu_host_new(Backend *b, size_t bytes);
void gpu_host_free(Backend *b, void *p);
/* The streams and events of one device. */
bool gpu_streams_open(Backend *b);
void gpu_streams_close(Backend *b);
/* Until everything is done; how often anything waited. */
cudaError_t gpu_finish(Backend *b);
long gpu_waits(const Backend *b);
/* Bytes of scratch and of ranges. */
size_t gpu_bytes(const Backend *b);

/* gpu/replay.c: Device.replay and Device.recorded. */
bool gpu_replay(Backend *b, uint64_t key);
bool gpu_recorded(Backend *b);
/* True while calls are recorded; what cannot be recorded makes the recording fail. */
bool gpu_recording(const Backend *b);
void gpu_recording_fails(Backend *b);
/* Forgets all recordings: memory that they name goes. */
void gpu_recordings_drop(Backend *b);
void gpu_recordings_free(Backend *b);
/* How many times recorded calls were issued again. */
long gpu_replays(const Backend *b);

/* Device memory for what an op leaves to its next launch: 256-byte aligned, uninitialised, good until the next op asks. One call
 * an op. NULL, and a fault, where there is not that much. */
void *gpu_scratch(Backend *b, size_t bytes);
/* The same, beside scratch, with a copy of a list that is the host's (NULL: there was no memory for it). */
const void *gpu_table(Backend *b, const void *from, size_t bytes);

/* Dynamic shared memory that a launch gets without asking. */
enum { SHARED_FREE = 48 << 10 };

static inline size_t ceil_div(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

static inline void check_f32(Mat m)
{
    CHECK_EQ(m.dtype, DTYPE_F32);
    CHECK(m.stride >= m.cols || m.rows <= 1);
}

/* Prototypes gpu_<op> with exactly the signatures of Ops. */
#define GPU_PROTOTYPE(op) OP_PROTOTYPE(gpu_, op)
OPS_COMPUTE(GPU_PROTOTYPE)
OPS_FUSED(GPU_PROTOTYPE)
#undef GPU_PROTOTYPE

#ifdef __cplusplus
}
#endif
#endif
