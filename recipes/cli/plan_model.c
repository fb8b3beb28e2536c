/* A model's step in memory; where that does not fit, its pass or step with experts on disk. */
#include "recipes/cli/plan_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/params_select.h"
#include "recipes/config/did_you_mean.h"
#include "recipes/model/open_model.h"
#include "recipes/model/train_select.h"
#include "recipes/plan/plan_as.h"
#include "recipes/plan/simulate.h"

typedef struct ModelPlan {
    const PlanOptions *o;
    LoadedModel *file;
    ModelConfig config; /* with adapters */
    RecipeNames names;
    Machine machine;
    PlanWork work;
    PlanAs as;
    Rates rates;
} ModelPlan;

static bool split(const char *list, RecipeNames *out, const char *option, Status *st)
{
    while (*list) {
        size_t n = strcspn(list, ",");
        if (out->n == RECIPE_NAMES || n >= RECIPE_GLOB)
            return fail(st, "%s takes at most %d names of %d letters", option, RECIPE_NAMES, RECIPE_GLOB - 1);
        snprintf(out->list[out->n++], RECIPE_GLOB, "%.*s", (int)n, list);
        list += n + (list[n] == ',');
    }
    return out->n > 0 || fail(st, "%s needs a name", option);
}

static bool check_names(const ModelPlan *p, Status *st)
{
    ParamTable t = params_build(p->work.config);
    bool ok = train_check(&t, 1, &p->names, st);
    params_free(&t);
    return ok;
}

static bool take_moments(const char *name, MomentForm *out, Status *st)
{
    char hint[80];
    Nearest near = nearest_start(name);
    for (int k = 0; moment_form_name(k); k++) {
        *out = (MomentForm)k;
        if (!strcmp(name, moment_form_name(k))) return true;
        nearest_try(&near, moment_form_name(k));
    }
    return fail(st, "--moments %s is unknown%s", name, nearest_hint(&near, hint, sizeof hint));
}

/* The config with the adapters that --lora means. */
static bool add_lora(ModelPlan *p, Status *st)
{
    RecipeNames names = {.n = 0};
    Recipe *r = calloc(1, sizeof *r);
    CHECK(r);
    bool ok = split(p->o->lora, &names, "--lora", st);
    r->lora = (RecipeLora){.used = true, .rank = p->o->rank, .alpha = 2.0f * (float)p->o->rank};
    for (int i = 0; i < names.n && ok; i++) {
        char hint[80];
        int k = 0;
        Nearest near = nearest_start(names.list[i]);
        for (; recipe_lora_target_name(k) && strcmp(recipe_lora_target_name(k), names.list[i]); k++)
            nearest_try(&near, recipe_lora_target_name(k));
        if (!recipe_lora_target_name(k))
            ok = fail(st, "--lora %s: unknown%s", names.list[i], nearest_hint(&near, hint, sizeof hint));
        else r->lora.targets |= 1u << k;
    }
    ok = ok && recipe_lora(r, &p->config, st);
    free(r);
    return ok;
}

static bool set_work(ModelPlan *p, Status *st)
{
    const PlanOptions *o = p->o;
    p->config = p->file->config;
    p->work = (PlanWork){.config = &p->config,
                         .trains = true,
                         .sequences = o->sequences,
                         .length = o->length,
                         .predicted = o->length - 1,
                         .reference = o->reference};
    if (o->moments && !take_moments(o->moments, &p->work.moments, st)) return false;
    if (o->lora && o->train)
        return fail(st, "--lora trains adapters in place of the model's own tensors: leave --train out");
    if (o->lora && !add_lora(p, st)) return false;
    if (o->train && !split(o->train, &p->names, "--train", st)) return false;
    if (o->train && !check_names(p, st)) return false;
    if (o->train) p->work.train = &p->names;
    if (!o->samples) return true;
    int tokens = o->tokens < o->length ? o->tokens : o->length - 1;
    p->work.predicted = tokens;
    p->work.rollouts[p->work.n_rollouts++] = (PlanRollout){(o->sequences + o->samples - 1) / o->samples,
                                                           o->length - tokens,
                                                           o->samples,
                                                           tokens,
                                                           o->sequences,
                                                           o->latent ? CACHE_LATENT : CACHE_EXACT,
                                                           0,
                                                           true};
    return true;
}

static void print_json(Json *o)
{
    char *text = json_write(o, true);
    puts(text);
    free(text);
    json_free(o);
}

static bool print_simulated(const ModelPlan *p, const Placement *plan, const PartSource *source, Status *st)
{
    Machine with = p->machine;
    Trace trace;
    PlacingPlan fit = plan->fit;
    Simulated *out = calloc(1, sizeof *out);
    CHECK(out);
    with.options.chunk = plan->chunk;
    uint8_t *pinned = placing_pinned(&fit, p->file, source);
    SimulateSetup s = {.table = &p->file->table,
                       .config = &p->file->config,
                       .pool = {.slots = fit.slots, .pinned = pinned},
                       .slab = plan->model.slab,
                       .busy = (int)(plan->model.busy + 0.5),
                       .repeats = 2};
    bool ok = trace_record(&trace, &with, &p->work, &p->rates, plan->keep_bytes, st) && simulate(out, &trace, &s, st);
    if (ok) simulate_print(out, plan, &p->rates);
    trace_free(&trace);
    free(pinned);
    free(out);
    return ok;
}

static bool print_placed(ModelPlan *p, const PlacingSizes *sizes, Status *st)
{
    Placement *plan = calloc(1, sizeof *plan);
    CHECK(plan);
    plan->assumed = p->o->as;
    plan->gpu = p->as.gpu;
    bool ok = placement_make(plan, &p->machine, p->file, sizes, &p->work, &p->rates, NULL, st);
    if (ok && p->o->json) print_json(placement_json(plan, p->file, &p->machine, &p->work, &p->rates));
    else if (ok) placement_print(plan, p->file, &p->machine, &p->work, &p->rates);
    if (ok && p->o->simulate && !p->o->json) ok = print_simulated(p, plan, sizes->source, st);
    free(plan);
    return ok;
}

static Form form_of(const ModelPlan *p)
{
    return p->machine.options.dtype == DTYPE_BF16 ? FORM_BF16 : FORM_F32;
}

/* From the files, by the reader that a run uses. */
static bool plan_placed(ModelPlan *p, Status *st)
{
    PlacingPlan plan;
    Reader *reader = reader_open(p->file, form_of(p), PLACING_THREADS, st);
    PlacingSizes sizes = {.work = OPEN_MODEL_WORK};
    if (reader) sizes.source = reader_source(reader), sizes.staging = reader_memory(reader);
    bool ok = reader && placing_fill(&plan, &p->machine, p->file, &sizes, st) &&
              rates_know(&p->rates, &p->machine, p->file, form_of(p), plan.slot, p->o->measure, st) &&
              print_placed(p, &sizes, st);
    reader_close(reader);
    return ok;
}

/* By the sizes of the parts alone, on a machine that is not here. */
static bool plan_paper(ModelPlan *p, const char *name, Status *st)
{
    PaperSource paper;
    double weights = 0;
    paper_source(&paper, &p->file->table, form_of(p));
    PlacingSizes sizes = {&paper.source, 0, OPEN_MODEL_WORK};
    for (int i = 0; i < p->file->table.n_parts; i++) weights += (double)paper.source.bytes(&paper.source, i);
    if (p->as.gpu && p->as.ram > 0 && weights > p->as.ram)
        return fail(st, "%s: its weights take %.1f GB in %s, --as says %.1f GB of RAM: %s", name, weights / 1e9,
                    dtype_name((DType)p->machine.options.dtype), p->as.ram / 1e9,
                    p->machine.options.dtype == DTYPE_BF16 ? "more RAM is needed"
                                                           : "try --precision bf16, or more RAM");
    return print_placed(p, &sizes, st);
}

/* Only the files of a folder or a .gguf can be read while it is computed. */
static bool can_stream(const LoadedModel *m)
{
    return m->origin == MODEL_HF || m->origin == MODEL_GGUF;
}

/* Of a step on a device. */
static void print_seconds(const Plan *plan, const Rates *r)
{
    char age[64];
    printf("  forward and backward of %.0f tokens: at least %.3g s", plan->step_tokens, plan->step_seconds);
    if (r->emulated) printf(" (emulated: the number means nothing)\n");
    else
        printf(", by the card's limits (%.3g TFLOP/s, %.3g GB/s, %s); launches are not counted\n",
               r->products[0][RATE_ROWS - 1] / 1e12, r->memory_read / 1e9,
               rates_word(age, sizeof age, false, r->cpu_age));
}

static bool plan_it(ModelPlan *p, const char *name, Status *st)
{
    const PlanOptions *o = p->o;
    Status whole = {0};
    Plan plan;
    bool device = !p->machine.cpu;
    if (!o->as && device && !rates_device(&p->rates, &p->machine, o->measure, st)) return false;
    if (o->as || device) p->work.rates = &p->rates;
    bool fits = plan_make(&plan, &p->machine, &p->work, SIZE_MAX, name, &whole);
    if (fits || !plan.total || !(o->as || can_stream(p->file))) {
        if (plan.total && o->json) print_json(plan_json(&plan, name));
        else if (plan.total) plan_print(&plan, name);
        if (fits && o->as && !o->json)
            printf("  forward and backward of %.0f tokens: %.3g s (modelled: --as %s; nothing was measured)\n",
                   plan.step_tokens, plan.step_seconds, o->as);
        else if (fits && device && !o->json) print_seconds(&plan, &p->rates);
        return fits || fail(st, "%s", whole.text);
    }
    if (can_stream(p->file)) {
        model_close(p->file);
        p->file = model_open(name, MODEL_IN_PLACE, st);
    }
    bool asked = o->lora || o->train || o->reference || o->samples;
    p->work.trains = asked;
    if (!p->file) return false;
    if (p->work.train) { /* it lies apart from what is read, as in placed_policy.c */
        if (!train_select(&p->file->table, p->work.train, st)) return false;
        params_set_apart(&p->file->table);
    }
    if (!(o->as ? plan_paper(p, name, st) : plan_placed(p, st))) return false;
    if (!asked && !o->json) printf("  training all of it: %s; see --lora and --train\n", whole.text);
    return true;
}

static bool open_machine(ModelPlan *p, const RuntimeOptions *runtime, Status *st)
{
    RuntimeOptions options = *runtime;
    if (p->o->as && !plan_as_parse(p->o->as, &p->as, st)) return false;
    if (p->as.gpu && !options.dtype_given) options.dtype = DTYPE_BF16;
    if (!plan_machine(&p->machine, &options, st)) return false;
    if (p->o->as) plan_as_apply(&p->as, &p->machine, &p->rates);
    return true;
}

bool plan_model(const char *name, const PlanOptions *o, const RuntimeOptions *runtime, Status *st)
{
    ModelPlan *p = calloc(1, sizeof *p);
    CHECK(p);
    p->o = o;
    p->file = model_open(name, 0, st);
    bool ok = p->file && open_machine(p, runtime, st) && set_work(p, st) && plan_it(p, name, st);
    if (p->machine.ops) machine_close(&p->machine);
    if (p->file) model_close(p->file);
    free(p);
    return ok;
}
