/* The cache of packed weights: an open-addressing table from (address, shape) to a buffer that is reused every epoch. */
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "cpu/internal.h"

enum { FIRST_SLOTS = 256, KEEP_EPOCHS = 16, PACK_COLUMNS = 256, SLAB_BYTES = 32 << 20, LINE = 64 };

typedef struct Pack {
    Mat w; /* the key; p NULL: free slot */
    void *packed;
    size_t bytes;
    long epoch, used; /* packed at, last asked for at */
} Pack;

/* Packs share large blocks: memory for each alone would be too small for 2 MiB pages. */
typedef struct Slab {
    char *base;
    size_t size, used;
    int packs; /* those that live */
} Slab;

struct PackCache {
    Pack *slots;
    size_t count, capacity; /* capacity: a power of 2, at most half full */
    long epoch;
    size_t bytes;
    Slab *slabs;
    int n_slabs;
};

static Pack *slots_alloc(size_t capacity)
{
    Pack *slots = calloc(capacity, sizeof(Pack));
    CHECK(slots);
    return slots;
}

PackCache *gemm_packs_open(void)
{
    PackCache *cache = calloc(1, sizeof(PackCache));
    CHECK(cache);
    cache->slots = slots_alloc(FIRST_SLOTS);
    cache->capacity = FIRST_SLOTS;
    cache->epoch = 1;
    return cache;
}

/* NULL: no memory. */
static void *slab_take(PackCache *cache, size_t bytes)
{
    bytes = ceil_div(bytes, LINE) * LINE;
    int at = 0;
    while (at < cache->n_slabs && cache->slabs[at].size - cache->slabs[at].used < bytes) at++;
    if (at == cache->n_slabs) {
        size_t size = bytes > SLAB_BYTES ? bytes : SLAB_BYTES;
        Slab *slabs = realloc(cache->slabs, ((size_t)cache->n_slabs + 1) * sizeof *slabs);
        if (!slabs) return NULL;
        cache->slabs = slabs;
        slabs[at] = (Slab){.base = memory_block(size), .size = size};
        if (!slabs[at].base) return NULL;
        cache->n_slabs++;
    }
    Slab *slab = &cache->slabs[at];
    slab->packs++;
    slab->used += bytes;
    return slab->base + slab->used - bytes;
}

static void slab_give_back(PackCache *cache, const void *packed)
{
    Slab *slab = cache->slabs;
    while ((const char *)packed < slab->base || (const char *)packed >= slab->base + slab->size) slab++;
    if (--slab->packs) return;
    memory_free(slab->base);
    *slab = cache->slabs[--cache->n_slabs];
}

void gemm_packs_close(PackCache *cache)
{
    for (int i = 0; i < cache->n_slabs; i++) memory_free(cache->slabs[i].base);
    free(cache->slabs);
    free(cache->slots);
    free(cache);
}

size_t gemm_packs_bytes(const PackCache *cache)
{
    return cache->bytes + cache->capacity * sizeof(Pack);
}

static bool same_key(Mat a, Mat b)
{
    return a.p == b.p && a.rows == b.rows && a.cols == b.cols && a.stride == b.stride && a.dtype == b.dtype;
}

/* The slot of w, or the free one where it belongs. */
static Pack *slot_of(Pack *slots, size_t capacity, Mat w)
{
    uint64_t hash = ((uint64_t)(uintptr_t)w.p >> 2) * 0x9e3779b97f4a7c15u;
    hash ^= (w.rows * 31 + w.cols) * 0xbf58476d1ce4e5b9u;
    size_t at = (size_t)(hash >> 20) & (capacity - 1);
    while (slots[at].w.p && !same_key(slots[at].w, w)) {
        at = (at + 1) & (capacity - 1);
    }
    return &slots[at];
}

/* Moves the packs asked for since `since` to a table of `capacity` slots and frees the others. */
static void rebuild(PackCache *cache, size_t capacity, long since)
{
    Pack *slots = slots_alloc(capacity);
    cache->count = 0;
    for (size_t i = 0; i < cache->capacity; i++) {
        Pack *old = &cache->slots[i];
        if (old->w.p && old->used >= since) {
            *slot_of(slots, capacity, old->w) = *old;
            cache->count++;
        } else if (old->w.p) {
            cache->bytes -= old->bytes;
            slab_give_back(cache, old->packed);
        }
    }
    free(cache->slots);
    cache->slots = slots;
    cache->capacity = capacity;
}

void gemm_packs_stale(PackCache *cache)
{
    cache->epoch++;
    if (cache->epoch % KEEP_EPOCHS == 0) {
        long since = cache->epoch - KEEP_EPOCHS;
        bool old = false;
        for (size_t i = 0; i < cache->capacity; i++) {
            old |= cache->slots[i].w.p && cache->slots[i].used < since;
        }
        if (old) {
            rebuild(cache, cache->capacity, since);
        }
    }
}

void gemm_packs_drop(PackCache *cache)
{
    cache->epoch++;
    rebuild(cache, FIRST_SLOTS, cache->epoch);
}

static Pack *find_or_create(PackCache *cache, Mat w, size_t bytes)
{
    Pack *pack = slot_of(cache->slots, cache->capacity, w);
    if (!pack->w.p) {
        if (2 * (cache->count + 1) > cache->capacity) {
            rebuild(cache, 2 * cache->capacity, 0);
            pack = slot_of(cache->slots, cache->capacity, w);
        }
        *pack = (Pack){.w = w, .packed = slab_take(cache, bytes), .bytes = bytes};
        if (!pack->packed) {
            fprintf(stderr, "r1: out of memory: %zu bytes for a packed weight\n", bytes);
            abort();
        }
        cache->count++;
        cache->bytes += bytes;
    }
    return pack;
}

/* NULL: not there, or stale. */
static Pack *find_fresh(const PackCache *cache, Mat w)
{
    Pack *pack = slot_of(cache->slots, cache->capacity, w);
    return pack->w.p && pack->epoch == cache->epoch ? pack : NULL;
}

/* One stale matrix, or a cut of its columns. */
typedef struct PackPiece {
    void *packed;
    Mat w;
    size_t from, to;
} PackPiece;

static size_t add_pieces(const GemmProvider *gemm, PackPiece *pieces, size_t count, const Pack *pack)
{
    size_t step = gemm->column_unit ? PACK_COLUMNS : pack->w.rows; /* PACK_COLUMNS is a multiple of every unit */
    for (size_t from = 0; from < pack->w.rows; from += step) {
        size_t to = from + step < pack->w.rows ? from + step : pack->w.rows;
        pieces[count++] = (PackPiece){pack->packed, pack->w, from, to};
    }
    return count;
}

static void run_pieces(Backend *b, const GemmProvider *g, const PackPiece *pieces, size_t count)
{
    double work = 0.0;
    for (size_t i = 0; i < count; i++) {
        work += (double)(pieces[i].to - pieces[i].from) * (double)pieces[i].w.cols;
    }
#pragma omp parallel for schedule(dynamic) num_threads(cpu_team(b, work))
    for (size_t i = 0; i < count; i++) {
        g->pack(b, omp_get_thread_num(), pieces[i].packed, pieces[i].w, pieces[i].from, pieces[i].to);
    }
}

void gemm_packs_get(Backend *b, const GemmProvider *g, const void **packed, const Mat *w, const bool *need, int E)
{
    PackCache *cache = b->packs;
    ArenaMark mark = cpu_mark(b, 0);
    size_t most = 0, count = 0;
    bool make = gemm_packs(g, b->keep_packed);
    for (int e = 0; e < E; e++) {
        most += w[e].rows / PACK_COLUMNS + 1;
    }
    PackPiece *pieces = (PackPiece *)cpu_scratch(b, 0, most * sizeof(PackPiece) / sizeof(float));
    for (int e = 0; e < E; e++) {
        packed[e] = NULL;
        if (w[e].passing || (need && !need[e])) {
            continue;
        }
        Pack *pack = make ? find_or_create(cache, w[e], g->pack_bytes(w[e].rows, w[e].cols)) : find_fresh(cache, w[e]);
        if (!pack) {
            continue;
        }
        pack->used = cache->epoch;
        packed[e] = pack->packed;
        if (pack->epoch != cache->epoch) {
            pack->epoch = cache->epoch;
            count = add_pieces(g, pieces, count, pack);
        }
    }
    if (count) {
        run_pieces(b, g, pieces, count);
    }
    cpu_release(b, 0, mark);
}
