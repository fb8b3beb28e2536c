/* Memory of a backend. Ops work in one place, the device's memory: what an op reads or writes lies there, and the C
 * arrays of views that are passed by pointer (`const Mat *`) alone are the process's, read when the op is called. Calls
 * are done in the order in which they are made, but perhaps later: a host array that `upload` reads may change as soon
 * as it returns, and what ops wrote is complete on the host when `download` returns, or when it waited for a
 * `download_later`. On the CPU the device's memory is the process's, and nothing is copied. */
#ifndef CORE_DEVICE_H
#define CORE_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Backend Backend; /* threads, scratch, packed weights: the backend's own */

typedef struct Device {
    bool host; /* it is the process's memory */
    size_t
        slice_rows; /* rows that run through the ops of half a block at once, a multiple of TOKEN_BLOCK; SIZE_MAX: all */
    bool late;      /* decoding one step late pays: the host's part hides behind the device's (core/rollout/late.c) */
    int in_flight; /* head chunks whose logits are held at once: with 2 the next is computed while the host has one's loss */

    /* bytes, 256-byte aligned (host: 64), not cleared; NULL: it has not that much. free waits for what uses the block.
     * */
    void *(*alloc)(Backend *b, size_t bytes);
    void (*free)(Backend *b, void *block);
    /* Addresses of an arena (NULL: there are not that many); memory behind the first `upto` bytes of them, asked for
     * with growing upto (false: it has not that much); and the end of both. */
    void *(*range_open)(Backend *b, size_t bytes);
    bool (*range_use)(Backend *b, void *range, size_t upto);
    void (*range_close)(Backend *b, void *range, size_t bytes);
    /* NULL, or told of every array of an arena: [p, p + bytes) is one; with bytes 0: from p on everything is given
     * back. */
    void (*note)(Backend *b, const void *p, size_t bytes);

    void (*upload)(Backend *b, void *to, const void *from, size_t bytes); /* to the device; nothing where to == from */
    void (*download)(Backend *b, void *to, const void *from, size_t bytes); /* from the device; waits */
    void (*copy)(Backend *b, void *to, const void *from, size_t bytes);     /* on the device */
    /* The host goes on: `to` lies in memory of host_new and holds the bytes once wait(ticket) has returned. Until then
     * nothing reads it, and no call writes `from`. The ticket is not 0. */
    uint64_t (*download_later)(Backend *b, void *to, const void *from, size_t bytes);
    /* Until this download and those asked for before it are complete; ticket 0: until all calls so far are done. */
    void (*wait)(Backend *b, uint64_t ticket);
    /* Memory of the host that the device can write while the host does something else. NULL: there is not that much.
     * free waits for what is on its way there. */
    void *(*host_new)(Backend *b, size_t bytes);
    void (*host_free)(Backend *b, void *p);

    /* Calls that are made again with the same arguments and other contents of their arrays (NULL: every call is made).
     * replay: true: the calls recorded under this key were issued again, and none is to be made; false: make them, then
     * ask `recorded`: true: they are done or queued; false: make them once more (the recording failed, and nothing was
     * done). Between the two nothing is uploaded, downloaded, allocated or freed. A recording ends with any block or
     * range that is freed. */
    bool (*replay)(Backend *b, uint64_t key);
    bool (*recorded)(Backend *b);
} Device;

/* The process's memory, for backends that compute in it; one head chunk at a time. */
Device device_of_host(size_t slice_rows);

#endif
