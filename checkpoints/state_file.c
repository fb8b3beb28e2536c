/* Records in two places, and the manifest that says which of them holds. */
#include "checkpoints/state_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/base/check.h"
#include "core/base/clock.h"
#include "core/base/durable.h"

enum { FORMAT_VERSION = 1, VERIFY_BYTES = 4 << 20 };

/* Where a record is, and what must be there. */
typedef struct Saved {
    int place; /* 0, 1; -1: it was never written */
    uint64_t sum[STATE_PLANES];
} Saved;

struct StateFile {
    char *records, *manifest, *previous; /* paths */
    StateRecord *list;
    int n;
    uint64_t *at; /* [n] where a record's first place begins */
    uint64_t layout;
    int fd;
    bool direct, broken;
    Saved *now, *committed; /* [n] */
    Json *about;
    int64_t generation;
    StateCounts counts;
};

static size_t pages(size_t bytes)
{
    return (bytes + STATE_PAGE - 1) / STATE_PAGE * STATE_PAGE;
}

static size_t place_bytes(const StateRecord *r)
{
    return pages(r->bytes[STATE_WEIGHTS]) + pages(r->bytes[STATE_MOMENTS]);
}

uint64_t state_file_size(const StateRecord *records, int n)
{
    uint64_t bytes = 0;
    for (int i = 0; i < n; i++) bytes += 2 * (uint64_t)place_bytes(&records[i]);
    return bytes;
}

static uint64_t plane_at(const StateFile *f, int record, int plane, int place)
{
    const StateRecord *r = &f->list[record];
    return f->at[record] + (uint64_t)place * place_bytes(r) + (plane == STATE_MOMENTS ? pages(r->bytes[0]) : 0);
}

static char *path_with(const char *path, const char *suffix)
{
    char *out = NULL;
    CHECK(asprintf(&out, "%s%s", path, suffix) > 0);
    return out;
}

/* ---- Opening ---- */

static bool fail_space(const StateFile *f, uint64_t need, int error, Status *st)
{
    struct statvfs fs;
    if (error != ENOSPC || fstatvfs(f->fd, &fs)) return durable_fail(f->records, error, st);
    return fail(st, "%s needs %.3g GB, and %.3g GB are free there; free some space or choose another folder",
                f->records, (double)need / 1e9, (double)fs.f_bavail * (double)fs.f_frsize / 1e9);
}

static bool reserve(StateFile *f, Status *st)
{
    uint64_t need = state_file_size(f->list, f->n);
    struct stat was;
    if (fstat(f->fd, &was)) return durable_fail(f->records, errno, st);
    if (!need || (uint64_t)was.st_size == need) return true;
    int error = posix_fallocate(f->fd, 0, (off_t)need);
    if (!error) return true;
    bool ok = fail_space(f, need, error, st);
    if (!was.st_size) unlink(f->records);
    return ok;
}

static bool open_records(StateFile *f, Status *st)
{
    f->fd = open(f->records, O_RDWR | O_CREAT | O_CLOEXEC | O_DIRECT, 0666);
    f->direct = f->fd >= 0;
    if (f->fd < 0 && errno == EINVAL) f->fd = open(f->records, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (f->fd < 0) return durable_fail(f->records, errno, st);
    if (flock(f->fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)
        return fail(st, "%s is in use by another process; wait for it, or choose another folder", f->records);
    return true;
}

static uint64_t layout_of(const StateRecord *list, int n)
{
    XXH3_state_t *h = XXH3_createState();
    CHECK(h);
    XXH3_64bits_reset(h);
    for (int i = 0; i < n; i++) {
        XXH3_64bits_update(h, list[i].name, strlen(list[i].name) + 1);
        XXH3_64bits_update(h, list[i].bytes, sizeof list[i].bytes);
    }
    uint64_t sum = XXH3_64bits_digest(h);
    XXH3_freeState(h);
    return sum;
}

/* ---- The manifest ---- */

static Json *hex_of(uint64_t sum)
{
    char text[17];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)sum);
    return json_new_text(text);
}

static uint64_t from_hex(const Json *v)
{
    const char *text = json_string(v, NULL);
    return text ? strtoull(text, NULL, 16) : 0;
}

static uint64_t sum_of_json(const Json *v)
{
    char *text = json_write(v, false);
    CHECK(text);
    uint64_t sum = XXH3_64bits(text, strlen(text));
    free(text);
    return sum;
}

/* {"xxh3": checksum of "state" as one line, "state": {...}} */
static Json *manifest_of(const StateFile *f, const Saved *saved, int64_t generation, const Json *about)
{
    Json *outer = json_new_object(), *state = json_new_object(), *list = json_new_array();
    json_set(state, "format", json_new_text("r1 state"));
    json_set(state, "version", json_new_int(FORMAT_VERSION));
    json_set(state, "generation", json_new_int(generation));
    json_set(state, "layout", hex_of(f->layout));
    json_set(state, "about", json_copy(about));
    for (int i = 0; i < f->n; i++) {
        Json *r = json_new_object(), *sums = json_new_array();
        json_set(r, "part", json_new_text(f->list[i].name));
        json_set(r, "place", json_new_int(saved[i].place));
        json_set(r, "at", json_new_int((int64_t)plane_at(f, i, STATE_WEIGHTS, saved[i].place > 0)));
        for (int k = 0; k < STATE_PLANES; k++) json_append(sums, hex_of(saved[i].sum[k]));
        json_set(r, "xxh3", sums);
        json_append(list, r);
    }
    json_set(state, "records", list);
    json_set(outer, "xxh3", hex_of(sum_of_json(state)));
    json_set(outer, "state", state);
    return outer;
}

static bool take_records(StateFile *f, const Json *list)
{
    if ((int)json_count(list) != f->n) return false;
    for (int i = 0; i < f->n; i++) {
        const Json *r = json_at(list, (size_t)i);
        int64_t place = json_integer(json_get(r, "place"));
        if (place < -1 || place > 1) return false;
        f->now[i].place = (int)place;
        for (int k = 0; k < STATE_PLANES; k++) f->now[i].sum[k] = from_hex(json_at(json_get(r, "xxh3"), (size_t)k));
    }
    memcpy(f->committed, f->now, (size_t)f->n * sizeof *f->now);
    return true;
}

static bool take_manifest(StateFile *f, const char *path, Status *st)
{
    Json *outer = json_read(path, st);
    if (!outer) return false;
    const Json *state = json_get(outer, "state");
    const char *format = json_get_string(state, "format", "");
    bool ok = true;
    if (!json_is_object(state) || strcmp(format, "r1 state") || from_hex(json_get(outer, "xxh3")) != sum_of_json(state))
        ok = fail(st, "%s is not what was written: the disk or something else changed it", path);
    else if (json_integer(json_get(state, "version")) != FORMAT_VERSION)
        ok = fail(st, "%s was written by another version of this program", path);
    else if (from_hex(json_get(state, "layout")) != f->layout || !take_records(f, json_get(state, "records")))
        ok = fail(st,
                  "%s is the state of other parts than this run trains, or of moments stored in another form: choose "
                  "another folder, or take it away",
                  path);
    if (ok) {
        json_free(f->about);
        f->about = json_copy(json_get(state, "about"));
        f->generation = json_integer(json_get(state, "generation"));
    }
    json_free(outer);
    return ok;
}

/* The one before becomes the newest. */
static bool go_back(StateFile *f, Status *st)
{
    Json *text = NULL;
    bool ok = take_manifest(f, f->previous, st) && (text = json_read(f->previous, st)) &&
              json_write_file(text, f->manifest, st);
    json_free(text);
    return ok;
}

static bool find_manifest(StateFile *f, Status *st)
{
    bool newest = !access(f->manifest, F_OK), before = !access(f->previous, F_OK);
    if (!newest && !before) return true;
    Status why = {0};
    if (newest && take_manifest(f, f->manifest, &why)) return true;
    if (before && go_back(f, st)) return true;
    status_clear(st);
    return fail(st, "%s", newest ? why.text : f->manifest);
}

StateFile *state_file_open(const char *path, const StateRecord *records, int n, Status *st)
{
    StateFile *f = calloc(1, sizeof *f);
    CHECK(f);
    *f = (StateFile){.records = path_with(path, ".records"),
                     .manifest = path_with(path, ".json"),
                     .previous = path_with(path, ".previous.json"),
                     .n = n,
                     .layout = layout_of(records, n),
                     .fd = -1};
    size_t count = n ? (size_t)n : 1;
    f->list = calloc(count, sizeof *f->list);
    f->at = calloc(count, sizeof *f->at);
    f->now = calloc(count, sizeof *f->now);
    f->committed = calloc(count, sizeof *f->committed);
    CHECK(f->list && f->at && f->now && f->committed);
    uint64_t at = 0;
    for (int i = 0; i < n; i++) {
        f->list[i] = records[i];
        f->at[i] = at;
        f->now[i].place = f->committed[i].place = -1;
        at += 2 * (uint64_t)place_bytes(&records[i]);
    }
    if (open_records(f, st) && find_manifest(f, st) && reserve(f, st)) return f;
    state_file_close(f);
    return NULL;
}

void state_file_close(StateFile *f)
{
    if (!f) return;
    if (f->fd >= 0) close(f->fd);
    json_free(f->about);
    free(f->records);
    free(f->manifest);
    free(f->previous);
    free(f->list);
    free(f->at);
    free(f->now);
    free(f->committed);
    free(f);
}

void state_file_remove(const char *path)
{
    static const char *const suffixes[] = {".json", ".previous.json", ".records"};
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        char *name = path_with(path, suffixes[i]);
        unlink(name);
        durable_sweep(name);
        free(name);
    }
}

const Json *state_file_about(const StateFile *f)
{
    return f->about;
}

bool state_file_has(const StateFile *f, int record)
{
    return f->now[record].place >= 0;
}

StateCounts state_file_counts(const StateFile *f)
{
    return f->counts;
}

/* ---- Records ---- */

/* Some file systems open past the page cache and then refuse to work so. */
static bool leave_direct(StateFile *f, int error)
{
    int flags = fcntl(f->fd, F_GETFL);
    bool left = f->direct && error == EINVAL && !fcntl(f->fd, F_SETFL, flags & ~O_DIRECT);
    if (left) f->direct = false;
    return left;
}

static bool read_run(StateFile *f, void *to, size_t bytes, uint64_t at, Status *st)
{
    double start = clock_seconds();
    for (size_t done = 0; done < bytes;) {
        ssize_t n = pread(f->fd, (char *)to + done, bytes - done, (off_t)(at + done));
        if (n < 0 && (errno == EINTR || leave_direct(f, errno))) continue;
        if (n <= 0)
            return fail(st, "%s: reading at byte %llu: %s", f->records, (unsigned long long)(at + done),
                        n < 0 ? strerror(errno) : "the file ends there, it was cut");
        done += (size_t)n;
    }
    f->counts.read += bytes;
    f->counts.seconds += clock_seconds() - start;
    return true;
}

static bool write_run(StateFile *f, const void *from, size_t bytes, uint64_t at, Status *st)
{
    double start = clock_seconds();
    for (size_t done = 0; done < bytes;) {
        ssize_t n = pwrite(f->fd, (const char *)from + done, bytes - done, (off_t)(at + done));
        if (n < 0 && (errno == EINTR || leave_direct(f, errno))) continue;
        if (n <= 0) return durable_fail(f->records, n < 0 ? errno : EIO, st);
        done += (size_t)n;
    }
    f->counts.written += bytes;
    f->counts.seconds += clock_seconds() - start;
    return true;
}

static bool fail_sum(const StateFile *f, int record, int plane, Status *st)
{
    return fail(st, "%s: the %s of %s are not what was written: the disk or something else changed them", f->records,
                plane == STATE_WEIGHTS ? "weights" : "moments", f->list[record].name);
}

bool state_file_read(StateFile *f, int record, int plane, void *out, Status *st)
{
    size_t bytes = f->list[record].bytes[plane];
    const Saved *s = &f->now[record];
    if (s->place < 0) {
        memset(out, 0, bytes);
        return true;
    }
    return read_run(f, out, pages(bytes), plane_at(f, record, plane, s->place), st) &&
           (XXH3_64bits(out, bytes) == s->sum[plane] || fail_sum(f, record, plane, st));
}

bool state_file_write(StateFile *f, int record, const void *const planes[STATE_PLANES], Status *st)
{
    Saved saved = {.place = f->committed[record].place == 0 ? 1 : 0};
    for (int k = 0; k < STATE_PLANES; k++) {
        size_t bytes = f->list[record].bytes[k];
        saved.sum[k] = bytes ? XXH3_64bits(planes[k], bytes) : 0;
        if (!bytes || write_run(f, planes[k], pages(bytes), plane_at(f, record, k, saved.place), st)) continue;
        f->broken = true;
        return false;
    }
    f->now[record] = saved;
    return true;
}

bool state_file_commit(StateFile *f, Json *about, Status *st)
{
    bool ok = !f->broken || fail(st, "%s: a write failed, so this step is not kept", f->records);
    if (ok && fdatasync(f->fd)) ok = durable_fail(f->records, errno, st);
    Json *text = ok ? manifest_of(f, f->now, f->generation + 1, about) : NULL;
    if (ok && rename(f->manifest, f->previous) && errno != ENOENT) ok = durable_fail(f->previous, errno, st);
    ok = ok && json_write_file(text, f->manifest, st);
    json_free(text);
    if (!ok) {
        f->broken = true;
        json_free(about);
        return false;
    }
    json_free(f->about);
    f->about = about;
    f->generation++;
    memcpy(f->committed, f->now, (size_t)f->n * sizeof *f->now);
    return true;
}

/* ---- Verifying ---- */

static bool verify_plane(StateFile *f, int record, int plane, void *buffer, Status *st)
{
    size_t bytes = f->list[record].bytes[plane];
    uint64_t at = plane_at(f, record, plane, f->now[record].place);
    XXH3_state_t *h = XXH3_createState();
    CHECK(h);
    XXH3_64bits_reset(h);
    bool ok = true;
    for (size_t done = 0; ok && done < bytes; done += VERIFY_BYTES) {
        size_t n = bytes - done < VERIFY_BYTES ? bytes - done : VERIFY_BYTES;
        ok = read_run(f, buffer, pages(n), at + done, st);
        if (ok) XXH3_64bits_update(h, buffer, n);
    }
    if (ok && XXH3_64bits_digest(h) != f->now[record].sum[plane]) ok = fail_sum(f, record, plane, st);
    XXH3_freeState(h);
    return ok;
}

static bool verify_records(StateFile *f, Status *st)
{
    void *buffer = NULL;
    CHECK(!posix_memalign(&buffer, STATE_PAGE, VERIFY_BYTES));
    bool ok = true;
    for (int i = 0; ok && i < f->n; i++)
        for (int k = 0; ok && f->now[i].place >= 0 && k < STATE_PLANES; k++)
            ok = !f->list[i].bytes[k] || verify_plane(f, i, k, buffer, st);
    free(buffer);
    return ok;
}

bool state_file_verify(StateFile *f, char note[512], Status *st)
{
    Status why = {0}, before = {0};
    note[0] = 0;
    if (verify_records(f, &why)) return true;
    int64_t generation = f->generation;
    if (!access(f->previous, F_OK) && take_manifest(f, f->previous, &before) && f->generation < generation &&
        verify_records(f, &before) && go_back(f, st)) {
        snprintf(note, 512, "%.400s; going on from the generation before", why.text);
        return true;
    }
    return fail(st, "%s; the generation before it is not whole either, so the stage can only start again", why.text);
}
