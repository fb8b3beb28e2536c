/* Finds, opens and checks the plugin of a device: r1 itself knows nothing of CUDA. */
#ifndef RECIPES_MODEL_PLUGIN_H
#define RECIPES_MODEL_PLUGIN_H

#include "core/ops/ops.h"

typedef enum DeviceKind { DEVICE_CPU, DEVICE_GPU, DEVICE_EMULATED, DEVICE_EMULATED_CHECKED } DeviceKind;

typedef struct DeviceName {
    DeviceKind kind;
    int number; /* of the GPU */
} DeviceName;

/* "cpu" (or NULL, or ""), "gpu", "gpu:K", "emulated", "emulated:checked". */
bool device_parse(const char *text, DeviceName *out, Status *st);

/* The plugin's file is $R1_GPU_PLUGIN where that is set, else lies beside the program, in build/gpu or gpu beside it,
 * in gpu beside the folder it is in (programs of the tests), or in ../lib/r1. NULL and a sentence: not found, or of
 * another version. The plugin stays open until the process ends. */
const struct GpuPlugin *plugin_load(DeviceKind kind, Status *st);

/* A backend on that device (not DEVICE_CPU). dtype, matmul, counts: see GpuOptions. *free_bytes: of its memory, before
 * anything is there. */
typedef struct DeviceUse {
    DType dtype;
    const char *matmul;
    bool counts;
} DeviceUse;
Backend *plugin_open(DeviceName device, DeviceUse use, const Ops **ops, size_t *free_bytes, Status *st);

#endif
