/* From stages to units, and what units share: problems, seeds, rates, policies by name. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/model_file.h"
#include "core/check.h"
#include "core/schedule.h"
#include "recipes/model/op_times.h"
#include "recipes/run/run.h"
#include "recipes/stages/distill.h"
#include "recipes/config/recipe_diff.h"

static void add_unit(Unit *out, int *n, int max, const Run *r, int stage_index, const UnitKind *kind, int variant,
                     const char *suffix)
{
    CHECK(*n < max);
    Unit *u = &out[(*n)++];
    *u = (Unit){.stage = &r->recipe->stages[stage_index], .stage_index = stage_index, .variant = variant, .kind = kind};
    snprintf(u->name, sizeof u->name, "%s%s", u->stage->name, suffix);
}

int run_units(const Run *r, int stage_index, Unit *out, int max)
{
    const RecipeStage *s = &r->recipe->stages[stage_index];
    int n = 0;
    switch (s->kind) {
    case STAGE_PRETRAIN: add_unit(out, &n, max, r, stage_index, &unit_pretrain, 0, ""); break;
    case STAGE_SFT:
        if (s->seed_share > 0) add_unit(out, &n, max, r, stage_index, &unit_samples, 0, ".samples");
        add_unit(out, &n, max, r, stage_index, &unit_sft, 0, "");
        break;
    case STAGE_RL: add_unit(out, &n, max, r, stage_index, &unit_rl, 0, ""); break;
    case STAGE_REJECTION:
        add_unit(out, &n, max, r, stage_index, &unit_samples, 0, ".samples");
        add_unit(out, &n, max, r, stage_index, &unit_sft_samples, 0, "");
        break;
    case STAGE_REWARD_MODEL:
        add_unit(out, &n, max, r, stage_index, &unit_reward_model, 0, ".helpful");
        add_unit(out, &n, max, r, stage_index, &unit_reward_model, 1, ".safety");
        break;
    case STAGE_DISTILL:
        add_unit(out, &n, max, r, stage_index, &unit_samples, 0, ".samples");
        add_unit(out, &n, max, r, stage_index, &unit_sft_samples, 0, "");
        for (int i = 0; i < s->n_rival_lrs; i++) {
            char suffix[24];
            snprintf(suffix, sizeof suffix, ".rival%d", i + 1);
            add_unit(out, &n, max, r, stage_index, &unit_rival, i, suffix);
        }
        break;
    default: CHECK(false);
    }
    return n;
}

static bool add_source(Run *r, const RecipeTask *t, CorpusSpec *out, Status *st)
{
    Source source = {.level_min = t->levels[0], .level_max = t->levels[1], .weight = (float)t->weight};
    if (t->file[0]) {
        for (int i = 0; i < r->n_datasets; i++)
            if (!strcmp(r->datasets[i]->path, t->file)) source.dataset = r->datasets[i];
        if (!source.dataset) {
            if (r->n_datasets == RUN_DATASETS) return fail(st, "a recipe may use at most %d files", RUN_DATASETS);
            Dataset *d = dataset_read(t->file, t->heldout, r->machine.options.skip_bad, st);
            if (!d) return false;
            if (d->skipped) fprintf(stderr, "%s: %d broken lines skipped\n", t->file, d->skipped);
            r->datasets[r->n_datasets++] = d;
            source.dataset = d;
        }
    } else {
        source.task = task_find(t->task[0] ? t->task : t->name);
        if (!source.task)
            return fail(st, "there is no task %s; `r1 data --list` names them", t->task[0] ? t->task : t->name);
        if (source.level_max > source.task->levels) source.level_max = source.task->levels;
    }
    CHECK(out->n_sources < CORPUS_MAX_SOURCES);
    out->sources[out->n_sources++] = source;
    return true;
}

static bool sources_of(Run *r, const RecipeTasks *tasks, CorpusSpec *out, Status *st)
{
    *out = (CorpusSpec){.zh_share = (float)r->recipe->zh_share};
    out->styles[STYLE_CLEAN] = 1;
    for (int i = 0; i < tasks->n; i++)
        if (!add_source(r, &tasks->list[i], out, st)) return false;
    return true;
}

bool run_reasoning(Run *r, const RecipeStage *s, CorpusSpec *out, Status *st)
{
    return sources_of(r, s ? recipe_tasks(r->recipe, s) : &r->recipe->tasks, out, st);
}

bool run_general(Run *r, CorpusSpec *out, Status *st)
{
    return sources_of(r, &r->recipe->general, out, st);
}

static double weight_sum(const CorpusSpec *c)
{
    double sum = 0;
    for (int i = 0; i < c->n_sources; i++) sum += (double)c->sources[i].weight;
    return sum;
}

bool run_mix(Run *r, const RecipeStage *s, double general_share, CorpusSpec *out, Status *st)
{
    CorpusSpec general;
    if (!run_reasoning(r, s, out, st) || !run_general(r, &general, st)) return false;
    if (general_share <= 0 || general.n_sources == 0) return true;
    double reasoning_sum = weight_sum(out), general_sum = weight_sum(&general);
    for (int i = 0; i < out->n_sources; i++) out->sources[i].weight *= (float)((1 - general_share) / reasoning_sum);
    for (int i = 0; i < general.n_sources && out->n_sources < CORPUS_MAX_SOURCES; i++) {
        general.sources[i].weight *= (float)(general_share / general_sum);
        out->sources[out->n_sources++] = general.sources[i];
    }
    return true;
}

uint32_t run_seed(const Run *r, const Unit *u)
{
    return r->recipe->seed * 2654435761u + hash_name(u->stage->name);
}

uint32_t unit_rng_stage(const Unit *u)
{
    return hash_name(u->name) & 0xff;
}

/* The file a name stands for: a unit of this run, or anything model_file_open knows. */
static char *resolve(const Run *r, const char *from)
{
    char first[RECIPE_PATH];
    snprintf(first, sizeof first, "%s", from);
    first[strcspn(first, ".")] = 0;
    if (!strchr(from, '/') && recipe_stage(r->recipe, first)) return run_path(r, "checkpoints", from, ".h5");
    return strdup(from);
}

/* A copy of the trunk `weights` (laid out by `from`) under a fresh scalar head. */
static Policy *with_scalar_head(const Run *r, ModelConfig config, const ParamTable *from, const float *weights)
{
    config.head = HEAD_SCALAR;
    Policy *p = policy_new(&r->machine, &config, r->recipe->seed, NULL);
    const ParamTable *to = &p->engine.table;
    policy_master_open(p);
    for (int i = 0; i < to->n; i++) {
        int k = params_find_name(from, to->params[i].name);
        if (k >= 0)
            memcpy(p->weights + to->params[i].offset, weights + from->params[k].offset,
                   to->params[i].count * sizeof(float));
    }
    policy_master_close(p);
    policy_weights_changed(p);
    return p;
}

bool run_owns(const Run *r, const CheckpointMeta *meta, const char *path, Status *st)
{
    char difference[300];
    if (recipe_same(r->recipe_text, meta->recipe ? meta->recipe : "", difference, sizeof difference)) return true;
    return fail(st, "%s is the checkpoint of another run: %s; take it away, and the stage is done again", path,
                difference);
}

/* Whether an id stands for the same text in both. */
static bool same_piece(const Tokenizer *a, const Tokenizer *b, int id)
{
    size_t na = 0, nb = 0;
    bool special_a = false, special_b = false;
    const char *x = tokenizer_piece(a, id, &na, &special_a), *y = tokenizer_piece(b, id, &nb, &special_b);
    return !x || !y ? x == y : na == nb && !memcmp(x, y, na);
}

/* The run's tokenizer must be the model's own. */
static bool fits_tokenizer(const Run *r, const LoadedModel *m, const char *from, Status *st)
{
    int vocab = tokenizer_vocab(r->tokenizer);
    bool same = !m->tokenizer || tokenizer_vocab(m->tokenizer) == vocab;
    for (int i = 0; m->tokenizer && same && i < vocab; i++) same = same_piece(r->tokenizer, m->tokenizer, i);
    if (!same)
        return fail(
            st,
            "%s was trained with another tokenizer than this run's: start from it with `model: {from: ...}`, which "
            "brings its tokenizer along",
            from);
    if (m->config.V < vocab)
        return fail(
            st,
            "%s has a vocabulary of %d, the run's tokenizer one of %d: start from it with `model: {from: ...}` or give "
            "its tokenizer",
            from, m->config.V, vocab);
    return true;
}

Policy *run_policy_extra(Run *r, const char *from, bool scalar, char **extra, Status *st)
{
    char *path = resolve(r, from);
    LoadedModel *m = model_open(path, MODEL_WEIGHTS | MODEL_TOKENIZER | MODEL_ATTACHMENTS, st);
    bool own = strcmp(path, from) != 0;
    free(path);
    if (!m) return NULL;
    Policy *p = NULL;
    if (own && m->checkpoint) run_owns(r, &m->checkpoint->meta, m->path, st);
    if (!st->failed && model_has_weights(m, from, st) && fits_tokenizer(r, m, from, st)) {
        if (extra && m->checkpoint && m->checkpoint->meta.extra) *extra = strdup(m->checkpoint->meta.extra);
        if (scalar && m->config.head != HEAD_SCALAR) {
            p = with_scalar_head(r, m->config, &m->table, m->weights);
        } else {
            p = policy_new(&r->machine, &m->config, r->recipe->seed, m->weights);
            m->weights = NULL; /* the policy's now */
            policy_attach(p, &m->attached, m->source);
            m->source = NULL;
        }
    }
    model_close(m);
    return p;
}

Policy *run_policy(Run *r, const char *from, bool scalar, Status *st)
{
    return run_policy_extra(r, from, scalar, NULL, st);
}

Policy *run_initial_policy(Run *r, const RecipeStage *s, bool scalar, Status *st)
{
    if (s->from[0]) return run_policy(r, s->from, scalar, st);
    const RecipeModel *block = s->model == BLOCK_STUDENT ? &r->recipe->student : &r->recipe->model;
    if (block->from[0]) return run_policy(r, block->from, scalar, st);
    ModelConfig config;
    if (!recipe_model_config(block, tokenizer_vocab(r->tokenizer), tokenizer_bos(r->tokenizer),
                             tokenizer_eos(r->tokenizer), &config, st))
        return NULL;
    if (scalar) config.head = HEAD_SCALAR;
    return policy_new(&r->machine, &config, r->recipe->seed, NULL);
}

bool run_evaluate(Run *r, Policy *p, const RecipeStage *s, bool quick, EvalResult *out, EvalSample on_sample, void *ctx,
                  Status *st)
{
    const RecipeEval *e = &r->recipe->eval;
    const RecipeTasks *tasks = s ? recipe_tasks(r->recipe, s) : &r->recipe->tasks;
    const char *names[RECIPE_TASKS];
    CorpusSpec reasoning, general;
    if (!run_reasoning(r, s, &reasoning, st) || !run_general(r, &general, st)) return false;
    for (int i = 0; i < tasks->n; i++) names[i] = tasks->list[i].name;
    int n = quick ? e->quick_n : e->n, families = reasoning.n_sources > 0 ? reasoning.n_sources : 1;
    EvalSpec spec = {.reasoning = &reasoning,
                     .general = quick ? NULL : &general,
                     .names = names,
                     .n = (n + families - 1) / families,
                     .k = quick ? e->quick_k : e->k,
                     .general_n = e->general_n,
                     .temperature = e->temperature,
                     .top_p = e->top_p,
                     .max_tokens = e->max_tokens,
                     .seed = r->recipe->seed,
                     .slots = ROLLOUT_SLOTS};
    const char *before = op_times_phase(r->machine.times, "evaluation");
    bool ok = evaluate(p, &r->voice, &spec, out, on_sample, ctx, r->cancel, st);
    op_times_phase(r->machine.times, before);
    return ok;
}

float stage_rate(const RecipeStage *s, double lr, int64_t step, int64_t total)
{
    const RecipeOptim *o = &s->optim;
    Schedule schedule = {.kind = o->schedule,
                         .peak = (float)lr,
                         .last = (float)(lr * o->lr_final),
                         .warmup = o->warmup,
                         .steps = total,
                         .factor = (float)o->lr_final,
                         .milestones = {(float)o->milestones[0], (float)o->milestones[1]}};
    if (schedule.warmup > total / 2) schedule.warmup = total / 2;
    return schedule_rate(&schedule, step);
}

OptimizerConfig stage_optimizer(const RecipeStage *s)
{
    return (OptimizerConfig){.beta1 = (float)s->optim.betas[0],
                             .beta2 = (float)s->optim.betas[1],
                             .eps = 1e-8f,
                             .weight_decay = (float)s->optim.weight_decay,
                             .max_norm = (float)s->optim.clip};
}

BalanceConfig run_balance(const Run *r, const ModelConfig *c)
{
    const RecipeBalance *b = &r->recipe->balance;
    if (c->topk == TOPK_NOAUX) return (BalanceConfig){.sequence = (float)b->sequence, .devices = 1, .limit = 1};
    return (BalanceConfig){.expert = (float)b->expert,
                           .device = (float)b->device,
                           .comm = (float)b->communication,
                           .devices = b->devices,
                           .limit = b->limit};
}

bool run_update(Run *r, Policy *p, const RecipeStage *s, const Routing *routing, float lr, double *norm, Status *st)
{
    OptimizerConfig o = stage_optimizer(s);
    if (!policy_update(p, &o, lr, norm, st)) return false;
    if (routing && p->config.topk == TOPK_NOAUX && r->recipe->balance.bias_speed > 0)
        policy_bias_update(p, routing, (float)r->recipe->balance.bias_speed);
    return true;
}

double forward_flops(const Policy *p, int64_t tokens)
{
    double embedding = (double)p->config.V * p->config.C;
    double matmul = (double)p->engine.table.active - (p->config.tied ? 0 : embedding);
    return 2.0 * matmul * (double)tokens;
}
