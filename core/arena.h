/* A bump allocator for what lives as long as a step (activations) or an op (a thread's scratch): one range of addresses,
 * which gets memory where it is first touched, and keeps it. */
#ifndef CORE_ARENA_H
#define CORE_ARENA_H

#include <stddef.h>
#include <stdint.h>

typedef struct Arena {
    char *base;
    size_t size;       /* addresses */
    size_t used, peak; /* bytes in use now, and the most ever in use: no more has memory behind it */
} Arena;

typedef size_t ArenaMark;

/* bytes, 64-byte aligned, not cleared. Ends the program when no addresses are left: plans are refused beforehand. */
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
