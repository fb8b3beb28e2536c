/* Rows of a cached call that stand beside each other and belong to one sequence share its key tiles. */
#ifndef CPU_KERNELS_ATTENTION_ROWS_H
#define CPU_KERNELS_ATTENTION_ROWS_H

#include "cpu/internal.h"
#include "cpu/kernels/tiles/attention_tile.h"

static inline Row page_of(const CacheLayer *cache, int32_t page)
{
    return row_from((Row){cache->base, cache->dtype}, (size_t)page * cache->page_stride);
}

typedef struct RowGroup {
    int first, count;
} RowGroup;

typedef struct RowGroups {
    RowGroup *at;
    int count;
    double positions; /* sum of pos + 1 over all rows */
} RowGroups;

/* Rows of the call that fill one panel when each brings `heads` query rows. */
static inline int panel_positions(int heads)
{
    return heads < PANEL_ROWS ? PANEL_ROWS / heads : 1;
}

/* Cuts n rows where `at` changes, and after `most` rows. The list is scratch of thread 0: the caller marks and
 * releases. */
static inline RowGroups group_rows(Backend *b, const CacheRow *rows, int n, int most)
{
    RowGroups groups = {.at = (RowGroup *)cpu_scratch(b, 0, (size_t)n * sizeof(RowGroup) / sizeof(float))};
    for (int r = 0; r < n; r++) {
        groups.positions += rows[r].pos + 1;
        RowGroup *last = groups.count ? &groups.at[groups.count - 1] : NULL;
        if (last && last->count < most && rows[last->first].at == rows[r].at) last->count++;
        else groups.at[groups.count++] = (RowGroup){r, 1};
    }
    return groups;
}

#endif
