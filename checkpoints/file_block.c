/* A shared mapping of an unlinked file. */
#include "checkpoints/file_block.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/base/check.h"
#include "core/base/durable.h"

struct FileBlock {
    char *memory;
    size_t bytes, most;
    size_t touched; /* bytes that were done with since pages went last */
};

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
    *b = (FileBlock){.bytes = bytes, .most = most};
    bool ok = map_file(b, path, st);
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
    if (b->memory) munmap(b->memory, b->bytes);
    free(b);
}

void *file_block_memory(FileBlock *b)
{
    return b->memory;
}

void file_block_done(FileBlock *b, size_t bytes)
{
    if (!b) return;
    b->touched += bytes;
    if (b->touched <= b->most) return;
    CHECK(!madvise(b->memory, b->bytes, MADV_DONTNEED)); /* of a shared mapping: the file keeps what they hold */
    b->touched = 0;
}
