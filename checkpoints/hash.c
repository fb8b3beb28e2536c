/* SHA-256 of weights, files and texts. */
#include "checkpoints/hash.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"

struct Sha256 {
    EVP_MD_CTX *context;
};

Sha256 *sha256_new(void)
{
    Sha256 *h = malloc(sizeof *h);
    CHECK(h);
    h->context = EVP_MD_CTX_new();
    CHECK(h->context && EVP_DigestInit_ex(h->context, EVP_sha256(), NULL));
    return h;
}

void sha256_add(Sha256 *h, const void *bytes, size_t n)
{
    CHECK(EVP_DigestUpdate(h->context, bytes, n));
}

void sha256_finish(Sha256 *h, char hex[65])
{
    unsigned char digest[32];
    CHECK(EVP_DigestFinal_ex(h->context, digest, NULL));
    for (int i = 0; i < 32; i++) {
        hex[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    hex[64] = 0;
    EVP_MD_CTX_free(h->context);
    free(h);
}

void sha256_of(const void *bytes, size_t n, char hex[65])
{
    Sha256 *h = sha256_new();
    sha256_add(h, bytes, n);
    sha256_finish(h, hex);
}

static void add_u64(Sha256 *h, uint64_t v)
{
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)(v >> (8 * i));
    sha256_add(h, bytes, sizeof bytes);
}

static void add_head(Sha256 *h, const Param *p)
{
    sha256_add(h, p->name, strlen(p->name) + 1);
    sha256_add(h, "F32", 4);
    add_u64(h, (uint64_t)p->ndim);
    add_u64(h, p->rows);
    if (p->ndim == 2) add_u64(h, p->cols);
}

void weights_sha256(const ParamTable *t, const float *weights, char hex[65])
{
    WeightSource s = block_source(weights);
    Status never = {0};
    CHECK(weights_sha256_of(t, &s, hex, &never));
}

typedef struct Hashing {
    Sha256 *h;
    const Param *p;
} Hashing;

static bool add_rows(void *to, const float *w, size_t row, size_t n, Status *st)
{
    const Hashing *k = to;
    (void)row, (void)st;
    sha256_add(k->h, w, n * k->p->cols * sizeof *w);
    return true;
}

bool weights_sha256_of(const ParamTable *t, const WeightSource *s, char hex[65], Status *st)
{
    Hashing k = {.h = sha256_new()};
    bool ok = true;
    for (int i = 0; ok && i < t->n; i++) {
        k.p = &t->params[t->by_name[i]];
        add_head(k.h, k.p);
        ok = source_rows(s, k.p, add_rows, &k, st);
    }
    sha256_finish(k.h, hex);
    return ok;
}

const char *hash_library(void)
{
    return OpenSSL_version(OPENSSL_VERSION); /* "OpenSSL 3.0.11 19 Sep 2023" */
}
