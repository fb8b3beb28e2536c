#include "core/arena.h"

#include <stdlib.h>

#include "core/check.h"

enum { ALIGN = 64, SMALLEST_BLOCK = 1 << 20 };

static void add_block(Arena *a, size_t size)
{
    size_t rounded = (size + SMALLEST_BLOCK - 1) / SMALLEST_BLOCK * SMALLEST_BLOCK;
    a->blocks = realloc(a->blocks, (size_t)(a->n + 1) * sizeof *a->blocks);
    CHECK(a->blocks != NULL);
    char *base = aligned_alloc(ALIGN, rounded);
    if (!base) {
        fprintf(stderr, "r1: out of memory: %zu MB for a step's workspace; try --memory or a smaller batch\n",
                rounded >> 20);
        exit(1);
    }
    a->blocks[a->n++] = (ArenaBlock){base, rounded, 0};
    a->allocations++;
}

void *arena_alloc(Arena *a, size_t bytes)
{
    size_t need = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    if (need == 0) need = ALIGN;
    while (a->current < a->n && a->blocks[a->current].size - a->blocks[a->current].used < need) a->current++;
    if (a->current >= a->n) {
        add_block(a, need);
        a->current = a->n - 1;
    }
    ArenaBlock *block = &a->blocks[a->current];
    void *p = block->base + block->used;
    block->used += need;
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
    return (ArenaMark){a->current, a->current < a->n ? a->blocks[a->current].used : 0, a->used};
}

/* The blocks of a first, growing use become one. */
static void join_blocks(Arena *a)
{
    size_t peak = a->peak, total = arena_bytes(a);
    arena_free(a);
    add_block(a, total > peak + peak / 16 ? peak + peak / 16 : total);
    a->peak = peak;
}

void arena_release(Arena *a, ArenaMark mark)
{
    for (int i = mark.block + 1; i < a->n; i++) a->blocks[i].used = 0;
    if (mark.block < a->n) a->blocks[mark.block].used = mark.block_used;
    a->current = mark.block;
    a->used = mark.used;
    if (a->used == 0 && a->n > 1) join_blocks(a);
}

void arena_reset(Arena *a)
{
    arena_release(a, (ArenaMark){0, 0, 0});
}

size_t arena_bytes(const Arena *a)
{
    size_t total = 0;
    for (int i = 0; i < a->n; i++) total += a->blocks[i].size;
    return total;
}

void arena_free(Arena *a)
{
    long allocations = a->allocations;
    for (int i = 0; i < a->n; i++) free(a->blocks[i].base);
    free(a->blocks);
    *a = (Arena){.allocations = allocations};
}
