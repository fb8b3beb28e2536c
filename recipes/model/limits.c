/* What a machine can do at most: the processor's limits, or those of a device by its plugin. */
#include "recipes/model/limits.h"

#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "cpu/limits.h"
#include "gpu/gpu.h"
#include "recipes/model/plugin.h"

enum { PROBE_FLOATS = 64 << 20, PROBE_ROUNDS = 1000000, GPU_ROUNDS = 100000, EMULATED_FLOATS = 1 << 14, PROBES = 3 };

bool limits_of(Limits *out, const Machine *m, Status *st)
{
    if (m->cpu) {
        *out = (Limits){cpu_probe_fma, cpu_probe_bf16, cpu_probe_read, cpu_probe_update,
                        PROBE_ROUNDS,  PROBE_FLOATS,   false,          ""};
        machine_cpu_name(out->name, sizeof out->name);
        return true;
    }
    DeviceName device;
    GpuDevice card;
    const GpuPlugin *plugin = device_parse(m->options.device, &device, st) ? plugin_load(device.kind, st) : NULL;
    if (!plugin || !plugin->device(device.number, &card, st)) return false;
    bool emulated = plugin->emulate != NULL;
    *out = (Limits){plugin->probe_fma,
                    plugin->probe_bf16,
                    plugin->probe_read,
                    plugin->probe_update,
                    emulated ? 1 : GPU_ROUNDS,
                    emulated ? EMULATED_FLOATS : PROBE_FLOATS,
                    emulated,
                    ""};
    memcpy(out->name, card.name, sizeof out->name);
    if (emulated) fprintf(stderr, "r1: --device emulated: the device is this processor, its times mean nothing\n");
    return true;
}

float *limits_block(const Limits *l, const Machine *m, Status *st)
{
    float *block = m->ops->device.alloc(m->backend, l->floats * sizeof *block);
    if (!block) {
        fail(st, "no memory for the %zu MB that probing it takes", l->floats * sizeof *block / 1000000);
        return NULL;
    }
    m->ops->fill(m->backend, block, l->floats, 0.0f);
    m->ops->device.wait(m->backend, 0);
    return block;
}

static void keep_larger(double *best, double v)
{
    if (v > *best) *best = v;
}

/* FLOPs or bytes a second; the device has done them when the clock stops. */
static double rate(const Machine *m, double work, double start)
{
    m->ops->device.wait(m->backend, 0);
    return work / (clock_seconds() - start);
}

static void probe_once(const Limits *l, const Machine *m, Backend *b, float *block, Peaks *p)
{
    double start = clock_seconds();
    keep_larger(&p->flops[DTYPE_F32], rate(m, l->fma(b, l->rounds), start));
    start = clock_seconds();
    keep_larger(&p->flops[DTYPE_BF16], rate(m, l->bf16(b, l->rounds), start));
    keep_larger(&p->flops[DTYPE_BF16], p->flops[DTYPE_F32]);
    start = clock_seconds();
    keep_larger(&p->read, rate(m, l->read(b, block, l->floats), start));
    start = clock_seconds();
    keep_larger(&p->copy, rate(m, l->update(b, block, l->floats), start));
}

void limits_probe(const Limits *l, const Machine *m, Backend *b, float *block, Peaks *peaks)
{
    for (int i = 0; i < PROBES; i++) probe_once(l, m, b, block, peaks);
}
