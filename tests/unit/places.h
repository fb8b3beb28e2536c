/* Where a test computes, a small model to compute with, and the bytes of what was computed. */
#ifndef TESTS_UNIT_PLACES_H
#define TESTS_UNIT_PLACES_H

#include "core/config.h"
#include "core/ops/ops.h"
#include "gpu/gpu.h"

enum { PLACES_VOCAB = 50 };

/* Everything that a run computed, one after the other. */
typedef struct Trace {
    char *bytes;
    size_t n, capacity;
} Trace;

void trace(Trace *t, const void *bytes, size_t n);
/* Fails where two differ, and frees both. number: of the case. */
void trace_check_equal(size_t number, Trace a, Trace b);

/* Three layers of 32 columns: MLA with experts (V2, V3) or GQA (Qwen3). */
ModelConfig places_model(Arch arch);

/* Where a run computes: in the process's memory, in memory that it may not touch (half blocks cut at slice_rows), or on the
 * emulated GPU. */
typedef struct Place {
    bool far;
    size_t slice_rows;
    const char *late; /* R1_LATE; NULL: as the place decides */
    const GpuPlugin *plugin;
    const char *matmul, *streams; /* of the plugin */
} Place;

/* Closed by ops->close. Sets R1_LATE too. */
Backend *place_open(const Place *at, DType dtype, const Ops **ops);

#endif
