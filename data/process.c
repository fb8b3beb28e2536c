/* Child processes: pipes, spawn, end. */
#include "data/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static int spawn(Process *p, char *const arguments[], const int streams[3], const int *files, int n_files)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t how;
    sigset_t defaults, none;
    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    sigaddset(&defaults, SIGINT);
    posix_spawn_file_actions_init(&actions);
    for (int i = 0; i < 3; i++) posix_spawn_file_actions_adddup2(&actions, streams[i], i);
    for (int i = 1; i < n_files; i++) posix_spawn_file_actions_adddup2(&actions, files[i], 2 + i);
    posix_spawn_file_actions_addclosefrom_np(&actions, n_files > 1 ? 2 + n_files : 3);
    posix_spawnattr_init(&how);
    posix_spawnattr_setflags(&how, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setpgroup(&how, 0);
    posix_spawnattr_setsigdefault(&how, &defaults);
    posix_spawnattr_setsigmask(&how, &none);
    int error = posix_spawnp(&p->pid, arguments[0], &actions, &how, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&how);
    return error;
}

static void close_all(const int *files, int n)
{
    for (int i = 0; i < n; i++)
        if (files[i] >= 0) close(files[i]);
}

/* A pipe whose ends are above the descriptors that a child is given, so that one never lies where another is put. */
static bool make_pipe(int ends[2])
{
    enum { ABOVE = 16 };
    int low[2];
    ends[0] = ends[1] = -1;
    if (pipe2(low, O_CLOEXEC)) return false;
    for (int i = 0; i < 2; i++) ends[i] = fcntl(low[i], F_DUPFD_CLOEXEC, ABOVE);
    close_all(low, 2);
    return ends[0] >= 0 && ends[1] >= 0;
}

bool process_start(Process *p, char *const arguments[], const int *files, int n_files)
{
    int in[2] = {-1, -1}, out[2] = {-1, -1}, err[2] = {-1, -1}; /* [0] is read from */
    bool given = n_files > 0 && files[0] >= 0;
    bool ok = (given || make_pipe(in)) && make_pipe(out) && make_pipe(err);
    int streams[3] = {given ? files[0] : in[0], out[1], err[1]};
    *p = (Process){0, in[1], out[0], err[0]};
    ok = ok && spawn(p, arguments, streams, files, n_files) == 0;
    close_all((int[]){in[0], out[1], err[1]}, 3);
    if (!ok) {
        close_all((int[]){in[1], out[0], err[0]}, 3);
        *p = (Process){0, -1, -1, -1};
        return false;
    }
    if (p->in >= 0) fcntl(p->in, F_SETFL, O_NONBLOCK);
    fcntl(p->out, F_SETFL, O_NONBLOCK);
    fcntl(p->err, F_SETFL, O_NONBLOCK);
    return true;
}

int process_stop(Process *p, int patience)
{
    int status = 0;
    bool gone = false;
    close_all((int[]){p->in, p->out}, 2);
    for (int waited = 0; waited < patience && !gone; waited += 10) {
        gone = waitpid(p->pid, &status, WNOHANG) != 0;
        if (!gone) nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
    kill(-p->pid, SIGKILL);
    while (!gone && waitpid(p->pid, &status, 0) < 0 && errno == EINTR)
        ;
    p->pid = 0;
    p->in = p->out = -1;
    return status;
}
