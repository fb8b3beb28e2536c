/* Files that are replaced: content, name and folder synced in this order; whatever fails leaves the old file whole. */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/durable.h"
#include "tests/unit/scratch.h"
#include "tests/unit/unit.h"

static char calls[200]; /* "f" a file synced, "d" a folder, "r" a rename */
static char fails[4];   /* a call of this letter fails with `error` */
static int error;

static int called(char what)
{
    size_t n = strlen(calls);
    if (n + 1 < sizeof calls) calls[n] = what;
    errno = error;
    return strchr(fails, what) ? -1 : 0;
}

/* These two stand before the C library's. */
int fsync(int fd)
{
    struct stat s;
    int (*real)(int);
    *(void **)&real = dlsym(RTLD_NEXT, "fsync");
    return called(!fstat(fd, &s) && S_ISDIR(s.st_mode) ? 'd' : 'f') ? -1 : real(fd);
}

int rename(const char *from, const char *to)
{
    int (*real)(const char *, const char *);
    *(void **)&real = dlsym(RTLD_NEXT, "rename");
    return called('r') ? -1 : real(from, to);
}

static void failing(const char *what, int code)
{
    memset(calls, 0, sizeof calls);
    snprintf(fails, sizeof fails, "%s", what);
    error = code;
}

static void holds(const char *path, const char *text)
{
    size_t n;
    char *have = scratch_read(path, &n);
    assert_non_null(have);
    assert_int_equal(n, strlen(text));
    assert_memory_equal(have, text, n);
    free(have);
}

static void order(void **state)
{
    (void)state;
    Status st = {0};
    char path[600];
    snprintf(path, sizeof path, "%s", scratch_path("a.json"));
    failing("", 0);
    assert_true(durable_write(path, "old", 3, &st));
    assert_string_equal(calls, "frd");
    holds(path, "old");
}

static void failures(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        int error;
        const char *calls, *words, *left;
        bool ok;
    } cases[] = {
        {"f", EIO, "f", "Input/output error", "old", false},
        {"f", ENOSPC, "f", "free some space", "old", false},
        {"r", EACCES, "fr", "a folder you may write to", "old", false},
        {"d", EIO, "frd", "Input/output error", "new", false},
        {"d", EINVAL, "frd", "", "new", true}, /* a file system whose folders cannot be synced */
    };
    char path[600];
    snprintf(path, sizeof path, "%s", scratch_path("b.json"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Status st = {0};
        failing("", 0);
        assert_true(durable_write(path, "old", 3, &st));
        failing(cases[i].what, cases[i].error);
        assert_int_equal(durable_write(path, "new", 3, &st), cases[i].ok);
        assert_string_equal(calls, cases[i].calls);
        if (!cases[i].ok) assert_true(says(&st, "b.json") && says(&st, cases[i].words));
        failing("", 0);
        holds(path, cases[i].left);
        assert_int_equal(scratch_count("b.json.tmp"), 0);
    }
}

/* What a killed process left is taken away, what a living one writes is not. */
static void leftovers(void **state)
{
    (void)state;
    Status st = {0};
    char living[40], path[600];
    snprintf(living, sizeof living, "c.json.tmp.%ld", (long)getppid());
    snprintf(path, sizeof path, "%s", scratch_path("c.json"));
    scratch_put("c.json.tmp.999999999", "x", 1); /* above the largest process id of Linux */
    scratch_put("c.json.tmp.notes", "x", 1);
    scratch_put(living, "x", 1);
    failing("", 0);
    assert_true(durable_write(path, "old", 3, &st));
    assert_int_equal(scratch_count("c.json.tmp"), 2);
    assert_int_equal(scratch_count("c.json.tmp.999999999"), 0);
}

/* A rename would put a file in the place of /dev/null. */
static void special(void **state)
{
    (void)state;
    Status st = {0};
    Durable d;
    struct stat s;
    assert_int_equal(mkfifo(scratch_path("pipe"), 0600), 0);
    assert_false(durable_write(scratch_path("pipe"), "x", 1, &st));
    assert_true(says(&st, "pipe is a device, a pipe or a socket"));
    assert_true(!stat(scratch_path("pipe"), &s) && S_ISFIFO(s.st_mode));
    status_clear(&st);
    assert_false(durable_begin(&d, "/dev/null", &st));
    assert_true(durable_special("/dev/null") && !durable_special("/tmp") && !durable_special(scratch_path("none")));
}

/* What cannot fit is said before anything is written: of a folder, and of a file that is not there yet. */
static void room(void **state)
{
    (void)state;
    Status st = {0};
    char path[600];
    snprintf(path, sizeof path, "%s", scratch_path("big.gguf"));
    assert_true(durable_room("/tmp", 1, &st) && durable_room(path, 1, &st));
    assert_false(durable_room("/tmp", (uint64_t)1 << 62, &st));
    assert_true(says(&st, "/tmp needs 4.61e+09 GB, and "));
    status_clear(&st);
    assert_false(durable_room(path, (uint64_t)1 << 62, &st));
    assert_true(says(&st, "big.gguf needs 4.61e+09 GB, and "));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(room),      cmocka_unit_test(order),   cmocka_unit_test(failures),
        cmocka_unit_test(leftovers), cmocka_unit_test(special),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
