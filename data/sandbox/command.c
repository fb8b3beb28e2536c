/* The command line of a sandbox. */
#include "data/sandbox/command.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/check.h"
#include "data/text.h"

static void add(SandboxCommand *c, const char *word)
{
    CHECK(c->n + 1 < SANDBOX_COMMAND);
    c->words[c->n++] = text_copy(word, strlen(word));
    c->words[c->n] = NULL;
}

static void add_all(SandboxCommand *c, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++) add(c, words[i]);
}

/* Folders of programs and libraries beside /usr as this machine has them: links into it, or folders of their own. */
static void add_folders(SandboxCommand *c)
{
    static const char *const folders[] = {"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/alternatives"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        char target[256];
        struct stat is;
        ssize_t n = readlink(folders[i], target, sizeof target - 1);
        if (n > 0) {
            target[n] = '\0';
            add_all(c, (const char *const[]){"--symlink", target, folders[i]}, 3);
        } else if (stat(folders[i], &is) == 0 && S_ISDIR(is.st_mode)) {
            add_all(c, (const char *const[]){"--ro-bind", folders[i], folders[i]}, 3);
        }
    }
}

static void add_limit(SandboxCommand *c, const char *name, long value)
{
    Text word = {0};
    text_addf(&word, "--%s=%ld", name, value);
    add(c, word.p);
    free(word.p);
}

/* SIGXCPU says that it was the time; SIGKILL a second later, that nobody listened. */
static void add_cpu_limit(SandboxCommand *c, long seconds)
{
    Text word = {0};
    text_addf(&word, "--cpu=%ld:%ld", seconds, seconds + 1);
    add(c, word.p);
    free(word.p);
}

static void add_interpreter(SandboxCommand *c, const char *interpreter)
{
    for (const char *at = interpreter + strspn(interpreter, " "); *at != '\0';) {
        size_t n = strcspn(at, " ");
        char *word = text_copy(at, n);
        add(c, word);
        free(word);
        at += n + strspn(at + n, " ");
    }
}

void sandbox_command(SandboxCommand *c, const char *interpreter, const SandboxLimits *limits, bool program)
{
    /* The kernel limits no process of root, so root's sandboxes are nobody's. */
    static const char *const nobody[] = {"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"};
    static const char *const walls[] = {"bwrap",
                                        "--unshare-all",
                                        "--unshare-user",
                                        "--disable-userns",
                                        "--uid",
                                        "65534",
                                        "--gid",
                                        "65534",
                                        "--cap-drop",
                                        "ALL",
                                        "--hostname",
                                        "sandbox",
                                        "--new-session",
                                        "--die-with-parent",
                                        "--clearenv",
                                        "--setenv",
                                        "PATH",
                                        "/usr/local/bin:/usr/bin:/bin",
                                        "--setenv",
                                        "LC_ALL",
                                        "C.UTF-8",
                                        "--setenv",
                                        "OMP_NUM_THREADS",
                                        "1",
                                        "--setenv",
                                        "OPENBLAS_NUM_THREADS",
                                        "1",
                                        "--ro-bind",
                                        "/usr",
                                        "/usr"};
    static const char *const inside[] = {"--dev-bind",   "/dev/null",  "/dev/null",   "--dev-bind",
                                         "/dev/zero",    "/dev/zero",  "--dev-bind",  "/dev/urandom",
                                         "/dev/urandom", "--dev-bind", "/dev/random", "/dev/random"};
    c->n = 0;
    if (geteuid() == 0) add_all(c, nobody, sizeof nobody / sizeof *nobody);
    add_all(c, walls, sizeof walls / sizeof *walls);
    add_folders(c);
    add_all(c, inside, sizeof inside / sizeof *inside);
    if (program) add_all(c, (const char *const[]){"--ro-bind-data", SANDBOX_FD, SANDBOX_PROGRAM, "--chdir", "/box"}, 5);
    add_all(c, (const char *const[]){"--remount-ro", "/", "--", "prlimit"}, 4);
    add_limit(c, "as", limits->memory);
    add_limit(c, "nproc", limits->processes + 1); /* and the sandbox's first process, which waits for the others */
    add_cpu_limit(c, (long)ceil(limits->seconds));
    add_limit(c, "core", 0);
    add_limit(c, "fsize", 0);
    add_limit(c, "nofile", 256);
    add(c, "--");
    add_interpreter(c, interpreter);
    if (program) add(c, SANDBOX_PROGRAM);
}

void sandbox_command_free(SandboxCommand *c)
{
    for (int i = 0; i < c->n; i++) free(c->words[i]);
    c->n = 0;
}
