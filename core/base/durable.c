/* Written beside, synced, renamed, the folder synced. */
#include "core/base/durable.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static void folder_of(const char *path, char *folder, size_t size)
{
    const char *slash = strrchr(path, '/');
    if (!slash) snprintf(folder, size, ".");
    else if (slash == path) snprintf(folder, size, "/");
    else snprintf(folder, size, "%.*s", (int)(slash - path), path);
}

/* The process that a leftover NAME.tmp.PID names, or 0 when `entry` is no leftover of NAME. */
static long leftover_owner(const char *entry, const char *name)
{
    size_t n = strlen(name);
    if (strncmp(entry, name, n) || strncmp(entry + n, ".tmp.", 5)) return 0;
    char *end;
    long pid = strtol(entry + n + 5, &end, 10);
    return *end || end == entry + n + 5 ? 0 : pid;
}

void durable_sweep(const char *path)
{
    char folder[4096], found[8192];
    folder_of(path, folder, sizeof folder);
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    DIR *dir = opendir(folder);
    if (!dir) return;
    for (struct dirent *e; (e = readdir(dir));) {
        long pid = leftover_owner(e->d_name, name);
        if (pid <= 0 || kill((pid_t)pid, 0) == 0 || errno != ESRCH) continue;
        snprintf(found, sizeof found, "%s/%s", folder, e->d_name);
        unlink(found);
    }
    closedir(dir);
}

bool durable_special(const char *path)
{
    struct stat s;
    return !stat(path, &s) && !S_ISREG(s.st_mode) && !S_ISDIR(s.st_mode);
}

bool durable_begin(Durable *d, const char *path, Status *st)
{
    if (strlen(path) >= sizeof d->path) return fail(st, "path %.60s... is too long: choose a shorter one", path);
    if (durable_special(path))
        return fail(st, "%s is a device, a pipe or a socket, which a file would replace: name a file", path);
    strcpy(d->path, path);
    snprintf(d->temp, sizeof d->temp, "%s.tmp.%ld", path, (long)getpid());
    durable_sweep(path);
    return true;
}

bool durable_fail(const char *path, int error, Status *st)
{
    const char *advice = "choose another place";
    if (error == ENOSPC || error == EDQUOT) advice = "free some space or choose another folder";
    else if (error == EACCES || error == EPERM || error == EROFS) advice = "choose a folder you may write to";
    else if (error == ENOENT || error == ENOTDIR) advice = "create the folder first";
    else if (error == EFBIG) advice = "raise the limit on file size (ulimit -f)";
    return fail(st, "cannot write %s: %s; %s", path, strerror(error), advice);
}

bool durable_room(const char *path, uint64_t bytes, Status *st)
{
    char folder[4096];
    struct statvfs fs;
    struct stat s;
    if (stat(path, &s) || !S_ISDIR(s.st_mode)) folder_of(path, folder, sizeof folder);
    else snprintf(folder, sizeof folder, "%s", path);
    if (statvfs(folder, &fs)) return true;
    double free = (double)fs.f_bavail * (double)fs.f_frsize;
    return (double)bytes <= free ||
           fail(st, "%s needs %.3g GB, and %.3g GB are free there; free some space or choose another folder", path,
                (double)bytes / 1e9, free / 1e9);
}

bool durable_write_at(int fd, const void *bytes, size_t n, size_t offset, const char *path, Status *st)
{
    const char *p = bytes;
    while (n) {
        ssize_t done = pwrite(fd, p, n, (off_t)offset);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return durable_fail(path, done < 0 ? errno : EIO, st);
        p += done, n -= (size_t)done, offset += (size_t)done;
    }
    return true;
}

static int sync_path(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0) return errno;
    int error = fsync(fd) ? errno : 0;
    close(fd);
    return error;
}

bool durable_commit(const Durable *d, Status *st)
{
    int error = sync_path(d->temp, O_RDONLY);
    if (!error && rename(d->temp, d->path)) error = errno;
    if (error) {
        durable_abandon(d);
        return durable_fail(d->path, error, st);
    }
    char folder[4096];
    folder_of(d->path, folder, sizeof folder);
    /* Some file systems cannot sync a folder (EINVAL): the rename is then as durable as they make it. */
    error = sync_path(folder, O_RDONLY | O_DIRECTORY);
    return !error || error == EINVAL || error == EACCES ? true : durable_fail(d->path, error, st);
}

void durable_abandon(const Durable *d)
{
    unlink(d->temp);
}

bool durable_write(const char *path, const void *bytes, size_t n, Status *st)
{
    Durable d;
    if (!durable_begin(&d, path, st)) return false;
    int fd = open(d.temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return durable_fail(path, errno, st);
    bool ok = durable_write_at(fd, bytes, n, 0, path, st);
    if (close(fd) && ok) ok = durable_fail(path, errno, st);
    if (ok) return durable_commit(&d, st);
    durable_abandon(&d);
    return false;
}
