/* The device that is the process itself. */
#include "core/ops/device.h"

#include <string.h>

#include "core/base/memory.h"

static void *host_alloc(Backend *b, size_t bytes)
{
    (void)b;
    return memory_block(bytes);
}

static void host_free(Backend *b, void *block)
{
    (void)b;
    memory_free(block);
}

static void *host_range_open(Backend *b, size_t bytes)
{
    (void)b;
    return memory_reserve(bytes);
}

/* The system gives memory where it is first touched. */
static bool host_range_use(Backend *b, void *range, size_t upto)
{
    (void)b, (void)range, (void)upto;
    return true;
}

static void host_range_close(Backend *b, void *range, size_t bytes)
{
    (void)b;
    memory_unreserve(range, bytes);
}

static void host_copy(Backend *b, void *to, const void *from, size_t bytes)
{
    (void)b;
    if (to != from) memcpy(to, from, bytes);
}

static uint64_t host_copy_later(Backend *b, void *to, const void *from, size_t bytes)
{
    host_copy(b, to, from, bytes);
    return 1;
}

static void host_wait(Backend *b, uint64_t ticket)
{
    (void)b, (void)ticket;
}

Device device_of_host(size_t slice_rows)
{
    return (Device){.host = true,
                    .slice_rows = slice_rows,
                    .in_flight = 1,
                    .alloc = host_alloc,
                    .free = host_free,
                    .range_open = host_range_open,
                    .range_use = host_range_use,
                    .range_close = host_range_close,
                    .upload = host_copy,
                    .download = host_copy,
                    .copy = host_copy,
                    .download_later = host_copy_later,
                    .wait = host_wait,
                    .host_new = host_alloc,
                    .host_free = host_free};
}
