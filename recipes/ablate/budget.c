/* The pilot run, and what its times say. */
#include "recipes/ablate/budget.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/check.h"
#include "data/json.h"
#include "recipes/ablate/jobs.h"
#include "recipes/ablate/results.h"
#include "recipes/run/run_folder.h"

enum { PILOT_SETS = 12 * RECIPE_STAGES };

/* Standard deviations that are assumed before anything was measured: of a problem's difference of shares over its
 * samples, and of seeds (tests/ablate/evals.txt: 0.15 and 0.02 between equal arms; arms that differ lie further
 * apart). */
static const double PROBLEM_SD = 0.25, SEED_SD = 0.02;
static const double SHORTEST = 0.2; /* share of a stage's steps that must be left */

typedef struct Cost {
    double shared, own; /* seconds of a run: what all arms share, what each does itself */
} Cost;

/* ---- The pilot ---- */

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

/* Pretraining goes on until completions end by themselves (20 steps leave a policy that always samples to the limit, which made
 * tiny's RL look 2 to 3 times as long). */
static int pilot_steps(const RecipeStage *s)
{
    int twentieth = s->steps / 20;
    if (s->kind == STAGE_PRETRAIN) return smaller(s->steps, twentieth < 20 ? 20 : smaller(twentieth, 300));
    return s->kind == STAGE_RL ? smaller(s->steps, 3) : 3;
}

static int pilot_evaluation(const Recipe *r)
{
    int families = r->tasks.n > 0 ? r->tasks.n : 1, n = r->eval.n / 10;
    return n > families ? n : families;
}

typedef struct PilotSets {
    char text[PILOT_SETS][160];
    int n;
} PilotSets;

static void pilot_set(PilotSets *p, const char *stage, const char *key, int value)
{
    CHECK(p->n < PILOT_SETS);
    snprintf(p->text[p->n++], sizeof p->text[0], "%s.%s=%d", stage, key, value);
}

static void pilot_sets(PilotSets *p, const Recipe *r)
{
    pilot_set(p, "eval", "n", pilot_evaluation(r));
    pilot_set(p, "eval", "general_n", smaller(r->eval.general_n, 4));
    for (int i = 0; i < r->n_stages; i++) {
        const RecipeStage *s = &r->stages[i];
        pilot_set(p, s->name, "steps", pilot_steps(s));
        pilot_set(p, s->name, "eval_every", 0);
        if (s->kind == STAGE_SFT && s->traces > 0) pilot_set(p, s->name, "traces", smaller(s->traces, 96));
        if (s->kind == STAGE_SFT && s->stop_at_pass1[0] > 0)
            snprintf(p->text[p->n++], sizeof p->text[0], "%s.stop_at_pass1=[0, 1]", s->name);
        if (s->kind == STAGE_REJECTION || s->kind == STAGE_DISTILL) pilot_set(p, s->name, "sample_prompts", 64);
        if (s->kind == STAGE_DISTILL) snprintf(p->text[p->n++], sizeof p->text[0], "%s.rival_lrs=[]", s->name);
        if (s->kind == STAGE_REWARD_MODEL || (s->kind == STAGE_DPO && s->pairs > 0))
            pilot_set(p, s->name, "pairs", smaller(s->pairs, 64));
        if (s->kind == STAGE_REWARD_MODEL) pilot_set(p, s->name, "safety_examples", smaller(s->safety_examples, 64));
    }
}

static bool run_pilot(const Ablation *a, const Recipe *r, int threads, const char *folder, const volatile int *cancel,
                      Status *st)
{
    PilotSets *p = calloc(1, sizeof *p);
    Job job = {.state = JOB_WAITING};
    char number[16], log[FOLDER + 32];
    CHECK(p);
    pilot_sets(p, r);
    snprintf(number, sizeof number, "%d", threads);
    snprintf(log, sizeof log, "%s.log", folder);
    job_arg(&job, "run");
    job_arg(&job, a->recipe_file);
    if (a->device) job_arg(&job, "--device"), job_arg(&job, a->device);
    for (int i = 0; i < a->n_shared; i++) job_arg(&job, "--set"), job_arg(&job, a->shared[i]);
    for (int i = 0; i < p->n && job.n_args < JOB_ARGS - 12; i++) job_arg(&job, "--set"), job_arg(&job, p->text[i]);
    const char *const rest[] = {"--out", folder, "--only", a->until, "--threads", number, "--quiet"};
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) job_arg(&job, rest[i]);
    job.log = log;
    bool ok = jobs_run(&job, 1, 1, NULL, NULL, cancel, st);
    free(p);
    return ok ? true : fail_prefix(st, "the pilot of --minutes");
}

/* ---- What it took ---- */

/* Steps that a stage will take; for stages that learn from samples at most. */
static double steps_of(const RecipeStage *s)
{
    double documents = s->kind == STAGE_SFT            ? s->traces
                       : s->kind == STAGE_REWARD_MODEL ? s->pairs + s->safety_examples
                       : s->kind == STAGE_DPO          ? s->pairs
                                                       : (double)s->sample_prompts * s->keep * (1 + s->general_ratio);
    return s->steps > 0 ? s->steps : (double)batch_steps(&s->batch, s->epochs * documents);
}

/* Seconds of work of a unit in the pilot, and of its evaluation. */
static void unit_seconds(const Json *lines, const char *unit, double *work, double *evaluation)
{
    double last_wall = NAN;
    *work = *evaluation = 0;
    for (size_t i = 0; i < json_count(lines); i++) {
        const Json *line = json_at(lines, i);
        if (strcmp(json_get_string(line, "stage", ""), unit)) continue;
        double wall = json_get_number(line, "wall"), seconds = json_get_number(line, "seconds");
        if (!isnan(seconds)) *work = seconds;
        if (json_get(line, "eval") && !isnan(last_wall)) *evaluation += wall - last_wall;
        last_wall = wall;
    }
}

static double stage_seconds(const Json *lines, const Recipe *r, const RecipeStage *s)
{
    double work, evaluation, sampling, ignored;
    char samples[RECIPE_NAME + 16];
    snprintf(samples, sizeof samples, "%s.samples", s->name);
    unit_seconds(lines, samples, &sampling, &ignored);
    unit_seconds(lines, s->name, &work, &evaluation);
    double steps = steps_of(s), quick = 0;
    if (s->eval_every > 0)
        quick = floor(steps / s->eval_every) * r->eval.quick_n * r->eval.quick_k / ((double)r->eval.n * r->eval.k);
    double whole = evaluation * r->eval.n / pilot_evaluation(r);
    double rival = s->kind == STAGE_DISTILL ? 1 + s->n_rival_lrs : 1; /* a rival has the FLOPs of the others together */
    return rival * (work / pilot_steps(s) * steps + sampling * s->sample_prompts / 64) + whole * (1 + quick);
}

/* Index of the first stage that a setting of an arm can change. */
static int first_own(const Ablation *a, const Recipe *r)
{
    int first = r->n_stages;
    for (int i = 0; i < a->n_arms; i++)
        for (int k = 0; k < a->arms[i].n; k++) {
            char name[RECIPE_NAME];
            snprintf(name, sizeof name, "%.*s", (int)strcspn(a->arms[i].sets[k], ".="), a->arms[i].sets[k]);
            int at = recipe_stage_index(r, name);
            first = smaller(first, at < 0 ? 0 : at);
        }
    return first;
}

static Cost cost_of(const Ablation *a, const Recipe *r, const Json *lines)
{
    Cost c = {0, 0};
    int first = first_own(a, r), last = recipe_stage_index(r, a->until);
    for (int i = 0; i <= last; i++) *(i < first ? &c.shared : &c.own) += stage_seconds(lines, r, &r->stages[i]);
    return c;
}

/* ---- The plan ---- */

static double seconds_needed(const Ablation *a, const Cost *c, int seeds, double share, int jobs)
{
    double work = seeds * (c->shared + a->n_arms * share * c->own), longest = c->shared + share * c->own;
    return fmax(work / jobs, longest);
}

static void shorten(Ablation *a, const Recipe *r, double share)
{
    int first = first_own(a, r), last = recipe_stage_index(r, a->until);
    for (int i = first; i <= last && a->n_shared < ARM_SETS; i++) {
        if (r->stages[i].steps < 1) continue;
        int steps = (int)fmax(1, floor(share * r->stages[i].steps));
        snprintf(a->shared[a->n_shared++], SET_TEXT, "%s.steps=%d", r->stages[i].name, steps);
        fprintf(stderr, "%s: %d of its %d steps, so that two seeds fit\n", r->stages[i].name, steps,
                r->stages[i].steps);
    }
}

static bool choose(Ablation *a, const Recipe *r, const Cost *c, double minutes, int jobs, Status *st)
{
    int seeds = 2;
    double share = 1, budget = 60 * minutes;
    while (seeds < BUDGET_SEEDS && seconds_needed(a, c, seeds + 1, 1, jobs) <= budget) seeds++;
    if (seconds_needed(a, c, 2, 1, jobs) > budget) {
        while (share > SHORTEST && seconds_needed(a, c, 2, share, jobs) > budget) share -= 0.01;
        if (seconds_needed(a, c, 2, share, jobs) > budget)
            return fail(st,
                        "%d arms under two seeds take about %.1f minutes (%.1f with a fifth of the steps): give more "
                        "--minutes, fewer arms or an earlier --until",
                        a->n_arms, seconds_needed(a, c, 2, 1, jobs) / 60, seconds_needed(a, c, 2, SHORTEST, jobs) / 60);
        shorten(a, r, share);
    }
    a->n_seeds = seeds;
    for (int i = 1; i < seeds; i++) a->seeds[i] = a->seeds[0] + (uint32_t)i;
    fprintf(stderr,
            "plan: %d arms x %d seeds, about %.1f of %g minutes (%.0f s a seed that arms share, %.0f s an arm)\n",
            a->n_arms, seeds, seconds_needed(a, c, seeds, share, jobs) / 60, minutes, c->shared, share * c->own);
    fprintf(
        stderr,
        "what can be resolved: differences of about %.1f points of pass@1, in 9 of 10 cases (%d problems; assumes that "
        "equal arms differ by %.0f points between seeds)\n",
        100 * stats_resolvable(PROBLEM_SD, SEED_SD, seeds, r->eval.n), r->eval.n, 100 * SEED_SD);
    return true;
}

/* ---- The plan on disk, so that the same command again goes on with it ---- */

static void plan_path(const Ablation *a, char out[FOLDER + 32])
{
    snprintf(out, FOLDER + 32, "%s/plan.json", a->out);
}

static bool save_plan(const Ablation *a, int first_shared, Status *st)
{
    char path[FOLDER + 32];
    Json *o = json_new_object(), *sets = json_new_array();
    for (int i = first_shared; i < a->n_shared; i++) json_append(sets, json_new_text(a->shared[i]));
    json_set(o, "seeds", json_new_int(a->n_seeds));
    json_set(o, "settings", sets);
    plan_path(a, path);
    bool ok = json_write_file(o, path, st);
    json_free(o);
    return ok;
}

static bool load_plan(Ablation *a)
{
    char path[FOLDER + 32];
    Status ignored = {0};
    plan_path(a, path);
    Json *o = access(path, F_OK) ? NULL : json_read(path, &ignored);
    const Json *sets = json_get(o, "settings");
    int64_t seeds = json_integer(json_get(o, "seeds"));
    bool ok = seeds >= 1 && seeds <= STATS_SEEDS;
    for (size_t i = 0; ok && i < json_count(sets) && a->n_shared < ARM_SETS; i++)
        snprintf(a->shared[a->n_shared++], SET_TEXT, "%s", json_string(json_at(sets, i), NULL));
    for (int i = 0; ok && i < seeds; i++) a->seeds[i] = a->seeds[0] + (uint32_t)i;
    if (ok) a->n_seeds = (int)seeds;
    if (ok) fprintf(stderr, "plan: %d seeds, as %s has it\n", a->n_seeds, path);
    json_free(o);
    return ok;
}

bool budget_plan(Ablation *a, double minutes, int jobs, Sharing *sharing, const volatile int *cancel, Status *st)
{
    char folder[FOLDER];
    int shared = a->n_shared;
    if (load_plan(a)) return true;
    Recipe *r = arm_recipe(a, &a->arms[0], a->seeds[0], st);
    if (!r) return false;
    if (jobs) *sharing = (Sharing){.jobs = jobs, .threads = jobs_processors() / jobs};
    bool ok = jobs || schedule_measure(a, 2 * a->n_arms, sharing, cancel, st);
    if (sharing->threads < 1) sharing->threads = 1;
    snprintf(folder, sizeof folder, "%.900s/.pilot", a->out);
    if (ok && run_pilot(a, r, sharing->threads, folder, cancel, st)) {
        Json *lines = run_read_lines(folder, "metrics.jsonl");
        Cost c = cost_of(a, r, lines);
        ok = choose(a, r, &c, minutes, sharing->jobs, st) && save_plan(a, shared, st);
        json_free(lines);
    } else {
        ok = false;
    }
    free(r);
    return ok;
}
