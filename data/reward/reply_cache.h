/* Replies of external programs by the hash of (program, request line). */
#ifndef DATA_REPLY_CACHE_H
#define DATA_REPLY_CACHE_H

#include <stdint.h>

#include "core/base/status.h"
#include "data/reward/external.h"

typedef struct ReplyKey {
    uint64_t word[2];
} ReplyKey;
ReplyKey reply_key(uint64_t program, const char *line); /* program: command_hash */

/* pending: the place of the request in the batch that is on its way; -1: reply holds; -2: it failed, ask again. */
enum { REPLY_HOLDS = -1, REPLY_FAILED = -2 };
typedef struct ReplyEntry {
    ReplyKey key;
    int pending;
    float score;
    char *reason;
} ReplyEntry;

typedef struct ReplyCache {
    ReplyEntry *entries; /* in the order they came */
    int n, capacity;
    int32_t *table; /* entry + 1 by hash, open addressing; 0: free */
    int slots;      /* a power of 2 */
} ReplyCache;

/* The entry of a key, made with pending = REPLY_FAILED when it is new. Valid until the next call. */
ReplyEntry *reply_cache_entry(ReplyCache *c, ReplyKey key);
void reply_entry_set(ReplyEntry *e, float score, const char *reason);
void reply_cache_free(ReplyCache *c);

/* One JSON object a line: {"key": 32 hex digits, "score": .., "reason": ..}; written beside and renamed. */
bool reply_cache_save(const ReplyCache *c, const char *path, Status *st);
/* Adds what a file holds; a missing file holds nothing. */
bool reply_cache_load(ReplyCache *c, const char *path, Status *st);

#endif
