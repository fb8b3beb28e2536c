/* The models that a recipe names, opened as policies. */
#include "recipes/run/models.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoints/lora.h"
#include "core/base/check.h"
#include "core/base/memory.h"
#include "core/params_select.h"
#include "recipes/config/recipe_diff.h"
#include "recipes/config/recipe_longer.h"
#include "recipes/model/attached.h"
#include "recipes/model/placed_policy.h"
#include "recipes/model/voice.h"
#include "recipes/run/progress.h"
#include "recipes/run/run_folder.h"

const char *run_model_file(const Run *r, const char *from)
{
    char stage[4096];
    const char *moved = r->machine.options.base;
    bool there = !access(from, F_OK) || model_stage_path(from, stage, sizeof stage);
    return moved && !there && !strcmp(from, r->recipe->model.from) ? moved : from;
}

/* The file a name stands for: a unit of this run, or anything model_file_open knows. */
static char *resolve(const Run *r, const char *from)
{
    if (recipe_stage_of(r->recipe, from)) return run_folder_file(r->folder, "checkpoints", from, ".h5");
    return strdup(run_model_file(r, from));
}

/* A copy of the trunk `weights` (of the parameters `from`) under a fresh scalar head. */
static Policy *with_scalar_head(const Run *r, ModelConfig config, const ParamTable *from, WeightSource weights,
                                Status *st)
{
    bool ok = true;
    config.head = HEAD_SCALAR;
    config.mtp = config.mtp_layers = 0;
    ParamTable to = params_build(&config);
    float *block = memory_block(to.total * sizeof(float));
    CHECK(block != NULL);
    params_init(&to, &config, block, r->recipe->seed);
    for (int i = 0; i < to.n && ok; i++) {
        int k = params_find_name(from, to.params[i].name);
        if (k >= 0) ok = weights.read(weights.from, &from->params[k], block + to.params[i].offset, st);
    }
    params_free(&to);
    if (!ok) {
        memory_free(block);
        return NULL;
    }
    return policy_new(machine_engine(&r->machine), &config, r->recipe->seed, block);
}

bool run_owns(const Run *r, const CheckpointMeta *meta, const char *path, Status *st)
{
    char difference[300], stage[RECIPE_NAME], why[300];
    const char *then = meta->recipe ? meta->recipe : "";
    if (recipe_same(r->recipe_text, then, difference, sizeof difference)) return true;
    const Json *entry = run_summary_get(r->folder, meta->stage);
    if (json_get(entry, "reused")) return true; /* linked for its identity (recipes/run/reuse.h) */
    if (recipe_longer(then, r->recipe_text, stage, why, sizeof why)) return true; /* made before its stages grew */
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
    return vocabulary_fits(r->tokenizer, &m->config, st) || fail_prefix(st, "%s", from);
}

/* The recipe's adapters on a model that is to be trained; one that has adapters goes on with them: they must be the same. */
static bool give_adapters(const Run *r, LoadedModel *m, const char *from, Status *st)
{
    ModelConfig wanted = m->config;
    if (!r->recipe->lora.used) return true;
    if (!recipe_lora(r->recipe, &wanted, st)) return fail_prefix(st, "%s", from);
    const LoraConfig *is = &m->config.lora, *l = &wanted.lora;
    const char *adapter = r->recipe->lora.from;
    if (!is->rank) return adapter[0] ? model_add_adapter(m, adapter, st) : model_add_lora(m, l, r->recipe->seed, st);
    if (is->rank == l->rank && is->alpha == l->alpha && is->rslora == l->rslora && is->targets == l->targets)
        return true;
    return fail(st,
                "%s has adapters of rank %d and alpha %g, or on other matrices, than the recipe's `lora:`; give the "
                "same keys, or merge them first with `r1 export %s --format hf`",
                from, is->rank, (double)is->alpha, from);
}

static Policy *place(Run *r, LoadedModel *m, const RecipeNames *train, size_t work, size_t resident, Status *st)
{
    char line[512];
    Policy *p = placed_policy_open(&r->machine, m, train, work, resident, st);
    if (!p) return NULL;
    if (train) params_moments(&p->engine.table, r->recipe->moments);
    const Placing *placing = policy_placing(p);
    placing_describe(&placing->plan, placing, line, sizeof line);
    progress_note(r->progress, "%s is larger than its memory: %s", m->path, line);
    if (resident)
        progress_note(r->progress, "trained weights and gradients, %.3g GB, rest in %s; %.3g GB of them stay in memory",
                      2e-9 * sizeof(float) * (double)p->engine.table.state_total, r->machine.options.state,
                      (double)resident / 1e9);
    return p;
}

Policy *run_place(Run *r, LoadedModel *m, const RecipeStage *s, bool source, Status *st)
{
    char line[256];
    Plan plan = *run_plan(r, s);
    Policy *p = place(r, m, &r->recipe->train, plan.placed_work, plan.resident, st);
    if (!p) return NULL;
    const PlacingPlan *is = &policy_placing(p)->plan;
    plan.experts = is->experts;
    plan.experts_stay = is->pinned;
    plan.ring = is->slots;
    progress_note(r->progress, "%s: %s", s->name, plan_placed_text(&plan, line, sizeof line));
    if (policy_note_base(p, m, source, st)) return p;
    policy_free(p);
    return NULL;
}

/* trains: the stage that will train it, with its adapters and its longer positions; NULL: it is used as it is. */
static Policy *open_policy(Run *r, const char *from, bool scalar, const RecipeStage *trains, char **extra, Status *st)
{
    char *path = resolve(r, from);
    LoadedModel *m =
        model_open_as(path, 0, r->machine.options.base, MODEL_IN_PLACE | MODEL_TOKENIZER | MODEL_ATTACHMENTS, st);
    bool placed = trains && run_plan(r, trains)->placed;
    bool own = recipe_stage_of(r->recipe, from) != NULL;
    free(path);
    if (!m) return NULL;
    Policy *p = NULL;
    if (own && m->checkpoint) run_owns(r, &m->checkpoint->meta, m->path, st);
    if (!st->failed && model_has_weights(m, from, st) &&
        (placed || (model_read_weights(m, st) && model_finite(m, st))) && fits_tokenizer(r, m, from, st) &&
        (!trains || trains->extend <= 1 || config_extend(&m->config, trains->extend, st) ||
         fail_prefix(st, "extend: %s", from)) &&
        (!trains || give_adapters(r, m, from, st))) {
        if (extra && m->checkpoint && m->checkpoint->meta.extra) *extra = strdup(m->checkpoint->meta.extra);
        if (placed && scalar && m->config.head != HEAD_SCALAR) model_add_score(m, r->recipe->seed);
        if (placed) return run_place(r, m, trains, !own, st);
        if (scalar && m->config.head != HEAD_SCALAR) {
            p = with_scalar_head(r, m->config, &m->table, block_source(m->weights), st);
        } else {
            p = policy_new(machine_engine(&r->machine), &m->config, r->recipe->seed, m->weights);
            m->weights = NULL; /* the policy's now */
        }
        bool noted = p && (!trains || policy_note_base(p, m, !own, st));
        if (p && m->config.head == p->config.head) policy_attach(p, m);
        if (!noted) {
            policy_free(p);
            p = NULL;
        }
    }
    model_close(m);
    return p;
}

/* A model that is used as it is, placed within so many bytes beside `work`. */
static Policy *open_placed(Run *r, const char *from, size_t work, char **extra, Status *st)
{
    char *path = resolve(r, from);
    LoadedModel *m =
        model_open_as(path, 0, r->machine.options.base, MODEL_IN_PLACE | MODEL_TOKENIZER | MODEL_ATTACHMENTS, st);
    bool own = recipe_stage_of(r->recipe, from) != NULL;
    free(path);
    if (!m) return NULL;
    const CheckpointMeta *meta = m->checkpoint ? &m->checkpoint->meta : NULL;
    if ((!own || !meta || run_owns(r, meta, m->path, st)) && model_has_weights(m, from, st) &&
        fits_tokenizer(r, m, from, st)) {
        if (extra && meta && meta->extra) *extra = strdup(meta->extra);
        return place(r, m, NULL, work, 0, st);
    }
    model_close(m);
    return NULL;
}

Policy *run_sampling_policy(Run *r, const RecipeStage *s, const char *from, Status *st)
{
    const Plan *plan = run_plan(r, s);
    return plan->sampler_placed ? open_placed(r, from, plan->sampler_work, NULL, st)
                                : open_policy(r, from, false, NULL, NULL, st);
}

Policy *run_frozen_policy(Run *r, const RecipeStage *s, const char *from, char **extra, Status *st)
{
    const Plan *plan = run_plan(r, s);
    if (!plan->frozen_placed) return open_policy(r, from, false, NULL, extra, st);
    return open_placed(r, from, r->machine.memory - plan->frozen_share, extra, st);
}

void run_frozen_free(Run *r, Policy *p)
{
    char line[512];
    if (p && p->placed) {
        placing_summary(policy_placing(p), line, sizeof line);
        progress_note(r->progress, "%s: %s", policy_placed_file(p)->path, line);
    }
    policy_free(p);
}

Policy *run_initial_policy(Run *r, const RecipeStage *s, bool scalar, Status *st)
{
    if (s->from[0]) return open_policy(r, s->from, scalar, s, NULL, st);
    const RecipeModel *block = s->model == BLOCK_STUDENT ? &r->recipe->student : &r->recipe->model;
    if (block->from[0]) return open_policy(r, block->from, scalar, s, NULL, st);
    ModelConfig config;
    if (!recipe_model_config(block, tokenizer_vocab(r->tokenizer), tokenizer_bos(r->tokenizer),
                             tokenizer_eos(r->tokenizer), &config, st))
        return NULL;
    if (scalar) config.head = HEAD_SCALAR, config.mtp = config.mtp_layers = 0;
    return policy_new(machine_engine(&r->machine), &config, r->recipe->seed, NULL);
}

Policy *run_critic(Run *r, const RecipeStage *s, Policy *p, Status *st)
{
    if (p->placed) {
        fail(st, "a critic needs its model and the policy's in memory as a whole: raise --memory, or take a loss "
                 "without one");
        return NULL;
    }
    if (s->critic_from[0]) return open_policy(r, s->critic_from, true, s, NULL, st);
    return with_scalar_head(r, p->config, &p->engine.table, policy_source(p), st);
}
