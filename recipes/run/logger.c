/* The bridge: python3 -c, a pipe, ten lines. */
#include "recipes/run/logger.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/check.h"

struct Logger {
    char client[16];
    FILE *pipe; /* NULL: it is gone */
    pid_t pid;
};

/* argv: client, name of the run. Numbers become STAGE/KEY, as in the TensorBoard events. */
static const char bridge[] = "import importlib, json, sys\n"
                             "client = importlib.import_module(sys.argv[1])\n"
                             "client.init(project='r1', name=sys.argv[2])\n"
                             "def flat(key, value, out):\n"
                             "    if isinstance(value, dict): [flat(key + '/' + k, v, out) for k, v in value.items()]\n"
                             "    elif isinstance(value, (int, float)): out[key] = value\n"
                             "    return out\n"
                             "for line in sys.stdin:\n"
                             "    d = json.loads(line); client.log(flat(d.pop('stage', ''), d, {}))\n"
                             "client.finish()\n";

static bool has_client(const char *client)
{
    char command[128];
    snprintf(command, sizeof command, "python3 -c 'import %s' >/dev/null 2>&1", client);
    return system(command) == 0;
}

static bool start(Logger *l, const char *run_name, Status *st)
{
    int ends[2];
    if (pipe(ends)) return fail(st, "--log %s: no pipe can be made", l->client);
    l->pid = fork();
    if (l->pid == 0) {
        dup2(ends[0], 0);
        close(ends[0]);
        close(ends[1]);
        dup2(2, 1);              /* what the client says is no output of ours */
        signal(SIGINT, SIG_IGN); /* it ends when its input does */
        execlp("python3", "python3", "-c", bridge, l->client, run_name, (char *)NULL);
        _exit(127);
    }
    close(ends[0]);
    if (l->pid < 0) {
        close(ends[1]);
        return fail(st, "--log %s: no process can be started", l->client);
    }
    signal(SIGPIPE, SIG_IGN);
    l->pipe = fdopen(ends[1], "w");
    CHECK(l->pipe);
    return true;
}

Logger *logger_open(const char *client, const char *run_name, Status *st)
{
    if (strcmp(client, "wandb") && strcmp(client, "trackio")) {
        fail(st, "--log %s: there are wandb and trackio (TensorBoard events are always written)", client);
        return NULL;
    }
    if (!has_client(client)) {
        fail(st, "--log %s: python3 cannot import it here; install it (pip install %s), or leave --log out", client,
             client);
        return NULL;
    }
    Logger *l = calloc(1, sizeof *l);
    CHECK(l);
    snprintf(l->client, sizeof l->client, "%s", client);
    if (start(l, run_name, st)) return l;
    free(l);
    return NULL;
}

void logger_line(Logger *l, const char *line)
{
    if (!l || !l->pipe || (fprintf(l->pipe, "%s\n", line) >= 0 && !fflush(l->pipe))) return;
    fprintf(stderr, "--log %s: its process has ended; the run goes on without it\n", l->client);
    fclose(l->pipe);
    l->pipe = NULL;
}

void logger_close(Logger *l)
{
    int status;
    if (!l) return;
    if (l->pipe) fclose(l->pipe);
    waitpid(l->pid, &status, 0);
    free(l);
}
