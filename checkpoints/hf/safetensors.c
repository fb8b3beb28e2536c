/* Reading safetensors: headers checked, shards joined, types widened. */
#include "checkpoints/hf/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoints/float16.h"
#include "core/base/check.h"
#include "data/json.h"
#include "data/stand_in.h"

enum { HEADER_LIMIT = 100000000, MAX_DIMS = 8, MAX_SHARDS = 100000 };

static const struct {
    const char *name;
    StDtype dtype;
    unsigned bits;
} dtypes[] = {
    {"F32", ST_F32, 32},
    {"BF16", ST_BF16, 16},
    {"F16", ST_F16, 16},
    {"I32", ST_I32, 32},
    {"I64", ST_I64, 64},
    {"F64", ST_F64, 64},
    {"U8", ST_U8, 8},
    {"BOOL", ST_BOOL, 8},
    {"I8", ST_I8, 8},
    {"I16", ST_I16, 16},
    {"U16", ST_U16, 16},
    {"U32", ST_U32, 32},
    {"U64", ST_U64, 64},
    {"F8_E4M3", ST_F8_E4M3, 8},
    {"F8_E5M2", ST_F8_E5M2, 8},
    {"F8_E8M0", ST_OTHER, 8},
    {"C64", ST_OTHER, 64},
    {"F8_E4M3FNUZ", ST_OTHER, 8},
    {"F8_E5M2FNUZ", ST_OTHER, 8},
    {"F4", ST_OTHER, 4},
    {"F6_E2M3", ST_OTHER, 6},
    {"F6_E3M2", ST_OTHER, 6},
};
enum { DTYPES = sizeof dtypes / sizeof *dtypes };

typedef struct Mapping {
    char *path;
    void *base;
    size_t size;
} Mapping;

struct StFile {
    Mapping *maps;
    size_t nmaps;
    StTensor *tensors; /* by name */
    size_t n, capacity;
};

const char *st_dtype_name(StDtype dtype)
{
    for (int i = 0; i < DTYPES; i++)
        if (dtypes[i].dtype == dtype && dtype != ST_OTHER) return dtypes[i].name;
    return "?";
}

size_t st_dtype_size(StDtype dtype)
{
    for (int i = 0; i < DTYPES; i++)
        if (dtypes[i].dtype == dtype && dtype != ST_OTHER) return dtypes[i].bits / 8;
    return 0;
}

/* ---- One file's header ---- */

/* [begin, end) of data_offsets as non-negative integers. */
static bool parse_offsets(const Json *entry, uint64_t *begin, uint64_t *end)
{
    const Json *offsets = json_get(entry, "data_offsets");
    if (!json_is_array(offsets) || json_count(offsets) != 2) return false;
    for (size_t i = 0; i < 2; i++)
        if (!json_is_integer_value(json_at(offsets, i)) || json_integer(json_at(offsets, i)) < 0) return false;
    *begin = (uint64_t)json_integer(json_at(offsets, 0));
    *end = (uint64_t)json_integer(json_at(offsets, 1));
    return *begin <= *end;
}

/* dtype, shape, count and bytes of one header entry; false when they make no sense. */
static bool parse_shape(const Json *entry, StTensor *t)
{
    const char *name = json_string(json_get(entry, "dtype"), NULL);
    const Json *shape = json_get(entry, "shape");
    int kind = 0;
    while (kind < DTYPES && (!name || strcmp(dtypes[kind].name, name))) kind++;
    if (kind == DTYPES || !json_is_array(shape) || json_count(shape) > MAX_DIMS) return false;
    t->dtype = dtypes[kind].dtype;
    t->ndim = (int)json_count(shape);
    t->count = 1;
    for (int i = 0; i < t->ndim; i++) {
        const Json *dim = json_at(shape, (size_t)i);
        if (!json_is_integer_value(dim) || json_integer(dim) < 0) return false;
        t->shape[i] = (uint64_t)json_integer(dim);
        if (__builtin_mul_overflow(t->count, t->shape[i], &t->count)) return false;
    }
    uint64_t bits;
    if (__builtin_mul_overflow(t->count, (uint64_t)dtypes[kind].bits, &bits) || bits % 8) return false;
    t->bytes = bits / 8;
    return true;
}

static StTensor *add_tensor(StFile *f)
{
    if (f->n == f->capacity) {
        f->capacity = f->capacity ? 2 * f->capacity : 64;
        f->tensors = realloc(f->tensors, f->capacity * sizeof *f->tensors);
        CHECK(f->tensors);
    }
    f->tensors[f->n] = (StTensor){0};
    return &f->tensors[f->n++];
}

static int compare_places(const void *a, const void *b)
{
    const StTensor *s = a, *t = b;
    const char *ps = s->data, *pt = t->data;
    if (ps != pt) return ps < pt ? -1 : 1;
    return (s->bytes > t->bytes) - (s->bytes < t->bytes);
}

/* The tensors must tile the data section: no gap, no overlap, nothing behind the last. */
static bool check_tiling(const StFile *f, size_t first, const char *data, size_t size, const char *path, Status *st)
{
    if (f->n > first) qsort(f->tensors + first, f->n - first, sizeof *f->tensors, compare_places);
    const char *at = data;
    for (size_t i = first; i < f->n; i++) {
        const StTensor *t = &f->tensors[i];
        if (t->data != at)
            return fail(st, "%s: tensor %s leaves a gap or overlaps another: the file is damaged, fetch it again", path,
                        t->name);
        at += t->bytes;
    }
    if (at != data + size)
        return fail(st, "%s: %zu bytes of data belong to no tensor: the file is damaged, fetch it again", path,
                    (size_t)(data + size - at));
    return true;
}

static bool parse_tensors(StFile *f, const Json *header, const char *data, size_t size, const char *path, Status *st)
{
    size_t first = f->n;
    const Json *entry;
    const char *name;
    for (void *cursor = NULL; (name = json_next(header, &cursor, &entry));) {
        if (!strcmp(name, "__metadata__")) {
            if (!json_is_object(entry)) return fail(st, "%s: __metadata__ is no object: the file is damaged", path);
            continue;
        }
        StTensor *t = add_tensor(f);
        t->name = strdup(name);
        CHECK(t->name);
        uint64_t begin, end;
        if (!parse_shape(entry, t) || !parse_offsets(entry, &begin, &end) || end - begin != t->bytes || end > size)
            return fail(st,
                        "%s: dtype, shape and place of tensor %.200s do not fit together or lie outside the file: "
                        "it is truncated or damaged, fetch it again",
                        path, name);
        t->data = data + begin;
    }
    return check_tiling(f, first, data, size, path, st);
}

/* The eight bytes at the front; 0 where there are not so many. */
static uint64_t header_length(const Mapping *m)
{
    uint64_t length = 0;
    const unsigned char *bytes = m->base;
    for (int i = 0; i < 8 && m->size >= 8; i++) length |= (uint64_t)bytes[i] << (8 * i);
    return length;
}

static bool parse_header(StFile *f, const Mapping *m, Status *st)
{
    uint64_t length = header_length(m);
    const unsigned char *bytes = m->base;
    if (m->size < 10 || length < 2 || length > HEADER_LIMIT || length > m->size - 8 || bytes[8] != '{')
        return fail(st, "%s is no safetensors file, or it is truncated: its header length does not fit its size",
                    m->path);
    Json *header = json_parse((const char *)bytes + 8, (size_t)length, m->path, st);
    if (!header) return false;
    bool ok = json_is_object(header) ? parse_tensors(f, header, (const char *)bytes + 8 + length,
                                                     m->size - 8 - (size_t)length, m->path, st)
                                     : fail(st, "%s: its header is no JSON object", m->path);
    json_free(header);
    return ok;
}

static bool map_file(StFile *f, const char *path, Status *st)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat info;
    if (fd < 0 || fstat(fd, &info)) {
        int error = errno;
        if (fd >= 0) close(fd);
        return fail(st, "cannot read %s: %s; check the path", path, strerror(error));
    }
    void *base = S_ISREG(info.st_mode) && info.st_size > 0
                     ? mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0)
                     : MAP_FAILED;
    close(fd);
    if (base == MAP_FAILED) return fail(st, "cannot map %s: it is empty or no regular file", path);
    f->maps = realloc(f->maps, (f->nmaps + 1) * sizeof *f->maps);
    CHECK(f->maps);
    f->maps[f->nmaps++] = (Mapping){strdup(path), base, (size_t)info.st_size};
    return parse_header(f, &f->maps[f->nmaps - 1], st) || stand_in(path, st);
}

/* ---- Shards ---- */

/* Maps the shard and keeps those of its tensors that the index looks for in it. */
static bool map_shard(StFile *f, const char *folder, const char *shard, const Json *weight_map, Status *st)
{
    if (!*shard || strchr(shard, '/') || !strcmp(shard, "..") || !strcmp(shard, "."))
        return fail(st, "%s: the index names a shard outside the folder: %.200s", folder, shard);
    char path[8192];
    snprintf(path, sizeof path, "%s/%s", folder, shard);
    size_t first = f->n, kept = first;
    if (!map_file(f, path, st)) return false;
    for (size_t i = first; i < f->n; i++) {
        const char *home = json_string(json_get(weight_map, f->tensors[i].name), NULL);
        if (home && !strcmp(home, shard)) f->tensors[kept++] = f->tensors[i];
        else free((char *)f->tensors[i].name);
    }
    f->n = kept;
    return true;
}

static bool map_shards(StFile *f, const char *folder, const Json *weight_map, Status *st)
{
    const char **seen = NULL;
    size_t nseen = 0;
    bool ok = true;
    const Json *value;
    const char *name;
    for (void *cursor = NULL; ok && (name = json_next(weight_map, &cursor, &value));) {
        const char *shard = json_string(value, NULL);
        size_t s = nseen;
        while (shard && s > 0 && strcmp(seen[s - 1], shard)) s--; /* neighbours share a shard: the latest first */
        if (!shard || nseen == MAX_SHARDS) ok = fail(st, "%s: the index has no file name for %.200s", folder, name);
        if (!ok || s > 0) continue;
        seen = realloc(seen, (nseen + 1) * sizeof *seen);
        CHECK(seen);
        seen[nseen++] = shard;
        ok = map_shard(f, folder, shard, weight_map, st);
    }
    free(seen);
    return ok;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const StTensor *)a)->name, ((const StTensor *)b)->name);
}

static bool check_complete(const StFile *f, const char *folder, const Json *weight_map, Status *st)
{
    const Json *value;
    const char *name;
    for (void *cursor = NULL; f->n != json_count(weight_map) && (name = json_next(weight_map, &cursor, &value));) {
        if (!st_find(f, name))
            return fail(st, "%s: the index looks for %.200s in %.200s, which does not hold it: fetch the shard again",
                        folder, name, json_string(value, NULL));
    }
    return true;
}

/* An index that names other files than the model.safetensors beside it is left over from another save, or that file is: which of
 * them is the model cannot be known. */
static bool one_claimant(const char *folder, const Json *weight_map, Status *st)
{
    char single[8192];
    const Json *value;
    const char *name;
    snprintf(single, sizeof single, "%s/model.safetensors", folder);
    if (access(single, F_OK)) return true;
    for (void *cursor = NULL; (name = json_next(weight_map, &cursor, &value));) {
        const char *shard = json_string(value, NULL);
        if (shard && strcmp(shard, "model.safetensors"))
            return fail(
                st,
                "%s holds model.safetensors and a model.safetensors.index.json that names other files (%.100s): two "
                "models; remove the one that is left over from an earlier save",
                folder, shard);
    }
    return true;
}

static bool open_folder(StFile *f, const char *folder, Status *st)
{
    char path[8192];
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", folder);
    if (access(path, F_OK)) {
        snprintf(path, sizeof path, "%s/model.safetensors", folder);
        if (access(path, F_OK))
            return fail(st,
                        "%s holds neither model.safetensors nor model.safetensors.index.json: is it a model folder?",
                        folder);
        bool ok = map_file(f, path, st);
        if (ok && f->n) qsort(f->tensors, f->n, sizeof *f->tensors, compare_names);
        return ok;
    }
    Json *index = json_read(path, st);
    if (!index) return false;
    const Json *weight_map = json_get(index, "weight_map");
    bool ok = json_is_object(weight_map) ? one_claimant(folder, weight_map, st) && map_shards(f, folder, weight_map, st)
                                         : fail(st, "%s has no weight_map object", path);
    if (ok) {
        if (f->n) qsort(f->tensors, f->n, sizeof *f->tensors, compare_names);
        ok = check_complete(f, folder, weight_map, st);
    }
    json_free(index);
    return ok;
}

/* ---- Opening, looking, reading ---- */

StFile *st_open(const char *path, Status *st)
{
    StFile *f = calloc(1, sizeof *f);
    CHECK(f);
    struct stat info;
    bool ok;
    if (strlen(path) > 4096) ok = fail(st, "path %.60s... is too long", path);
    else if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) ok = open_folder(f, path, st);
    else {
        ok = map_file(f, path, st);
        if (f->n) qsort(f->tensors, f->n, sizeof *f->tensors, compare_names);
    }
    if (ok) return f;
    st_close(f);
    return NULL;
}

void st_close(StFile *f)
{
    if (!f) return;
    for (size_t i = 0; i < f->n; i++) free((char *)f->tensors[i].name);
    for (size_t i = 0; i < f->nmaps; i++) {
        munmap(f->maps[i].base, f->maps[i].size);
        free(f->maps[i].path);
    }
    free(f->tensors);
    free(f->maps);
    free(f);
}

size_t st_count(const StFile *f)
{
    return f->n;
}

const StTensor *st_at(const StFile *f, size_t i)
{
    CHECK(i < f->n);
    return &f->tensors[i];
}

const StTensor *st_find(const StFile *f, const char *name)
{
    StTensor key = {.name = name};
    return f->n ? bsearch(&key, f->tensors, f->n, sizeof *f->tensors, compare_names) : NULL;
}

bool st_mapped(const StFile *f, size_t i, MappedFile *out)
{
    if (i >= f->nmaps) return false;
    *out = (MappedFile){f->maps[i].base, f->maps[i].size, 8 + (size_t)header_length(&f->maps[i])};
    return true;
}

static const Mapping *map_of(const StFile *f, const StTensor *t)
{
    const char *p = t->data;
    size_t i = 0;
    while (i < f->nmaps && (p < (char *)f->maps[i].base || p >= (char *)f->maps[i].base + f->maps[i].size)) i++;
    CHECK(i < f->nmaps);
    return &f->maps[i];
}

const char *st_place(const StFile *f, const StTensor *t, uint64_t *offset)
{
    const Mapping *m = map_of(f, t);
    *offset = (uint64_t)((const char *)t->data - (char *)m->base);
    return m->path;
}

void st_forget(const StFile *f, const StTensor *t, uint64_t from, uint64_t n)
{
    const Mapping *m = map_of(f, t);
    mapping_forget_part(m->base, m->size, (size_t)((const char *)t->data - (char *)m->base) + from, n);
}

/* E4M3 without infinities: exponent bias 7, 0x7f is NaN. */
static float f32_of_e4m3(uint8_t b)
{
    uint32_t sign = (uint32_t)(b & 0x80) << 24, rest = b & 0x7f;
    if (rest == 0x7f) return f32_of_bits(sign | 0x7fc00000);
    return f32_of_bits(sign | bits_of_f32(f32_of_bits(rest << 20) * 0x1p120f));
}

bool st_read_f32(const StTensor *t, float *out, Status *st)
{
    return st_read_f32_part(t, 0, t->count, out, st);
}

bool st_read_f32_part(const StTensor *t, uint64_t from, uint64_t n, float *out, Status *st)
{
    CHECK(from <= t->count && n <= t->count - from);
    const char *p = (const char *)t->data + from * st_dtype_size(t->dtype);
    uint16_t half;
    double wide;
    switch (t->dtype) {
    case ST_F32: memcpy(out, p, n * sizeof *out); return true;
    case ST_BF16:
        for (uint64_t i = 0; i < n; i++) memcpy(&half, p + 2 * i, 2), out[i] = f32_of_bf16(half);
        return true;
    case ST_F16:
        for (uint64_t i = 0; i < n; i++) memcpy(&half, p + 2 * i, 2), out[i] = f32_of_f16(half);
        return true;
    case ST_F64:
        for (uint64_t i = 0; i < n; i++) memcpy(&wide, p + 8 * i, 8), out[i] = (float)wide;
        return true;
    case ST_F8_E4M3:
        for (uint64_t i = 0; i < n; i++) out[i] = f32_of_e4m3((uint8_t)p[i]);
        return true;
    default:
        return fail(st, "tensor %.200s has dtype %s, not a float type that is read here", t->name,
                    st_dtype_name(t->dtype));
    }
}
