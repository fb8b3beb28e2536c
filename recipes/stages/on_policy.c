/* distill with `objective: on_policy`: the student samples, the teacher's distribution of every sampled token corrects it by
 * KL(student || teacher) over the whole vocabulary (arXiv:2306.13649, algorithm 1 with lambda 1; the samples themselves carry no
 * gradient). A step samples `batch` completions and makes one update. */
#include <stdlib.h>

#include "core/base/check.h"
#include "core/ops/ops_clocked.h"
#include "core/policy.h"
#include "recipes/model/prompts.h"
#include "recipes/run/counts.h"
#include "recipes/run/models.h"
#include "recipes/run/sources.h"
#include "recipes/stages/sft_step.h"
#include "recipes/stages/stage_list.h"
#include "recipes/stages/step.h"

typedef struct OnPolicy {
    CorpusSpec mix;
    Teacher teacher;
    BatchBuilder batch;
} OnPolicy;

bool teacher_open(UnitRun *u, Teacher *out, Status *st)
{
    const RecipeStage *s = u->unit->stage;
    out->forward = s->objective == OBJECTIVE_FORWARD_KL;
    out->policy = run_frozen_policy(u->run, s, s->sample_from, NULL, st);
    if (!out->policy) return fail_prefix(st, "the teacher of %s", s->name);
    if (out->policy->config.V == u->policy->config.V) return true;
    return fail(st,
                "the teacher of %s has a vocabulary of %d tokens and the student one of %d: to learn its "
                "distribution they must share one; take objective: text",
                s->name, out->policy->config.V, u->policy->config.V);
}

void teacher_close(UnitRun *u, Teacher *t)
{
    run_frozen_free(u->run, t->policy);
    t->policy = NULL;
}

/* Prompts of a step: `batch` completions, `samples` of each. */
static int prompts_of(const RecipeStage *s, int64_t step)
{
    int n = batch_at(&s->batch, step) / s->samples;
    return n > 0 ? n : 1;
}

static bool on_policy_open(UnitRun *u, Status *st)
{
    const RecipeStage *s = u->unit->stage;
    OnPolicy *o = calloc(1, sizeof *o);
    CHECK(o != NULL);
    u->self = o;
    if (!run_reasoning(u->run, s, &o->mix, st) || !teacher_open(u, &o->teacher, st)) return false;
    double prompts = s->epochs * s->sample_prompts, drawn = 0;
    while (s->steps == 0 && drawn < prompts) drawn += prompts_of(s, ++u->total);
    if (s->steps > 0) u->total = s->steps;
    for (int64_t step = 1; s->steps > 0 && step <= u->total; step++) drawn += prompts_of(s, step);
    counts_add_mix(u, &o->mix, drawn, false);
    return true;
}

static RolloutSpec rollout_spec(const UnitRun *u, int n)
{
    const RecipeStage *s = u->unit->stage;
    RolloutSpec spec = {.slots = n < ROLLOUT_SLOTS ? n : ROLLOUT_SLOTS,
                        .samples = s->samples,
                        .max_tokens = s->rl.max_tokens,
                        .sampling = {.temperature = (float)s->sample_temperature, .top_p = 1},
                        .seed = u->run->recipe->seed,
                        .stage = unit_rng_stage(u->run, u->unit),
                        .step = (uint32_t)u->step,
                        .purpose = RNG_ROLLOUT,
                        .cancel = u->run->cancel};
    voice_rollout(&u->run->voice, &spec);
    return spec;
}

static void add_completion(BatchBuilder *b, const RolloutPrompt *p, const Completion *c)
{
    Ids ids = {0};
    for (int i = 0; i < p->n; i++) ids_push(&ids, p->ids[i]);
    for (int i = 0; i < c->n; i++) ids_push(&ids, c->ids[i]);
    batch_add(b, ids.ids, ids.n, p->n);
    free(ids.ids);
}

/* The student's completions of the next n prompts as a batch. */
static bool sample(UnitRun *u, OnPolicy *o, int n, Json *metrics, Status *st)
{
    int k = u->unit->stage->samples, all = n * k, truncated = 0;
    PromptSet set;
    RolloutStats stats = {0};
    if (!prompts_draw(&set, &u->run->voice, &o->mix, run_seed(u->run, u->unit), SPLIT_TRAIN, (uint64_t)u->cursor, n,
                      st))
        return false;
    Completion *c = calloc((size_t)all, sizeof *c);
    CHECK(c != NULL);
    RolloutSpec spec = rollout_spec(u, all);
    const char *before = ops_clocked_phase(u->run->machine.times, "rollout");
    bool ok =
        prompts_ask(&set, st) && rollout_run(u->policy->sampler, &u->policy->w, &spec, set.prompts, n, c, &stats, st);
    ops_clocked_phase(u->run->machine.times, before);
    batch_reset(&o->batch);
    for (int i = 0; i < all && ok; i++) {
        add_completion(&o->batch, &set.prompts[i / k], &c[i]);
        truncated += c[i].truncated;
    }
    free(c);
    prompts_free(&set);
    if (!ok) return false;
    u->cursor += n;
    u->tokens_sampled += stats.tokens;
    u->flops += forward_flops(u->policy, stats.tokens + stats.prefill_tokens);
    json_set(metrics, "length", json_new_number((double)stats.tokens / all));
    json_set(metrics, "truncated", json_new_number((double)truncated / all));
    return true;
}

static bool on_policy_step(UnitRun *u, Json *metrics, bool *done, Status *st)
{
    (void)done;
    OnPolicy *o = u->self;
    const RecipeStage *s = u->unit->stage;
    if (!sample(u, o, prompts_of(s, u->step + 1), metrics, st)) return false;
    return sft_update(u, &o->batch, stage_rate(s, s->optim.lr, u->step + 1, u->total), &o->teacher, metrics, st);
}

static void on_policy_close(UnitRun *u)
{
    OnPolicy *o = u->self;
    if (!o) return;
    teacher_close(u, &o->teacher);
    batch_free(&o->batch);
    free(o);
}

const UnitKind unit_on_policy = {
    .verb = "train", .open = on_policy_open, .step = on_policy_step, .close = on_policy_close};
