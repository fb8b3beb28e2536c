/* A run against its plan. */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/check.h"
#include "recipes/plan/placement.h"

static const double FAR = 0.25;

const char *placement_off(char *out, size_t size, const char *what, double seconds, double planned, double disk,
                          double planned_disk)
{
    *out = 0;
    if (planned <= 0 || (seconds <= planned * (1 + FAR) && seconds >= planned * (1 - FAR))) return out;
    int n = snprintf(out, size, "%s took %.3g s, planned were %.3g", what, seconds, planned);
    if (disk > 0 && n < (int)size)
        snprintf(out + n, size - (size_t)n, "; the disk gave %.2f GB/s, planned with %.2f", disk / 1e9,
                 planned_disk / 1e9);
    return out;
}

void placement_compare(const Machine *m, const LoadedModel *file, const Placing *placing, const PlanWork *work)
{
    Rates rates;
    RateKeys keys;
    Status st = {0};
    if (!placing->pool) return;
    rates_keys(&keys, m, file, NULL, placing->plan.slot);
    if (!rates_load(&rates, &keys)) return;
    PlanWork none = {.config = &file->config, .sequences = 1, .length = 2, .predicted = 1};
    Placement *p = calloc(1, sizeof *p);
    CHECK(p);
    PoolSweeps sweeps = pool_counts(placing->pool).sweeps[work ? SWEEP_FORWARD : SWEEP_DECODE];
    PlacingSizes sizes = {reader_source(placing->reader), reader_memory(placing->reader), placing->plan.work};
    if (sweeps.n && placement_make(p, m, file, &sizes, work ? work : &none, &rates, NULL, &st)) {
        char line[256];
        double planned = work ? p->cost.seconds : p->token.seconds;
        placement_off(line, sizeof line, work ? "a pass" : "a token", sweeps.seconds / (double)sweeps.n, planned,
                      placing_disk_rate(placing), rates.disk_read);
        if (*line) fprintf(stderr, "r1: %s (`r1 plan %s --measure` measures again)\n", line, file->path);
    }
    free(p);
}
