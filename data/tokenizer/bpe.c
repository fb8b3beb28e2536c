/* Byte-pair encoding of a piece. */
#include "data/tokenizer/bpe.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/base/hash.h"
#include "data/utf8.h"

/* One cache line a piece, found by its hash; a newcomer takes the place of what was there. */
enum { CACHE_PIECES = 1 << 16, CACHE_BYTES = 30, CACHE_IDS = 8 };

typedef struct CachedPiece {
    int32_t ids[CACHE_IDS];
    char piece[CACHE_BYTES];
    uint8_t length, n; /* length 0: empty place */
} CachedPiece;

struct BpeCache {
    CachedPiece pieces[CACHE_PIECES];
};

/* A run of the text that is one token so far; a dead symbol has id -1. */
typedef struct Symbol {
    int32_t id, previous, next;
} Symbol;

typedef struct Candidate {
    int32_t rank, at, left, right, id;
} Candidate;

typedef struct Heap {
    Candidate *items;
    size_t n, capacity;
} Heap;

void bpe_init(Bpe *b)
{
    *b = (Bpe){.unk = -1};
    for (int i = 0; i < 256; i++) b->byte_ids[i] = -1;
    b->cache = aligned_alloc(64, sizeof *b->cache);
    CHECK(b->cache);
    memset(b->cache, 0, sizeof *b->cache);
}

void bpe_free(Bpe *b)
{
    free(b->merges);
    free(b->cache);
    bytemap_free(&b->pieces);
    *b = (Bpe){0};
}

static BpeMerge *find_merge(const Bpe *b, uint64_t pair)
{
    for (size_t i = hash_spread(pair);; i++) {
        BpeMerge *m = &b->merges[i & (b->capacity - 1)];
        if (m->rank < 0 || m->pair == pair) return m;
    }
}

static void grow_merges(Bpe *b)
{
    BpeMerge *old = b->merges;
    size_t old_capacity = b->capacity;
    b->capacity = old_capacity ? 2 * old_capacity : 64;
    b->merges = malloc(b->capacity * sizeof *b->merges);
    CHECK(b->merges);
    for (size_t i = 0; i < b->capacity; i++) b->merges[i].rank = -1;
    for (size_t i = 0; i < old_capacity; i++)
        if (old[i].rank >= 0) *find_merge(b, old[i].pair) = old[i];
    free(old);
}

static uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

void bpe_add_merge(Bpe *b, int32_t left, int32_t right, int32_t rank, int32_t id)
{
    if (2 * (b->n + 1) > b->capacity) grow_merges(b);
    BpeMerge *m = find_merge(b, pair_of(left, right));
    if (m->rank >= 0) return;
    *m = (BpeMerge){pair_of(left, right), rank, id};
    b->n++;
}

/* Lowest rank first, then leftmost. */
static bool before(const Candidate *a, const Candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void heap_push(Heap *h, Candidate c)
{
    if (h->n == h->capacity) {
        h->capacity = h->capacity ? 2 * h->capacity : 64;
        h->items = realloc(h->items, h->capacity * sizeof *h->items);
        CHECK(h->items);
    }
    size_t i = h->n++;
    for (; i > 0 && before(&c, &h->items[(i - 1) / 2]); i = (i - 1) / 2) h->items[i] = h->items[(i - 1) / 2];
    h->items[i] = c;
}

static Candidate heap_pop(Heap *h)
{
    Candidate top = h->items[0], last = h->items[--h->n];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= h->n) break;
        if (child + 1 < h->n && before(&h->items[child + 1], &h->items[child])) child++;
        if (!before(&h->items[child], &last)) break;
        h->items[i] = h->items[child];
        i = child;
    }
    if (h->n) h->items[i] = last;
    return top;
}

static void offer(const Bpe *b, const Symbol *symbols, int32_t left, Heap *heap)
{
    if (left < 0 || symbols[left].next < 0 || !b->n) return;
    int32_t l = symbols[left].id, r = symbols[symbols[left].next].id;
    const BpeMerge *m = find_merge(b, pair_of(l, r));
    if (m->rank >= 0) heap_push(heap, (Candidate){m->rank, left, l, r, m->id});
}

static void merge_all(const Bpe *b, Symbol *symbols, int n)
{
    Heap heap = {0};
    for (int i = 0; i + 1 < n; i++) offer(b, symbols, i, &heap);
    while (heap.n) {
        Candidate c = heap_pop(&heap);
        Symbol *left = &symbols[c.at];
        if (left->id != c.left || left->next < 0 || symbols[left->next].id != c.right) continue;
        Symbol *right = &symbols[left->next];
        left->id = c.id;
        left->next = right->next;
        right->id = -1;
        if (left->next >= 0) symbols[left->next].previous = c.at;
        offer(b, symbols, left->previous, &heap);
        offer(b, symbols, c.at, &heap);
    }
    free(heap.items);
}

/* Appends the symbols a character without an id becomes. */
static void add_unknown(const Bpe *b, const char *bytes, size_t length, Ids *symbols, bool *after_unk)
{
    bool all_bytes = b->byte_fallback;
    for (size_t i = 0; i < length && all_bytes; i++) all_bytes = b->byte_ids[(unsigned char)bytes[i]] >= 0;
    if (all_bytes) {
        for (size_t i = 0; i < length; i++) ids_push(symbols, b->byte_ids[(unsigned char)bytes[i]]);
        *after_unk = false;
    } else if (b->unk >= 0) {
        if (!*after_unk || !b->fuse_unk) ids_push(symbols, b->unk);
        *after_unk = true;
    }
}

static void first_symbols(const Bpe *b, const char *piece, size_t length, Ids *symbols)
{
    bool after_unk = false;
    for (size_t at = 0; at < length;) {
        size_t used = b->byte_level ? 1 : utf8_next(piece + at, length - at, NULL);
        int32_t id = b->byte_level ? b->byte_ids[(unsigned char)piece[at]] : bytemap_get(&b->pieces, piece + at, used);
        if (id >= 0) {
            ids_push(symbols, id);
            after_unk = false;
        } else {
            add_unknown(b, piece + at, used, symbols, &after_unk);
        }
        at += used;
    }
}

static void encode_uncached(const Bpe *b, const char *piece, size_t length, Ids *out)
{
    if (b->ignore_merges) {
        int32_t id = bytemap_get(&b->pieces, piece, length);
        if (id >= 0) {
            ids_push(out, id);
            return;
        }
    }
    Ids start = {0};
    first_symbols(b, piece, length, &start);
    Symbol *symbols = malloc(((size_t)start.n + 1) * sizeof *symbols);
    CHECK(symbols);
    for (int i = 0; i < start.n; i++)
        symbols[i] = (Symbol){.id = start.ids[i], .previous = i - 1, .next = i + 1 < start.n ? i + 1 : -1};
    merge_all(b, symbols, start.n);
    for (int i = 0; i < start.n; i++)
        if (symbols[i].id >= 0) ids_push(out, symbols[i].id);
    free(symbols);
    free(start.ids);
}

void bpe_encode(const Bpe *b, const char *piece, size_t length, Ids *out)
{
    if (length > CACHE_BYTES) {
        encode_uncached(b, piece, length, out);
        return;
    }
    CachedPiece *c = &b->cache->pieces[hash_spread(hash_bytes(piece, length, 0)) % CACHE_PIECES];
    if (c->length == length && memcmp(c->piece, piece, length) == 0) {
        for (int i = 0; i < c->n; i++) ids_push(out, c->ids[i]);
        return;
    }
    int before_n = out->n;
    encode_uncached(b, piece, length, out);
    int n = out->n - before_n;
    if (n > CACHE_IDS) return;
    c->length = (uint8_t)length;
    c->n = (uint8_t)n;
    memcpy(c->piece, piece, length);
    if (n) memcpy(c->ids, out->ids + before_n, (size_t)n * sizeof *c->ids);
}
