/* The identity of a unit: a recipe of this unit alone, and its parents by hash. */
#include "recipes/run/identity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/hash.h"
#include "core/base/check.h"
#include "data/file.h"
#include "recipes/config/recipe_load.h"
#include "recipes/run/run_folder.h"
#include "recipes/run/sources.h"

/* ---- The keys that it reads ---- */

/* Units that make samples read the few keys that say whose samples, and how many. */
static RecipeStage only_samples(const RecipeStage *s)
{
    RecipeStage o = {.kind = s->kind,
                     .model = s->model,
                     .tasks = s->tasks,
                     .seed_share = s->seed_share,
                     .traces = s->traces,
                     .sample_prompts = s->sample_prompts,
                     .samples = s->samples,
                     .keep = s->keep,
                     .sample_temperature = s->sample_temperature};
    o.rl.max_tokens = s->rl.max_tokens;
    memcpy(o.name, s->name, sizeof o.name);
    memcpy(o.sample_from, s->sample_from[0] ? s->sample_from : s->from, sizeof o.sample_from);
    return o;
}

static RecipeStage keys_read(const Unit *u)
{
    RecipeStage s = *u->stage;
    bool rival = s.kind == STAGE_DISTILL && strstr(u->name, ".rival");
    if (u->kind->makes_samples) return only_samples(&s);
    if (s.kind == STAGE_REWARD_MODEL) *(u->variant ? &s.pairs : &s.safety_examples) = 0;
    if (rival) s.optim.lr = s.rival_lrs[u->variant];
    if (s.kind == STAGE_DISTILL) s.n_rival_lrs = 0;
    if (s.kind == STAGE_DISTILL && !rival) s.rl = (RecipeRl){.max_tokens = s.rl.max_tokens};
    return s;
}

/* The recipe without what other stages read. */
static char *reduced_recipe(const Recipe *recipe, const Unit *u)
{
    Recipe *r = malloc(sizeof *r);
    CHECK(r);
    memcpy(r, recipe, sizeof *r);
    r->stages[0] = keys_read(u);
    r->n_stages = 1;
    const RecipeStage *s = &r->stages[0];
    bool initial = !s->from[0] && !u->kind->makes_samples, student = s->model == BLOCK_STUDENT;
    memset(r->title, 0, sizeof r->title);
    if (!initial || student) memset(&r->model, 0, sizeof r->model);
    if (!initial || !student) memset(&r->student, 0, sizeof r->student);
    memset(&r->tokenizer, 0, sizeof r->tokenizer); /* its hash stands for it */
    memset(&r->rewards, 0, sizeof r->rewards);     /* each stage has its own copy */
    if (s->tasks.n) memset(&r->tasks, 0, sizeof r->tasks);
    if (u->kind->makes_samples) memset(&r->train, 0, sizeof r->train);
    if (u->kind->makes_samples || (!s->eval_after && !s->eval_every)) memset(&r->eval, 0, sizeof r->eval);
    char *text = recipe_write(r);
    free(r);
    return text;
}

/* ---- Parents ---- */

static void add_hash(FILE *f, const char *what, const void *bytes, size_t n)
{
    char hex[65];
    sha256_of(bytes, n, hex);
    fprintf(f, "%s: %s\n", what, hex);
}

/* A model of this run; reward models have a calibration beside their weights, which the identity of their unit stands for. */
static bool add_parent(FILE *f, const Run *r, const char *what, const char *name, bool calibrated)
{
    const Json *entry = run_summary_get(r->folder, name);
    const char *weights = json_get_string(entry, "weights_sha256", NULL);
    if (!weights) return false;
    fprintf(f, "%s: %s", what, weights);
    if (calibrated) fprintf(f, " of %s", json_get_string(entry, "identity", "an earlier version"));
    fputc('\n', f);
    return true;
}

/* Positions are no weights: two models of equal weights differ in how long their texts may be, and in what `extend` makes
 * of them. */
static void add_positions(FILE *f, const Recipe *recipe, const RecipeStage *s)
{
    for (; s->from[0] && recipe_stage_of(recipe, s->from); s = recipe_stage_of(recipe, s->from))
        if (s->extend > 1) fprintf(f, "extended: %g\n", s->extend);
    const RecipeModel *block = s->model == BLOCK_STUDENT ? &recipe->student : &recipe->model;
    if (s->extend > 1) fprintf(f, "extended: %g\n", s->extend);
    if (!s->from[0] && !block->from[0]) fprintf(f, "positions: %d\n", block->config.max_positions);
}

static bool add_model(FILE *f, const Run *r, const char *what, const char *from)
{
    const RecipeStage *s = from[0] ? recipe_stage_of(r->recipe, from) : NULL;
    if (!s) return true; /* a path: its file is an input of the run */
    add_positions(f, r->recipe, s);
    return add_parent(f, r, what, from, false);
}

static bool add_reward_models(FILE *f, const Run *r, const RecipeStage *s)
{
    char name[RECIPE_PATH + 16];
    bool ok = true;
    if (!s->reward_models[0]) return true;
    if (!recipe_stage_of(r->recipe, s->reward_models)) return false;
    for (int i = 0; i < 2 && ok; i++) {
        snprintf(name, sizeof name, "%s.%s", s->reward_models, i ? "safety" : "helpful");
        ok = add_parent(f, r, i ? "safety model" : "helpful model", name, true);
    }
    return ok;
}

/* Samples that an earlier unit of the stage has left. */
static bool add_samples(FILE *f, const Run *r, const Unit *u)
{
    char *path = run_folder_file(r->folder, "samples", u->stage->name, ".jsonl");
    Status ignored = {0};
    size_t n = 0;
    char *text = file_read(path, &n, &ignored);
    free(path);
    if (!text) return false;
    add_hash(f, "samples", text, n);
    free(text);
    return true;
}

static bool add_parents(FILE *f, const Run *r, const Unit *u)
{
    const RecipeStage *s = u->stage;
    bool rival = s->kind == STAGE_DISTILL && strstr(u->name, ".rival"),
         own = s->kind == STAGE_DISTILL && s->objective == OBJECTIVE_ON_POLICY,
         learns = s->kind == STAGE_REJECTION || (s->kind == STAGE_DISTILL && !own) ||
                  (s->kind == STAGE_SFT && s->seed_share > 0),
         taught = s->kind == STAGE_DISTILL && s->objective != OBJECTIVE_TEXT && !rival;
    if (u->kind->makes_samples) return add_model(f, r, "sampler", s->sample_from[0] ? s->sample_from : s->from);
    if (!add_model(f, r, "from", s->from)) return false;
    if (learns && !rival && !add_samples(f, r, u)) return false;
    if (taught && !add_model(f, r, "teacher", s->sample_from)) return false;
    if (rival) {
        char name[UNIT_NAME];
        snprintf(name, sizeof name, "%.60s.samples", s->name);
        fprintf(f, "flops: %.17g\n", run_summary_flops(r->folder, name) + run_summary_flops(r->folder, s->name));
    }
    if (!add_model(f, r, "critic", s->critic_from)) return false;
    return s->kind != STAGE_RL || add_reward_models(f, r, s);
}

/* Files whose path stands in the text, and all models: their paths are resolved, so they need not stand there. */
static void add_inputs(FILE *f, const Run *r, const char *recipe)
{
    const Json *inputs = run_summary_value(r->folder, "inputs");
    for (size_t i = 0; i < json_count(inputs); i++) {
        const char *path = json_get_string(json_at(inputs, i), "path", "");
        if (!strstr(recipe, path) && !strstr(path, ".h5")) continue;
        fprintf(f, "file %s: %s\n", path, json_get_string(json_at(inputs, i), "sha256", ""));
    }
}

bool identity_of(const Run *r, const Unit *u, Identity *out)
{
    size_t size = 0;
    char *recipe = reduced_recipe(r->recipe, u);
    *out = (Identity){0};
    FILE *f = open_memstream(&out->text, &size);
    CHECK(f && recipe);
    fprintf(f, "unit: %s\nmachine: %s\ndraws: %u\nskip_bad: %d\n", u->name,
            r->machine.ops->machine_kind(r->machine.backend), unit_rng_stage(r, u), r->machine.options.skip_bad);
    add_hash(f, "tokenizer", r->tokenizer_bytes, r->tokenizer_length);
    fprintf(f, "template: %s\n", r->recipe->tokenizer.template_name);
    bool ok = add_parents(f, r, u);
    add_inputs(f, r, recipe);
    fputs(recipe, f);
    CHECK(!fclose(f));
    free(recipe);
    sha256_of(out->text, size, out->hash);
    if (ok) return true;
    free(out->text);
    *out = (Identity){0};
    return false;
}
