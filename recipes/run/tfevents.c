/* TensorBoard event files: protocol buffers of scalars, framed with CRC-32C. */
#include "recipes/run/tfevents.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/base/check.h"

static const char prefix[] = "events.out.tfevents.";

struct EventWriter {
    FILE *file;
    char *path;
    EventBytes record;
};

uint32_t crc32c(const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
    }
    return ~crc;
}

static uint32_t masked_crc(const void *bytes, size_t n)
{
    uint32_t crc = crc32c(bytes, n);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

/* ---- Protocol buffers, as far as scalars need them ---- */

static void put(EventBytes *b, const void *bytes, size_t n)
{
    if (b->n + n > b->capacity) {
        b->capacity = 2 * (b->n + n) + 64;
        b->data = realloc(b->data, b->capacity);
        CHECK(b->data);
    }
    if (n) memcpy(b->data + b->n, bytes, n);
    b->n += n;
}

static void put_varint(EventBytes *b, uint64_t v)
{
    unsigned char bytes[10];
    size_t n = 0;
    for (; v >= 128; v >>= 7) bytes[n++] = (unsigned char)(v | 128);
    bytes[n++] = (unsigned char)v;
    put(b, bytes, n);
}

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

static void put_tag(EventBytes *b, unsigned field, unsigned wire)
{
    put_varint(b, field << 3 | wire);
}

static void put_bytes(EventBytes *b, unsigned field, const void *bytes, size_t n)
{
    put_tag(b, field, WIRE_BYTES);
    put_varint(b, n);
    put(b, bytes, n);
}

/* Length, its masked CRC, the message, its masked CRC. Little-endian machines only, as every format here. */
static void put_record(EventBytes *out, const EventBytes *message)
{
    uint64_t length = message->n;
    uint32_t crc = masked_crc(&length, sizeof length);
    put(out, &length, sizeof length);
    put(out, &crc, sizeof crc);
    put(out, message->data, message->n);
    crc = masked_crc(message->data, message->n);
    put(out, &crc, sizeof crc);
}

static void put_wall(EventBytes *message, double wall)
{
    put_tag(message, 1, WIRE_64);
    put(message, &wall, sizeof wall);
}

void event_append_version(EventBytes *out, double wall)
{
    static const char version[] = "brain.Event:2";
    EventBytes message = {0};
    put_wall(&message, wall);
    put_bytes(&message, 3, version, sizeof version - 1);
    put_record(out, &message);
    free(message.data);
}

void event_append_scalars(EventBytes *out, double wall, int64_t step, const char *const *tags, const float *values,
                          int n)
{
    EventBytes message = {0}, summary = {0}, value = {0};
    put_wall(&message, wall);
    if (step) { /* proto3 leaves zeros out */
        put_tag(&message, 2, WIRE_VARINT);
        put_varint(&message, (uint64_t)step);
    }
    for (int i = 0; i < n; i++) {
        value.n = 0;
        put_bytes(&value, 1, tags[i], strlen(tags[i]));
        put_tag(&value, 2, WIRE_32);
        put(&value, &values[i], sizeof values[i]);
        put_bytes(&summary, 1, value.data, value.n);
    }
    put_bytes(&message, 5, summary.data, summary.n);
    put_record(out, &message);
    free(message.data);
    free(summary.data);
    free(value.data);
}

/* ---- Files ---- */

static bool write_record(EventWriter *w, Status *st)
{
    bool ok = fwrite(w->record.data, 1, w->record.n, w->file) == w->record.n && !fflush(w->file);
    w->record.n = 0;
    return ok ? true
              : fail(st, "cannot write %s: %s; free some space and run again to resume", w->path, strerror(errno));
}

EventWriter *events_open(const char *folder, Status *st)
{
    EventWriter *w = calloc(1, sizeof *w);
    CHECK(w);
    time_t now = time(NULL);
    for (int i = 0; i < 1000 && !w->file; i++) {
        free(w->path);
        CHECK(asprintf(&w->path, "%s/%s%010lld.r1.%ld.%d", folder, prefix, (long long)now, (long)getpid(), i) > 0);
        w->file = fopen(w->path, "wbx");
        if (!w->file && errno != EEXIST) break;
    }
    if (!w->file) fail(st, "cannot create %s: %s", w->path, strerror(errno));
    else {
        event_append_version(&w->record, (double)now);
        if (write_record(w, st)) return w;
    }
    events_close(w);
    return NULL;
}

bool events_scalars(EventWriter *w, double wall, int64_t step, const char *const *tags, const float *values, int n,
                    Status *st)
{
    event_append_scalars(&w->record, wall, step, tags, values, n);
    return write_record(w, st);
}

void events_close(EventWriter *w)
{
    if (!w) return;
    if (w->file) fclose(w->file);
    free(w->path);
    free(w->record.data);
    free(w);
}

bool events_remove(const char *folder, Status *st)
{
    DIR *d = opendir(folder);
    if (!d) return fail(st, "cannot read folder %s: %s", folder, strerror(errno));
    bool ok = true;
    for (struct dirent *e; ok && (e = readdir(d));) {
        if (strncmp(e->d_name, prefix, sizeof prefix - 1)) continue;
        if (unlinkat(dirfd(d), e->d_name, 0))
            ok = fail(st, "cannot remove %s/%s: %s", folder, e->d_name, strerror(errno));
    }
    closedir(d);
    return ok;
}
