/* Files mapped into memory, pages given back. */
#include "checkpoints/mapping.h"

#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

static void advise(const void *p, size_t n, int advice)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)p & ~(page - 1);
    if (n) madvise((void *)from, (uintptr_t)p + n - from, advice);
}

void mapping_need(const void *p, size_t n)
{
#ifdef MADV_POPULATE_READ
    advise(p, n, MADV_POPULATE_READ);
#else
    (void)p, (void)n;
#endif
}

void mapping_forget(const void *p, size_t n)
{
    advise(p, n, MADV_DONTNEED);
}

void mapping_forget_part(const void *file, size_t size, size_t from, size_t n)
{
    enum { AROUND = 1 << 16 };
    size_t start = from / AROUND * AROUND, end = (from + n + AROUND - 1) / AROUND * AROUND;
    mapping_forget((const char *)file + start, (end < size ? end : size) - start);
}
