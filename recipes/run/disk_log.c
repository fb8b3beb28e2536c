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

/* The rates that the stage was planned with; false: they were assumed. */
static bool kept_rates(const UnitRun *u, Rates *rates)
{
    RateKeys keys;
    rates_assume(rates, &u->run->machine);
    rates_keys(&keys, &u->run->machine, policy_placed_file(u->policy), NULL, placing_of(u)->plan.slot);
    return rates_load(rates, &keys);
}

/* A difference of sweeps of one kind. */
static PoolSweeps since(const DiskLog *d, const PoolCounts *now, Sweep kind)
{
    const PoolSweeps *before = &d->before.sweeps[kind], *after = &now->sweeps[kind];
    return (PoolSweeps){after->n - before->n, after->seconds - before->seconds, after->bytes - before->bytes};
}

/* Computing or reading, whichever is longer, of so many tokens' forward and backward; of decode steps their sum. */
static double training_seconds(const Plan *plan, const PoolSweeps *s, double tokens, const Rates *r)
{
    double compute = plan->step_compute * tokens / plan->step_tokens, disk = (double)s->bytes / r->disk_read;
    return compute > disk ? compute : disk;
}

static double sampling_seconds(const Plan *plan, const PoolSweeps *s, const Rates *r)
{
    return (double)s->n * plan->sample_step + (double)s->bytes / r->disk_read;
}

static void compare(const DiskLog *d, UnitRun *u, Json *metrics, const PoolCounts *now)
{
    char line[256];
    Rates rates;
    const Plan *plan = run_plan(u->run, u->unit->stage);
    PoolSweeps train = since(d, now, SWEEP_TRAIN), decode = since(d, now, SWEEP_DECODE);
    if (!kept_rates(u, &rates) || plan->step_tokens <= 0 || !train.n) return;
    double planned = training_seconds(plan, &train, (double)(u->tokens_trained - d->tokens), &rates);
    Json *o = json_new_object();
    json_set(o, "train_s", json_new_number(planned));
    json_set(o, "of_s", json_new_number(train.seconds));
    if (decode.n && plan->sample_step > 0) {
        json_set(o, "sample_s", json_new_number(sampling_seconds(plan, &decode, &rates)));
        json_set(o, "sample_of_s", json_new_number(decode.seconds));
    }
    json_set(metrics, "planned", o);
    placement_off(line, sizeof line, "forward and backward", train.seconds, planned, placing_disk_rate(placing_of(u)),
                  rates.disk_read);
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
    const Engine *e = &u->policy->engine;
    o = json_new_object();
    json_set(o, "experts", json_new_int(p->plan.pinned));
    json_set(o, "ring", json_new_int(p->plan.slots));
    if (since(d, &now, SWEEP_TRAIN).n) json_set(o, "layers_kept", json_new_int(e->layers_kept));
    json_set(o, "chunk", json_new_int(e->chunk));
    json_set(metrics, "stays", o);
    compare(d, u, metrics, &now);
}
