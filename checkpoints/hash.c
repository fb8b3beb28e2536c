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

void weights_sha256(const ParamTable *t, const float *weights, char hex[65])
{
    Sha256 *h = sha256_new();
    for (int i = 0; i < t->n; i++) {
        const Param *p = &t->params[t->by_name[i]];
        sha256_add(h, p->name, strlen(p->name) + 1);
        sha256_add(h, "F32", 4);
        add_u64(h, (uint64_t)p->ndim);
        add_u64(h, p->rows);
        if (p->ndim == 2) add_u64(h, p->cols);
        sha256_add(h, weights + p->offset, p->count * sizeof *weights);
    }
    sha256_finish(h, hex);
}

const char *hash_library(void)
{
    return OpenSSL_version(OPENSSL_VERSION); /* "OpenSSL 3.0.11 19 Sep 2023" */
}
