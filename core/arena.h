/* A bump allocator for what lives as long as a step (activations) or an op (a thread's scratch). Memory is kept: once the
 * largest use was seen, nothing is allocated any more. */
#ifndef CORE_ARENA_H
#define CORE_ARENA_H

#include <stddef.h>
#include <stdint.h>

typedef struct ArenaBlock {
    char *base;
    size_t size, used;
} ArenaBlock;

typedef struct Arena {
    ArenaBlock *blocks;
    int n, current;
    size_t used, peak; /* bytes in use now, and the most ever in use */
    long allocations;  /* how often the system was asked for memory */
} Arena;

typedef struct ArenaMark {
    int block;
    size_t block_used, used;
} ArenaMark;

/* bytes, 64-byte aligned, not cleared. Aborts when the system has no memory left: plans are refused beforehand. */
void *arena_alloc(Arena *a, size_t bytes);
float *arena_floats(Arena *a, size_t n);
int32_t *arena_ints(Arena *a, size_t n);

/* Everything allocated since the mark is given back; when that is all, several blocks become one of the peak's size. */
ArenaMark arena_mark(const Arena *a);
void arena_release(Arena *a, ArenaMark mark);

/* Gives everything back. */
void arena_reset(Arena *a);
size_t arena_bytes(const Arena *a); /* held from the system */
void arena_free(Arena *a);

#endif
