/* The loop around a unit's steps: metrics, checkpoints, evaluations, and at the end the summary. */
#include "recipes/config/recipe_longer.h"
#include "recipes/run/disk_log.h"
#include "recipes/run/unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/ops/ops_clocked.h"
#include "core/params_select.h"
#include "core/policy.h"
#include "recipes/run/counts.h"
#include "recipes/run/progress.h"
#include "recipes/run/reuse.h"
#include "recipes/run/run_folder.h"
#include "recipes/run/state_tier.h"
#include "recipes/run/unit_eval.h"
#include "recipes/run/unit_state.h"
#include "recipes/run/warnings.h"

static bool report_step(UnitRun *u, Json *metrics, double seconds, int64_t tokens, Status *st)
{
    double rate = seconds > 0 ? (double)tokens / seconds : 0;
    json_set(metrics, "seconds", json_new_number(u->seconds));
    json_set(metrics, "tokens_per_s", json_new_number(rate));
    json_set(metrics, "tokens_trained", json_new_int(u->tokens_trained));
    json_set(metrics, "tokens_sampled", json_new_int(u->tokens_sampled));
    double trained_pass1 = json_get_number(metrics, "pass@1");
    ProgressStep p = {.step = u->step,
                      .loss = json_get_number(metrics, "loss"),
                      .reward = json_get_number(metrics, "reward"),
                      .pass1 = isnan(trained_pass1) && u->run->last_pass1 >= 0 ? u->run->last_pass1 : trained_pass1,
                      .tokens_per_s = rate};
    progress_step(u->run->progress, &p);
    return run_metrics_append(u->run->folder, u->unit->name, u->step, metrics, st);
}

static bool summarise(UnitRun *u, Status *st)
{
    char hash[65];
    Json *entry = json_new_object();
    json_set(entry, "name", json_new_text(u->unit->name));
    json_set(entry, "steps", json_new_int(u->step));
    json_set(entry, "seconds", json_new_number(u->seconds));
    json_set(entry, "tokens_trained", json_new_int(u->tokens_trained));
    json_set(entry, "tokens_sampled", json_new_int(u->tokens_sampled));
    json_set(entry, "flops", json_new_number(u->flops));
    if (u->policy) {
        if (!unit_weights_sha256(u, hash, st)) {
            json_free(entry);
            return false;
        }
        json_set(entry, "weights_sha256", json_new_text(hash));
        json_set(entry, "parameters", json_new_int((int64_t)u->policy->engine.table.count));
        if (!params_all_chosen(&u->policy->engine.table))
            json_set(entry, "parameters_trained", json_new_int((int64_t)u->policy->engine.table.trained_count));
    }
    const Json *accuracy = json_get(u->extra, "accuracy"), *data = json_get(u->extra, "data");
    if (json_count(data)) json_set(entry, "data", json_copy(data));
    static const char *const sums[] = {"dropped", "reward_failures"};
    for (size_t i = 0; i < sizeof sums / sizeof sums[0]; i++)
        if (json_get(u->extra, sums[i])) json_set(entry, sums[i], json_copy(json_get(u->extra, sums[i])));
    if (accuracy) json_set(entry, "heldout_accuracy", json_copy(accuracy));
    bool ok = true;
    if (u->policy && u->unit->stage->eval_after && !u->unit->kind->scalar_head) ok = unit_evaluate_after(u, entry, st);
    ok = ok && reuse_record(u->run, u->unit, entry, st);
    if (!ok) {
        json_free(entry);
        return false;
    }
    return run_summary_stage(u->run->folder, u->unit->name, entry, st);
}

/* The result is on disk: evaluation, summary. */
static bool unit_conclude(UnitRun *u, Status *st)
{
    if (!summarise(u, st)) {
        u->run->saved = *u->run->cancel;
        return false;
    }
    unit_drop_partial(u->run, u->unit);
    return true;
}

static bool unit_end(UnitRun *u, Status *st)
{
    if (u->unit->kind->save && !u->unit->kind->save(u, st)) return false;
    bool goes_on = !u->unit->kind->makes_samples && !recipe_fixed_length(u->unit->stage);
    if (goes_on && !unit_save(u, st)) return false;
    return unit_save_result(u, st) && unit_conclude(u, st);
}

/* What a dropped step must leave as it was. */
typedef struct Snapshot {
    int64_t cursor, tokens_trained, tokens_sampled;
    double flops;
} Snapshot;

static Snapshot take_snapshot(const UnitRun *u)
{
    return (Snapshot){u->cursor, u->tokens_trained, u->tokens_sampled, u->flops};
}

static void restore_snapshot(UnitRun *u, const Snapshot *s)
{
    u->cursor = s->cursor;
    u->tokens_trained = s->tokens_trained;
    u->tokens_sampled = s->tokens_sampled;
    u->flops = s->flops;
}

/* One step with its metrics. *stop: the unit is done. */
static bool one_step(UnitRun *u, bool *stop, Status *st)
{
    double start = clock_seconds();
    int64_t tokens = u->tokens_trained + u->tokens_sampled;
    Json *metrics = json_new_object();
    DiskLog disk = disk_log_begin(u);
    if (!u->unit->kind->step(u, metrics, stop, st)) {
        json_free(metrics);
        return false;
    }
    u->step++;
    double seconds = clock_seconds() - start;
    u->seconds += seconds;
    disk_log_end(&disk, u, metrics);
    *stop = *stop || u->step >= u->total;
    return report_step(u, metrics, seconds, u->tokens_trained + u->tokens_sampled - tokens, st);
}

/* Whether the evaluation after the step just made is still to be done; a state saved in the middle of it says so. */
static void owe_evaluation(UnitRun *u, bool owed)
{
    json_set(u->extra, "evaluate", json_new_bool(owed));
}

static bool owes_evaluation(const UnitRun *u)
{
    const Json *owed = json_get(u->extra, "evaluate");
    return owed && json_bool(owed);
}

static bool evaluation_due(const UnitRun *u)
{
    int every = u->unit->stage->eval_every;
    return every > 0 && u->step % every == 0 && u->policy && !u->unit->kind->scalar_head && u->step < u->total;
}

/* The evaluation that is owed, or a step. Ctrl-C in the middle of either leaves the unit as it was before it. */
static bool advance(UnitRun *u, bool *stop, Status *st)
{
    if (owes_evaluation(u)) {
        if (!unit_evaluate_during(u, stop, st)) return false;
        owe_evaluation(u, false);
        return true;
    }
    Snapshot before = take_snapshot(u);
    int64_t step = u->step;
    if (one_step(u, stop, st)) {
        if (evaluation_due(u)) owe_evaluation(u, true);
        return true;
    }
    if (u->step == step) restore_snapshot(u, &before);
    return false;
}

static bool unit_interrupted(UnitRun *u, Status *st)
{
    u->run->saved = true;
    return fail(st, "interrupted");
}

static bool unit_loop(UnitRun *u, Status *st)
{
    double last_save = clock_seconds(), save_cost = 0;
    bool stop = u->step >= u->total;
    while (!stop) {
        bool cancelled = *u->run->cancel;
        double now = clock_seconds(), every = u->tier ? 0 : u->run->machine.options.checkpoint_seconds;
        if (every > 0 && every < 20 * save_cost) every = 20 * save_cost; /* at most 5 % of the time goes into saving */
        if (cancelled || now - last_save >= every) {
            if (!unit_save(u, st)) return false;
            last_save = clock_seconds();
            save_cost = last_save - now;
        }
        if (cancelled) return unit_interrupted(u, st);
        int64_t step = u->step;
        if (advance(u, &stop, st)) continue;
        if (!*u->run->cancel || u->step != step) return false;
        stop = false;
        status_clear(st); /* Ctrl-C: what was begun is dropped; the loop's head saves and leaves */
    }
    return true;
}

static void say_trained(const Run *r, const char *unit, const ParamTable *t)
{
    if (strcmp(r->recipe->train.list[0], "all") && params_all_chosen(t))
        progress_note(r->progress,
                      "%s: no name of `train` means a tensor of this model: all of its %zu parameters are "
                      "trained",
                      unit, t->count);
    else if (t->trained_count < t->count && !params_all_chosen(t))
        progress_note(r->progress, "%s: trains %zu of %zu parameters; backward visits %d of %d layers", unit,
                      t->trained_count, t->count, t->L - (t->lowest_trained > 0 ? t->lowest_trained : 0), t->L);
}

static bool unit_work(UnitRun *u, Status *st)
{
    if (unit_take_result(u, st)) return unit_conclude(u, st); /* only its evaluation is missing */
    if (st->failed || !unit_begin(u, st)) return false;
    json_set(u->extra, "data", json_new_array());
    if (!u->unit->kind->open(u, st)) return false;
    counts_say(u);
    if (u->policy) say_trained(u->run, u->unit->name, &u->policy->engine.table);
    progress_stage(u->run->progress, u->unit->name, u->step, u->total < INT32_MAX ? u->total : 0);
    bool ok = unit_loop(u, st) && unit_end(u, st);
    progress_stage_end(u->run->progress);
    return ok;
}

bool unit_execute(Run *r, const Unit *unit, Status *st)
{
    if (unit_done(r, unit)) {
        unit_drop_partial(r, unit); /* of a run that was killed after the summary */
        return true;
    }
    bool reused = false;
    if (r->reuse && !reuse_unit(r, unit, &reused, st)) return false;
    if (reused) {
        unit_drop_partial(r, unit);
        return true;
    }
    UnitRun u = {.run = r, .unit = unit, .extra = json_new_object()};
    r->last_pass1 = -1;
    warnings_stage(r->warnings);
    ops_clocked_phase(r->machine.times, "training");
    bool ok = unit_work(&u, st);
    ops_clocked_phase(r->machine.times, NULL);
    unit->kind->close(&u);
    state_tier_close(&u);
    policy_free(u.policy);
    json_free(u.extra);
    attachments_free(&u.state);
    reuse_release(r->reuse);
    return ok;
}
