/* Counters of the pool before and after a step. */
#include "recipes/run/disk_log.h"

#include "recipes/model/placed_policy.h"
#include "recipes/plan/placement.h"
#include "recipes/run/progress.h"

static const Placing *placing_of(const UnitRun *u)
{
    return u->policy ? policy_placing(u->policy) : NULL;
}

DiskLog disk_log_begin(const UnitRun *u)
{
    const Placing *p = placing_of(u);
    DiskLog d = {.tokens = u->tokens_trained};
    if (p) d.before = pool_counts(p->pool);
    return d;
}

/* Seconds of so many tokens' forward and backward by kept rates: computing or reading, whichever is longer. 0: no rates. */
static double planned_seconds(const UnitRun *u, double tokens, double bytes, double *disk_rate)
{
    Rates rates;
    RateKeys keys;
    const Placing *p = placing_of(u);
    const Plan *plan = run_plan(u->run, u->unit->stage);
    rates_assume(&rates, &u->run->machine);
    rates_keys(&keys, &u->run->machine, policy_placed_file(u->policy), NULL, p->plan.slot);
    if (!rates_load(&rates, &keys) || plan->step_tokens <= 0) return 0;
    double compute = plan->step_seconds * tokens / plan->step_tokens, disk = bytes / rates.disk_read;
    *disk_rate = rates.disk_read;
    return compute > disk ? compute : disk;
}

static void compare(const DiskLog *d, UnitRun *u, Json *metrics, const PoolCounts *now)
{
    char line[256];
    const PoolSweeps *before = &d->before.sweeps[SWEEP_TRAIN], *after = &now->sweeps[SWEEP_TRAIN];
    double seconds = after->seconds - before->seconds, disk_rate = 0;
    double bytes = (double)(after->bytes - before->bytes), tokens = (double)(u->tokens_trained - d->tokens);
    double planned = after->n > before->n ? planned_seconds(u, tokens, bytes, &disk_rate) : 0;
    if (planned <= 0) return;
    Json *o = json_new_object();
    json_set(o, "train_s", json_new_number(planned));
    json_set(o, "of_s", json_new_number(seconds));
    json_set(metrics, "planned", o);
    placement_off(line, sizeof line, "forward and backward", seconds, planned, placing_disk_rate(placing_of(u)),
                  disk_rate);
    if (!*line || u->told_off_plan) return;
    u->told_off_plan = true;
    progress_note(u->run->progress, "%s: step %lld is off the plan: %s (`r1 plan` measures with --measure)",
                  u->unit->name, (long long)u->step, line);
}

void disk_log_end(const DiskLog *d, UnitRun *u, Json *metrics)
{
    const Placing *p = placing_of(u);
    if (!p) return;
    PoolCounts now = pool_counts(p->pool);
    Json *o = json_new_object();
    json_set(o, "experts", json_new_int(now.reads - d->before.reads));
    json_set(o, "gb", json_new_number((double)(now.bytes - d->before.bytes) / 1e9));
    json_set(o, "gb_per_s", json_new_number(placing_disk_rate(p) / 1e9));
    json_set(o, "waited_s", json_new_number(now.waited - d->before.waited));
    json_set(o, "in_vain", json_new_int(now.vain - d->before.vain));
    json_set(metrics, "disk", o);
    compare(d, u, metrics, &now);
}
