/* Evaluations of a unit's policy, during its steps and after them. */
#include "recipes/run/unit_eval.h"

#include <stdlib.h>

#include "recipes/model/eval_numbers.h"
#include "recipes/model/needle_grid.h"
#include "core/ops/ops_clocked.h"
#include "recipes/run/counts.h"
#include "recipes/run/eval_rows.h"
#include "recipes/run/progress.h"
#include "recipes/run/run_folder.h"
#include "recipes/run/sources.h"

/* Whom an evaluation tells about its samples; NULL: nobody. */
typedef struct Listener {
    EvalSample on_sample;
    void *ctx;
} Listener;

EvalSpec unit_eval_spec(const Run *r, bool quick, const CorpusSpec *reasoning, const CorpusSpec *general)
{
    const RecipeEval *e = &r->recipe->eval;
    int n = quick ? e->quick_n : e->n, families = reasoning->n_sources > 0 ? reasoning->n_sources : 1;
    EvalSpec spec = {.reasoning = reasoning,
                     .general = quick ? NULL : general,
                     .n = (n + families - 1) / families,
                     .file_n = (n + families - 1) / families,
                     .k = quick ? e->quick_k : e->k,
                     .general_n = e->general_n,
                     .temperature = e->temperature,
                     .top_p = e->top_p,
                     .max_tokens = e->max_tokens,
                     .shots = e->shots,
                     .seed = r->recipe->seed,
                     .slots = ROLLOUT_SLOTS,
                     .cancel = r->cancel};
    if (e->effort[0]) effort_read(e->effort, e->max_tokens, &spec.effort);
    return spec;
}

/* On the tasks of the unit's stage. quick: the short one. */
static bool run_evaluate(UnitRun *u, bool quick, const Listener *listener, EvalResult *out, Status *st)
{
    Run *r = u->run;
    const RecipeTasks *tasks = recipe_tasks(r->recipe, u->unit->stage);
    const char *names[RECIPE_TASKS], *general_names[RECIPE_TASKS];
    CorpusSpec reasoning, general;
    if (!run_reasoning(r, u->unit->stage, &reasoning, st) || !run_general(r, &general, st)) return false;
    for (int i = 0; i < tasks->n; i++) names[i] = tasks->list[i].name;
    for (int i = 0; i < r->recipe->general.n; i++) general_names[i] = r->recipe->general.list[i].name;
    EvalSpec spec = unit_eval_spec(r, quick, &reasoning, &general);
    spec.names = names;
    spec.general_names = general_names;
    if (listener) spec.on_sample = listener->on_sample, spec.on_sample_ctx = listener->ctx;
    counts_say_evaluation(u, &spec);
    const char *before = ops_clocked_phase(r->machine.times, "evaluation");
    bool ok = evaluate(u->policy, &r->voice, &spec, out, st);
    ops_clocked_phase(r->machine.times, before);
    return ok;
}

bool unit_reached(const RecipeStage *s, double pass1)
{
    return s->kind == STAGE_SFT && s->stop_at_pass1[0] > 0 && pass1 >= s->stop_at_pass1[0];
}

/* A quick evaluation during a stage; *stop when an SFT stage has reached what its recipe asks for. */
bool unit_evaluate_during(UnitRun *u, bool *stop, Status *st)
{
    const RecipeStage *s = u->unit->stage;
    EvalResult e;
    if (!run_evaluate(u, true, NULL, &e, st)) return false;
    u->run->last_pass1 = e.all.pass1;
    Json *line = json_new_object();
    json_set(line, "eval", eval_json(&e));
    eval_result_free(&e);
    double pass1 = u->run->last_pass1;
    if (unit_reached(s, pass1)) {
        *stop = true;
        if (pass1 > s->stop_at_pass1[1])
            progress_note(u->run->progress,
                          "%s stopped at pass@1 %.1f %%, above the %.0f %% asked for: evaluate more often",
                          u->unit->name, 100 * pass1, 100 * s->stop_at_pass1[1]);
    }
    return run_metrics_append(u->run->folder, u->unit->name, u->step, line, st);
}

/* The first sample of each family's first problems: what the report shows. */
typedef struct SampleKeeper {
    Json *list;
    EvalRows *rows; /* all of them, problem by problem */
    NeedleGrid needles;
    const Task *task; /* the family they came from last, and how many it gave */
    int level, given;
} SampleKeeper;

enum { SAMPLES_A_FAMILY = 4 };

static void keep_sample(void *ctx, int sample, const JudgedText *judged)
{
    SampleKeeper *k = ctx;
    const Problem *p = judged->problem;
    needle_grid_add(&k->needles, judged);
    eval_rows_add(k->rows, p, sample, judged->completion, judged->verdict);
    if (sample != 0) return;
    bool same = p->task == k->task && (p->kind != KIND_REASONING || p->level == k->level);
    k->given = same ? k->given + 1 : 1;
    k->task = p->task;
    k->level = p->level;
    if (k->given > SAMPLES_A_FAMILY) return;
    Json *o = json_new_object();
    json_set(o, "prompt", json_new_text(p->prompt));
    json_set(o, "completion", json_new_text(judged->completion));
    json_set(o, "answer", json_new_text(p->answer));
    json_set(o, "correct", json_new_bool(judged->verdict.score >= 1));
    json_set(o, "reason", json_new_text(reason_name(judged->verdict.reason)));
    json_append(k->list, o);
}

static bool write_evaluation(UnitRun *u, const EvalResult *e, SampleKeeper *keeper, Json *entry, Status *st)
{
    progress_note(u->run->progress,
                  "%s: pass@1 %.1f %% +- %.1f, cons@%d %.1f, pass@%d %.1f, format %.0f, language %.0f, length %.1f",
                  u->unit->name, 100 * e->all.pass1, 100 * e->all.se, e->all.k, 100 * e->all.consk, e->all.k,
                  100 * e->all.passk, 100 * e->all.format, 100 * e->all.language, e->all.length);
    Json *line = json_new_object();
    json_set(line, "eval", eval_json(e));
    json_set(entry, "eval", eval_json(e));
    Json *needles = needle_grid_json(&keeper->needles);
    if (needles) json_set(entry, "needle", needles);
    bool ok = eval_rows_write(keeper->rows, e, u->run, u->unit->name, st) &&
              run_samples_write(u->run->folder, u->unit->name, json_copy(keeper->list), st);
    if (ok) return run_metrics_append(u->run->folder, u->unit->name, u->step, line, st);
    json_free(line);
    return false;
}

bool unit_evaluate_after(UnitRun *u, Json *entry, Status *st)
{
    SampleKeeper keeper = {.list = json_new_array(), .rows = eval_rows_new(u->run->tokenizer, u->run->recipe->eval.k)};
    EvalResult e;
    const Listener listener = {keep_sample, &keeper};
    bool ok = run_evaluate(u, false, &listener, &e, st);
    if (ok) {
        ok = write_evaluation(u, &e, &keeper, entry, st);
        eval_result_free(&e);
    }
    eval_rows_free(keeper.rows);
    json_free(keeper.list);
    return ok;
}
