/* The loop around a unit's steps: resume, metrics, checkpoints, evaluation, summary. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoints/checkpoint.h"
#include "checkpoints/durable.h"
#include "checkpoints/hash.h"
#include "core/check.h"
#include "recipes/model/op_times.h"
#include "recipes/stages/rl.h"

char *run_path(const Run *r, const char *folder, const char *name, const char *suffix)
{
    char *path = NULL;
    if (asprintf(&path, "%s/%s/%s%s", run_folder_path(r->folder), folder, name, suffix) < 0) path = NULL;
    CHECK(path != NULL);
    return path;
}

double unit_flops(const Run *r, const char *name)
{
    const Json *entry = run_summary_get(r->folder, name);
    return entry ? json_number(json_get(entry, "flops")) : 0;
}

/* ---- state on disk: a partial checkpoint, or a small JSON file for units that make samples */

static Json *state_json(const UnitRun *u)
{
    Json *o = json_copy(u->extra);
    json_set(o, "flops", json_new_number(u->flops));
    json_set(o, "warnings", warnings_state(u->run->warnings));
    json_set(o, "last_pass1", json_new_number(u->run->last_pass1));
    return o;
}

static bool save_samples_state(const UnitRun *u, const char *path, Status *st)
{
    Json *o = json_new_object();
    json_set(o, "step", json_new_int(u->step));
    json_set(o, "cursor", json_new_int(u->cursor));
    json_set(o, "tokens_sampled", json_new_int(u->tokens_sampled));
    json_set(o, "seconds", json_new_number(u->seconds));
    json_set(o, "state", state_json(u));
    bool ok = json_write_file(o, path, st);
    json_free(o);
    return ok;
}

static bool save_model(const UnitRun *u, const char *path, bool finished, Status *st)
{
    Run *r = u->run;
    Policy *p = u->policy;
    Json *state = state_json(u);
    char *extra = json_write(state, false);
    json_free(state);
    CheckpointMeta meta = {.stage_index = u->unit->stage_index,
                           .step = u->step,
                           .finished = finished,
                           .tokens_trained = u->tokens_trained,
                           .tokens_sampled = u->tokens_sampled,
                           .optimizer_step = p->optimizer_step,
                           .cursor = u->cursor,
                           .seconds = u->seconds,
                           .seed = r->recipe->seed,
                           .recipe = r->recipe_text,
                           .tokenizer = r->tokenizer_bytes,
                           .tokenizer_length = r->tokenizer_length,
                           .extra = extra,
                           .attached = p->attached};
    snprintf(meta.stage, sizeof meta.stage, "%.63s", u->unit->name);
    snprintf(meta.precision, sizeof meta.precision, "%s", dtype_name(r->recipe->precision));
    snprintf(meta.machine_kind, sizeof meta.machine_kind, "%s", p->engine.ops->machine_kind(p->engine.backend));
    const char *before = op_times_phase(r->machine.times, "checkpoint");
    policy_master_open(p);
    bool ok = checkpoint_save(path, &p->config, &p->engine.table, p->weights, finished ? NULL : p->m,
                              finished ? NULL : p->v, finished ? NULL : p->reference, &meta, st);
    policy_master_close(p);
    op_times_phase(r->machine.times, before);
    free(extra);
    return ok;
}

static char *partial_path(const UnitRun *u)
{
    return u->unit->kind->makes_samples ? run_path(u->run, "samples", u->unit->stage->name, ".state.json")
                                        : run_path(u->run, "checkpoints", u->unit->name, ".partial.h5");
}

static char *result_path(const Run *r, const Unit *u)
{
    return u->kind->makes_samples ? run_path(r, "samples", u->stage->name, ".jsonl")
                                  : run_path(r, "checkpoints", u->name, ".h5");
}

static bool save_partial(UnitRun *u, Status *st)
{
    if (u->unit->kind->save && !u->unit->kind->save(u, st)) return false;
    char *path = partial_path(u);
    bool ok = u->unit->kind->makes_samples ? save_samples_state(u, path, st) : save_model(u, path, false, st);
    free(path);
    return ok;
}

static bool take_state(UnitRun *u, Json *state, Status *st)
{
    const Json *warnings = json_get(state, "warnings");
    const Json *pass1 = json_get(state, "last_pass1");
    u->flops = json_number(json_get(state, "flops"));
    u->run->last_pass1 = pass1 && json_is_number(pass1) ? json_number(pass1) : -1;
    bool ok = !warnings || warnings_restore(u->run->warnings, warnings, st);
    json_free(u->extra);
    u->extra = state;
    return ok;
}

static bool load_samples_state(UnitRun *u, const char *path, Status *st)
{
    Json *o = json_read(path, st);
    if (!o) return false;
    u->step = json_integer(json_get(o, "step"));
    u->cursor = json_integer(json_get(o, "cursor"));
    u->tokens_sampled = json_integer(json_get(o, "tokens_sampled"));
    u->seconds = json_number(json_get(o, "seconds"));
    bool ok = take_state(u, json_copy(json_get(o, "state")), st);
    json_free(o);
    return ok;
}

static bool same_machine(const UnitRun *u, const char *kind, const char *path, Status *st)
{
    const char *here = u->run->machine.ops->machine_kind(u->run->machine.backend);
    if (u->run->machine.options.other_machine || !strcmp(kind, here)) return true;
    return fail(
        st,
        "%s was made on another kind of machine (%s; here: %s), so going on would not give the same weights; pass "
        "--other-machine to do it all the same",
        path, kind, here);
}

static bool load_model(UnitRun *u, const char *path, Status *st)
{
    Checkpoint *c = checkpoint_load(path, CHECKPOINT_ALL, st);
    if (!c) return false;
    bool ours = run_owns(u->run, &c->meta, path, st) && same_machine(u, c->meta.machine_kind, path, st);
    if (ours && (strncmp(c->meta.stage, u->unit->name, sizeof c->meta.stage - 1) || !c->m))
        ours =
            fail(st, "%s is no unfinished state of %s; take it away, and the stage starts again", path, u->unit->name);
    if (!ours) {
        checkpoint_free(c);
        return false;
    }
    u->policy = policy_new(&u->run->machine, &c->config, u->run->recipe->seed, c->weights);
    policy_resume(u->policy, c->m, c->v, c->reference);
    c->m = c->v = c->reference = NULL;
    c->weights = NULL;
    policy_attach(u->policy, &c->meta.attached, NULL);
    u->policy->optimizer_step = c->meta.optimizer_step;
    u->step = c->meta.step;
    u->cursor = c->meta.cursor;
    u->tokens_trained = c->meta.tokens_trained;
    u->tokens_sampled = c->meta.tokens_sampled;
    u->seconds = c->meta.seconds;
    Json *state = json_parse(c->meta.extra, strlen(c->meta.extra), path, st);
    bool ok = state && take_state(u, state, st);
    checkpoint_free(c);
    return ok;
}

/* Cuts what the folder holds back to the state: units before this one are whole, this one is at its step, later ones are not. */
static bool cut_back(const UnitRun *u, Status *st)
{
    const Run *r = u->run;
    RunPoint points[UNITS_MAX];
    int n = 0;
    for (int i = 0; i < r->n_units; i++) {
        points[n++] = (RunPoint){r->units[i].name, &r->units[i] == u->unit ? u->step : INT64_MAX};
        if (&r->units[i] == u->unit) break;
    }
    return run_folder_cut(r->folder, points, n, st);
}

/* The unit's state: from its partial checkpoint, or fresh. */
static bool unit_begin(UnitRun *u, Status *st)
{
    char *path = partial_path(u);
    bool there = access(path, F_OK) == 0, samples = u->unit->kind->makes_samples, ok = true;
    if (there) ok = samples ? load_samples_state(u, path, st) : load_model(u, path, st);
    else if (!samples) {
        u->policy = run_initial_policy(u->run, u->unit->stage, u->unit->kind->scalar_head, st);
        ok = u->policy != NULL;
        if (ok) policy_train_open(u->policy);
    }
    free(path);
    if (ok && u->policy) plan_apply(&u->run->plans[u->unit->stage_index], &u->policy->engine);
    return ok && cut_back(u, st);
}

/* ---- metrics and progress */

static double pass1_of(const Json *metrics)
{
    const Json *v = json_get(metrics, "pass@1");
    return v && json_is_number(v) ? json_number(v) : (double)NAN;
}

static double member(const Json *metrics, const char *key)
{
    const Json *v = json_get(metrics, key);
    return v && json_is_number(v) ? json_number(v) : (double)NAN;
}

static bool report_step(UnitRun *u, Json *metrics, double seconds, int64_t tokens, Status *st)
{
    double rate = seconds > 0 ? (double)tokens / seconds : 0;
    json_set(metrics, "seconds", json_new_number(u->seconds));
    json_set(metrics, "tokens_per_s", json_new_number(rate));
    json_set(metrics, "tokens_trained", json_new_int(u->tokens_trained));
    json_set(metrics, "tokens_sampled", json_new_int(u->tokens_sampled));
    double trained_pass1 = pass1_of(metrics);
    ProgressStep p = {.step = u->step,
                      .loss = member(metrics, "loss"),
                      .reward = member(metrics, "reward"),
                      .pass1 = isnan(trained_pass1) && u->run->last_pass1 >= 0 ? u->run->last_pass1 : trained_pass1,
                      .tokens_per_s = rate};
    progress_step(u->run->progress, &p);
    return run_metrics_append(u->run->folder, u->unit->name, u->step, metrics, st);
}

/* A quick evaluation during a stage; *stop when an SFT stage has reached what its recipe asks for. */
static bool evaluate_during(UnitRun *u, bool *stop, Status *st)
{
    const RecipeStage *s = u->unit->stage;
    EvalResult e;
    if (!run_evaluate(u->run, u->policy, s, true, &e, NULL, NULL, st)) return false;
    u->run->last_pass1 = e.all.pass1;
    Json *line = json_new_object();
    json_set(line, "eval", eval_json(&e));
    free(e.problems);
    double pass1 = u->run->last_pass1;
    if (s->kind == STAGE_SFT && s->stop_at_pass1[0] > 0 && pass1 >= s->stop_at_pass1[0]) {
        *stop = true;
        if (pass1 > s->stop_at_pass1[1])
            progress_note(u->run->progress,
                          "%s stopped at pass@1 %.1f %%, above the %.0f %% asked for: evaluate more often",
                          u->unit->name, 100 * pass1, 100 * s->stop_at_pass1[1]);
    }
    return run_metrics_append(u->run->folder, u->unit->name, u->step, line, st);
}

/* ---- the end of a unit */

/* The first sample of each family's first problems: what the report shows. */
typedef struct SampleKeeper {
    Json *list;
    const Task *task; /* the family they came from last, and how many it gave */
    int level, given;
} SampleKeeper;

enum { SAMPLES_A_FAMILY = 4 };

static void keep_sample(void *ctx, const Problem *p, int sample, const char *completion, Verdict v)
{
    SampleKeeper *k = ctx;
    if (sample != 0) return;
    bool same = p->task == k->task && (p->kind != KIND_REASONING || p->level == k->level);
    k->given = same ? k->given + 1 : 1;
    k->task = p->task;
    k->level = p->level;
    if (k->given > SAMPLES_A_FAMILY) return;
    Json *o = json_new_object();
    json_set(o, "prompt", json_new_text(p->prompt));
    json_set(o, "completion", json_new_text(completion));
    json_set(o, "answer", json_new_text(p->answer));
    json_set(o, "correct", json_new_bool(v.score >= 1));
    json_set(o, "reason", json_new_text(reason_name(v.reason)));
    json_append(k->list, o);
}

static bool evaluate_after(UnitRun *u, Json *entry, Status *st)
{
    SampleKeeper keeper = {.list = json_new_array()};
    EvalResult e;
    if (!run_evaluate(u->run, u->policy, u->unit->stage, false, &e, keep_sample, &keeper, st)) {
        json_free(keeper.list);
        return false;
    }
    progress_note(u->run->progress,
                  "%s: pass@1 %.1f %% +- %.1f, cons@%d %.1f, pass@%d %.1f, format %.0f, language %.0f, length %.1f",
                  u->unit->name, 100 * e.all.pass1, 100 * e.all.se, e.all.k, 100 * e.all.consk, e.all.k,
                  100 * e.all.passk, 100 * e.all.format, 100 * e.all.language, e.all.length);
    Json *line = json_new_object();
    json_set(line, "eval", eval_json(&e));
    json_set(entry, "eval", eval_json(&e));
    free(e.problems);
    return run_samples_write(u->run->folder, u->unit->name, keeper.list, st) &&
           run_metrics_append(u->run->folder, u->unit->name, u->step, line, st);
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
        policy_master_open(u->policy);
        weights_sha256(&u->policy->engine.table, u->policy->weights, hash);
        policy_master_close(u->policy);
        json_set(entry, "weights_sha256", json_new_text(hash));
        json_set(entry, "parameters", json_new_int((int64_t)u->policy->engine.table.count));
    }
    const Json *accuracy = json_get(u->extra, "accuracy");
    if (accuracy) json_set(entry, "heldout_accuracy", json_copy(accuracy));
    bool ok = true;
    if (u->policy && u->unit->stage->eval_after && !u->unit->kind->scalar_head) ok = evaluate_after(u, entry, st);
    if (!ok) {
        json_free(entry);
        return false;
    }
    return run_summary_stage(u->run->folder, u->unit->name, entry, st);
}

static bool unit_end(UnitRun *u, Status *st)
{
    if (u->unit->kind->save && !u->unit->kind->save(u, st)) return false;
    char *partial = partial_path(u), *result = result_path(u->run, u->unit);
    bool ok = u->unit->kind->makes_samples || save_model(u, result, true, st);
    ok = ok && summarise(u, st);
    if (ok) {
        unlink(partial);
        durable_sweep(partial);
    }
    free(partial);
    free(result);
    return ok;
}

/* ---- the loop */

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
    double start = machine_seconds();
    int64_t tokens = u->tokens_trained + u->tokens_sampled;
    Json *metrics = json_new_object();
    if (!u->unit->kind->step(u, metrics, stop, st)) {
        json_free(metrics);
        return false;
    }
    u->step++;
    double seconds = machine_seconds() - start;
    u->seconds += seconds;
    if (!report_step(u, metrics, seconds, u->tokens_trained + u->tokens_sampled - tokens, st)) return false;
    int every = u->unit->stage->eval_every;
    if (every > 0 && u->step % every == 0 && u->policy && !u->unit->kind->scalar_head && u->step < u->total)
        return evaluate_during(u, stop, st);
    return true;
}

static bool unit_loop(UnitRun *u, Status *st)
{
    double last_save = machine_seconds(), save_cost = 0;
    bool stop = u->step >= u->total;
    while (!stop) {
        bool cancelled = *u->run->cancel;
        double now = machine_seconds(), every = u->run->machine.options.checkpoint_seconds;
        if (every > 0 && every < 20 * save_cost) every = 20 * save_cost; /* at most 5 % of the time goes into saving */
        if (cancelled || now - last_save >= every) {
            if (!save_partial(u, st)) return false;
            last_save = machine_seconds();
            save_cost = last_save - now;
        }
        if (cancelled) return fail(st, "interrupted");
        Snapshot before = take_snapshot(u);
        int64_t step = u->step;
        if (!one_step(u, &stop, st)) {
            if (!*u->run->cancel || u->step != step) return false;
            restore_snapshot(u, &before); /* Ctrl-C: the step is dropped; the loop's head saves and leaves */
            status_clear(st);
            continue;
        }
        stop = stop || u->step >= u->total;
    }
    return true;
}

static bool already_done(Run *r, const Unit *unit)
{
    char *path = result_path(r, unit);
    bool done = access(path, F_OK) == 0 && run_summary_get(r->folder, unit->name);
    free(path);
    return done;
}

bool unit_execute(Run *r, const Unit *unit, Status *st)
{
    if (already_done(r, unit)) return true;
    UnitRun u = {.run = r, .unit = unit, .extra = json_new_object()};
    r->last_pass1 = -1;
    warnings_stage(r->warnings);
    op_times_phase(r->machine.times, "training");
    bool ok = unit_begin(&u, st) && unit->kind->open(&u, st);
    if (ok) {
        progress_stage(r->progress, unit->name, u.step, u.total < INT32_MAX ? u.total : 0);
        ok = unit_loop(&u, st) && unit_end(&u, st);
        progress_stage_end(r->progress);
    }
    op_times_phase(r->machine.times, NULL);
    unit->kind->close(&u);
    policy_free(u.policy);
    json_free(u.extra);
    return ok;
}
