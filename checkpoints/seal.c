/* The seal written beside the data, on a second thread, and verified. */
#include "checkpoints/seal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/durable.h"
#include "checkpoints/hash.h"
#include "checkpoints/mapping.h"
#include "core/base/check.h"

enum { READ = 1 << 18, PART = 8 << 20, REMEMBERED = 8 };
const char format_name[] = "r1 checkpoint";

void pieces_add(Pieces *p, Piece piece)
{
    if (p->n == p->capacity) {
        p->capacity = p->capacity ? 2 * p->capacity : 64;
        p->list = realloc(p->list, (size_t)p->capacity * sizeof *p->list);
        CHECK(p->list);
    }
    p->list[p->n++] = piece;
}

void pieces_free(Pieces *p)
{
    free(p->list);
    *p = (Pieces){0};
}

/* ---- Hashing what is final while the rest is written ---- */

typedef struct Hashing {
    int fd;
    const Pieces *pieces; /* in order of their places; NULL: the file says all */
    int next;             /* the first of them that ends behind what is hashed */
    pthread_mutex_t lock;
    pthread_cond_t more;
    size_t size, ready; /* of the file; bytes before `ready` are final */
    bool stopped;
    int error; /* errno of a failed read */
    char hex[65];
} Hashing;

static size_t wait_for(Hashing *h, size_t at)
{
    pthread_mutex_lock(&h->lock);
    while (h->ready <= at && !h->stopped) pthread_cond_wait(&h->more, &h->lock);
    size_t ready = h->stopped ? at : h->ready;
    pthread_mutex_unlock(&h->lock);
    return ready;
}

/* The piece at or next behind `at`. */
static const Piece *piece_near(Hashing *h, size_t at)
{
    if (!h->pieces) return NULL;
    while (h->next < h->pieces->n && h->pieces->list[h->next].at + h->pieces->list[h->next].bytes <= at) h->next++;
    return h->next < h->pieces->n ? &h->pieces->list[h->next] : NULL;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Hashes some of the bytes [at, ready) and returns how many: of a piece in memory from there, else of the file, which is read,
 * not mapped: pages of a mapping cost a fault each and count as this process's memory. */
static size_t hash_some(Hashing *h, Sha256 *sha, char *buffer, size_t at, size_t ready)
{
    const Piece *p = piece_near(h, at);
    if (p && p->at <= at && p->data) {
        size_t n = smaller(smaller(ready, p->at + p->bytes) - at, PART);
        const char *data = (const char *)p->data + (at - p->at);
        if (p->mapped) mapping_need(data, n);
        sha256_add(sha, data, n);
        if (p->mapped) mapping_forget(data, n);
        return n;
    }
    size_t end = p && p->at > at ? smaller(ready, p->at) : ready;
    ssize_t n = pread(h->fd, buffer, smaller(end - at, READ), (off_t)at);
    if (n < 0 && errno == EINTR) return 0;
    if (n <= 0) h->error = n < 0 ? errno : EIO;
    else sha256_add(sha, buffer, (size_t)n);
    return n > 0 ? (size_t)n : 0;
}

static void *hash_file(void *context)
{
    Hashing *h = context;
    Sha256 *sha = sha256_new();
    char *buffer = malloc(READ);
    CHECK(buffer);
    for (size_t at = SEAL, ready = 0; at < h->size && !h->error;) {
        if (ready <= at && (ready = wait_for(h, at)) <= at) break;
        at += hash_some(h, sha, buffer, at, ready);
    }
    free(buffer);
    sha256_finish(sha, h->hex);
    return NULL;
}

static void make_ready(Hashing *h, size_t ready, bool stop)
{
    pthread_mutex_lock(&h->lock);
    h->ready = ready;
    h->stopped |= stop;
    pthread_cond_signal(&h->more);
    pthread_mutex_unlock(&h->lock);
}

static void seal_text(char seal[SEAL], const Hashing *h)
{
    memset(seal, 0, SEAL);
    snprintf(seal, SEAL, "%s %d; HDF5 begins at byte %d\nbytes %zu\nsha256 %s\n", format_name, FORMAT_VERSION, SEAL,
             h->size, h->hex);
}

/* ---- Writing ---- */

static int compare_places(const void *a, const void *b)
{
    const Piece *s = a, *t = b;
    return (s->at > t->at) - (s->at < t->at);
}

/* The disk starts on each part at once instead of at the end. */
static bool write_piece(Hashing *h, const Piece *p, const void *data, const char *shown, Status *st)
{
    make_ready(h, p->at, false);
    for (size_t from = 0; from < p->bytes; from += PART) {
        size_t n = smaller(p->bytes - from, PART);
        const char *part = (const char *)data + from;
        if (p->mapped) mapping_need(part, n);
        if (!durable_write_at(h->fd, part, n, p->at + from, shown, st)) return false;
        if (p->mapped) mapping_forget(part, n);
        sync_file_range(h->fd, (off_t)(p->at + from), (off_t)n, SYNC_FILE_RANGE_WRITE);
        make_ready(h, p->at + from + n, false);
    }
    return true;
}

static bool write_pieces(Hashing *h, const Pieces *pieces, const char *shown, Status *st)
{
    for (int i = 0; i < pieces->n; i++) {
        const Piece *p = &pieces->list[i];
        const void *data = p->data ? p->data : pieces->convert(pieces->context, p, st);
        if (!data || !write_piece(h, p, data, shown, st)) return false;
    }
    return true;
}

static bool write_and_hash(Hashing *h, const Pieces *pieces, const char *shown, Status *st)
{
    pthread_t hasher;
    bool beside = pthread_create(&hasher, NULL, hash_file, h) == 0;
    bool ok = write_pieces(h, pieces, shown, st);
    make_ready(h, h->size, !ok);
    if (beside) pthread_join(hasher, NULL);
    else if (ok) hash_file(h);
    if (ok && h->error) ok = durable_fail(shown, h->error, st);
    return ok;
}

bool seal_write(const char *temp, const char *shown, Pieces *pieces, Status *st)
{
    int fd = open(temp, O_RDWR | O_CLOEXEC);
    struct stat info;
    if (fd < 0 || fstat(fd, &info)) {
        int error = errno;
        if (fd >= 0) close(fd);
        return durable_fail(shown, error, st);
    }
    if (pieces->n) qsort(pieces->list, (size_t)pieces->n, sizeof *pieces->list, compare_places);
    Hashing h = {.fd = fd,
                 .pieces = pieces,
                 .lock = PTHREAD_MUTEX_INITIALIZER,
                 .more = PTHREAD_COND_INITIALIZER,
                 .size = (size_t)info.st_size};
    bool ok = write_and_hash(&h, pieces, shown, st);
    if (ok) {
        char seal[SEAL];
        seal_text(seal, &h);
        ok = durable_write_at(fd, seal, SEAL, 0, shown, st);
    }
    close(fd);
    return ok;
}

/* ---- Verifying ---- */

/* Files found whole by this process. A write to one changes its times. */
static struct {
    pthread_mutex_t lock;
    struct stat known[REMEMBERED];
    unsigned next;
} whole = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           same_time(a->st_mtim, b->st_mtim) && same_time(a->st_ctim, b->st_ctim);
}

static bool known_whole(const struct stat *info)
{
    bool known = false;
    pthread_mutex_lock(&whole.lock);
    for (int i = 0; i < REMEMBERED; i++) known |= same_file(&whole.known[i], info);
    pthread_mutex_unlock(&whole.lock);
    return known;
}

/* File times tick some milliseconds apart: the time of a write just now could stay the same over another one. */
static bool is_settled(const struct stat *info)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec - info->st_ctim.tv_sec >= 2;
}

static void remember_whole(const struct stat *info)
{
    pthread_mutex_lock(&whole.lock);
    whole.known[whole.next++ % REMEMBERED] = *info;
    pthread_mutex_unlock(&whole.lock);
}

bool seal_verify(int fd, const char *path, Status *st)
{
    struct stat info;
    if (fstat(fd, &info) || !S_ISREG(info.st_mode)) return fail(st, "%s is no file: give a checkpoint's path", path);
    if (known_whole(&info)) return true;
    bool settled = is_settled(&info);
    char found[SEAL], seal[SEAL];
    if (info.st_size <= SEAL || pread(fd, found, SEAL, 0) != SEAL)
        return fail(st, "%s is too short for a checkpoint: it is truncated, take an earlier one", path);
    if (memcmp(found, format_name, strlen(format_name)))
        return fail(st, "%s is no checkpoint of this program (or its first bytes are damaged)", path);
    Hashing h = {.fd = fd,
                 .lock = PTHREAD_MUTEX_INITIALIZER,
                 .more = PTHREAD_COND_INITIALIZER,
                 .size = (size_t)info.st_size,
                 .ready = (size_t)info.st_size};
    hash_file(&h);
    seal_text(seal, &h);
    if (h.error || memcmp(seal, found, SEAL))
        return fail(st, "%s is damaged: its length or SHA-256 is not what was written; take an earlier checkpoint",
                    path);
    if (settled) remember_whole(&info);
    return true;
}
