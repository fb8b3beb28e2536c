/* Writes a safetensors file: every tensor declared, then its data. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/durable.h"
#include "checkpoints/float16.h"
#include "checkpoints/hf/safetensors.h"
#include "core/base/check.h"
#include "data/json.h"

enum { CHUNK = 1 << 16 }; /* elements converted at a time */

typedef struct Entry {
    char *name;
    StDtype dtype;
    int ndim;
    uint64_t shape[8], count, offset;
    uint64_t written; /* elements */
    bool whole;
} Entry;

struct StWriter {
    Durable file;
    int fd;
    Entry *entries;
    size_t n, capacity;
    char *metadata; /* as JSON, "" without */
    bool laid_out, failed;
    uint64_t data_at;
};

/* The reference implementation's order of dtypes: the widest first, so that each tensor is aligned. */
static const StDtype order[] = {ST_U64, ST_I64, ST_F64,     ST_F32,     ST_U32, ST_I32, ST_BF16, ST_F16,
                                ST_U16, ST_I16, ST_F8_E4M3, ST_F8_E5M2, ST_I8,  ST_U8,  ST_BOOL};

static int rank_of(StDtype dtype)
{
    int i = 0;
    while (order[i] != dtype) i++;
    return i;
}

static int compare_entries(const void *a, const void *b)
{
    const Entry *s = a, *t = b;
    int rs = rank_of(s->dtype), rt = rank_of(t->dtype);
    return rs != rt ? rs - rt : strcmp(s->name, t->name);
}

static char *quoted(const char *text)
{
    Json *v = json_new_text(text);
    char *json = json_write(v, false);
    CHECK(json);
    json_free(v);
    return json;
}

StWriter *st_writer_open(const char *path, Status *st)
{
    StWriter *w = calloc(1, sizeof *w);
    CHECK(w);
    if (!durable_begin(&w->file, path, st)) {
        free(w);
        return NULL;
    }
    w->fd = open(w->file.temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (w->fd < 0) {
        durable_fail(path, errno, st);
        free(w);
        return NULL;
    }
    w->metadata = strdup("");
    CHECK(w->metadata);
    return w;
}

void st_writer_metadata(StWriter *w, const char *key, const char *value)
{
    CHECK(!w->laid_out && !*w->metadata);
    free(w->metadata);
    char *k = quoted(key), *v = quoted(value);
    CHECK(asprintf(&w->metadata, "\"__metadata__\":{%s:%s}", k, v) > 0);
    free(k);
    free(v);
}

void st_writer_add(StWriter *w, const char *name, StDtype dtype, int ndim, const uint64_t *shape)
{
    CHECK(!w->laid_out && dtype != ST_OTHER && ndim >= 0 && ndim <= 8);
    if (w->n == w->capacity) {
        w->capacity = w->capacity ? 2 * w->capacity : 64;
        w->entries = realloc(w->entries, w->capacity * sizeof *w->entries);
        CHECK(w->entries);
    }
    Entry *e = &w->entries[w->n++];
    *e = (Entry){.name = strdup(name), .dtype = dtype, .ndim = ndim, .count = 1};
    CHECK(e->name);
    for (int i = 0; i < ndim; i++) e->shape[i] = shape[i], e->count *= shape[i];
}

static void print_entry(FILE *out, const Entry *e)
{
    char *name = quoted(e->name);
    fprintf(out, "%s:{\"dtype\":\"%s\",\"shape\":[", name, st_dtype_name(e->dtype));
    for (int i = 0; i < e->ndim; i++) fprintf(out, "%s%llu", i ? "," : "", (unsigned long long)e->shape[i]);
    fprintf(out, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)e->offset,
            (unsigned long long)(e->offset + e->count * st_dtype_size(e->dtype)));
    free(name);
}

/* The header is written as soon as the list of tensors is complete; 8 bytes of length, then JSON padded to a multiple
 * of 8. */
static bool lay_out(StWriter *w, Status *st)
{
    qsort(w->entries, w->n, sizeof *w->entries, compare_entries);
    uint64_t offset = 0;
    char *header = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&header, &length);
    CHECK(out);
    fprintf(out, "%8s{%s", "", w->metadata);
    for (size_t i = 0; i < w->n; i++) {
        Entry *e = &w->entries[i];
        CHECK(i == 0 || strcmp(w->entries[i - 1].name, e->name));
        e->offset = offset;
        offset += e->count * st_dtype_size(e->dtype);
        if (i || *w->metadata) fputc(',', out);
        print_entry(out, e);
    }
    fputc('}', out);
    fflush(out);
    for (size_t pad = (8 - length % 8) % 8; pad; pad--) fputc(' ', out);
    CHECK(fclose(out) == 0);
    for (int i = 0; i < 8; i++) header[i] = (char)((length - 8) >> (8 * i));
    w->laid_out = true;
    w->data_at = length;
    bool ok = durable_write_at(w->fd, header, length, 0, w->file.path, st);
    free(header);
    return ok;
}

static Entry *find_entry(StWriter *w, const char *name)
{
    Entry key = {.name = (char *)name}, *found = NULL;
    for (size_t i = 0; !found && w->n && i < sizeof order / sizeof *order; i++) {
        key.dtype = order[i];
        found = bsearch(&key, w->entries, w->n, sizeof key, compare_entries);
    }
    return found;
}

/* The entry that elements [from, from + n) are written of; NULL after a failure. */
static Entry *go_on(StWriter *w, const char *name, uint64_t from, uint64_t n, Status *st)
{
    if (!w->laid_out && !lay_out(w, st)) w->failed = true;
    Entry *e = find_entry(w, name);
    CHECK(e && !e->whole && e->written == from && n <= e->count - from);
    e->written = from + n;
    e->whole = e->written == e->count;
    return w->failed ? NULL : e;
}

static bool write_halves(StWriter *w, const Entry *e, uint64_t start, uint64_t count, const float *data, Status *st)
{
    uint16_t buffer[CHUNK];
    for (uint64_t from = 0; from < count; from += CHUNK) {
        size_t n = count - from < CHUNK ? (size_t)(count - from) : CHUNK;
        if (e->dtype == ST_BF16)
            for (size_t i = 0; i < n; i++) buffer[i] = bf16_of_f32(data[from + i]);
        else
            for (size_t i = 0; i < n; i++) buffer[i] = f16_of_f32(data[from + i]);
        uint64_t at = w->data_at + e->offset + 2 * (start + from);
        if (!durable_write_at(w->fd, buffer, 2 * n, at, w->file.path, st)) return false;
    }
    return true;
}

bool st_writer_part(StWriter *w, const char *name, uint64_t from, uint64_t n, const void *data, Status *st)
{
    Entry *e = go_on(w, name, from, n, st);
    if (!e) return false;
    CHECK(e->dtype == ST_F32 || e->dtype == ST_I32 || e->dtype == ST_BF16 || e->dtype == ST_F16);
    bool ok = e->dtype == ST_BF16 || e->dtype == ST_F16
                  ? write_halves(w, e, from, n, data, st)
                  : durable_write_at(w->fd, data, n * 4, w->data_at + e->offset + 4 * from, w->file.path, st);
    if (!ok) w->failed = true;
    return ok;
}

static uint64_t count_of(StWriter *w, const char *name, Status *st)
{
    if (!w->laid_out && !lay_out(w, st)) w->failed = true;
    const Entry *e = find_entry(w, name);
    CHECK(e);
    return e->count;
}

bool st_writer_data(StWriter *w, const char *name, const void *data, Status *st)
{
    return st_writer_part(w, name, 0, count_of(w, name, st), data, st);
}

bool st_writer_raw(StWriter *w, const char *name, const void *bytes, Status *st)
{
    Entry *e = go_on(w, name, 0, count_of(w, name, st), st);
    if (!e) return false;
    size_t size = e->count * st_dtype_size(e->dtype);
    bool ok = durable_write_at(w->fd, bytes, size, w->data_at + e->offset, w->file.path, st);
    if (!ok) w->failed = true;
    return ok;
}

static void free_writer(StWriter *w)
{
    for (size_t i = 0; i < w->n; i++) free(w->entries[i].name);
    free(w->entries);
    free(w->metadata);
    free(w);
}

void st_writer_abandon(StWriter *w)
{
    if (!w) return;
    close(w->fd);
    durable_abandon(&w->file);
    free_writer(w);
}

bool st_writer_close(StWriter *w, Status *st)
{
    if (!w->laid_out && !lay_out(w, st)) w->failed = true;
    bool ok = !w->failed;
    for (size_t i = 0; ok && i < w->n; i++)
        if (!w->entries[i].whole)
            ok = fail(st, "%s: tensor %.200s was announced but never written", w->file.path, w->entries[i].name);
    if (!ok) {
        st_writer_abandon(w);
        return false;
    }
    if (close(w->fd)) ok = durable_fail(w->file.path, errno, st);
    ok = ok && durable_commit(&w->file, st);
    if (!ok) durable_abandon(&w->file);
    free_writer(w);
    return ok;
}
