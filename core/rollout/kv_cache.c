/* Pages of keys and values, counted by who reads them. */
#include "core/rollout/kv_cache.h"

#include <stdlib.h>

#include "core/base/check.h"

const char *cache_kind_name(int k)
{
    static const char *const names[] = {"exact", "latent"};
    return (size_t)k < sizeof names / sizeof *names ? names[k] : NULL;
}

/* Values of one layer of a page, and where its parts begin. */
static size_t layout(const ModelConfig *c, CacheKind kind, size_t *rope_at, size_t *v_at)
{
    size_t tile = KEY_TILE, heads = (size_t)c->Hkv;
    if (kind == CACHE_LATENT) {
        *rope_at = *v_at = 0;
        return tile * (size_t)(c->Rkv + c->Dr);
    }
    size_t rope_heads = c->attention == ATTENTION_MLA ? 1 : heads;
    *rope_at = heads * (size_t)c->Dn * tile;
    *v_at = *rope_at + rope_heads * (size_t)c->Dr * tile;
    return *v_at + heads * tile * (size_t)c->Dv;
}

size_t kv_cache_page_bytes(const ModelConfig *c, CacheKind kind, DType dtype)
{
    size_t rope_at, v_at;
    return layout(c, kind, &rope_at, &v_at) * (size_t)c->L * dtype_size(dtype);
}

size_t kv_cache_token_bytes(const ModelConfig *c, CacheKind kind, DType dtype)
{
    return kv_cache_page_bytes(c, kind, dtype) / KEY_TILE;
}

/* Bytes of a page of this cache. */
static size_t page_bytes(const KvCache *k)
{
    return k->page_values * (size_t)k->layers * dtype_size(k->dtype);
}

size_t kv_cache_bytes(const KvCache *k)
{
    return page_bytes(k) * (size_t)k->n_pages;
}

bool kv_cache_open(KvCache *k, const Engine *e, CacheKind kind, bool drafts, int n_pages, Status *st)
{
    const ModelConfig *c = e->config;
    if (kind == CACHE_LATENT && c->attention != ATTENTION_MLA)
        return fail(st, "--cache latent needs a model with MLA attention; this one is %s: use --cache exact",
                    arch_name(c->arch));
    *k = (KvCache){
        .kind = kind, .config = c, .ops = e->ops, .backend = e->backend, .dtype = e->dtype, .n_pages = n_pages};
    k->page_values = layout(c, kind, &k->rope_at, &k->v_at);
    k->layers = c->L + drafts;
    size_t bytes = page_bytes(k) * (size_t)n_pages;
    k->pages = e->ops->device.alloc(e->backend, bytes);
    k->references = calloc((size_t)n_pages, sizeof *k->references);
    k->free_list = malloc((size_t)n_pages * sizeof *k->free_list);
    if (!k->pages || !k->references || !k->free_list) {
        kv_cache_close(k);
        return fail(st, "no memory for a key/value cache of %zu MB; try fewer sequences at once", bytes >> 20);
    }
    e->ops->fill(e->backend, k->pages, bytes / sizeof(float), 0.0f); /* a page is KEY_TILE rows: even in bf16 */
    for (int i = 0; i < n_pages; i++) k->free_list[k->n_free++] = n_pages - 1 - i;
    return true;
}

void kv_cache_close(KvCache *k)
{
    if (k->pages) k->ops->device.free(k->backend, k->pages);
    free(k->references);
    free(k->free_list);
    *k = (KvCache){0};
}

CacheLayer kv_cache_layer(const KvCache *k, int layer, const int32_t *pages)
{
    char *base = (char *)k->pages + (size_t)layer * k->page_values * dtype_size(k->dtype);
    return (CacheLayer){base,       k->dtype, k->page_values * (size_t)k->layers,
                        k->rope_at, k->v_at,  k->config->attention == ATTENTION_MLA,
                        pages};
}

int kv_page_take(KvCache *k)
{
    if (k->n_free == 0) return -1;
    int page = k->free_list[--k->n_free];
    CHECK_EQ(k->references[page], 0);
    k->references[page] = 1;
    return page;
}

void kv_page_share(KvCache *k, int page)
{
    CHECK(k->references[page] > 0);
    k->references[page]++;
}

void kv_page_drop(KvCache *k, int page)
{
    CHECK(k->references[page] > 0);
    if (--k->references[page] == 0) k->free_list[k->n_free++] = page;
}

int kv_page_private(KvCache *k, int page)
{
    if (k->references[page] == 1) return page;
    int copy = kv_page_take(k);
    if (copy < 0) return -1;
    size_t bytes = page_bytes(k);
    char *pages = k->pages;
    k->ops->device.copy(k->backend, pages + (size_t)copy * bytes, pages + (size_t)page * bytes, bytes);
    kv_page_drop(k, page);
    return copy;
}
