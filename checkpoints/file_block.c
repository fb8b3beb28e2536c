/* A shared mapping of an unlinked file, and the thread that lets its pages go. */
#include "checkpoints/file_block.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "core/base/check.h"
#include "core/base/durable.h"

struct FileBlock {
    char *memory;
    size_t bytes, most;
    size_t before; /* pages of files that the process had without it */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool started, stop;
};

enum { EVERY_NS = 5000000 }; /* a core touches some 10 MB in that time */

/* Resident pages of the process that are of files. */
static size_t file_pages(void)
{
    unsigned long size, resident, shared = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%lu %lu %lu", &size, &resident, &shared) != 3) shared = 0;
    if (f) fclose(f);
    return shared;
}

static void let_go(FileBlock *b)
{
    size_t now = file_pages(), page = (size_t)sysconf(_SC_PAGESIZE);
    if (now > b->before && (now - b->before) * page > b->most) madvise(b->memory, b->bytes, MADV_DONTNEED);
}

static void *work(void *of)
{
    FileBlock *b = of;
    pthread_mutex_lock(&b->lock);
    while (!b->stop) {
        struct timespec at;
        clock_gettime(CLOCK_REALTIME, &at);
        at.tv_nsec += EVERY_NS;
        if (at.tv_nsec >= 1000000000) at.tv_sec++, at.tv_nsec -= 1000000000;
        pthread_cond_timedwait(&b->wake, &b->lock, &at);
        let_go(b);
    }
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

static bool map_file(FileBlock *b, const char *path, Status *st)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return durable_fail(path, errno, st);
    unlink(path);
    int error = posix_fallocate(fd, 0, (off_t)b->bytes);
    struct statvfs fs;
    bool ok = true;
    if (error == ENOSPC && !fstatvfs(fd, &fs))
        ok = fail(st,
                  "%s needs %.3g GB for weights and gradients, and %.3g GB are free there; free some space or "
                  "choose another folder",
                  path, (double)b->bytes / 1e9, (double)fs.f_bavail * (double)fs.f_frsize / 1e9);
    else if (error) ok = durable_fail(path, error, st);
    void *memory = ok ? mmap(NULL, b->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (ok && memory == MAP_FAILED) ok = fail(st, "cannot map %s: %s", path, strerror(errno));
    if (ok) b->memory = memory;
    close(fd);
    return ok;
}

FileBlock *file_block_open(const char *folder, size_t bytes, size_t most, Status *st)
{
    FileBlock *b = calloc(1, sizeof *b);
    char *path = NULL;
    CHECK(b && asprintf(&path, "%s/weights.tmp.%ld", folder, (long)getpid()) > 0);
    *b = (FileBlock){.bytes = bytes, .most = most, .before = file_pages()};
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->wake, NULL);
    bool ok = map_file(b, path, st);
    b->started = ok && !pthread_create(&b->thread, NULL, work, b);
    if (ok && !b->started) ok = fail(st, "no thread to let pages of %s go with", folder);
    free(path);
    if (ok) return b;
    file_block_close(b);
    return NULL;
}

size_t file_block_most(void)
{
    const char *given = getenv("R1_RESIDENT");
    long long bytes = given ? atoll(given) : 0;
    return bytes > 0 ? (size_t)bytes : (size_t)1 << 28;
}

void file_block_close(FileBlock *b)
{
    if (!b) return;
    pthread_mutex_lock(&b->lock);
    b->stop = true;
    pthread_cond_signal(&b->wake);
    pthread_mutex_unlock(&b->lock);
    if (b->started) pthread_join(b->thread, NULL);
    if (b->memory) munmap(b->memory, b->bytes);
    pthread_mutex_destroy(&b->lock);
    pthread_cond_destroy(&b->wake);
    free(b);
}

void *file_block_memory(FileBlock *b)
{
    return b->memory;
}
