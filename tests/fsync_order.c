/* LD_PRELOAD of tests/sh/durable.sh: every fsync and rename of a process as a line of the file $SYNC_LOG. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void note(const char *what, const char *a, const char *b)
{
    char line[9000];
    int n = snprintf(line, sizeof line, "%s\t%s\t%s\n", what, a, b),
        fd = open(getenv("SYNC_LOG"), O_WRONLY | O_APPEND | O_CREAT, 0666);
    if (fd < 0 || write(fd, line, (size_t)n) != n) abort();
    close(fd);
}

int fsync(int fd)
{
    char name[40], path[4096];
    int (*real)(int);
    *(void **)&real = dlsym(RTLD_NEXT, "fsync");
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(name, path, sizeof path - 1);
    path[n > 0 ? n : 0] = 0;
    note("sync", path, "");
    return real(fd);
}

int rename(const char *from, const char *to)
{
    int (*real)(const char *, const char *);
    *(void **)&real = dlsym(RTLD_NEXT, "rename");
    note("rename", from, to);
    return real(from, to);
}
