/* Fingerprints of the models that checkpoints stand on. */
#include "checkpoints/base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoints/hash.h"
#include "checkpoints/mapping.h"
#include "checkpoints/seal.h"
#include "core/base/check.h"
#include "data/json.h"

enum { PLACES = 16, SAMPLE = 1 << 16 };

static void add_number(Sha256 *h, uint64_t v)
{
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)(v >> (8 * i));
    sha256_add(h, bytes, sizeof bytes);
}

/* A file as it is mapped: its size, its header, and samples spread evenly from its first to its last byte. */
static void hash_file(const MappedFile *f, char hex[65])
{
    Sha256 *h = sha256_new();
    const char *data = f->data;
    size_t each = f->size < SAMPLE ? f->size : SAMPLE;
    add_number(h, f->size);
    add_number(h, f->header);
    sha256_add(h, data, f->header);
    for (uint64_t i = 0; i < PLACES; i++) sha256_add(h, data + (f->size - each) / (PLACES - 1) * i, each);
    mapping_forget(data, f->size);
    sha256_finish(h, hex);
}

static int compare_hashes(const void *a, const void *b)
{
    return memcmp(a, b, 65);
}

/* The files in the order of their hashes: an index may list them in any. */
static void add_files(Sha256 *h, const LoadedModel *m)
{
    MappedFile f;
    char(*hashes)[65] = NULL;
    size_t n = 0;
    while (m->source ? st_mapped(m->source, n, &f) : gguf_mapped(m->gguf, n, &f)) {
        hashes = realloc(hashes, (n + 1) * sizeof *hashes);
        CHECK(hashes);
        hash_file(&f, hashes[n++]);
    }
    qsort(hashes, n, sizeof *hashes, compare_hashes);
    for (size_t i = 0; i < n; i++) sha256_add(h, hashes[i], 64);
    free(hashes);
}

/* A checkpoint's first bytes hold the hash of all others. */
static bool add_seal(Sha256 *h, const char *path, Status *st)
{
    char seal[SEAL];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : pread(fd, seal, sizeof seal, 0);
    int error = errno;
    if (fd >= 0) close(fd);
    if (n != (ssize_t)sizeof seal)
        return fail(st, "%s cannot be read: %s", path, n < 0 ? strerror(error) : "it is cut");
    sha256_add(h, seal, sizeof seal);
    return true;
}

bool base_of(const LoadedModel *m, ModelBase *out, Status *st)
{
    CHECK(m->origin != MODEL_KNOWN && (m->checkpoint || m->source || m->gguf));
    Sha256 *h = sha256_new();
    bool ok = !m->checkpoint || add_seal(h, m->path, st);
    if (!m->checkpoint) add_files(h, m);
    *out = (ModelBase){.tensors = m->file_tensors};
    sha256_finish(h, out->sha256);
    char *path = realpath(m->path, NULL);
    snprintf(out->path, sizeof out->path, "%s", path ? path : m->path);
    free(path);
    return ok;
}

static bool same_base(const ModelBase *b, const LoadedModel *m, const char *shown, Status *st)
{
    ModelBase found;
    if (!base_of(m, &found, st)) return false;
    if (!strcmp(found.sha256, b->sha256)) return true;
    return fail(st,
                "%s stands on the model that %s was (%lld tensors, fingerprint %.12s..), but %s is another one (%lld "
                "tensors, %.12s..): put it back, or say with --base DIR where it lies now",
                shown, b->path, (long long)b->tensors, b->sha256, found.path, (long long)found.tensors, found.sha256);
}

LoadedModel *base_open(const ModelBase *base, const char *shown, const char *moved, unsigned parts, Status *st)
{
    const char *path = moved ? moved : base->path;
    char stage[4096];
    if (access(path, F_OK) && !model_stage_path(path, stage, sizeof stage)) {
        fail(st, "%s holds only what was trained of %s, and %s is not there: say with --base DIR where it lies now",
             shown, base->path, path);
        return NULL;
    }
    LoadedModel *m = model_open(path, parts, st);
    if (!m) {
        fail_prefix(st, "%s: its base", shown);
        return NULL;
    }
    if (same_base(base, m, shown, st)) return m;
    model_close(m);
    return NULL;
}

char *base_text(const ModelBase *b)
{
    Json *o = json_new_object();
    json_set(o, "path", json_new_text(b->path));
    json_set(o, "tensors", json_new_int(b->tensors));
    json_set(o, "sha256", json_new_text(b->sha256));
    char *text = json_write(o, false);
    CHECK(text);
    json_free(o);
    return text;
}

bool base_parse(const char *text, size_t length, ModelBase *out)
{
    Status ignored = {0};
    Json *o = json_parse(text, length, "base", &ignored);
    const char *path = json_get_string(o, "path", ""), *sha256 = json_get_string(o, "sha256", "");
    bool ok = path[0] && strlen(path) < sizeof out->path && strlen(sha256) == 64 &&
              strspn(sha256, "0123456789abcdef") == 64 && json_is_integer_value(json_get(o, "tensors"));
    if (ok) {
        *out = (ModelBase){.tensors = json_integer(json_get(o, "tensors"))};
        strcpy(out->path, path);
        strcpy(out->sha256, sha256);
    }
    json_free(o);
    return ok;
}
