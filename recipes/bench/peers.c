/* `r1 bench --peers`: other programs on the same row, in turn with ours. A peer is a script of tests/peers run by the
 * Python of the local virtual environment (tests/peers/setup.sh makes it); it prints one line {"name", "seconds",
 * "tokens_per_s", "note"}. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/check.h"
#include "cpu/cpu.h"
#include "data/json.h"
#include "recipes/bench/bench.h"

static const char python[] = ".venv/bin/python", folder[] = "tests/peers";

/* The last line of the peer's output that is an object with this name. */
static Json *peer_line(FILE *f, const char *name)
{
    char line[1024];
    Json *found = NULL;
    while (fgets(line, sizeof line, f)) {
        Status ignored = {0};
        Json *o = line[0] == '{' ? json_parse(line, strlen(line), "peer", &ignored) : NULL;
        const char *said = o ? json_get_string(o, "name", "") : "";
        if (o && !strcmp(said, name)) {
            json_free(found);
            found = o;
        } else if (o) {
            json_free(o);
        }
    }
    return found;
}

/* The peer's fastest run so far. */
typedef struct Peer {
    double seconds, tokens_per_s;
    char note[64]; /* in what it differs from the row */
} Peer;

static bool run_peer(const Bench *b, const BenchCase *c, Peer *best, Status *st)
{
    char command[512];
    /* as they come: without what this program sets for itself (machine_wait_briefly) */
    snprintf(command, sizeof command, "env -u GOMP_SPINCOUNT OMP_NUM_THREADS=%d %s %s/%s %s 2>/dev/null",
             cpu_threads(b->backend), python, folder, c->peer, c->name);
    fflush(stdout);
    FILE *f = popen(command, "r");
    if (!f) return fail(st, "%s cannot be started", command);
    Json *o = peer_line(f, c->name);
    int code = pclose(f);
    if (!o)
        return fail(st, "%s/%s %s printed no row (exit status %d); run it by hand: %s", folder, c->peer, c->name, code,
                    command);
    double seconds = json_number(json_get(o, "seconds"));
    if (seconds > 0 && seconds < best->seconds) {
        best->seconds = seconds;
        best->tokens_per_s = json_number(json_get(o, "tokens_per_s"));
        snprintf(best->note, sizeof best->note, "%s", json_get_string(o, "note", ""));
    }
    json_free(o);
    return true;
}

static bool compare(Bench *b, const BenchCase *c, Status *st)
{
    int turns = b->quick && c->large ? 1 : 3;
    double ours = INFINITY, ours_rate = 0, percent = 0;
    Peer peer = {.seconds = INFINITY};
    for (int i = 0; i < turns; i++) {
        int before = b->n;
        if (!bench_run(b, c, st) || !run_peer(b, c, &peer, st)) return false;
        if (b->rows[before].seconds < ours) {
            ours = b->rows[before].seconds;
            ours_rate = b->rows[before].tokens / ours;
            percent = b->rows[before].percent;
        }
        b->n = before;
    }
    printf("%-28s %10.3f %12.0f %7.1f %10.3f %12.0f %7.2fx %s\n", c->name, ours, ours_rate, percent, peer.seconds,
           peer.tokens_per_s, ours_rate / peer.tokens_per_s, peer.note); /* of rates: --quick decodes fewer tokens */
    fflush(stdout);
    return true;
}

bool bench_peers(Bench *b, const char *only, Status *st)
{
    if (access(python, X_OK) || access(folder, F_OK))
        return fail(st, "no %s here: run `sh %s/setup.sh` in the repository's root, and this command there too", python,
                    folder);
    int n;
    const BenchCase *cases = bench_cases(&n);
    printf("%-28s %10s %12s %7s %10s %12s %8s\n", "row", "seconds", "tokens/s", "% peak", "peer s", "peer tok/s",
           "ratio");
    for (int i = 0; i < n; i++) {
        if (!cases[i].peer || (only && strcmp(only, cases[i].name))) continue;
        if (!compare(b, &cases[i], st)) {
            fprintf(stderr, "r1: %s: %s\n", cases[i].name, st->text);
            if (only) return false;
            status_clear(st);
        }
    }
    return true;
}
