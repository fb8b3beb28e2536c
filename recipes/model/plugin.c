/* A GPU plugin found, checked and opened. */
#include "recipes/model/plugin.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gpu/gpu.h"

bool device_parse(const char *text, DeviceName *out, Status *st)
{
    *out = (DeviceName){DEVICE_CPU, 0};
    if (!text || !*text || strcmp(text, "cpu") == 0) return true;
    if (strcmp(text, "emulated") == 0) out->kind = DEVICE_EMULATED;
    else if (strcmp(text, "emulated:checked") == 0) out->kind = DEVICE_EMULATED_CHECKED;
    else if (strncmp(text, "gpu", 3) == 0 && (text[3] == 0 || text[3] == ':')) out->kind = DEVICE_GPU;
    if (out->kind == DEVICE_GPU && text[3] == ':') {
        char *end;
        long number = strtol(text + 4, &end, 10);
        if (*end == ',')
            return fail(st, "--device %s: training on several GPUs is not built; name one, as in gpu:0", text);
        if (end == text + 4 || *end || number < 0 || number > 1023) out->kind = DEVICE_CPU;
        out->number = (int)number;
    }
    if (out->kind != DEVICE_CPU) return true;
    return fail(st, "--device %s: expected cpu, gpu, gpu:K (K = 0 is the first), emulated or emulated:checked", text);
}

static const char *const names[] = {[DEVICE_CPU] = "cpu",
                                    [DEVICE_GPU] = "gpu",
                                    [DEVICE_EMULATED] = "emulated",
                                    [DEVICE_EMULATED_CHECKED] = "emulated:checked"};
static const char *const files[] = {[DEVICE_GPU] = "libr1_gpu.so",
                                    [DEVICE_EMULATED] = "libr1_emulated.so",
                                    [DEVICE_EMULATED_CHECKED] = "libr1_emulated_checked.so"};

/* The first place where the file is; false: nowhere. */
static bool find_file(const char *file, char *path, size_t size)
{
    static const char *const places[] = {"", "build/gpu/", "gpu/", "../gpu/", "../lib/r1/"};
    char program[3072];
    const char *given = getenv("R1_GPU_PLUGIN");
    if (given && *given) {
        snprintf(path, size, "%s", given);
        return access(path, R_OK) == 0;
    }
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    if (n <= 0) return false;
    program[n] = 0;
    char *slash = strrchr(program, '/');
    if (slash) slash[1] = 0;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        snprintf(path, size, "%s%s%s", program, places[i], file);
        if (access(path, R_OK) == 0) return true;
    }
    return false;
}

static bool not_built(DeviceKind kind, Status *st)
{
    if (kind != DEVICE_GPU)
        return fail(st, "--device %s: its plugin is not built; run `make emulated` (needs g++), or use --device cpu",
                    names[kind]);
    return fail(st, "--device gpu: this r1 was built without CUDA; install the CUDA toolkit (nvcc 12.8 or later), run "
                    "`make gpu`, or use --device cpu");
}

const GpuPlugin *plugin_load(DeviceKind kind, Status *st)
{
    char path[4096];
    if (!find_file(files[kind], path, sizeof path)) {
        not_built(kind, st);
        return NULL;
    }
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        fail(st, "--device %s: the plugin cannot be opened: %s", names[kind], dlerror());
        return NULL;
    }
    const GpuPlugin *(*get)(void);
    *(void **)&get = dlsym(library, "r1_gpu_plugin");
    const GpuPlugin *plugin = get ? get() : NULL;
    if (plugin && plugin->abi == R1_GPU_ABI && plugin->ops_abi == OPS_ABI) return plugin;
    fail(st, "--device %s: %s is of another version of r1; run `make %s` again", names[kind], path,
         kind == DEVICE_GPU ? "gpu" : "emulated");
    return NULL;
}

Backend *plugin_open(DeviceName device, DeviceUse use, const Ops **ops, size_t *free_bytes, Status *st)
{
    const GpuPlugin *plugin = plugin_load(device.kind, st);
    if (!plugin) return NULL;
    GpuOptions options = {device.number, use.dtype, use.matmul, use.counts};
    GpuDevice d;
    Status inner = {0};
    Backend *b = plugin->device(device.number, &d, &inner) ? plugin->open(&options, ops, &inner) : NULL;
    if (b) *free_bytes = d.free_bytes;
    else fail(st, "--device %s: %s", names[device.kind], inner.text);
    return b;
}
