/* The door of the GPU backend. It is no part of r1: libr1_gpu.so (CUDA) and libr1_emulated.so (the same sources on the CPU) are
 * opened at run time, and r1_gpu_plugin is the only symbol that they show. */
#ifndef GPU_GPU_H
#define GPU_GPU_H

#include "core/ops/ops.h"

enum { R1_GPU_ABI = 5 };

typedef struct GpuOptions {
    int device;
    DType dtype;        /* of a model's matrices and of its layers' interior */
    const char *matmul; /* f32: NULL or "native", the CPU's bits. bf16: "widen", the CPU's bits of that form */
    bool counts;        /* memory is counted and none is taken, nothing is computed, and what is downloaded is zeros:
                         * ops->bytes is then the most that was held at once (`r1 plan`) */
} GpuOptions;

typedef struct GpuDevice {
    char name[256];
    size_t bytes, free_bytes;
    int major, minor, processors; /* sm_<major><minor>, streaming multiprocessors */
    bool reads_host;              /* kernels may be given memory of malloc: tests of ops do that */
} GpuDevice;

typedef struct GpuPlugin {
    uint32_t abi, ops_abi; /* R1_GPU_ABI, OPS_ABI: compared before anything else is used */
    const char *build;     /* "CUDA 13.0: sm_80 sm_90", "emulated", "emulated, checked" */
    /* How many devices there are; 0 and a sentence when no driver or no device answers. */
    int (*devices)(Status *st);
    bool (*device)(int i, GpuDevice *out, Status *st);
    /* NULL and a sentence: no such device, too old, no memory. Close it with ops->close. */
    Backend *(*open)(const GpuOptions *o, const Ops **ops, Status *st);
    /* The card's limits (gpu/kernels/probe.h): FLOPs by f32 FMAs and by tensor cores, bytes read, bytes updated in place. */
    double (*probe_fma)(Backend *b, long rounds);
    double (*probe_bf16)(Backend *b, long rounds);
    double (*probe_read)(Backend *b, const float *x, size_t n);
    double (*probe_update)(Backend *b, float *x, size_t n);
    /* How many times recorded calls were issued again (Device.replay). */
    long (*replays)(const Backend *b);
    /* How many times the host waited for the device. */
    long (*waits)(const Backend *b);
    /* For tests of an emulated plugin, NULL on a card (gpu/emu/control.h). schedule: "forward", "reverse", "seed:N"; streams:
     * "eager", "lazy", "random:N"; foreign: kernels may be given the process's own memory. reports: faults found so far;
     * peak: the most bytes of the first device that were in use at once. */
    void (*emulate)(const char *schedule, const char *streams, bool foreign);
    int (*reports)(void);
    size_t (*peak)(void);
} GpuPlugin;

__attribute__((visibility("default"))) const GpuPlugin *r1_gpu_plugin(void);

#endif
