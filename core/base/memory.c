/* Large pages and blocks at different offsets of them. */
#include "core/base/memory.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { LINE = 64, LARGE_PAGE = 2 << 20 };

static size_t round_up(size_t n, size_t unit)
{
    return (n + unit - 1) / unit * unit;
}

static void ask_for_large_pages(void *p, size_t bytes)
{
#ifdef MADV_HUGEPAGE
    madvise(p, bytes, MADV_HUGEPAGE);
#else
    (void)p, (void)bytes;
#endif
}

/* Offset of a block in its memory. Streams that are read together (a weight, its gradient, its moments) would conflict in the
 * same cache sets and DRAM banks at equal offsets of large pages: AdamW was up to twice as slow (two Zen 5 cores). */
static size_t block_offset(void)
{
    enum { PLACES = 8, APART = (64 << 10) + (4 << 10) + LINE };
    static atomic_uint blocks;
    return LINE + APART * (size_t)(atomic_fetch_add(&blocks, 1) % PLACES);
}

void *memory_block(size_t bytes)
{
    bool large = bytes >= 2 * (size_t)LARGE_PAGE;
    size_t unit = large ? LARGE_PAGE : LINE, offset = large ? block_offset() : LINE,
           rounded = round_up(offset + bytes, unit);
    char *start = aligned_alloc(unit, rounded);
    if (!start) return NULL;
    if (large) ask_for_large_pages(start, rounded);
    void **block = (void **)(start + offset);
    block[-1] = start;
    return block;
}

void memory_free(void *block)
{
    if (block) free(((void **)block)[-1]);
}

void memory_drop(void *p, size_t bytes)
{
    enum { PAGE = 4096 };
    char *from = (char *)p + (round_up((uintptr_t)p, PAGE) - (uintptr_t)p), *end = (char *)p + bytes;
    if (end > from) madvise(from, (size_t)(end - from) / PAGE * PAGE, MADV_DONTNEED);
}

void *memory_reserve(size_t bytes)
{
    size_t size = round_up(bytes, LARGE_PAGE);
    char *p = mmap(NULL, size + LARGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return NULL;
    /* What is kept begins at a large page; what lies before and after goes back. */
    size_t before = round_up((uintptr_t)p, LARGE_PAGE) - (uintptr_t)p;
    if (before) munmap(p, before);
    munmap(p + before + size, LARGE_PAGE - before);
    ask_for_large_pages(p + before, size);
    return p + before;
}

void memory_unreserve(void *p, size_t bytes)
{
    if (p) munmap(p, round_up(bytes, LARGE_PAGE));
}
