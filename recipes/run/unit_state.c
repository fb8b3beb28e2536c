/* A unit's state on disk: a checkpoint, or a small JSON file for units that make samples. */
#include "recipes/config/recipe_longer.h"
#include "recipes/run/unit_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoints/checkpoint.h"
#include "core/base/durable.h"
#include "core/ops/ops_clocked.h"
#include "core/policy.h"
#include "recipes/config/recipe_notes.h"
#include "checkpoints/hash.h"
#include "recipes/model/attached.h"
#include "recipes/model/placed_policy.h"
#include "recipes/model/train_select.h"
#include "recipes/run/models.h"
#include "recipes/run/run_folder.h"
#include "recipes/run/state_tier.h"
#include "recipes/run/warnings.h"

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
                           .attached = policy_attached(p)};
    snprintf(meta.stage, sizeof meta.stage, "%.63s", u->unit->name);
    snprintf(meta.precision, sizeof meta.precision, "%s", dtype_name(r->recipe->precision));
    snprintf(meta.machine_kind, sizeof meta.machine_kind, "%s", p->engine.ops->machine_kind(p->engine.backend));
    const char *before = ops_clocked_phase(r->machine.times, "checkpoint");
    policy_base(p, &meta);
    PolicyMoments host = policy_moments_open(p);
    WeightSource weights = policy_source(p), reference = policy_reference_source(p);
    CheckpointBlocks blocks = {host.m, host.v, p->reference.plain ? &reference : NULL};
    if (finished) blocks = (CheckpointBlocks){0};
    bool lends = !finished && u->unit->kind->lend;
    if (lends) u->unit->kind->lend((UnitRun *)u, &meta.state);
    bool ok = checkpoint_save_from(path, &p->config, &p->engine.table, &weights, &blocks, &meta, st);
    policy_moments_close(p, &host);
    if (lends) u->unit->kind->take_back((UnitRun *)u);
    attachments_free(&meta.state);
    ops_clocked_phase(r->machine.times, before);
    free(extra);
    free(meta.held);
    return ok;
}

bool unit_weights_sha256(const UnitRun *u, char hash[65], Status *st)
{
    WeightSource weights = policy_source(u->policy);
    return weights_sha256_of(&u->policy->engine.table, &weights, hash, st);
}

static char *partial_path(const Run *r, const Unit *u)
{
    return u->kind->makes_samples ? run_folder_file(r->folder, "samples", u->stage->name, ".state.json")
                                  : run_folder_file(r->folder, "checkpoints", u->name, ".partial.h5");
}

char *unit_result_path(const Run *r, const Unit *u)
{
    return u->kind->makes_samples ? run_folder_file(r->folder, "samples", u->stage->name, ".jsonl")
                                  : run_folder_file(r->folder, "checkpoints", u->name, ".h5");
}

bool unit_save(UnitRun *u, Status *st)
{
    if (u->unit->kind->save && !u->unit->kind->save(u, st)) return false;
    if (u->tier) return state_tier_save(u, state_json(u), st);
    char *path = partial_path(u->run, u->unit);
    bool ok = u->unit->kind->makes_samples ? save_samples_state(u, path, st) : save_model(u, path, false, st);
    free(path);
    return ok;
}

bool unit_save_result(UnitRun *u, Status *st)
{
    if (u->unit->kind->makes_samples) return true;
    char *path = unit_result_path(u->run, u->unit);
    bool ok = save_model(u, path, true, st);
    free(path);
    return ok;
}

void unit_drop_partial(const Run *r, const Unit *unit)
{
    char *path = partial_path(r, unit);
    if (unit->kind->makes_samples || recipe_fixed_length(unit->stage)) {
        unlink(path);
        state_tier_drop(r, unit);
    }
    durable_sweep(path);
    free(path);
}

bool unit_take_extra(UnitRun *u, Json *state, Status *st)
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
    bool ok = unit_take_extra(u, json_copy(json_get(o, "state")), st);
    json_free(o);
    return ok;
}

bool unit_same_machine(const UnitRun *u, const char *kind, const char *path, Status *st)
{
    const char *here = u->run->machine.ops->machine_kind(u->run->machine.backend);
    if (u->run->machine.options.other_machine || !strcmp(kind, here)) return true;
    return fail(
        st,
        "%s was made on another kind of machine (%s; here: %s), so going on would not give the same weights; pass "
        "--other-machine to do it all the same",
        path, kind, here);
}

/* Before gradients and moments are there. */
static bool select_trained(UnitRun *u, Status *st)
{
    return train_table(&u->policy->engine.table, u->run->recipe, st) || fail_prefix(st, "%s", u->unit->name);
}

static LoadedModel *open_checkpoint(const Run *r, const char *path, Status *st)
{
    return model_open_as(path, 0, r->machine.options.base, MODEL_IN_PLACE | MODEL_OPTIMIZER | MODEL_ATTACHMENTS, st);
}

/* The unit as the checkpoint says; its blocks become the policy's. */
static bool take_checkpoint(UnitRun *u, LoadedModel **model, const char *path, Status *st)
{
    LoadedModel *m = *model;
    Checkpoint *c = m->checkpoint;
    size_t states = m->table.moment_total;
    MomentForm form = m->table.moments;
    if (run_plan(u->run, u->unit->stage)->placed) {
        *model = NULL;
        u->policy = run_place(u->run, m, u->unit->stage, false, st);
        if (!u->policy) return false;
    } else {
        if (!model_read_weights(m, st)) return false;
        u->policy = policy_new(machine_engine(&u->run->machine), &m->config, u->run->recipe->seed, m->weights);
        m->weights = NULL;
        if (!select_trained(u, st) || !policy_note_base(u->policy, m, false, st)) return false;
        policy_attach(u->policy, m);
    }
    const ParamTable *t = &u->policy->engine.table;
    if (c->m && form != t->moments)
        return fail(st,
                    "%s holds moments as %s, and optim.moments is %s: give that, or take the file away, and the stage "
                    "starts again",
                    path, moment_form_name((int)form), moment_form_name((int)t->moments));
    if (c->m && states != t->moment_total)
        return fail(st,
                    "%s holds moments of other parameters than `train` names: take it away, and the stage starts again",
                    path);
    if (c->m) policy_resume(u->policy, c->m, c->v, c->reference);
    c->m = c->v = c->reference = NULL;
    u->state = c->meta.state;
    c->meta.state = (Attachments){0};
    u->policy->optimizer_step = c->meta.optimizer_step;
    u->step = c->meta.step;
    u->cursor = c->meta.cursor;
    u->tokens_trained = c->meta.tokens_trained;
    u->tokens_sampled = c->meta.tokens_sampled;
    u->seconds = c->meta.seconds;
    Json *state = json_parse(c->meta.extra, strlen(c->meta.extra), path, st);
    return state && unit_take_extra(u, state, st);
}

static bool is_of_unit(const Checkpoint *c, const Unit *u)
{
    return !strncmp(c->meta.stage, u->name, sizeof c->meta.stage - 1);
}

static bool load_model(UnitRun *u, const char *path, Status *st)
{
    LoadedModel *m = open_checkpoint(u->run, path, st);
    if (!m) return false;
    const Checkpoint *c = m->checkpoint;
    bool ok = run_owns(u->run, &c->meta, path, st) && unit_same_machine(u, c->meta.machine_kind, path, st);
    if (ok && (!is_of_unit(c, u->unit) || !c->m))
        ok = fail(st, "%s is no unfinished state of %s; take it away, and the stage starts again", path, u->unit->name);
    ok = ok && take_checkpoint(u, &m, path, st);
    model_close(m);
    return ok;
}

/* Cuts what the folder holds back: units before this one are whole, this one is at `step`, later ones are not. */
static bool cut_to(const Run *r, const Unit *unit, int64_t step, Status *st)
{
    RunPoint points[UNITS_MAX];
    int n = 0;
    for (int i = 0; i < r->n_units; i++) {
        points[n++] = (RunPoint){r->units[i].name, &r->units[i] == unit ? step : INT64_MAX};
        if (&r->units[i] == unit) break;
    }
    return run_folder_cut(r->folder, points, n, st);
}

static bool cut_back(const UnitRun *u, Status *st)
{
    return cut_to(u->run, u->unit, u->step, st);
}

bool unit_cut_before(const Run *r, const Unit *u, Status *st)
{
    return cut_to(r, u, -1, st);
}

/* From where the stage begins, or from --state. */
static bool begin_policy(UnitRun *u, Status *st)
{
    u->policy = run_initial_policy(u->run, u->unit->stage, u->unit->kind->scalar_head, st);
    if (!u->policy || !select_trained(u, st)) return false;
    if (!u->run->noted) recipe_print_notes_of(u->run->recipe, &u->policy->config, stderr);
    u->run->noted = true;
    if (!state_tier_open(u, st)) return false;
    policy_train_open(u->policy);
    return true;
}

/* The unit's state: from its partial checkpoint, or fresh. */
bool unit_begin(UnitRun *u, Status *st)
{
    char *path = partial_path(u->run, u->unit);
    bool there = access(path, F_OK) == 0, samples = u->unit->kind->makes_samples, ok = true;
    if (samples) ok = !there || load_samples_state(u, path, st);
    else ok = state_tier_may(u->run, u->unit, path, st) && (there ? load_model(u, path, st) : begin_policy(u, st));
    free(path);
    if (ok && u->policy) plan_apply(&u->run->plans[u->unit->stage_index], &u->policy->engine);
    return ok && cut_back(u, st);
}

bool unit_done(Run *r, const Unit *unit)
{
    char *path = unit_result_path(r, unit);
    bool done = access(path, F_OK) == 0 && run_summary_get(r->folder, unit->name);
    free(path);
    return done;
}

bool unit_begun(const Run *r, const Unit *unit)
{
    char *partial = partial_path(r, unit), *result = unit_result_path(r, unit);
    bool begun = !access(partial, F_OK) || !access(result, F_OK) || state_tier_begun(r, unit, NULL);
    free(partial);
    free(result);
    return begun;
}

bool unit_reopen(Run *r, const Unit *unit, Status *st)
{
    char *partial = partial_path(r, unit), *result = unit_result_path(r, unit);
    bool finished = !access(result, F_OK), ok = true;
    if (finished && access(partial, F_OK) && !state_tier_begun(r, unit, NULL))
        ok = fail(st, "%s cannot go on: its last state is gone (%s); begin a new run whose stage says from: %s",
                  unit->name, partial, result);
    if (finished && ok)
        ok = run_summary_drop(r->folder, unit->name, st) && (!unlink(result) || durable_fail(result, errno, st));
    free(partial);
    free(result);
    return ok;
}

bool unit_take_result(UnitRun *u, Status *st)
{
    if (u->unit->kind->makes_samples) return false;
    char *path = unit_result_path(u->run, u->unit);
    LoadedModel *m = access(path, F_OK) ? NULL : open_checkpoint(u->run, path, st);
    const Checkpoint *c = m ? m->checkpoint : NULL;
    Status other = {0};
    bool ours = c && c->meta.finished && is_of_unit(c, u->unit) && run_owns(u->run, &c->meta, path, &other);
    bool ok = ours && take_checkpoint(u, &m, path, st) && cut_back(u, st);
    if (ok) plan_apply(&u->run->plans[u->unit->stage_index], &u->policy->engine);
    model_close(m);
    free(path);
    return ok;
}
