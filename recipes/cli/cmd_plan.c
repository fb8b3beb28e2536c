/* r1 plan: what a recipe's stages, or steps of a model, will take in memory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "recipes/cli/command.h"
#include "recipes/cli/commands.h"
#include "recipes/cli/plan_model.h"
#include "recipes/plan/plan_as.h"
#include "recipes/stages/pipeline.h"
#include "recipes/plan/plan.h"
#include "recipes/plan/plan_stages.h"
#include "recipes/plan/rates.h"
#include "recipes/run/models.h"
#include "recipes/config/recipe_load.h"
#include "recipes/config/recipe_notes.h"

enum { MAX_SETS = 128 };

/* The rates of the processor, and of the disk where the model that the recipe begins with lies in files. */
static bool measure(const Run *r, Status *st)
{
    Rates rates;
    if (!r->machine.cpu) return rates_device(&rates, &r->machine, true, st);
    Form form = r->machine.options.dtype == DTYPE_BF16 ? FORM_BF16 : FORM_F32;
    const char *from = r->recipe->model.from;
    LoadedModel *m = from[0] ? model_open(run_model_file(r, from), MODEL_IN_PLACE, st) : NULL;
    if (from[0] && !m) return false;
    Reader *reader = m && m->origin != MODEL_KNOWN ? reader_open(m, form, PLACING_THREADS, st) : NULL;
    size_t slot = reader ? pool_slot_bytes(&m->table, reader_source(reader)) : 0;
    bool ok = !st->failed && rates_know(&rates, &r->machine, m, form, slot, true, st);
    reader_close(reader);
    model_close(m);
    return ok;
}

static bool plan_recipe(const Recipe *recipe, const PlanOptions *o, const RuntimeOptions *runtime, Status *st)
{
    Run r = {.recipe = recipe};
    RuntimeOptions options = *runtime;
    recipe_print_notes(recipe, stderr);
    if (!options.dtype_given) options.dtype = recipe->precision;
    bool ok = plan_machine(&r.machine, &options, st) && (!o->measure || measure(&r, st)) &&
              pipeline_open_tokenizer(&r, st) && plan_run(&r, true, st);
    for (int i = 0; i < r.n_datasets; i++) dataset_free(r.datasets[i]);
    if (r.tokenizer) tokenizer_free(r.tokenizer);
    free(r.tokenizer_bytes);
    machine_close(&r.machine);
    return ok;
}

int cmd_plan(int argc, char **argv)
{
    PlanOptions o = {.sequences = 8, .length = 512, .tokens = 256, .rank = 16};
    const char *arguments[1], *sets[MAX_SETS], *unused_set = NULL;
    int count;
    RuntimeOptions runtime = runtime_defaults();
    const Option options[] = {
        {"--set", "KEY=VALUE", OPTION_TEXT, &unused_set, 0, 0,
         "changes a key of the recipe, as of `r1 run`; may be repeated"},
        {"--batch", "N", OPTION_INT, &o.sequences, 1, 1 << 20, "a model's step: sequences (default 8)"},
        {"--length", "N", OPTION_INT, &o.length, 2, 1 << 24, "tokens of a sequence (default 512)"},
        {"--samples", "N", OPTION_INT, &o.samples, 1, 1 << 16, "the step is one of RL, so many samples a prompt"},
        {"--tokens", "N", OPTION_INT, &o.tokens, 1, 1 << 24, "tokens of a completion (default 256)"},
        {"--reference", NULL, OPTION_FLAG, &o.reference, 0, 0, "with a reference model"},
        {"--state", "DIR", OPTION_TEXT, &runtime.state, 0, 0, "with the optimizer's moments on disk, as of `r1 run`"},
        {"--latent", NULL, OPTION_FLAG, &o.latent, 0, 0, "sampled with the latent cache"},
        {"--lora", "NAMES", OPTION_TEXT, &o.lora, 0, 0,
         "adapters are trained: attention, mlp, experts, or modules of config.json, with commas"},
        {"--rank", "R", OPTION_INT, &o.rank, 1, 4096, "of these adapters (default 16)"},
        {"--train", "NAMES", OPTION_TEXT, &o.train, 0, 0,
         "only these tensors are trained: names or globs as of the key `train`, with commas"},
        {"--moments", "FORM", OPTION_TEXT, &o.moments, 0, 0,
         "with the optimizer's moments stored as f32 (default), bf16 or 8bit, as of the key optim.moments"},
        {"--as", "MACHINE", OPTION_TEXT, &o.as, 0, 0,
         "a model's plan on a machine that is not here: gpu=GB:TFLOPSTF, link=GB/s (to it), ram=GB, cpu=GFLOPSGF,\n"
         "disk=GB/s, with commas; its rates are assumed, so that the plan is modelled"},
        {"--measure", NULL, OPTION_FLAG, &o.measure, 0, 0,
         "measures this machine again (about 6 seconds; else once, and kept in ~/.cache/r1)"},
        {"--simulate", NULL, OPTION_FLAG, &o.simulate, 0, 0,
         "of a model larger than memory: plays the step with the pool itself over simulated clocks"},
        {"--json", NULL, OPTION_FLAG, &o.json, 0, 0, "a model's plan as JSON"},
    };
    const Usage usage = {
        "plan",
        "RECIPE|MODEL [options]",
        "Predicts the peak memory of every stage of a recipe, or of a training step of a model (a checkpoint, a\n"
        "model folder, a known model's name), before anything is allocated. Fails when it does not fit. Of a folder\n"
        "larger than memory it says what rests where, and how long a pass, a step and a token take (FOLDER\n"
        "--lora attention --memory 16 --precision bf16). With --device gpu it is the card's memory, and the least "
        "time\n"
        "that its probed limits allow; without a card memory alone, unless --as says what one can do.\n",
        "  r1 plan tiny --set zero.group=32\n"
        "  r1 plan deepseek-v2-lite --batch 4 --length 1024 --memory 400\n"
        "  r1 plan deepseek-v2-lite --lora attention --as gpu=24:60TF,link=25,ram=64\n"
        "  r1 plan tiny --device gpu\n",
        options,
        sizeof options / sizeof options[0],
        1,
        1,
        &runtime};
    int n_sets = command_take(&argc, argv, "--set", sets, MAX_SETS);
    if (n_sets < 0) return command_usage(&usage, "--set needs KEY=VALUE (at most %d of them)", MAX_SETS);
    int code = command_read(&usage, argc, argv, arguments, &count);
    if (code != COMMAND_GO) return code;
    Status st = {0}, as_recipe = {0};
    Recipe *recipe = recipe_load(arguments[0], sets, n_sets, &as_recipe);
    if (recipe && (o.lora || o.train || o.moments || o.as || o.json || o.simulate)) {
        free(recipe);
        return command_usage(
            &usage,
            "--lora, --train, --moments, --as, --json and --simulate are of a MODEL; a recipe has keys for what is "
            "trained");
    }
    bool model = !recipe && !n_sets && !strstr(arguments[0], ".yaml");
    bool ok = recipe  ? plan_recipe(recipe, &o, &runtime, &st)
              : model ? plan_model(arguments[0], &o, &runtime, &st)
                      : false;
    free(recipe);
    return ok ? 0 : command_failed(recipe || model ? &st : &as_recipe);
}
