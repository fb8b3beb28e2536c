/* A unit whose optimizer's state rests on disk: its manifest, its marker in the run's folder. */
#include "recipes/run/state_tier.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "checkpoints/part_state.h"
#include "core/base/check.h"
#include "core/base/durable.h"
#include "core/ops/ops_clocked.h"
#include "core/policy.h"
#include "recipes/model/attached.h"
#include "recipes/model/placed_policy.h"
#include "recipes/run/models.h"
#include "recipes/run/progress.h"
#include "recipes/run/run_folder.h"
#include "recipes/run/unit_state.h"

struct StateTier {
    PartState *parts;
    char id[40]; /* of this run's state: the marker and the manifest have the same */
    int64_t references;
};

/* ---- The marker ---- */

static char *marker_path(const Run *r, const Unit *u)
{
    return run_folder_file(r->folder, "checkpoints", u->name, ".state.json");
}

static Json *marker_read(const Run *r, const Unit *u, Status *st)
{
    char *path = marker_path(r, u);
    Json *marker = access(path, F_OK) ? NULL : json_read(path, st);
    free(path);
    return marker;
}

bool state_tier_begun(const Run *r, const Unit *u, char **where)
{
    Status st = {0};
    Json *marker = marker_read(r, u, &st);
    bool begun = marker || st.failed;
    if (where) *where = begun ? strdup(json_get_string(marker, "folder", "(unreadable)")) : NULL;
    json_free(marker);
    return begun;
}

static bool marker_write(const Run *r, const Unit *u, const char *id, Status *st)
{
    char *path = marker_path(r, u), *folder = realpath(r->machine.options.state, NULL);
    Json *marker = json_new_object();
    json_set(marker, "folder", json_new_text(folder ? folder : r->machine.options.state));
    json_set(marker, "id", json_new_text(id));
    bool ok = json_write_file(marker, path, st);
    json_free(marker);
    free(folder);
    free(path);
    return ok;
}

static char *state_path(const char *folder, const Unit *u)
{
    char *path = NULL;
    CHECK(asprintf(&path, "%s/%s", folder, u->name) > 0);
    return path;
}

void state_tier_drop(const Run *r, const Unit *u)
{
    Status st = {0};
    Json *marker = marker_read(r, u, &st);
    const char *folder = json_get_string(marker, "folder", NULL);
    if (folder) {
        char *path = state_path(folder, u), *own = marker_path(r, u);
        state_file_remove(path);
        unlink(own);
        free(path);
        free(own);
    }
    json_free(marker);
}

/* ---- Opening ---- */

static void new_id(char id[40])
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(id, 40, "%lld.%09ld.%ld", (long long)now.tv_sec, now.tv_nsec, (long)getpid());
}

static bool make_folder(const char *path, Status *st)
{
    return !mkdir(path, 0777) || errno == EEXIST ||
           fail(st, "cannot create %s: %s; choose another folder with --state", path, strerror(errno));
}

static bool fail_elsewhere(const Run *r, const Unit *u, const char *where, Status *st)
{
    char *path = marker_path(r, u);
    fail(st, "%s was begun with --state %s: give the same folder, or take %s away, and the stage starts again", u->name,
         where, path);
    free(path);
    return false;
}

bool state_tier_may(const Run *r, const Unit *u, const char *partial, Status *st)
{
    if (r->machine.options.state && !make_folder(r->machine.options.state, st)) return false;
    char *where = NULL, *folder = r->machine.options.state ? realpath(r->machine.options.state, NULL) : NULL;
    bool begun = state_tier_begun(r, u, &where), ok = true;
    if (begun && (!folder || strcmp(folder, where))) ok = fail_elsewhere(r, u, where, st);
    if (!begun && r->machine.options.state && !access(partial, F_OK))
        ok = fail(st, "%s was begun without --state (%s): go on without, or take that away, and the stage starts again",
                  u->name, partial);
    free(where);
    free(folder);
    return ok;
}

/* The run's own id where its marker and the manifest agree; a new one where neither is there. */
static bool same_run(UnitRun *u, const char *path, Status *st)
{
    StateTier *s = u->tier;
    const Json *about = state_file_about(part_state_file(s->parts));
    Json *marker = marker_read(u->run, u->unit, st);
    bool ok = !st->failed;
    const char *there = json_get_string(about, "id", NULL), *mine = json_get_string(marker, "id", NULL);
    if (ok && there && (!mine || strcmp(mine, there)))
        ok = fail(st, "%s.json is the state of another run; choose another folder with --state, or take it away", path);
    if (ok && mine) snprintf(s->id, sizeof s->id, "%.39s", mine);
    else if (ok) new_id(s->id);
    json_free(marker);
    if (ok && mine && !there)
        progress_note(u->run->progress, "%s: no state in %s: from its first step on", u->unit->name, path);
    return ok && (mine || marker_write(u->run, u->unit, s->id, st));
}

static void say_wear(const UnitRun *u, const ParamTable *t, bool reference)
{
    uint64_t written, disk = part_state_disk(t, reference, &written);
    progress_note(u->run->progress,
                  "%s: state in %s, %.3g GB; an update writes %.3g GB, so a drive of %d TBW bears %.3g updates",
                  u->unit->name, u->run->machine.options.state, (double)disk / 1e9, (double)written / 1e9, PLAN_TBW,
                  PLAN_TBW * 1e12 / (double)written);
}

/* The file that frozen weights come from, as far as they do: null where there is none. */
static Json *base_json(const Policy *p)
{
    CheckpointMeta meta = {0};
    policy_base(p, &meta);
    Json *o = meta.base ? json_new_object() : NULL;
    if (o) json_set(o, "path", json_new_text(meta.base->path));
    if (o) json_set(o, "sha256", json_new_text(meta.base->sha256));
    free(meta.held);
    return o;
}

/* Whether the frozen weights are those that the state was made beside. */
static bool same_base(const UnitRun *u, const Json *about, const char *path, Status *st)
{
    const Json *then = json_get(about, "base");
    Json *now = base_json(u->policy);
    const char *was = json_get_string(then, "sha256", ""), *is = json_get_string(now, "sha256", "");
    bool same = !then || !strcmp(was, is);
    if (!same)
        fail(st,
             "%s.json was made beside the frozen weights of %s, fingerprint %.12s, and they are %.12s now: put those "
             "back, or take the state away, and the stage starts again",
             path, json_get_string(then, "path", "another model"), was, is[0] ? is : "another model's");
    json_free(now);
    return same;
}

static bool take_about(UnitRun *u, const Json *about, const char *path, Status *st)
{
    CheckpointMeta meta = {.recipe = (char *)json_get_string(about, "recipe", "")};
    snprintf(meta.stage, sizeof meta.stage, "%.63s", u->unit->name);
    if (!run_owns(u->run, &meta, path, st) ||
        !unit_same_machine(u, json_get_string(about, "machine_kind", ""), path, st) || !same_base(u, about, path, st))
        return false;
    u->policy->optimizer_step = json_integer(json_get(about, "optimizer_step"));
    u->step = json_integer(json_get(about, "step"));
    u->cursor = json_integer(json_get(about, "cursor"));
    u->tokens_trained = json_integer(json_get(about, "tokens_trained"));
    u->tokens_sampled = json_integer(json_get(about, "tokens_sampled"));
    u->seconds = json_number(json_get(about, "seconds"));
    return unit_take_extra(u, json_copy(json_get(about, "state")), st);
}

/* The weights where the unit stopped; its reference policy too. */
static bool take_weights(UnitRun *u, Status *st)
{
    Policy *p = u->policy;
    if (part_state_has_reference(u->tier->parts)) policy_reference_set(p); /* its frozen weights are the policy's */
    if (!part_state_load(u->tier->parts, &p->reference, st)) return false;
    u->tier->references = p->references;
    policy_weights_changed(p);
    return true;
}

static bool resume(UnitRun *u, const char *path, Status *st)
{
    char note[512];
    StateFile *file = part_state_file(u->tier->parts);
    if (!state_file_verify(file, note, st)) return false;
    if (note[0]) progress_note(u->run->progress, "%s: %s", u->unit->name, note);
    return take_about(u, state_file_about(file), path, st) && take_weights(u, st);
}

bool state_tier_open(UnitRun *u, Status *st)
{
    const Run *r = u->run;
    const char *folder = r->machine.options.state;
    Policy *p = u->policy;
    if (!folder) return true;
    if (!p->engine.ops->device.host)
        return fail(st, "--state keeps moments beside the process's memory and works with --device cpu alone");
    bool reference = r->plans[u->unit->stage_index].reference > 0;
    u->tier = calloc(1, sizeof *u->tier);
    CHECK(u->tier);
    char *path = state_path(folder, u->unit);
    u->tier->parts = part_state_open(path, &p->engine.table, &p->weights, reference, st);
    bool ok = u->tier->parts && same_run(u, path, st);
    if (ok) part_state_rests(u->tier->parts, policy_rest(p));
    if (ok) p->store = part_state_store(u->tier->parts);
    if (ok && state_file_about(part_state_file(u->tier->parts))) ok = resume(u, path, st);
    if (ok) say_wear(u, &p->engine.table, reference);
    free(path);
    return ok;
}

/* ---- Saving ---- */

static Json *about_json(const UnitRun *u, Json *state)
{
    const Policy *p = u->policy;
    Json *o = json_new_object();
    json_set(o, "id", json_new_text(u->tier->id));
    json_set(o, "stage", json_new_text(u->unit->name));
    json_set(o, "step", json_new_int(u->step));
    json_set(o, "cursor", json_new_int(u->cursor));
    json_set(o, "tokens_trained", json_new_int(u->tokens_trained));
    json_set(o, "tokens_sampled", json_new_int(u->tokens_sampled));
    json_set(o, "optimizer_step", json_new_int(p->optimizer_step));
    json_set(o, "seconds", json_new_number(u->seconds));
    json_set(o, "machine_kind", json_new_text(p->engine.ops->machine_kind(p->engine.backend)));
    json_set(o, "recipe", json_new_text(u->run->recipe_text));
    Json *base = base_json(p);
    if (base) json_set(o, "base", base);
    json_set(o, "state", state);
    return o;
}

bool state_tier_save(UnitRun *u, Json *state, Status *st)
{
    StateTier *s = u->tier;
    Policy *p = u->policy;
    const char *before = ops_clocked_phase(u->run->machine.times, "checkpoint");
    bool changed = p->reference.plain && p->references != s->references;
    Json *about = about_json(u, state);
    bool ok = part_state_rest(s->parts, changed ? &p->reference : NULL, st);
    if (ok) ok = state_file_commit(part_state_file(s->parts), about, st);
    else json_free(about);
    if (ok) s->references = p->references;
    ops_clocked_phase(u->run->machine.times, before);
    return ok;
}

void state_tier_close(UnitRun *u)
{
    if (!u->tier) return;
    if (u->policy) u->policy->store = NULL;
    if (u->tier->parts) {
        StateCounts c = state_file_counts(part_state_file(u->tier->parts));
        if (u->run->machine.options.verbose)
            progress_note(u->run->progress, "%s: state: %.3f GB read, %.3f GB written in %.1f s, updates waited %.1f s",
                          u->unit->name, (double)c.read / 1e9, (double)c.written / 1e9, c.seconds,
                          part_state_waited(u->tier->parts));
        part_state_close(u->tier->parts);
    }
    free(u->tier);
    u->tier = NULL;
}
