/* Rates measured: grouped products on weights that no cache holds, streams through memory, experts read by the pool's reader. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/check.h"
#include "core/base/clock.h"
#include "core/base/memory.h"
#include "cpu/limits.h"
#include "recipes/plan/rates.h"

/* An expert's gate | up of DeepSeek-V2-Lite; as many experts as no cache holds, fewer where they have many rows. */
enum { OUT = 2816, IN = 2048, EXPERTS = 8, MOST_ROWS = 1024, REPEATS = 2, PROBE_FLOATS = 32 << 20 };

typedef struct Products {
    const Ops *ops;
    Backend *b;
    DType dtype;
    char *w, *x;
    float *y, *dw;
} Products;

static int experts_of(int rows)
{
    return rows <= 64 ? EXPERTS : rows <= 256 ? EXPERTS / 2 : EXPERTS / 4;
}

static void product(const Products *p, int k, int rows)
{
    int n = experts_of(rows);
    size_t all = (size_t)rows * (size_t)n, size = dtype_size(p->dtype);
    Mat w[EXPERTS], dw[EXPERTS];
    int32_t offsets[EXPERTS + 1] = {0};
    for (int e = 0; e < n; e++) {
        w[e] = (Mat){p->w + (size_t)e * OUT * IN * size, p->dtype, OUT, IN, IN, true};
        dw[e] = mat_f32(p->dw, OUT, IN);
        offsets[e + 1] = rows * (e + 1);
    }
    Mat x = mat_of(p->x, p->dtype, all, IN), y = mat_f32(p->y, all, OUT), dx = mat_f32(p->y + all * OUT, all, IN);
    if (k == 0) p->ops->grouped_fwd(p->b, y, x, w, offsets, n);
    if (k == 1) p->ops->grouped_bwd_x(p->b, dx, y, w, offsets, n);
    if (k == 2) p->ops->grouped_bwd_w(p->b, dw, y, x, offsets, n);
}

/* Means and not the best: a machine that others use too is as slow in a run. */
static void measure_products(Rates *r, const Products *p)
{
    enum { WARM = 16 };
    for (int k = 0; k < RATE_PRODUCTS; k++) product(p, k, WARM);
    for (int i = 0; i < RATE_ROWS; i++)
        for (int k = 0; k < RATE_PRODUCTS; k++) {
            double start = clock_seconds();
            for (int again = 0; again < REPEATS; again++) product(p, k, rate_rows[i]);
            double seconds = (clock_seconds() - start) / REPEATS;
            r->products[k][i] = 2.0 * OUT * IN * rate_rows[i] * experts_of(rate_rows[i]) / seconds;
        }
}

static void measure_memory(Rates *r, Backend *b, float *block)
{
    for (int i = 0; i < REPEATS; i++) {
        double start = clock_seconds(), bytes = cpu_probe_read(b, block, PROBE_FLOATS), middle = clock_seconds();
        if (bytes / (middle - start) > r->memory_read) r->memory_read = bytes / (middle - start);
        bytes = cpu_probe_update(b, block, PROBE_FLOATS);
        double rate = bytes / (clock_seconds() - middle);
        if (rate > r->memory_update) r->memory_update = rate;
    }
}

bool rates_measure_cpu(Rates *r, const Machine *machine, Status *st)
{
    if (!machine->cpu) return fail(st, "rates are measured of the CPU only: leave --device out, or say them with --as");
    size_t rows = (size_t)MOST_ROWS * EXPERTS / 4, weights = (size_t)EXPERTS * OUT * IN;
    float *block = memory_block((weights + rows * (OUT + IN) * 2 + (size_t)OUT * IN) * sizeof(float));
    if (!block) return fail(st, "no memory for the 270 MB that measuring takes");
    Products p = {.ops = machine->ops, .b = machine->cpu, .dtype = (DType)machine->options.dtype, .w = (char *)block};
    p.ops = machine->ops;
    p.b = machine->backend;
    p.y = block + weights;
    p.x = (char *)(p.y + rows * (OUT + IN));
    p.dw = block + weights + rows * (OUT + IN) * 2;
    p.ops->fill(p.b, block, weights + rows * (OUT + IN) * 2 + (size_t)OUT * IN, 0.0f);
    CHECK(weights >= PROBE_FLOATS);
    r->memory_read = r->memory_update = 0;
    measure_memory(r, machine->cpu, block);
    measure_products(r, &p);
    memory_free(block);
    r->cpu_age = 0;
    r->cpu_assumed = false;
    return true;
}

/* ---- Disk */

bool rates_hole(HoleFinder *f, const LoadedModel *m, int part)
{
    ParamPlace at;
    if (!model_param_place(m, &m->table.params[m->table.parts[part].first], &at)) return false;
    if (f->fd <= 0 || strcmp(f->path, at.path)) {
        rates_hole_end(f);
        f->fd = open(at.path, O_RDONLY | O_CLOEXEC);
        snprintf(f->path, sizeof f->path, "%s", at.path);
    }
    off_t data = f->fd > 0 ? lseek(f->fd, (off_t)at.offset, SEEK_DATA) : (off_t)at.offset;
    return (data < 0 && errno == ENXIO) || data >= (off_t)(at.offset + at.bytes);
}

void rates_hole_end(HoleFinder *f)
{
    if (f->fd > 0) close(f->fd);
    *f = (HoleFinder){0};
}

enum { SLOTS = 4, LEAST_READS = 8 };
static const double READ_SECONDS = 2;

/* Indices of experts that are no holes, all over the model. Returns their number. */
static int real_experts(const LoadedModel *m, int *parts)
{
    HoleFinder f = {0};
    int n = 0;
    for (int i = 0; i < m->table.n_parts; i++)
        if (m->table.parts[i].expert >= 0 && !rates_hole(&f, m, i)) parts[n++] = i;
    rates_hole_end(&f);
    return n;
}

/* Every expert once in an order that jumps, SLOTS of them asked for at a time, until the time is over. */
static bool read_experts(Rates *r, const LoadedModel *m, PartSource *s, const int *parts, int n, Status *st)
{
    size_t slot = pool_slot_bytes(&m->table, s);
    char *memory = memory_reserve(slot * SLOTS);
    if (!memory) return fail(st, "no memory for %d experts", SLOTS);
    double start = clock_seconds(), bytes = 0;
    int asked = 0, there = 0, jump = n > 7 && n % 7 ? 7 : 1;
    bool ok = true, over = false;
    void *at[64];
    while (there < n && ok && !(over && there == asked)) {
        for (; asked < n && asked < there + SLOTS && !over; asked++)
            s->start(s, parts[(long)asked * jump % n], memory + slot * (size_t)(asked % SLOTS));
        int part = parts[(long)there * jump % n];
        ok = s->ready(s, part, at, st);
        bytes += (double)s->bytes(s, part);
        there++;
        over = there >= LEAST_READS && clock_seconds() - start > READ_SECONDS;
    }
    r->disk_read = bytes / (clock_seconds() - start);
    r->disk_write = 0; /* not measured */
    r->disk_request = slot;
    r->disk_age = 0;
    r->disk_assumed = false;
    Status ignored = {0};
    for (; there < asked; there++) s->ready(s, parts[(long)there * jump % n], at, &ignored);
    memory_unreserve(memory, slot * SLOTS);
    return ok;
}

bool rates_measure_model(Rates *r, const LoadedModel *m, Form form, Status *st)
{
    int *parts = malloc((size_t)m->table.n_parts * sizeof *parts), n = 0;
    CHECK(parts);
    n = real_experts(m, parts);
    Reader *reader = reader_open(m, form, PLACING_THREADS, st);
    bool ok = reader && (n == 0 || read_experts(r, m, reader_source(reader), parts, n, st));
    reader_close(reader);
    free(parts);
    return ok;
}

bool rates_know(Rates *r, const Machine *machine, const LoadedModel *m, Form form, size_t slot, bool again, Status *st)
{
    RateKeys keys;
    rates_assume(r, machine);
    rates_keys(&keys, machine, m, NULL, slot);
    rates_load(r, &keys);
    bool cpu = again || r->cpu_assumed, disk = m && slot && (again || r->disk_assumed);
    if (!cpu && !disk) return true;
    fprintf(stderr, "r1: measuring this machine, some seconds\n");
    if (cpu && !rates_measure_cpu(r, machine, st)) return false;
    if (disk && !rates_measure_model(r, m, form, st)) return false;
    Status not_kept = {0};
    if (!rates_keep(r, &keys, NULL, 0, &not_kept)) fprintf(stderr, "r1: %s\n", not_kept.text);
    return true;
}

/* A thread's half of the file. */
typedef struct Half {
    int fd, error;
    char *block;
    off_t from, to;
    bool writes;
} Half;

enum { FILE_BYTES = 256 << 20, REQUEST = 16 << 20 };

static void *run_half(void *of)
{
    Half *h = of;
    for (off_t at = h->from; at < h->to && !h->error; at += REQUEST) {
        ssize_t n = h->writes ? pwrite(h->fd, h->block, REQUEST, at) : pread(h->fd, h->block, REQUEST, at);
        if (n != REQUEST) h->error = n < 0 ? errno : EIO;
    }
    return NULL;
}

/* Bytes a second of both threads; 0 with errno's value in *error. */
static double halves(int fd, char *block, bool writes, int *error)
{
    pthread_t threads[2];
    Half h[2];
    double start = clock_seconds();
    for (int i = 0; i < 2; i++) {
        h[i] = (Half){fd,    0, block + (size_t)i * REQUEST, (off_t)i * FILE_BYTES / 2, (off_t)(i + 1) * FILE_BYTES / 2,
                      writes};
        CHECK(pthread_create(&threads[i], NULL, run_half, &h[i]) == 0);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        if (h[i].error) *error = h[i].error;
    }
    if (writes && fdatasync(fd)) *error = errno;
    return *error ? 0 : FILE_BYTES / (clock_seconds() - start);
}

bool rates_measure_folder(Rates *r, const char *folder, Status *st)
{
    char path[4096];
    int error = 0;
    snprintf(path, sizeof path, "%s/.r1-rate-XXXXXX", folder);
    int made = mkstemp(path), fd = made >= 0 ? open(path, O_RDWR | O_DIRECT | O_CLOEXEC) : -1;
    if (made < 0) return fail(st, "%s: %s: no file to measure the disk with", folder, strerror(errno));
    close(made);
    if (fd < 0) error = errno;
    unlink(path);
    char *block = NULL;
    CHECK(posix_memalign((void **)&block, 4096, 2 * (size_t)REQUEST) == 0);
    for (size_t i = 0; i < 2 * (size_t)REQUEST; i++)
        block[i] = (char)(i * 2654435761u >> 13); /* nothing that compresses to zeros */
    if (fd >= 0 && !error) r->disk_write = halves(fd, block, true, &error);
    if (fd >= 0 && !error) r->disk_read = halves(fd, block, false, &error);
    if (fd >= 0) close(fd);
    free(block);
    if (error == EINVAL) return fail(st, "%s: this file system refuses reads and writes past the page cache", folder);
    if (error) return fail(st, "%s: measuring the disk with a file of 256 MB: %s", folder, strerror(error));
    r->disk_request = REQUEST;
    r->disk_age = 0;
    r->disk_assumed = false;
    return true;
}
