/* A bump allocator for what lives as long as a step (activations) or an op (a thread's scratch): one range of addresses
 * of the process or of a device, which gets memory where it is first used, and keeps it. */
#ifndef CORE_ARENA_H
#define CORE_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include "core/ops/device.h"

/* Zero-initialised: of the process. */
typedef struct Arena {
    char *base;
    size_t size;          /* addresses */
    size_t used, peak;    /* bytes in use now, and the most ever in use: no more has memory behind it */
    const Device *device; /* NULL: the process */
    Backend *backend;
} Arena;

typedef size_t ArenaMark;

Arena arena_of(const Device *device, Backend *backend);

/* bytes, 64-byte aligned (256 on a device), not cleared. Ends the program when no memory is left: plans are refused
 * beforehand. */
void *arena_alloc(Arena *a, size_t bytes);
float *arena_floats(Arena *a, size_t n);
int32_t *arena_ints(Arena *a, size_t n);

/* Everything allocated since the mark is given back. */
ArenaMark arena_mark(const Arena *a);
void arena_release(Arena *a, ArenaMark mark);

/* Gives everything back. */
void arena_reset(Arena *a);
size_t arena_bytes(const Arena *a); /* held from the system */
void arena_free(Arena *a);

#endif
