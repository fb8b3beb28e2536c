/* From a recipe's stages to the largest step each will make. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/model_file.h"
#include "core/base/check.h"
#include "core/rollout/routes.h"
#include "recipes/plan/placement.h"
#include "recipes/plan/plan.h"
#include "recipes/plan/plan_stages.h"
#include "recipes/plan/rates.h"
#include "recipes/model/prompts.h"
#include "recipes/model/train_select.h"
#include "recipes/run/models.h"
#include "recipes/run/run.h"
#include "recipes/run/sources.h"
#include "recipes/stages/pairs.h"
#include "recipes/stages/samples.h"
#include "recipes/stages/stage_list.h"
#include "recipes/stages/step.h"

enum { PLAN_PROBLEMS = 256 };

/* The config of the model a name stands for: a stage before, or a file, of which only the head is read. */
static bool config_of_name(Run *r, const char *from, ModelConfig *out, Status *st);

static bool start_config(Run *r, const RecipeStage *s, ModelConfig *out, Status *st)
{
    const RecipeModel *block = s->model == BLOCK_STUDENT ? &r->recipe->student : &r->recipe->model;
    const char *from = s->from[0] ? s->from : block->from;
    if (from[0])
        return config_of_name(r, from, out, st) &&
               (out->lora.rank || recipe_lora(r->recipe, out, st) || fail_prefix(st, "%s", from));
    return recipe_model_config(block, tokenizer_vocab(r->tokenizer), tokenizer_bos(r->tokenizer),
                               tokenizer_eos(r->tokenizer), out, st);
}

static bool config_of_stage(Run *r, const RecipeStage *s, ModelConfig *out, Status *st)
{
    if (!start_config(r, s, out, st)) return false;
    return s->extend <= 1 || config_extend(out, s->extend, st) || fail_prefix(st, "stage %s: extend", s->name);
}

static bool config_of_name(Run *r, const char *from, ModelConfig *out, Status *st)
{
    const RecipeStage *stage = recipe_stage_of(r->recipe, from);
    if (stage) return config_of_stage(r, stage, out, st);
    LoadedModel *m = model_open(run_model_file(r, from), 0, st);
    if (!m) return false;
    *out = m->config;
    model_close(m);
    return true;
}

/* Tokens of `count` sequences whose lengths have this mean and deviation: one step in some thousand has more. */
static double tokens_of(int count, double mean, double deviation, int longest)
{
    double tokens = count * mean + 3.5 * sqrt(count) * deviation, most = (double)count * longest;
    return ceil(tokens < most ? tokens : most);
}

typedef struct Lengths {
    double sum, squares;
    int n, longest;
} Lengths;

static void add_length(Lengths *l, int n)
{
    l->sum += n;
    l->squares += (double)n * n;
    l->n++;
    if (n > l->longest) l->longest = n;
}

static double mean_of(const Lengths *l)
{
    return l->n ? l->sum / l->n : 0;
}

static double deviation_of(const Lengths *l)
{
    double mean = mean_of(l), variance = l->n ? l->squares / l->n - mean * mean : 0;
    return variance > 0 ? sqrt(variance) : 0;
}

/* predicted: of the documents' part that is trained on. */
static Lengths document_lengths(const Run *r, const CorpusSpec *c, const RecipeStage *s, Lengths *predicted, Status *st)
{
    int max_length = s->max_length > 0 ? s->max_length : 1 << 24;
    Turns turns = s->kind == STAGE_PRETRAIN ? TURNS_WHOLE : s->train_turns;
    Lengths l = {0};
    *predicted = (Lengths){0};
    for (int i = 0; i < PLAN_PROBLEMS && !st->failed; i++) {
        Document d;
        Sequences made = {0};
        corpus_document(&d, c, r->recipe->seed, (uint64_t)i);
        if (document_teaches(&d) && !document_encode(&r->voice, &d, turns, &made, st) && d.line)
            fail_prefix(st, "%s: line %d", c->sources[d.source].dataset->path, d.line);
        for (int k = 0; k < made.n; k++) {
            if (made.list[k].n > max_length) continue;
            add_length(&l, made.list[k].n);
            add_length(predicted, sequence_predicted(&made.list[k]));
        }
        sequences_free(&made);
        document_free(&d);
    }
    return l;
}

static Lengths prompt_lengths(const Run *r, const CorpusSpec *c, Status *st)
{
    Lengths l = {0};
    PromptSet set;
    if (!prompts_draw(&set, &r->voice, c, r->recipe->seed, SPLIT_TRAIN, 0, PLAN_PROBLEMS, st)) return l;
    for (int i = 0; i < set.n; i++) add_length(&l, set.prompts[i].n);
    prompts_free(&set);
    return l;
}

/* The batch is `sequences` of a mean length, so that N is what it will be. */
static bool train_on(PlanWork *w, const RecipeStage *s, int sequences, double tokens, double predicted, Status *st)
{
    if (tokens > PLAN_TOKENS)
        return fail(st,
                    "stage %s: an update of %d sequences has about %.3g tokens, more than the %d that are possible; "
                    "make it smaller (batch, prompts, group), or cut it with mini_batches",
                    s->name, sequences, tokens, PLAN_TOKENS);
    w->trains = true;
    w->sequences = sequences;
    w->length = (int)ceil(tokens / sequences);
    w->predicted = (int)ceil(predicted / sequences);
    if (w->predicted > w->length - 1) w->predicted = w->length - 1;
    return true;
}

static void roll(PlanWork *w, PlanRollout rollout)
{
    CHECK(w->n_rollouts < PLAN_ROLLOUTS);
    w->rollouts[w->n_rollouts++] = rollout;
}

/* The config of a critic that does not start as the policy does. */
static bool config_of_critic(Run *r, const char *from, ModelConfig *out, Status *st)
{
    if (!config_of_name(r, from, out, st)) return false;
    out->head = HEAD_SCALAR;
    out->mtp = out->mtp_layers = 0;
    return true;
}

/* What a frozen model takes from its engine's arena for the final states of so many tokens. */
static size_t forward_bytes(const Run *r, const ModelConfig *c, double tokens)
{
    return (size_t)(sizeof(float) * 3 * tokens * c->C) +
           layer_acts_bytes(c, c->L - 1, (size_t)tokens, r->machine.options.dtype);
}

/* Reward models, a helpful and a safety one, which read all completions of a step at once. */
static bool reward_models_work(Run *r, const RecipeStage *s, PlanWork *w, double tokens, Status *st)
{
    char name[RECIPE_PATH + 16];
    ModelConfig *c = &w->frozen.config;
    const RecipeRewards *rewards = s->rl.rewards.n ? &s->rl.rewards : &r->recipe->rewards;
    bool helpful = false, safety = false;
    for (int i = 0; i < rewards->n; i++) {
        helpful |= rewards->list[i].kind == REWARD_HELPFUL_RM;
        safety |= rewards->list[i].kind == REWARD_SAFETY_RM;
    }
    if (!s->reward_models[0] || !(helpful || safety)) return true;
    const RecipeStage *stage = recipe_stage_of(r->recipe, s->reward_models);
    snprintf(name, sizeof name, "%s.%s", s->reward_models, helpful ? "helpful" : "safety");
    if (!(stage ? config_of_stage(r, stage, c, st) : config_of_name(r, name, c, st))) return false;
    c->head = HEAD_SCALAR;
    c->mtp = c->mtp_layers = 0;
    w->frozen.n = helpful + safety;
    w->beside += (size_t)w->frozen.n * forward_bytes(r, c, tokens);
    return true;
}

static bool rl_work(Run *r, const RecipeStage *s, PlanWork *w, Status *st)
{
    const RecipeRl *rl = &s->rl;
    CorpusSpec mix;
    if (!run_mix(r, s, s->general_share, &mix, st)) return false;
    Lengths l = prompt_lengths(r, &mix, st);
    if (st->failed) return false;
    int all = rl->prompts * rl->group, parts = rl->mini_batches > 0 ? rl->mini_batches : 1,
        n = (all + parts - 1) / parts;
    double completions = (double)n * rl->max_tokens;
    if (!train_on(w, s, n, tokens_of(n, mean_of(&l), deviation_of(&l), l.longest) + completions, completions, st))
        return false;
    roll(w,
         (PlanRollout){rl->prompts, l.longest, rl->group, rl->max_tokens, ROLLOUT_SLOTS, rl->cache, rl->draft, true});
    w->entropy = true;
    w->reference = rl->beta > 0;
    if (rl->loss == GRPO_PPO) {
        w->critic = *w->config;
        w->critic.head = HEAD_SCALAR;
        w->critic.mtp = w->critic.mtp_layers = 0;
        if (s->critic_from[0] && !config_of_critic(r, s->critic_from, &w->critic, st)) return false;
    }
    w->exact_kl = w->reference; /* it is logged beside every estimator */
    if (rl->rollout_bf16 && r->machine.options.dtype == DTYPE_F32) {
        Machine half = r->machine;
        half.options.dtype = DTYPE_BF16;
        w->beside += plan_model_bytes(&half, w->config, true);
    }
    if (w->config->E &&
        (rl->replay_routing || rl->cache == CACHE_LATENT)) { /* the sampler's, the samples', the batch's */
        double kept = (double)all * rl->max_tokens + (double)rl->prompts * l.longest,
               batch = (double)n * rl->max_tokens;
        w->beside += routes_each(w->config) * (size_t)(4 * kept + 4 * (batch + (double)n * l.longest));
    }
    return reward_models_work(r, s, w, (double)all * (l.longest + rl->max_tokens), st);
}

static bool sft_work(Run *r, const RecipeStage *s, PlanWork *w, Status *st)
{
    CorpusSpec mix;
    bool pretrain = s->kind == STAGE_PRETRAIN;
    if (!run_mix(r, s, s->general_share, &mix, st)) return false;
    if (pretrain)
        for (int i = 0; i < STYLE_COUNT; i++) mix.styles[i] = (float)s->styles[i];
    Lengths predicted, l = document_lengths(r, &mix, s, &predicted, st);
    if (st->failed) return false;
    if (l.n == 0) add_length(&l, s->max_length);
    if (s->kind != STAGE_SFT || predicted.n == 0) predicted = l;
    int n = batch_largest(&s->batch) * (s->kind == STAGE_REWARD_MODEL ? 2 : 1);
    return train_on(w, s, n, tokens_of(n, mean_of(&l), deviation_of(&l), l.longest),
                    tokens_of(n, mean_of(&predicted), deviation_of(&predicted), predicted.longest), st);
}

/* A batch of pairs has two sequences a pair; the reference stands in memory with its states and logits. */
static bool pairs_work(Run *r, const RecipeStage *s, PlanWork *w, Status *st)
{
    CorpusSpec mix;
    Pairs pairs = {0};
    Lengths l = {0}, predicted = {0};
    if (!pairs_mix(r, s, &mix, st)) return false;
    int all = pairs_wanted(s, &mix), n = 2 * batch_largest(&s->batch);
    bool ok =
        pairs_add(&pairs, r, s, &mix, r->recipe->seed, SPLIT_TRAIN, all < PLAN_PROBLEMS ? all : PLAN_PROBLEMS, st);
    for (int i = 0; i < 2 * pairs.n; i++) {
        const Sequence *q = i % 2 ? &pairs.list[i / 2].rejected : &pairs.list[i / 2].chosen;
        add_length(&l, q->n);
        add_length(&predicted, sequence_predicted(q));
    }
    pairs_free(&pairs);
    if (!ok) return false;
    if (l.n == 0) add_length(&l, s->max_length), predicted = l;
    w->reference = w->exact_kl = true;
    return train_on(w, s, n, tokens_of(n, mean_of(&l), deviation_of(&l), l.longest),
                    tokens_of(n, mean_of(&predicted), deviation_of(&predicted), predicted.longest), st);
}

/* A teacher's weights, and its final states and logits beside the student's; on-policy the student samples before. */
static bool teacher_work(Run *r, const RecipeStage *s, PlanWork *w, Status *st)
{
    const ModelConfig *teacher = &w->frozen.config;
    CorpusSpec mix;
    if (!config_of_name(r, s->sample_from, &w->frozen.config, st)) return false;
    w->frozen.n = 1;
    double tokens = (double)w->sequences * w->length, rows = 4096;
    if (rows > (double)w->sequences * w->predicted) rows = (double)w->sequences * w->predicted;
    w->beside += forward_bytes(r, teacher, tokens) + (size_t)(sizeof(float) * rows * (teacher->V + teacher->C));
    if (s->objective != OBJECTIVE_ON_POLICY) return true;
    if (!run_reasoning(r, s, &mix, st)) return false;
    int n = batch_largest(&s->batch) / s->samples;
    roll(w, (PlanRollout){n > 0 ? n : 1, prompt_lengths(r, &mix, st).longest, s->samples, s->rl.max_tokens,
                          ROLLOUT_SLOTS, CACHE_EXACT, 0, true});
    return !st->failed;
}

/* Evaluations sample family by family, with a cache of their own in place of the rollouts'. */
static bool add_evaluation(Run *r, const RecipeStage *s, PlanWork *w, Status *st)
{
    const RecipeEval *e = &r->recipe->eval;
    CorpusSpec reasoning, general;
    if (s->kind == STAGE_REWARD_MODEL || !(s->eval_after || s->eval_every)) return true;
    if (!run_reasoning(r, s, &reasoning, st) || !run_general(r, &general, st)) return false;
    int longest = prompt_lengths(r, &reasoning, st).longest,
        families = reasoning.n_sources > 0 ? reasoning.n_sources : 1;
    PlanRollout full = {
        (e->n + families - 1) / families, longest, e->k, e->max_tokens, ROLLOUT_SLOTS, CACHE_EXACT, 0, false};
    PlanRollout quick = {(e->quick_n + families - 1) / families,
                         longest,
                         e->quick_k,
                         e->max_tokens,
                         ROLLOUT_SLOTS,
                         CACHE_EXACT,
                         0,
                         false};
    if (s->eval_after) roll(w, full);
    if (s->eval_every) roll(w, quick);
    if (s->eval_after && general.n_sources && e->general_n > 0)
        roll(w, (PlanRollout){e->general_n, prompt_lengths(r, &general, st).longest, 1, e->max_tokens, ROLLOUT_SLOTS,
                              CACHE_EXACT, 0, false});
    return !st->failed;
}

/* Policies that sample for a stage: their weights and a cache, before anything is trained. */
static bool samples_work(Run *r, const RecipeStage *s, ModelConfig *config, PlanWork *w, Status *st)
{
    CorpusSpec reasoning;
    if (!config_of_name(r, s->sample_from[0] ? s->sample_from : s->from, config, st)) return false;
    if (!run_reasoning(r, s, &reasoning, st)) return false;
    roll(w, (PlanRollout){SAMPLE_PROMPTS, prompt_lengths(r, &reasoning, st).longest, recipe_samples(s),
                          recipe_sample_tokens(r->recipe, s), SAMPLE_SLOTS, CACHE_EXACT, 0, false});
    return !st->failed;
}

/* The file that a unit's frozen weights are of, whatever stages come between; "": it begins with initial weights. */
static const char *file_of_unit(const Run *r, const Unit *u)
{
    const RecipeStage *s = u->stage, *before;
    if (u->kind->makes_samples && s->sample_from[0]) {
        s = recipe_stage_of(r->recipe, s->sample_from);
        if (!s) return u->stage->sample_from;
    }
    for (; s->from[0] && (before = recipe_stage_of(r->recipe, s->from)); s = before) continue;
    return s->from[0] ? s->from : (s->model == BLOCK_STUDENT ? &r->recipe->student : &r->recipe->model)->from;
}

/* Whether a unit's frozen weights may rest in their file. */
static void add_rests(const Run *r, const Unit *u, const ModelConfig *c, PlanWork *w)
{
    const RecipeStage *s = u->stage;
    const RecipeNames *train = &r->recipe->train;
    if (!file_of_unit(r, u)[0]) return;
    if (!r->machine.cpu) w->why_not = "that needs --device cpu";
    else if (c->mtp) w->why_not = "modules of multi-token prediction stay in memory";
    else if (s->kind == STAGE_RL && s->rl.rollout_bf16 && r->machine.options.dtype == DTYPE_F32)
        w->why_not = "rollout_bf16 makes a copy of all of them: take `precision: bf16`";
    else if (s->kind == STAGE_RL && s->rl.loss == GRPO_PPO)
        w->why_not = "PPO's critic needs its own and the policy's in memory: take a loss without one";
    else if (!u->kind->makes_samples && !c->lora.rank && train->n == 1 && !strcmp(train->list[0], "all"))
        w->why_not = "all of them are trained: name a part with `train`, or train adapters with `lora`";
    w->rests = !w->why_not;
}

static bool unit_work(Run *r, const Unit *u, ModelConfig *config, PlanWork *out, Status *st)
{
    const RecipeStage *s = u->stage;
    *out = (PlanWork){.config = config, .train = u->kind->makes_samples ? NULL : &r->recipe->train};
    out->moments = r->recipe->moments;
    if (u->kind->makes_samples) {
        if (!samples_work(r, s, config, out, st)) return false;
        add_rests(r, u, config, out);
        return true;
    }
    if (!config_of_stage(r, s, config, st)) return false;
    add_rests(r, u, config, out);
    if (s->kind == STAGE_REWARD_MODEL) config->head = HEAD_LM; /* its trunk decides; the scalar head is one row */
    bool rl = s->kind == STAGE_RL || u->kind == &unit_rival;
    bool ok = rl ? rl_work(r, s, out, st) : s->kind == STAGE_DPO ? pairs_work(r, s, out, st) : sft_work(r, s, out, st);
    bool taught = s->kind == STAGE_DISTILL && s->objective != OBJECTIVE_TEXT && u->kind != &unit_rival;
    return ok && (!taught || teacher_work(r, s, out, st)) && add_evaluation(r, s, out, st);
}

/* False: out->least, if not 0, would fit. */
static bool plan_unit(Run *r, const Unit *u, const PlanWork *w, const char *what, Plan *out, Status *st)
{
    const RecipeNames *train = u->kind->makes_samples ? NULL : &r->recipe->train;
    const char *name = run_model_file(r, file_of_unit(r, u));
    *out = (Plan){0};
    LoadedModel *file = w->rests ? placement_file(&r->machine, name, w->config, train, st) : NULL;
    bool ok = (file || !w->rests) && plan_make_beside(out, &r->machine, w, file, what, st);
    model_close(file);
    return ok;
}

/* Joins the plan of a unit to its stage's: what its units are to keep and take does for all of them. */
static void join_plans(Plan *stage, const Plan *unit, bool samples, bool trains)
{
    Plan was = *stage;
    bool tells_more = unit->placed && !samples; /* a placed one fills its budget anyhow */
    if (unit->total > was.total || tells_more) *stage = *unit;
    stage->placed = was.placed || (unit->placed && !samples);
    stage->sampler_placed = was.sampler_placed || (unit->placed && samples);
    stage->placed_work = was.placed_work;
    stage->sampler_work = was.sampler_work;
    const Plan *frozen = unit->frozen_share ? unit : &was;
    stage->frozen_placed = frozen->frozen_placed;
    stage->frozen_share = frozen->frozen_share;
    size_t *most = samples ? &stage->sampler_work : &stage->placed_work;
    if (unit->placed_work > *most) *most = unit->placed_work;
    stage->keep_bytes = trains && unit->keep_bytes < was.keep_bytes ? unit->keep_bytes : was.keep_bytes;
    if (unit->chunk && was.chunk && was.chunk < unit->chunk) stage->chunk = was.chunk;
}

/* False: it cannot be planned. One that does not fit: *least is then what the unit that needs the most takes, *why
 * its sentence. */
static bool add_unit(Run *r, const Unit *u, const Rates *rates, Plan *stage, size_t *least, Status *why, Status *st)
{
    ModelConfig config;
    PlanWork work;
    Plan plan;
    Status own = {0};
    char what[RECIPE_NAME + 16];
    if (!unit_work(r, u, &config, &work, st)) return false;
    snprintf(what, sizeof what, "stage %s", u->stage->name);
    work.rates = rates;
    BalanceConfig balance = recipe_balance(r->recipe, &config);
    if (config.E) work.balance = &balance;
    work.mtp = (float)fmax(u->stage->mtp_weight, u->stage->mtp_later);
    if (config.E && !balance_validate(&balance, &config, st)) return fail_prefix(st, "%s: balance", what);
    bool fits = plan_unit(r, u, &work, what, &plan, &own);
    join_plans(stage, &plan, u->kind->makes_samples, work.trains);
    if (!fits && !plan.least) return fail(st, "%s", own.text);
    if (!fits && plan.least > *least) *least = plan.least, *why = own;
    return true;
}

/* *out: the plan of the stage's largest unit. False: out->least, if not 0, would fit, for all of its units. */
static bool plan_stage(Run *r, int index, const Rates *rates, Plan *out, Status *st)
{
    Unit units[UNITS_MAX];
    Status why = {0};
    int n = stage_units(r, index, units, UNITS_MAX);
    size_t least = 0;
    bool ok = true;
    *out = (Plan){.keep_bytes = SIZE_MAX};
    for (int i = 0; i < n && ok; i++) ok = add_unit(r, &units[i], rates, out, &least, &why, st);
    out->least = ok ? least : 0;
    return ok && (!least || fail(st, "%s", why.text));
}

/* The table of a unit's model, what is trained of it chosen. */
static bool trained_table(Run *r, const Unit *u, ParamTable *out, Status *st)
{
    ModelConfig config;
    if (!config_of_stage(r, u->stage, &config, st)) return false;
    if (u->kind->scalar_head) config.head = HEAD_SCALAR, config.mtp = config.mtp_layers = 0;
    *out = params_build(&config);
    if (train_table(out, r->recipe, st)) return true;
    params_free(out);
    return fail_prefix(st, "stage %s", u->name);
}

bool plan_check_trained(Run *r, Status *st)
{
    ParamTable tables[UNITS_MAX];
    int n = 0;
    bool ok = true;
    for (int i = 0; i < r->n_units && ok; i++) {
        if (r->units[i].kind->makes_samples) continue;
        ok = trained_table(r, &r->units[i], &tables[n], st);
        n += ok;
    }
    ok = ok && train_check(tables, n, &r->recipe->train, st);
    for (int i = 0; i < n; i++) params_free(&tables[i]);
    return ok;
}

bool plan_run(Run *r, bool print, Status *st)
{
    Rates rates;
    RateKeys keys;
    Status most = {0};
    size_t least = 0;
    rates_assume(&rates, &r->machine);
    rates_keys(&keys, &r->machine, NULL, NULL, 0);
    rates_load(&rates, &keys);
    if (print && !r->machine.cpu && !rates_device(&rates, &r->machine, false, st)) return false;
    const Rates *known = rates.cpu_assumed ? NULL : &rates; /* what is assumed is not said in a run's line */
    for (int i = 0; i < r->recipe->n_stages; i++) {
        char line[640];
        Status own = {0};
        bool fits = plan_stage(r, i, known, &r->plans[i], &own);
        plan_describe(&r->plans[i], line, sizeof line);
        if (print && r->plans[i].total) printf("%-14s %s\n", r->recipe->stages[i].name, line);
        if (!fits && !r->plans[i].least) return fail(st, "%s", own.text);
        if (fits || r->plans[i].least <= least) continue;
        least = r->plans[i].least; /* whoever says it needs the most: then all others fit too */
        most = own;
    }
    return !least || fail(st, "%s", most.text);
}
