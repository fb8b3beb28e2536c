/* r1 run: a recipe from its first stage to its last, resumed wherever it stopped. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "recipes/cli/command.h"
#include "recipes/cli/commands.h"
#include "recipes/run/interrupt.h"
#include "recipes/stages/pipeline.h"
#include "recipes/config/recipe_help.h"
#include "recipes/config/recipe_load.h"
#include "recipes/config/recipe_show.h"

enum { MAX_SETS = 128 };

/* runs/NAME for a recipe called NAME or FOLDER/NAME.yaml. */
static char *default_folder(const char *recipe)
{
    const char *slash = strrchr(recipe, '/'), *name = slash ? slash + 1 : recipe;
    size_t n = strcspn(name, ".");
    char *out = NULL;
    CHECK(asprintf(&out, "runs/%.*s", (int)n, name) > 0);
    return out;
}

/* The whole of it, or the value of one key. Frees it. */
static int print_recipe(Recipe *recipe, const char *key)
{
    Status st = {0};
    char *text = key ? recipe_show(recipe, key, &st) : recipe_write(recipe);
    free(recipe);
    if (!text) return command_failed(&st);
    printf("%s%s", text, key ? "\n" : "");
    free(text);
    return 0;
}

typedef struct RunArgs {
    const char *recipe, *out, *until, *show, *only, *reuse, *logger;
    bool help_recipe, resolved, quiet;
    const char *sets[MAX_SETS];
    int n_sets;
    RuntimeOptions runtime;
} RunArgs;

static int read_args(int argc, char **argv, RunArgs *a)
{
    const char *unused_set = NULL;
    const Option options[] = {
        {"--out", "DIR", OPTION_TEXT, &a->out, 0, 0,
         "the run's folder (default: runs/RECIPE); an existing one is resumed"},
        {"--set", "KEY=VALUE", OPTION_TEXT, &unused_set, 0, 0,
         "changes a key of the recipe, e.g. --set zero.steps=50; may be repeated"},
        {"--until", "STAGE", OPTION_TEXT, &a->until, 0, 0, "stops after that stage"},
        {"--only", "STAGE[,..]", OPTION_TEXT, &a->only, 0, 0, "only these stages and those that they depend on"},
        {"--reuse", "DIR", OPTION_TEXT, &a->reuse, 0, 0,
         "links finished units of the runs in DIR that depend on the same things, and says why others are computed"},
        {"--state", "DIR", OPTION_TEXT, &a->runtime.state, 0, 0,
         "keeps the optimizer's moments on disk, in DIR, and makes every step a checkpoint there; the weights that "
         "come\n"
         "out are the same. Writes 12 bytes a trained weight and update; a run that was begun so goes on so"},
        {"--log", "LOGGER", OPTION_TEXT, &a->logger, 0, 0,
         "wandb or trackio: metrics through your Python client of that name (TensorBoard events are always there)"},
        {"--quiet", NULL, OPTION_FLAG, &a->quiet, 0, 0, "no progress line"},
        {"--resolved", NULL, OPTION_FLAG, &a->resolved, 0, 0,
         "only prints the recipe with every key, as it would be run"},
        {"--show", "KEY", OPTION_TEXT, &a->show, 0, 0, "only prints that key's value, e.g. --show zero.rewards"},
        {"--help-recipe", NULL, OPTION_FLAG, &a->help_recipe, 0, 0, "every key of a recipe, with its default"},
    };
    char text[600];
    snprintf(
        text, sizeof text,
        "Runs a recipe, a built-in one by name (%s) or a YAML file, stage by stage. A folder\n"
        "that holds the run already is resumed: finished stages are skipped, an unfinished one goes on at its last\n"
        "checkpoint and ends in the same weights as one never stopped; with more steps (--set STAGE.steps=MORE) a\n"
        "finished stage goes on where that means the same.\n",
        recipe_names());
    const Usage usage = {.name = "run",
                         .arguments = "RECIPE [options]",
                         .text = text,
                         .examples = "r1 run micro --out runs/first\n"
                                     "r1 run tiny --set seed=1 --set zero.steps=100 --until zero\n",
                         .options = options,
                         .n = sizeof options / sizeof *options,
                         .most = 1,
                         .runtime = &a->runtime};
    int count;
    a->n_sets = command_take(&argc, argv, "--set", a->sets, MAX_SETS - 1); /* one is left for --precision */
    if (a->n_sets < 0) return command_usage(&usage, "--set needs KEY=VALUE (at most %d of them)", MAX_SETS - 1);
    int code = command_read(&usage, argc, argv, &a->recipe, &count);
    if (code != COMMAND_GO) return code;
    if (!count && !a->help_recipe)
        return command_usage(&usage, "run needs a recipe: %s or a YAML file", recipe_names());
    if (a->runtime.dtype_given)
        a->sets[a->n_sets++] = a->runtime.dtype == DTYPE_BF16 ? "precision=bf16" : "precision=f32";
    return COMMAND_GO;
}

int cmd_run(int argc, char **argv)
{
    RunArgs a = {.runtime = runtime_defaults()};
    int code = read_args(argc, argv, &a);
    if (code != COMMAND_GO) return code;
    if (a.help_recipe) return recipe_print_schema(stdout), 0;
    Status st = {0};
    Recipe *recipe = recipe_load(a.recipe, a.sets, a.n_sets, &st);
    if (!recipe) return command_failed(&st);
    if (a.resolved || a.show) return print_recipe(recipe, a.show);
    char *folder = a.out ? strdup(a.out) : default_folder(a.recipe);
    interrupt_catch();
    PipelineOptions p = {.folder = folder,
                         .until = a.until,
                         .only = a.only,
                         .quiet = a.quiet,
                         .reuse = a.reuse,
                         .logger = a.logger,
                         .runtime = a.runtime,
                         .recipe_name = a.n_sets ? NULL : a.recipe};
    bool ok = pipeline_run(recipe, &p, &interrupted, &st);
    free(folder);
    free(recipe);
    return ok ? 0 : command_failed(&st);
}
