/* Paged cache of keys and values for decoding. A page is one key tile (KEY_TILE positions) of all layers; pages of a shared
 * prompt are counted by reference and copied only when written.
 *
 * exact:  expanded K and V, walked in the training kernel's order, so that sampling and training agree bit for bit.
 * latent: the normed latent and the rope key only, (Rkv + Dr) values a token and layer (DeepSeek-V2, section 2.1.2).
 * Either of the engine's dtype. */
#ifndef CORE_KV_CACHE_H
#define CORE_KV_CACHE_H

#include "core/engine.h"

typedef enum { CACHE_EXACT, CACHE_LATENT } CacheKind;
/* "exact", "latent"; NULL after the last. */
const char *cache_kind_name(int k);

typedef struct KvCache {
    CacheKind kind;
    const ModelConfig *config;
    const Ops *ops;
    Backend *backend;
    DType dtype;
    void *pages;          /* [n_pages][layers][page_values] on the device */
    int layers;           /* of a page: the model's, and one more for the module that drafts */
    size_t page_values;   /* of one layer */
    size_t rope_at, v_at; /* CacheLayer's */
    int n_pages;
    int *references; /* [n_pages] */
    int *free_list, n_free;
} KvCache;

/* drafts: with a layer for the first module of multi-token prediction. Latent needs MLA. Fails when the memory is not there. */
bool kv_cache_open(KvCache *k, const Engine *e, CacheKind kind, bool drafts, int n_pages, Status *st);
void kv_cache_close(KvCache *k);
size_t kv_cache_bytes(const KvCache *k); /* of all pages */
/* Of a page of the model's layers. */
size_t kv_cache_page_bytes(const ModelConfig *c, CacheKind kind, DType dtype);
/* Of one token in all layers: exact L (H (Dn + Dv) + Dr) values (GQA: L Hkv (Dr + Dv)), latent L (Rkv + Dr). */
size_t kv_cache_token_bytes(const ModelConfig *c, CacheKind kind, DType dtype);
/* pages: the page table of the call. */
CacheLayer kv_cache_layer(const KvCache *k, int layer, const int32_t *pages);

/* A free page (-1: none left), with one reference. */
int kv_page_take(KvCache *k);
void kv_page_share(KvCache *k, int page);
void kv_page_drop(KvCache *k, int page);
/* A private copy of a page (the caller's reference moves to it); the page itself when it is not shared. -1: none left. */
int kv_page_private(KvCache *k, int page);

#endif
