#include "checkpoints/block.h"

#include <stdlib.h>
#include <sys/mman.h>

enum { LINE = 64, HUGE_PAGE = 2 << 20 };

float *block_alloc(size_t n)
{
    size_t bytes = n * sizeof(float), unit = bytes >= 8 * (size_t)HUGE_PAGE ? HUGE_PAGE : LINE;
    size_t rounded = (bytes + unit - 1) / unit * unit;
    float *block = aligned_alloc(unit, rounded ? rounded : unit);
    if (block && unit == HUGE_PAGE) madvise(block, rounded, MADV_HUGEPAGE);
    return block;
}
