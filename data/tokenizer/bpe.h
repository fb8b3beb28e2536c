/* Byte-pair encoding of one piece of text: start from bytes (or characters), merge the adjacent pair of lowest rank,
 * the leftmost first, until none is left (Sennrich et al. 2016, arXiv:1508.07909; docs/formats.md 3.3). */
#ifndef DATA_BPE_H
#define DATA_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "data/tokenizer/bytemap.h"
#include "data/tokenizer/ids.h"

typedef struct BpeMerge {
    uint64_t pair;    /* left << 32 | right */
    int32_t rank, id; /* rank -1: free slot */
} BpeMerge;

typedef struct BpeCache BpeCache;

typedef struct Bpe {
    BpeMerge *merges; /* hash table */
    size_t capacity, n;
    ByteMap pieces;        /* whole pieces: ignore_merges, and the characters when not byte level */
    int32_t byte_ids[256]; /* byte level: the symbol of a byte; else the token <0xNN> of byte_fallback; -1: none */
    bool byte_level, ignore_merges, fuse_unk;
    bool byte_fallback; /* only when not byte level */
    int32_t unk;        /* -1: symbols without id are dropped */
    BpeCache *cache;
} Bpe;

/* Zero-initialise, then this, then fill in. */
void bpe_init(Bpe *b);
void bpe_free(Bpe *b);
/* Keeps the rank it already has when the pair is there. */
void bpe_add_merge(Bpe *b, int32_t left, int32_t right, int32_t rank, int32_t id);
/* Appends the ids of a piece of valid UTF-8. One thread at a time: recent pieces are remembered in the cache. */
void bpe_encode(const Bpe *b, const char *piece, size_t length, Ids *out);

#endif
