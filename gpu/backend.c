/* Opens a device, fills the op table, says what the backend is, and gives faults their sentence. */
#include <stdio.h>
#include <stdlib.h>

#include "gpu/gemm_cublas.h"
#include "gpu/gpu.h"
#include "gpu/internal.h"
#include "gpu/kernels/probe.h"
#include "gpu/self_test.h"
#if defined(R1_EMULATED)
#include "gpu/emu/control.h"
#endif

enum { OLDEST_MAJOR = 8 };

static const char *backend_describe(const Backend *b)
{
    return b->describe;
}

static const char *backend_machine_kind(const Backend *b)
{
    return b->machine_kind;
}

static bool backend_rows_independent(const Backend *b)
{
    return b->rows_independent;
}

/* Waits: a launch that failed is known only then. */
static bool backend_fault(Backend *b, Status *st)
{
    cudaError_t e = gpu_finish(b), launch = cudaGetLastError();
    if (e == cudaSuccess) e = launch;
    if (e != cudaSuccess && !b->fault.failed)
        fail(&b->fault, "GPU %d: CUDA says: %s", b->device, cudaGetErrorString(e));
    if (!b->fault.failed) return true;
    fail(st, "%s", b->fault.text);
    status_clear(&b->fault);
    return false;
}

static void backend_weights_changed(Backend *b)
{
    (void)b;
}

static void backend_weights_freed(Backend *b)
{
    (void)b;
}

static bool backend_keep_packed(Backend *b, bool keep)
{
    (void)b, (void)keep;
    return false;
}

static size_t backend_bytes(const Backend *b)
{
    return gpu_bytes(b);
}

static void backend_close(Backend *b)
{
    if (!b) return;
    cublas_close(b);
    gpu_recordings_free(b);
    gpu_free(b, b->scratch);
    gpu_free(b, b->table);
    gpu_streams_close(b);
    free(b->ops);
    free(b);
}

static void fill_table(Ops *ops)
{
    ops->abi = OPS_ABI;
    ops->device = (Device){.slice_rows = SIZE_MAX,
                           .late = true,
                           .in_flight = 2,
                           .alloc = gpu_alloc,
                           .free = gpu_free,
                           .range_open = gpu_range_open,
                           .range_use = gpu_range_use,
                           .range_close = gpu_range_close,
                           .upload = gpu_upload,
                           .download = gpu_download,
                           .copy = gpu_move,
                           .download_later = gpu_download_later,
                           .wait = gpu_wait,
                           .host_new = gpu_host_new,
                           .host_free = gpu_host_free};
    const char *replay = getenv("R1_REPLAY");
    if (!replay || strcmp(replay, "no")) ops->device.replay = gpu_replay, ops->device.recorded = gpu_recorded;
#if defined(R1_EMULATED)
    /* Arrays of an arena that a recorded step uses are not told of again: nothing is recorded where they are checked. */
    if (emu_is_checked()) ops->device.note = gpu_note, ops->device.replay = NULL, ops->device.recorded = NULL;
#endif
#define USE_OP(op) ops->op = gpu_##op;
    OPS_COMPUTE(USE_OP)
    OPS_FUSED(USE_OP)
#undef USE_OP
#define USE_BACKEND_OP(op) ops->op = backend_##op;
    OPS_BACKEND(USE_BACKEND_OP)
#undef USE_BACKEND_OP
}

/* ---- The plugin ---- */

static int plugin_devices(Status *st)
{
    int count = 0;
    cudaError_t e = cudaGetDeviceCount(&count);
    if (e == cudaSuccess && count > 0) return count;
    cudaGetLastError();
    fail(st, "no NVIDIA driver answers (CUDA: %s); try nvidia-smi, or --device cpu", cudaGetErrorString(e));
    return 0;
}

static bool plugin_device(int i, GpuDevice *out, Status *st)
{
    struct cudaDeviceProp prop;
    int count = plugin_devices(st);
    if (count == 0) return false;
    if (i < 0 || i >= count) return fail(st, "there is no GPU %d: this machine has %d, counted from 0", i, count);
    if (cudaSetDevice(i) != cudaSuccess || cudaGetDeviceProperties(&prop, i) != cudaSuccess)
        return fail(st, "GPU %d does not answer: %s", i, cudaGetErrorString(cudaGetLastError()));
    *out = (GpuDevice){.bytes = prop.totalGlobalMem, .processors = prop.multiProcessorCount};
    snprintf(out->name, sizeof out->name, "%s", prop.name);
    out->major = prop.major, out->minor = prop.minor;
    int pageable = 0;
    cudaDeviceGetAttribute(&pageable, cudaDevAttrPageableMemoryAccess, i);
    out->reads_host = pageable != 0;
    size_t total;
    if (cudaMemGetInfo(&out->free_bytes, &total) != cudaSuccess) out->free_bytes = 0;
    return true;
}

/* What products may be computed by; the first of a type is its default. Two names with one `shown` have the same bits: tests take
 * each tile of mma by its own name. */
static const struct {
    DType dtype;
    const char *name, *shown;
    bool mma;
    MmaTile tile;
    CublasUse use;
} matmuls[] = {
    {DTYPE_F32, "native", "native", false, MMA_BY_SIZE, CUBLAS_NEVER},
    {DTYPE_BF16, "mma", "mma", true, MMA_BY_SIZE, CUBLAS_NEVER},
    {DTYPE_BF16, "widen", "widen", false, MMA_BY_SIZE, CUBLAS_NEVER},
    {DTYPE_BF16, "mma+cublas", "mma+cublas", true, MMA_BY_SIZE, CUBLAS_BACKWARD},
    {DTYPE_BF16, "cublas", "cublas", true, MMA_BY_SIZE, CUBLAS_ALWAYS},
    {DTYPE_BF16, "mma:decode", "mma", true, MMA_DECODE, CUBLAS_NEVER},
    {DTYPE_BF16, "mma:middle", "mma", true, MMA_MIDDLE, CUBLAS_NEVER},
    {DTYPE_BF16, "mma:wide", "mma", true, MMA_WIDE, CUBLAS_NEVER},
};

static bool choose_matmul(Backend *b, const GpuOptions *o, Status *st)
{
    bool any = !o->matmul || !*o->matmul;
    b->dtype = o->dtype;
    for (size_t i = 0; i < sizeof matmuls / sizeof *matmuls && !b->matmul; i++)
        if (matmuls[i].dtype == o->dtype && (any || !strcmp(o->matmul, matmuls[i].name)))
            b->matmul = matmuls[i].shown, b->mma = matmuls[i].mma, b->mma_tile = matmuls[i].tile,
            b->use = matmuls[i].use;
    if (b->matmul) return true;
    return fail(st, "matmul \"%s\": in %s the GPU backend has %s", o->matmul, dtype_name(o->dtype),
                o->dtype == DTYPE_F32 ? "native" : "mma, mma+cublas, cublas and widen");
}

/* native and widen have the CPU's bits, and its kind, so that a run goes on on either. Tensor cores of another generation
 * may round otherwise. */
static void name_machine(Backend *b, const GpuDevice *d)
{
    char cores[32] = "", library[96] = "";
#if defined(R1_EMULATED)
    if (b->mma) snprintf(cores, sizeof cores, "/emulated");
#else
    if (b->mma) snprintf(cores, sizeof cores, "/sm_%d%d", d->major, d->minor);
#endif
    /* cuBLAS chooses by version, card and number of processors. */
    if (b->cublas) snprintf(library, sizeof library, "/cublas-%d/%.60s/%d", cublas_version(b), d->name, d->processors);
    snprintf(b->machine_kind, sizeof b->machine_kind, "%s-%s%s/v%d%s", b->matmul, dtype_name(b->dtype), cores,
             KERNELS_VERSION, library);
    snprintf(b->describe, sizeof b->describe, "gpu: %s, sm_%d%d, %s matmul %s (%s)", d->name, d->major, d->minor,
             dtype_name(b->dtype), b->matmul,
             b->rows_independent ? "rows independent of the batch" : "rows depend on the batch: gap measured");
}

static bool backend_init(Backend *b, const GpuOptions *o, Status *st)
{
    GpuDevice d;
    if (!plugin_device(o->device, &d, st)) return false;
    if (!choose_matmul(b, o, st)) return false;
    if (d.major < OLDEST_MAJOR)
        return fail(st, "GPU %d (%s) is sm_%d%d: kernels are built for sm_80 and later; use --device cpu", o->device,
                    d.name, d.major, d.minor);
    b->device = o->device, b->processors = d.processors;
    b->driver = gpu_driver_calls(st);
    b->ops = calloc(1, sizeof(Ops));
    if (!b->driver) return false;
    if (!b->ops || (!o->counts && !gpu_streams_open(b)))
        return fail(st, "GPU %d: no memory for its streams", o->device);
    fill_table(b->ops);
    if (o->counts) b->ops->device.note = NULL, b->ops->device.replay = NULL, b->ops->device.recorded = NULL;
    if (b->use == CUBLAS_ALWAYS) b->ops->logits_fwd = NULL; /* cuBLAS leaves no maxima */
    if (b->use != CUBLAS_NEVER && !cublas_open(b, st)) return false;
    b->rows_independent = b->use != CUBLAS_ALWAYS && (!b->mma || o->counts || gpu_self_test(b));
    name_machine(b, &d);
    return true;
}

static Backend *plugin_open(const GpuOptions *o, const Ops **ops, Status *st)
{
    Backend *b = calloc(1, sizeof(Backend));
    if (!b) {
        fail(st, "GPU backend: out of memory");
        return NULL;
    }
    if (!backend_init(b, o, st)) {
        backend_close(b);
        return NULL;
    }
    *ops = b->ops;
    return b;
}

#if defined(R1_EMULATED)
static void plugin_emulate(const char *schedule, const char *streams, bool foreign)
{
    emu_schedule(*schedule == 'r' ? EMU_REVERSE : *schedule == 's' ? EMU_SEEDED : EMU_FORWARD, 1);
    emu_streams(*streams == 'r' ? EMU_RANDOM : *streams == 'l' ? EMU_LAZY : EMU_EAGER, 1);
    emu_foreign(foreign);
}

static size_t plugin_peak(void)
{
    return emu_counters(0).peak;
}
#endif

const GpuPlugin *r1_gpu_plugin(void)
{
    static const GpuPlugin plugin = {
        .abi = R1_GPU_ABI,
        .ops_abi = OPS_ABI,
        .build = R1_GPU_BUILD,
        .devices = plugin_devices,
        .device = plugin_device,
        .open = plugin_open,
        .probe_fma = gpu_probe_fma,
        .probe_bf16 = gpu_probe_mma,
        .probe_read = gpu_probe_read,
        .probe_update = gpu_probe_update,
        .replays = gpu_replays,
        .waits = gpu_waits,
#if defined(R1_EMULATED)
        .emulate = plugin_emulate,
        .reports = emu_reports,
        .peak = plugin_peak,
#endif
    };
    return &plugin;
}
