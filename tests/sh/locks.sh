#!/bin/sh
# Locks of the run folder: one process at a time; a file system without locks is named as that and can be used.
set -eu
cd "$TEST_DIR"
cat >nolock.c <<'END'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/file.h>
int flock(int fd, int op) { (void)fd, (void)op; errno = ERROR; return -1; }
static int other(const char *name, int fd, int c, void *p)
{
    int (*next)(int, int, ...) = dlsym(RTLD_NEXT, name);
    if (c != F_SETLK && c != F_SETLKW) return next(fd, c, p);
    errno = ERROR;
    return -1;
}
int fcntl(int fd, int c, ...) { va_list a; va_start(a, c); void *p = va_arg(a, void *); va_end(a); return other("fcntl", fd, c, p); }
int fcntl64(int fd, int c, ...) { va_list a; va_start(a, c); void *p = va_arg(a, void *); va_end(a); return other("fcntl64", fd, c, p); }
END
small="run micro --until zero --quiet --threads 1 --set base.steps=3 --set base.eval_every=0 --set zero.steps=1 --set zero.eval_every=0 --set eval.n=2 --set eval.k=2"
for error in ENOLCK ENOSYS EOPNOTSUPP; do
    ${CC:-cc} -shared -fPIC -DERROR=$error nolock.c -o nolock.so -ldl
    LD_PRELOAD=$PWD/nolock.so "$R1" $small --out $error >out 2>said || { echo "$error: exit $?"; cat said; exit 1; }
    grep -q "the file system of $error keeps no locks (.*); let no other process run there" said || { cat said; exit 1; }
    ! grep -q 'in use' said
done
LD_PRELOAD=$PWD/nolock.so "$R1" inspect ENOLCK --stage zero --step 1 >out 2>said || { cat said; exit 1; }

# A lock that is held is still that.
mkdir held
(
    flock 9
    code=0
    "$R1" $small --out held >out 2>said || code=$?
    [ $code = 1 ] && grep -q 'the run folder held is in use by process' said || { echo "held: exit $code"; cat said; exit 1; }
) 9>held/lock
