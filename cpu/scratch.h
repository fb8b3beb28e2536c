/* A stack allocator that never moves what it gave out and, once it has seen its largest use, never allocates again. */
#ifndef CPU_SCRATCH_H
#define CPU_SCRATCH_H

#include <stddef.h>

enum { ARENA_BLOCKS = 32 };

typedef struct ArenaBlock {
    char *p;
    size_t size, used;
} ArenaBlock;

/* Zero-initialised is empty. Aligned to a cache line: each thread has its own. */
typedef struct Arena {
    _Alignas(64) int top;      /* block in use */
    int count;                 /* blocks held */
    ArenaBlock blocks[ARENA_BLOCKS];
} Arena;

typedef struct ArenaMark {
    int top;
    size_t used;
} ArenaMark;

/* The state to come back to. */
ArenaMark arena_mark(const Arena *a);

/* `bytes` bytes, 64-byte aligned, uninitialised. Out of memory ends the program: there is no step without scratch. */
void *arena_take(Arena *a, size_t bytes);

/* Gives back everything taken since `mark`. When all is back, several blocks become one of their total size. */
void arena_release(Arena *a, ArenaMark mark);

size_t arena_bytes(const Arena *a);
void arena_free(Arena *a);

#endif
