#include "cpu/scratch.h"

#include <stdlib.h>

#include "core/check.h"

enum { ALIGN = 64, FIRST_BLOCK = 1 << 16 };

static void block_alloc(ArenaBlock *block, size_t bytes)
{
    *block = (ArenaBlock){aligned_alloc(ALIGN, bytes), bytes, 0};
    if (!block->p) {
        fprintf(stderr, "r1: out of memory: %zu bytes of workspace; use a smaller --chunk or fewer threads\n", bytes);
        abort();
    }
}

ArenaMark arena_mark(const Arena *a)
{
    return (ArenaMark){a->top, a->count ? a->blocks[a->top].used : 0};
}

void *arena_take(Arena *a, size_t bytes)
{
    bytes = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    while (a->top < a->count && a->blocks[a->top].size - a->blocks[a->top].used < bytes) {
        a->top++;
    }
    if (a->top == a->count) {
        CHECK(a->count < ARENA_BLOCKS);
        size_t size = a->count ? 2 * a->blocks[a->count - 1].size : FIRST_BLOCK;
        block_alloc(&a->blocks[a->count++], size > bytes ? size : bytes);
    }
    ArenaBlock *block = &a->blocks[a->top];
    void *p = block->p + block->used;
    block->used += bytes;
    return p;
}

static void merge_blocks(Arena *a)
{
    size_t total = arena_bytes(a);
    arena_free(a);
    block_alloc(&a->blocks[0], total);
    a->count = 1;
}

void arena_release(Arena *a, ArenaMark mark)
{
    for (int i = mark.top + 1; i < a->count; i++) {
        a->blocks[i].used = 0;
    }
    a->top = mark.top;
    if (a->count) {
        a->blocks[mark.top].used = mark.used;
    }
    if (a->count > 1 && mark.top == 0 && mark.used == 0) {
        merge_blocks(a);
    }
}

size_t arena_bytes(const Arena *a)
{
    size_t total = 0;
    for (int i = 0; i < a->count; i++) {
        total += a->blocks[i].size;
    }
    return total;
}

void arena_free(Arena *a)
{
    for (int i = 0; i < a->count; i++) {
        free(a->blocks[i].p);
    }
    *a = (Arena){0};
}
