#include "core/arena.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/memory.h"

enum { ALIGN = 64 };

/* Far more addresses than memory; fewer where a limit (ulimit -v) asks for it. */
static const size_t MOST = (size_t)1 << 38, LEAST = (size_t)1 << 24;

static void open_range(Arena *a)
{
    for (a->size = MOST; !(a->base = memory_reserve(a->size)) && a->size > LEAST;) a->size /= 2;
}

void *arena_alloc(Arena *a, size_t bytes)
{
    size_t need = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    if (need == 0) need = ALIGN;
    if (!a->base) open_range(a);
    if (!a->base || need > a->size - a->used) {
        fprintf(stderr,
                "r1: out of memory: no addresses for %zu MB of a step's workspace; try --memory or a smaller batch\n",
                (a->used + need) >> 20);
        exit(1);
    }
    void *p = a->base + a->used;
    a->used += need;
    if (a->used > a->peak) a->peak = a->used;
    return p;
}

float *arena_floats(Arena *a, size_t n)
{
    return arena_alloc(a, n * sizeof(float));
}

int32_t *arena_ints(Arena *a, size_t n)
{
    return arena_alloc(a, n * sizeof(int32_t));
}

ArenaMark arena_mark(const Arena *a)
{
    return a->used;
}

void arena_release(Arena *a, ArenaMark mark)
{
    a->used = mark;
}

void arena_reset(Arena *a)
{
    a->used = 0;
}

size_t arena_bytes(const Arena *a)
{
    return a->peak;
}

void arena_free(Arena *a)
{
    memory_unreserve(a->base, a->size);
    *a = (Arena){0};
}
