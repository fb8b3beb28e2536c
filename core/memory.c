#include "core/memory.h"

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

void *memory_block(size_t bytes)
{
    size_t unit = bytes >= 2 * (size_t)LARGE_PAGE ? LARGE_PAGE : LINE, rounded = round_up(bytes ? bytes : 1, unit);
    void *block = aligned_alloc(unit, rounded);
    if (block && unit == LARGE_PAGE) ask_for_large_pages(block, rounded);
    return block;
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
