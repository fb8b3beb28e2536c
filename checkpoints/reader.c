/* pread threads over the files of a model. */
#include "checkpoints/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoints/part_copy.h"
#include "core/base/check.h"
#include "core/base/clock.h"

enum { PAGE = 4096, PIECES = 3, MAX_THREADS = 8 };

/* A file, open twice: for reads past the page cache (-1: refused) and for those through it. */
typedef struct Shard {
    const char *path, *shown;
    int direct, buffered;
} Shard;

/* A run of bytes of a shard and where they go: at [at, at + bytes) of the raw memory. */
typedef struct Piece {
    int shard;
    uint64_t offset;
    size_t bytes, at;
} Piece;

/* How an expert is brought. n 0: through the mapping. */
typedef struct Place {
    int n;
    bool aligned; /* pieces are read in whole pages around them */
    bool convert; /* raw memory is a thread's own, numbers are converted from there to the slot */
    Piece pieces[PIECES];
    size_t raw[PIECES]; /* where gate, up and down begin in the raw memory */
    size_t raw_bytes, disk_bytes;
    StDtype dtype;
} Place;

typedef struct Job {
    enum { JOB_NONE, JOB_ASKED, JOB_THERE, JOB_FAILED } state;
    char *slot;
    int next;
    bool finite; /* what was read of it once was looked at */
} Job;

struct Reader {
    PartSource source;
    const LoadedModel *m;
    Form form;
    Shard *shards;
    int n_shards;
    Place *places; /* [parts] */
    Job *jobs;     /* [parts] */
    int first, last;
    size_t raw_bytes; /* of a thread's own memory */
    pthread_mutex_t lock;
    pthread_cond_t work, there;
    pthread_t threads[MAX_THREADS];
    int n_threads, n_started;
    bool stop;
    Status fault; /* the first */
    ReaderNotes notes;
};

/* ---- Where things lie ---- */

static size_t pages(size_t bytes)
{
    return (bytes + PAGE - 1) / PAGE * PAGE;
}

static int shard_of(Reader *r, const ParamPlace *its, Status *st)
{
    int i = 0;
    const char *path = its->path;
    while (i < r->n_shards && strcmp(r->shards[i].path, path)) i++;
    if (i < r->n_shards) return i;
    Shard *shards = realloc(r->shards, ((size_t)i + 1) * sizeof *shards);
    CHECK(shards);
    r->shards = shards;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        fail(st, "%s: %s", its->shown, strerror(errno));
        return -1;
    }
    r->shards[r->n_shards++] = (Shard){path, its->shown, open(path, O_RDONLY | O_DIRECT | O_CLOEXEC), fd};
    if (r->shards[i].direct < 0) r->notes.buffered = true;
    return i;
}

/* Joins pieces that follow each other in one shard. */
static void join_pieces(Place *p)
{
    for (int i = 1; i < p->n; i++)
        for (int k = i;
             k > 0 && (p->pieces[k].shard < p->pieces[k - 1].shard ||
                       (p->pieces[k].shard == p->pieces[k - 1].shard && p->pieces[k].offset < p->pieces[k - 1].offset));
             k--) {
            Piece swap = p->pieces[k];
            p->pieces[k] = p->pieces[k - 1];
            p->pieces[k - 1] = swap;
        }
    int n = 1;
    for (int i = 1; i < p->n; i++) {
        Piece *last = &p->pieces[n - 1];
        if (p->pieces[i].shard == last->shard && p->pieces[i].offset == last->offset + last->bytes)
            last->bytes += p->pieces[i].bytes;
        else p->pieces[n++] = p->pieces[i];
    }
    p->n = n;
}

/* Lays the pieces out in pages, and says where a tensor then begins. */
static void lay_out(Place *p, const Piece *tensors)
{
    size_t at = 0;
    for (int k = 0; k < p->n; k++) {
        Piece *piece = &p->pieces[k];
        piece->at = at + piece->offset % PAGE;
        at = pages(piece->at + piece->bytes);
        for (int i = 0; i < PIECES; i++)
            if (tensors[i].shard == piece->shard && tensors[i].offset >= piece->offset &&
                tensors[i].offset < piece->offset + piece->bytes)
                p->raw[i] = piece->at + (tensors[i].offset - piece->offset);
    }
    p->raw_bytes = p->disk_bytes = at;
}

/* gate, up and down one after another: through the page cache, since their places are not the file's. */
static void lay_out_apart(Place *p, const Piece *tensors)
{
    size_t at = 0;
    p->n = PIECES;
    p->aligned = false;
    p->disk_bytes = 0;
    for (int i = 0; i < PIECES; i++) {
        p->pieces[i] = tensors[i];
        p->pieces[i].at = p->raw[i] = at;
        at += tensors[i].bytes;
        p->disk_bytes += tensors[i].bytes;
    }
    p->raw_bytes = at;
}

/* Fails only where a shard cannot be opened. */
static bool find_expert(Reader *r, int part, Status *st)
{
    const ParamTable *t = &r->m->table;
    Place *p = &r->places[part];
    Piece tensors[PIECES];
    ParamPlace its[PIECES];
    bool half = r->form == FORM_BF16;
    for (int i = 0; i < PIECES; i++) {
        const Param *param = &t->params[t->parts[part].first + i];
        if (param->apart || !model_param_place(r->m, param, &its[i]) || its[i].dtype != its[0].dtype) {
            r->notes.mapped++;
            return true;
        }
        tensors[i] = (Piece){.shard = shard_of(r, &its[i], st), .offset = its[i].offset, .bytes = its[i].bytes};
        if (tensors[i].shard < 0) return false;
        p->pieces[i] = tensors[i];
    }
    p->dtype = its[0].dtype;
    p->convert = p->dtype != (half ? ST_BF16 : ST_F32) || its[0].offset % (half ? 2 : 4);
    p->n = PIECES;
    p->aligned = true;
    join_pieces(p);
    lay_out(p, tensors);
    bool neighbours = p->raw[1] == p->raw[0] + tensors[0].bytes;
    if (!neighbours) r->notes.apart++;
    if (!neighbours && !p->convert) lay_out_apart(p, tensors);
    if (p->convert && p->raw_bytes > r->raw_bytes) r->raw_bytes = p->raw_bytes;
    return true;
}

static bool find_places(Reader *r, Status *st)
{
    const ParamTable *t = &r->m->table;
    ParamPlace its;
    for (int i = 0; i < t->n; i++) /* every shard is open before a thread begins */
        if (t->params[i].expert < 0 && !t->params[i].apart && model_param_place(r->m, &t->params[i], &its) &&
            shard_of(r, &its, st) < 0)
            return false;
    for (int i = 0; i < t->n_parts; i++)
        if (t->parts[i].expert >= 0 && !find_expert(r, i, st)) return false;
    return true;
}

/* ---- Reading ---- */

/* [offset, offset + bytes) of a file to `to`; past the page cache everything is a multiple of a page, and the last page may end
 * with the file: `least` bytes are what must come. */
static bool read_run(int fd, char *to, size_t bytes, size_t least, uint64_t offset, int *error)
{
    for (size_t at = 0; at < least;) {
        ssize_t n = pread(fd, to + at, bytes - at, (off_t)(offset + at));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            *error = n < 0 ? errno : 0;
            return false;
        }
        at += (size_t)n;
    }
    return true;
}

static bool fail_read(const Shard *shard, uint64_t offset, size_t bytes, int error, Status *st)
{
    if (error)
        return fail(st, "%s: reading at byte %llu: %s", shard->shown, (unsigned long long)offset, strerror(error));
    return fail(st, "%s ends before byte %llu: it was cut while it was read", shard->shown,
                (unsigned long long)(offset + bytes));
}

static bool read_piece(const Reader *r, const Place *p, const Piece *piece, char *raw, Status *st)
{
    const Shard *shard = &r->shards[piece->shard];
    int error = 0;
    bool ok = false, tried = p->aligned && shard->direct >= 0;
    size_t slack = piece->offset % PAGE, least = slack + piece->bytes;
    if (tried)
        ok = read_run(shard->direct, raw + piece->at - slack, pages(least), least, piece->offset - slack, &error);
    /* Some file systems open past the cache and then refuse to read so; others end a read in the middle of a page. */
    if (!ok && (!tried || error == EINVAL)) {
        ok = read_run(shard->buffered, raw + piece->at, piece->bytes, piece->bytes, piece->offset, &error);
        posix_fadvise(shard->buffered, (off_t)piece->offset, (off_t)piece->bytes, POSIX_FADV_DONTNEED);
    }
    return ok || fail_read(shard, piece->offset, piece->bytes, error, st);
}

static void expert_places(const Reader *r, int part, char *slot, void **at)
{
    const Place *p = &r->places[part];
    if (p->n == 0 || p->convert) part_layout(&r->m->table, part, r->form, slot, at);
    else
        for (int i = 0; i < PIECES; i++) at[i] = slot + p->raw[i];
}

/* One parameter through the page cache, which forgets it. */
static bool bring_param(const Reader *r, const ParamPlace *its, const Param *p, void *out, Status *st)
{
    bool half = r->form == FORM_BF16 && p->split, as_it_is = its->dtype == (half ? ST_BF16 : ST_F32);
    const Shard *shard = r->shards;
    int error = 0;
    while (strcmp(shard->path, its->path)) shard++;
    void *raw = as_it_is ? out : malloc(its->bytes);
    CHECK(raw);
    bool ok = read_run(shard->buffered, raw, its->bytes, its->bytes, its->offset, &error) ||
              fail_read(shard, its->offset, its->bytes, error, st);
    posix_fadvise(shard->buffered, (off_t)its->offset, (off_t)its->bytes, POSIX_FADV_DONTNEED);
    if (as_it_is) return ok;
    if (ok) numbers_convert(out, half, raw, its->dtype, p->count);
    free(raw);
    return ok;
}

/* A part that is no expert of plain tensors. A mapping would end the process where a file was cut. */
static bool bring_params(const Reader *r, int part, char *slot, Status *st)
{
    const ParamTable *t = &r->m->table;
    const Part *its = &t->parts[part];
    bool plain = true, ok = true;
    void **at = calloc((size_t)its->n, sizeof *at);
    CHECK(at);
    part_layout(t, part, r->form, slot, at);
    for (int i = 0; i < its->n && plain && ok; i++) {
        ParamPlace place;
        if (t->params[its->first + i].apart) continue;
        plain = model_param_place(r->m, &t->params[its->first + i], &place);
        if (plain) ok = bring_param(r, &place, &t->params[its->first + i], at[i], st);
    }
    free(at);
    if (!plain) return part_copy(r->m, part, r->form, slot, st);
    return ok;
}

static bool bring(const Reader *r, int part, char *slot, char *raw, Status *st)
{
    const Place *p = &r->places[part];
    const ParamTable *t = &r->m->table;
    if (p->n == 0)
        return t->parts[part].expert < 0 ? bring_params(r, part, slot, st) : part_copy(r->m, part, r->form, slot, st);
    char *to = p->convert ? raw : slot;
    for (int i = 0; i < p->n; i++)
        if (!read_piece(r, p, &p->pieces[i], to, st)) return false;
    if (!p->convert) return true;
    void *at[PIECES];
    expert_places(r, part, slot, at);
    for (int i = 0; i < PIECES; i++)
        numbers_convert(at[i], r->form == FORM_BF16, raw + p->raw[i], p->dtype,
                        t->params[t->parts[part].first + i].count);
    return true;
}

static size_t room(const PartSource *s, int part);

static int take_job(Reader *r)
{
    while (r->first < 0 && !r->stop) pthread_cond_wait(&r->work, &r->lock);
    if (r->stop) return -1;
    int part = r->first;
    r->first = r->jobs[part].next;
    if (r->first < 0) r->last = -1;
    return part;
}

static void part_places(const Reader *r, int part, char *slot, void **at)
{
    if (r->places[part].n) expert_places(r, part, slot, at);
    else part_layout(&r->m->table, part, r->form, slot, at);
}

/* A NaN among weights would show as a loss that is none, maybe many steps later: a part is looked at when it is first read. */
static bool look_once(Reader *r, int part, char *slot, Status *st)
{
    if (r->jobs[part].finite) return true;
    void **at = calloc((size_t)r->m->table.parts[part].n, sizeof *at);
    CHECK(at);
    part_places(r, part, slot, at);
    r->jobs[part].finite = part_finite(r->m, part, r->form, at, st);
    free(at);
    return r->jobs[part].finite;
}

static void *work(void *of)
{
    Reader *r = of;
    char *raw = NULL;
    if (r->raw_bytes && posix_memalign((void **)&raw, PAGE, r->raw_bytes)) raw = NULL;
    CHECK(raw || !r->raw_bytes);
    pthread_mutex_lock(&r->lock);
    for (int part; (part = take_job(r)) >= 0;) {
        char *slot = r->jobs[part].slot;
        Status st = {0};
        pthread_mutex_unlock(&r->lock);
        double start = clock_seconds();
        bool ok = bring(r, part, slot, raw, &st) && look_once(r, part, slot, &st);
        if (!ok) memset(slot, 0, room(&r->source, part));
        double spent = clock_seconds() - start;
        pthread_mutex_lock(&r->lock);
        if (!ok && !r->fault.text[0]) r->fault = st;
        r->notes.seconds += spent;
        r->jobs[part].state = ok ? JOB_THERE : JOB_FAILED;
        pthread_cond_broadcast(&r->there);
    }
    pthread_mutex_unlock(&r->lock);
    free(raw);
    return NULL;
}

/* ---- A source ---- */

static Reader *reader_of(const PartSource *s)
{
    return (Reader *)(void *)s;
}

/* Whether all of a part lies apart. */
static bool nothing_of(const Reader *r, int part)
{
    const ParamTable *t = &r->m->table;
    for (int i = 0; i < t->parts[part].n; i++)
        if (!t->params[t->parts[part].first + i].apart) return false;
    return true;
}

static size_t room(const PartSource *s, int part)
{
    const Reader *r = reader_of(s);
    const Place *p = &r->places[part];
    if (nothing_of(r, part)) return 0;
    return pages(p->n && !p->convert ? p->raw_bytes : part_layout(&r->m->table, part, r->form, NULL, NULL));
}

static uint64_t disk_bytes(const PartSource *s, int part)
{
    const Reader *r = reader_of(s);
    return r->places[part].n ? r->places[part].disk_bytes : room(s, part);
}

static void start(PartSource *s, int part, void *slot)
{
    Reader *r = reader_of(s);
    pthread_mutex_lock(&r->lock);
    CHECK(r->jobs[part].state == JOB_NONE);
    r->jobs[part].state = JOB_ASKED;
    r->jobs[part].slot = slot;
    r->jobs[part].next = -1;
    if (r->first < 0) r->first = part;
    else r->jobs[r->last].next = part;
    r->last = part;
    pthread_cond_signal(&r->work);
    pthread_mutex_unlock(&r->lock);
}

static bool ready(PartSource *s, int part, void **at, Status *st)
{
    Reader *r = reader_of(s);
    Job *job = &r->jobs[part];
    pthread_mutex_lock(&r->lock);
    CHECK(job->state != JOB_NONE);
    while (job->state == JOB_ASKED) pthread_cond_wait(&r->there, &r->lock);
    bool ok = job->state == JOB_THERE;
    job->state = JOB_NONE;
    part_places(r, part, job->slot, at);
    if (!ok) *st = r->fault;
    pthread_mutex_unlock(&r->lock);
    return ok;
}

PartSource *reader_source(Reader *r)
{
    return &r->source;
}

size_t reader_memory(const Reader *r)
{
    return r->raw_bytes * (size_t)r->n_threads;
}

ReaderNotes reader_notes(const Reader *r)
{
    return r->notes;
}

Reader *reader_open(const LoadedModel *m, Form form, int threads, Status *st)
{
    CHECK(threads >= 1 && threads <= MAX_THREADS);
    Reader *r = calloc(1, sizeof *r);
    CHECK(r);
    *r = (Reader){.source = {room, start, ready, disk_bytes}, .m = m, .form = form, .first = -1, .last = -1};
    r->n_threads = threads;
    r->places = calloc((size_t)m->table.n_parts, sizeof *r->places);
    r->jobs = calloc((size_t)m->table.n_parts, sizeof *r->jobs);
    CHECK(r->places && r->jobs);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->work, NULL);
    pthread_cond_init(&r->there, NULL);
    bool ok = find_places(r, st);
    for (; ok && r->n_started < threads; r->n_started++)
        if (pthread_create(&r->threads[r->n_started], NULL, work, r))
            ok = fail(st, "no thread to read %s with", m->path);
    if (ok) return r;
    reader_close(r);
    return NULL;
}

void reader_close(Reader *r)
{
    if (!r) return;
    pthread_mutex_lock(&r->lock);
    r->stop = true;
    pthread_cond_broadcast(&r->work);
    pthread_mutex_unlock(&r->lock);
    for (int i = 0; i < r->n_started; i++) pthread_join(r->threads[i], NULL);
    for (int i = 0; i < r->n_shards; i++) {
        close(r->shards[i].buffered);
        if (r->shards[i].direct >= 0) close(r->shards[i].direct);
    }
    free(r->shards);
    free(r->places);
    free(r->jobs);
    free(r);
}
