/* A bump allocator over one range of addresses. */
#include "core/base/arena.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/memory.h"

enum { ALIGN = 64, DEVICE_ALIGN = 256 };

/* Far more addresses than memory; fewer where a limit (ulimit -v) asks for it. */
static const size_t MOST = (size_t)1 << 38, LEAST = (size_t)1 << 24;

Arena arena_of(const Device *device, Backend *backend)
{
    return (Arena){.device = device, .backend = backend};
}

static void *reserve(const Arena *a, size_t size)
{
    return a->device ? a->device->range_open(a->backend, size) : memory_reserve(size);
}

static void open_range(Arena *a)
{
    for (a->size = MOST; !(a->base = reserve(a, a->size)) && a->size > LEAST;) a->size /= 2;
}

static void out_of_memory(size_t bytes)
{
    fprintf(stderr, "r1: out of memory: no room for %zu MB of a step's workspace; try --memory or a smaller batch\n",
            bytes >> 20);
    exit(1);
}

void *arena_alloc(Arena *a, size_t bytes)
{
    size_t align = a->device && !a->device->host ? DEVICE_ALIGN : ALIGN, need = (bytes + align - 1) / align * align;
    if (need == 0) need = align;
    if (!a->base) open_range(a);
    if (!a->base || need > a->size - a->used) out_of_memory(a->used + need);
    if (a->device && a->device->note) need += align; /* what runs past an array then meets no other */
    void *p = a->base + a->used;
    a->used += need;
    if (a->used > a->peak) {
        if (a->device && !a->device->range_use(a->backend, a->base, a->used)) out_of_memory(a->used);
        a->peak = a->used;
    }
    if (a->device && a->device->note) a->device->note(a->backend, p, bytes);
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
    if (a->device && a->device->note && mark < a->used) a->device->note(a->backend, a->base + mark, 0);
    a->used = mark;
}

void arena_reset(Arena *a)
{
    arena_release(a, 0);
}

size_t arena_bytes(const Arena *a)
{
    return a->peak;
}

void arena_free(Arena *a)
{
    if (a->device && a->base) a->device->range_close(a->backend, a->base, a->size);
    else memory_unreserve(a->base, a->size);
    *a = (Arena){.device = a->device, .backend = a->backend};
}
