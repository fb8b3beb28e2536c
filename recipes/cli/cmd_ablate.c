/* r1 ablate: arms of one recipe under the same seeds, and an honest verdict. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/check.h"
#include "recipes/ablate/ablate.h"
#include "recipes/cli/command.h"
#include "recipes/cli/commands.h"
#include "recipes/config/recipe_load.h"
#include "recipes/run/interrupt.h"

enum { LISTS = ARMS };

/* runs/ablate-NAME for a recipe called NAME or FOLDER/NAME.yaml, or for the run runs/NAME. */
static void default_out(char out[FOLDER], const char *recipe)
{
    const char *slash = strrchr(recipe, '/'), *name = slash && slash[1] ? slash + 1 : recipe;
    snprintf(out, FOLDER, "runs/ablate-%.*s", (int)strcspn(name, ".") % 200, name);
}

typedef struct Lists {
    const char *arms[LISTS], *grids[LISTS], *sets[ARM_SETS];
    int n_arms, n_grids, n_sets;
} Lists;

static bool fill(Ablation *a, const Lists *l, const char *seeds, Status *st)
{
    for (int i = 0; i < l->n_sets; i++) snprintf(a->shared[a->n_shared++], SET_TEXT, "%s", l->sets[i]);
    for (int i = 0; i < l->n_grids; i++)
        if (!arms_grid(a, l->grids[i], st)) return false;
    if (!l->n_grids && l->n_arms && !arms_add(a, "recipe:", st)) return false;
    for (int i = 0; i < l->n_arms; i++)
        if (!arms_add(a, l->arms[i], st)) return false;
    Recipe *r = recipe_load(a->recipe_file, NULL, 0, st);
    if (!r) return false;
    bool ok = arms_seeds(a, seeds, r->seed, st);
    free(r);
    return ok;
}

int cmd_ablate(int argc, char **argv)
{
    const char *arguments[1] = {NULL}, *unused = NULL, *seeds = "3", *until = NULL, *metric = "pass@1", *out = NULL,
               *device = NULL;
    bool json = false, quiet = false;
    AblateOptions o = {0};
    const Option options[] = {
        {"--arm", "NAME:K=V[,K=V]", OPTION_TEXT, &unused, 0, 0,
         "settings of the recipe under a name; may be repeated. Without --grid the first arm is the recipe as it is.\n"
         "Also options that change no bit, --memory=GB, --threads=N, --state: then every run computes all of its "
         "units"},
        {"--grid", "KEY=V1,V2..", OPTION_TEXT, &unused, 0, 0, "an arm for each value; repeated: every combination"},
        {"--set", "KEY=VALUE", OPTION_TEXT, &unused, 0, 0, "changes a key in every arm; may be repeated"},
        {"--seeds", "N|a,b,c", OPTION_TEXT, &seeds, 0, 0, "so many from the recipe's own on, or these (default 3)"},
        {"--until", "STAGE", OPTION_TEXT, &until, 0, 0,
         "the stage whose evaluation is compared (default: the last that an arm changes)"},
        {"--metric", "NAME", OPTION_TEXT, &metric, 0, 0,
         "of the verdict: pass@1 (default), cons@k, pass@k, format, language, length, truncated, helpful, safe"},
        {"--minutes", "M", OPTION_REAL, &o.minutes, 0.01, 1e6,
         "plans seeds and steps to fit, and says what can be resolved, before it starts"},
        {"--jobs", "N", OPTION_INT, &o.schedule.jobs, 1, 1024, "runs at once (default: measured)"},
        {"--out", "DIR", OPTION_TEXT, &out, 0, 0,
         "default: runs/ablate-RECIPE; what is there already is not run again"},
        {"--reuse", "DIR", OPTION_TEXT, &o.schedule.reuse, 0, 0, "links units of the runs in DIR too"},
        {"--log", "LOGGER", OPTION_TEXT, &o.schedule.logger, 0, 0, "of every run: wandb or trackio"},
        {"--device", "NAME", OPTION_TEXT, &device, 0, 0, "of every run: cpu (default), gpu, .. (`r1 run --help`)"},
        {"--quiet", NULL, OPTION_FLAG, &quiet, 0, 0, "no live table"},
        {"--json", NULL, OPTION_FLAG, &json, 0, 0, "prints ablate.json instead of the table"},
    };
    const Usage usage = {
        .name = "ablate",
        .arguments = "RECIPE|RUN (--grid KEY=V1,V2 | --arm NAME:KEY=V)... [options]",
        .text =
            "Runs a recipe with different settings under the same seeds, shares what the arms have in common, and "
            "says\n"
            "of each arm whether it is higher or lower than the first, with a 95 % interval, or not resolved and what\n"
            "would resolve it. DIR gets ablate.html, ablate.json, ablate.csv and a run folder for every arm and seed.\n"
            "The same command again goes on where it stopped.\n",
        .examples = "r1 ablate micro --grid rl_reason.rewards.language=0,1 --seeds 2\n"
                    "r1 ablate micro --arm hot:zero.temperature=1.2 --arm wide:zero.group=16 --until zero\n",
        .options = options,
        .n = sizeof options / sizeof *options,
        .least = 1,
        .most = 1};
    char *line = command_text(argc, argv);
    Lists l = {0};
    int count;
    l.n_arms = command_take(&argc, argv, "--arm", l.arms, LISTS);
    l.n_grids = command_take(&argc, argv, "--grid", l.grids, LISTS);
    l.n_sets = command_take(&argc, argv, "--set", l.sets, ARM_SETS / 2);
    int code = l.n_arms < 0 || l.n_grids < 0 || l.n_sets < 0
                   ? command_usage(&usage, "--arm, --grid and --set need a value (at most %d of each)", ARM_SETS / 2)
                   : command_read(&usage, argc, argv, arguments, &count);
    if (code == COMMAND_GO && !l.n_arms && !l.n_grids)
        code = command_usage(&usage, "nothing to compare: give --grid KEY=V1,V2 or --arm NAME:KEY=VALUE");
    if (code == COMMAND_GO && metric_index(metric) < 0)
        code = command_usage(&usage,
                             "--metric %s: there are pass@1, cons@k, pass@k, format, language, length, "
                             "truncated, helpful, safe",
                             metric);
    Ablation *a = calloc(1, sizeof *a);
    Status st = {0};
    CHECK(a);
    if (code == COMMAND_GO) {
        ablate_source(a, arguments[0]);
        a->metric = metric;
        a->device = device;
        if (until) snprintf(a->until, sizeof a->until, "%s", until);
        if (out) snprintf(a->out, sizeof a->out, "%s", out);
        else default_out(a->out, arguments[0]);
        o.schedule.quiet = quiet;
        o.command = line;
        o.json = json;
        code = fill(a, &l, seeds, &st) && ablate(a, &o, &interrupted, &st) ? 0 : command_failed(&st);
    }
    free(a);
    free(line);
    return code;
}
