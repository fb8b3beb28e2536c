/* Rates of a device: its limits, probed as `r1 bench` probes them. */
#include <stdio.h>
#include <string.h>

#include "recipes/model/limits.h"
#include "recipes/plan/rates.h"

/* FLOP/s of the products that the backend computes by: tensor cores, or widened values by fmaf. */
static double flops_of(const Machine *m, const Peaks *p)
{
    bool widened = m->options.matmul && !strcmp(m->options.matmul, "widen");
    return p->flops[widened ? DTYPE_F32 : (DType)m->options.dtype];
}

bool rates_device(Rates *r, const Machine *m, bool again, Status *st)
{
    RateKeys keys;
    Limits limits;
    Peaks peaks = {{0}, 0, 0};
    rates_assume(r, m);
    rates_keys(&keys, m, NULL, NULL, 0);
    rates_load(r, &keys);
    r->at_peaks = true;
    if (!again && !r->cpu_assumed) return true;
    float *block = limits_of(&limits, m, st) ? limits_block(&limits, m, st) : NULL;
    if (!block) return false;
    limits_probe(&limits, m, m->backend, block, &peaks);
    m->ops->device.free(m->backend, block);
    rates_of_peaks(r, flops_of(m, &peaks), peaks.read, peaks.copy, (DType)m->options.dtype);
    r->cpu_age = 0;
    r->cpu_assumed = false;
    r->emulated = limits.emulated;
    Status not_kept = {0};
    if (!r->emulated && !rates_keep(r, &keys, NULL, 0, &not_kept)) fprintf(stderr, "r1: %s\n", not_kept.text);
    return true;
}
