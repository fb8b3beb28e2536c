/* What `r1 bench` measures against: the processor's limits, or those of a device by its plugin. */
#include <stdio.h>
#include <string.h>

#include "cpu/limits.h"
#include "gpu/gpu.h"
#include "recipes/bench/bench.h"
#include "recipes/model/plugin.h"

enum { PROBE_FLOATS = 64 << 20, PROBE_ROUNDS = 1000000, GPU_ROUNDS = 100000, EMULATED_FLOATS = 1 << 14 };

bool bench_limits(Bench *b, Status *st)
{
    if (b->machine.cpu) {
        b->limits = (BenchLimits){cpu_probe_fma, cpu_probe_bf16, cpu_probe_read, cpu_probe_update,
                                  PROBE_ROUNDS,  PROBE_FLOATS,   false};
        machine_cpu_name(b->name, sizeof b->name);
        return true;
    }
    DeviceName device;
    GpuDevice card;
    const GpuPlugin *plugin =
        device_parse(b->machine.options.device, &device, st) ? plugin_load(device.kind, st) : NULL;
    if (!plugin || !plugin->device(device.number, &card, st)) return false;
    bool emulated = plugin->emulate != NULL;
    b->limits = (BenchLimits){plugin->probe_fma,
                              plugin->probe_bf16,
                              plugin->probe_read,
                              plugin->probe_update,
                              emulated ? 1 : GPU_ROUNDS,
                              emulated ? EMULATED_FLOATS : PROBE_FLOATS,
                              emulated};
    memcpy(b->name, card.name, sizeof b->name);
    if (emulated) fprintf(stderr, "r1: --device emulated: the device is this processor, its times mean nothing\n");
    return true;
}
