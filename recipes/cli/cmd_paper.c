/* r1 paper: claims of the V2, V3, R1 and DeepSeekMath papers, run and judged. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "recipes/ablate/ablate.h"
#include "recipes/ablate/paper.h"
#include "recipes/cli/command.h"
#include "recipes/cli/commands.h"
#include "recipes/config/did_you_mean.h"
#include "recipes/config/recipe_load.h"
#include "recipes/run/interrupt.h"
#include "recipes/run/run_folder.h"

typedef struct PaperArgs {
    const char *id, *seeds, *recipe, *out, *device;
    char *command; /* as it was typed */
    const char *sets[ARM_SETS / 2];
    int n_sets;
    bool all, json;
    ScheduleOptions schedule;
} PaperArgs;

/* Swaps the claim of that name to place `at`. */
static bool bring(Claim *list, int n, const char *id, int at, Status *st)
{
    char hint[128];
    Nearest near = nearest_start(id);
    for (int i = at; i < n; i++) {
        nearest_try(&near, list[i].id);
        if (strcmp(list[i].id, id)) continue;
        Claim keep = list[at];
        list[at] = list[i];
        list[i] = keep;
        return true;
    }
    return fail(st, "there is no claim '%s'%s%s; `r1 paper` lists them", id, at ? " beside the others named" : "",
                nearest_hint(&near, hint, sizeof hint));
}

/* The claims of "ID,ID" first; returns how many. */
static int choose(Claim *list, int n, const char *ids, Status *st)
{
    int chosen = 0;
    char *copy = strdup(ids), *rest = NULL;
    CHECK(copy);
    for (char *id = strtok_r(copy, ",", &rest); id && !st->failed; id = strtok_r(NULL, ",", &rest))
        chosen += bring(list, n, id, chosen, st);
    free(copy);
    return chosen;
}

static void print_list(const Claim *list, int n)
{
    double minutes = 0;
    for (int i = 0; i < n; i++) {
        const Claim *c = &list[i];
        printf("%s  (about %.0f minutes)\n  %s\n  %s\n  runs: %s until %s, %d arm%s, 3 seeds\n\n", c->id, c->minutes,
               c->sentence, c->source, c->ablation.recipe_file, c->ablation.until, c->ablation.n_arms,
               c->ablation.n_arms == 1 ? "" : "s");
        minutes += c->minutes;
    }
    printf("%d claims, at most %.0f minutes in all (claims share their stages): r1 paper --all\n", n, minutes);
}

/* Where the claim's runs lie: all claims in one folder, so that they share units; arms carry the claim's id there. */
static bool place(Claim *c, const PaperArgs *a, Status *st)
{
    Ablation *ab = &c->ablation;
    char recipe[FOLDER];
    snprintf(recipe, sizeof recipe, "%s", a->recipe ? a->recipe : ab->recipe_file);
    ablate_source(ab, recipe);
    ab->recipe = ab->recipe_file;
    ab->device = a->device;
    snprintf(ab->out, sizeof ab->out, "%s", a->out);
    for (int i = 0; i < a->n_sets && ab->n_shared < ARM_SETS; i++)
        snprintf(ab->shared[ab->n_shared++], SET_TEXT, "%s", a->sets[i]);
    Recipe *r = recipe_load(ab->recipe_file, NULL, 0, st);
    bool ok = r && arms_seeds(ab, a->seeds, r->seed, st);
    free(r);
    for (int i = 0; ok && i < ab->n_arms; i++) {
        char name[2 * ARM_NAME];
        snprintf(name, sizeof name, "%s.%s", c->id, ab->arms[i].name);
        snprintf(ab->arms[i].name, ARM_NAME, "%.95s", name);
    }
    for (int i = 0; ok && i < c->n_tests; i++) {
        ClaimSide *const sides[] = {&c->tests[i].a, &c->tests[i].b};
        for (int k = 0; k < 2; k++) {
            char name[2 * ARM_NAME];
            snprintf(name, sizeof name, "%s.%s", c->id, sides[k]->arm);
            snprintf(sides[k]->arm, ARM_NAME, "%.95s", name);
        }
    }
    return ok;
}

static bool write_text(const char *folder, const char *name, const char *ending, char *text, Status *st)
{
    char path[2 * FOLDER];
    snprintf(path, sizeof path, "%s/%s%s", folder, name, ending);
    bool ok = run_write_file(path, text, strlen(text), st);
    free(text);
    return ok;
}

/* The stages that the claim's tests look at, "A,B"; parts of a stage ("distill.rival1") by its name. */
static const char *stages_of(const Claim *c, char out[CLAIM_TEXT])
{
    size_t used = 0;
    for (int i = 0; i < 2 * c->n_tests; i++) {
        const char *unit = i % 2 ? c->tests[i / 2].b.unit : c->tests[i / 2].a.unit;
        char name[96], *at;
        snprintf(name, sizeof name, "%.*s", (int)strcspn(unit, "."), unit);
        at = used ? strstr(out, name) : NULL;
        if (at && (at == out || at[-1] == ',') && strchr(",", at[strlen(name)])) continue;
        used += (size_t)snprintf(out + used, CLAIM_TEXT - used, "%s%s", used ? "," : "", name);
    }
    return out;
}

static bool run_one(Claim *c, const PaperArgs *a, Sharing *sharing, Status *st)
{
    fprintf(stderr, "%s: %s\n", c->id, c->sentence);
    ScheduleOptions schedule = a->schedule;
    char only[CLAIM_TEXT];
    schedule.only = stages_of(c, only);
    if (!ablate_folder(a->out, st) || !claim_model(c, &interrupted, st) ||
        !schedule_run(&c->ablation, &schedule, sharing, &interrupted, st) ||
        !claim_evaluate(c, sharing, &interrupted, st) || !claim_measure(c, st))
        return false;
    Json *o = claim_json(c);
    if (!a->json) claim_print(c, stdout);
    fflush(stdout);
    bool ok = write_text(a->out, c->id, ".json", json_write(o, true), st);
    json_free(o);
    return ok;
}

static void print_json(const Claim *list, int n)
{
    Json *all = json_new_array();
    for (int i = 0; i < n; i++) json_append(all, claim_json(&list[i]));
    char *text = json_write(all, true);
    puts(text);
    free(text);
    json_free(all);
}

static bool run_claims(Claim *list, int n, const PaperArgs *a, Status *st)
{
    Sharing sharing = {0};
    int failed = 0;
    for (int i = 0; i < n && !interrupted; i++) {
        Status one = {0};
        if (place(&list[i], a, &one) && run_one(&list[i], a, &sharing, &one)) continue;
        if (interrupted) break;
        failed++;
        snprintf(list[i].failure, sizeof list[i].failure, "%.500s", one.text);
        fprintf(stderr, "%s could not be run: %s\n", list[i].id, one.text);
    }
    Status page = {0};
    const char *name = n > 1 ? "paper" : list[0].id;
    bool written = write_text(a->out, name, ".html", claims_page(list, n, a->command), &page);
    if (written && a->json) print_json(list, n);
    else if (written) printf("\npage: %s/%s.html\n", a->out, name);
    if (interrupted) return fail(st, "interrupted; what is done is kept. Go on with: %s", a->command);
    if (failed) return fail(st, "%d of %d claims could not be run; their reasons are above", failed, n);
    return written ? true : fail(st, "%s", page.text);
}

int cmd_paper(int argc, char **argv)
{
    PaperArgs a = {.seeds = "3", .out = "runs/paper"};
    const char *unused = NULL;
    const Option options[] = {
        {"--all", NULL, OPTION_FLAG, &a.all, 0, 0, "runs every claim, one page"},
        {"--seeds", "N|a,b,c", OPTION_TEXT, &a.seeds, 0, 0, "so many from the recipe's own on, or these (default 3)"},
        {"--recipe", "RECIPE", OPTION_TEXT, &a.recipe, 0, 0, "another recipe with the same stages, e.g. lab or micro"},
        {"--set", "KEY=VALUE", OPTION_TEXT, &unused, 0, 0, "changes a key in every run; may be repeated"},
        {"--jobs", "N", OPTION_INT, &a.schedule.jobs, 1, 1024, "runs at once (default: measured)"},
        {"--out", "DIR", OPTION_TEXT, &a.out, 0, 0, "default: runs/paper; what is there already is not run again"},
        {"--reuse", "DIR", OPTION_TEXT, &a.schedule.reuse, 0, 0, "links units of the runs in DIR too"},
        {"--device", "NAME", OPTION_TEXT, &a.device, 0, 0, "of every run: cpu (default), gpu, .. (`r1 run --help`)"},
        {"--quiet", NULL, OPTION_FLAG, &a.schedule.quiet, 0, 0, "no live table"},
        {"--json", NULL, OPTION_FLAG, &a.json, 0, 0, "JSON instead of text"},
    };
    const Usage usage = {
        .name = "paper",
        .arguments = "[ID[,ID..] | --all] [options]",
        .text = "Without ID lists claims of the DeepSeek papers: source, sentence, what is run, minutes. With one runs "
                "it and\n"
                "says: reproduced, not reproduced at this size, or not resolved, with sign, size and interval.\n",
        .examples = "r1 paper\nr1 paper zero-consensus --recipe micro --seeds 2\n",
        .options = options,
        .n = sizeof options / sizeof *options,
        .least = 0,
        .most = 1};
    int count, n = 0;
    Status st = {0};
    a.command = command_text(argc, argv);
    a.n_sets = command_take(&argc, argv, "--set", a.sets, ARM_SETS / 2);
    if (a.n_sets < 0) return command_usage(&usage, "--set needs KEY=VALUE (at most %d of them)", ARM_SETS / 2);
    int code = command_read(&usage, argc, argv, &a.id, &count);
    if (code != COMMAND_GO) return code;
    if (a.id && a.all) return command_usage(&usage, "give ID or --all");
    Claim *list = claims_read(&n, &st);
    if (!list) return command_failed(&st);
    if (a.id) n = choose(list, n, a.id, &st);
    bool ok = !st.failed;
    if (ok && !a.id && !a.all) {
        if (a.json) print_json(list, n);
        else print_list(list, n);
    } else if (ok) {
        ok = run_claims(list, n, &a, &st);
    }
    free(list);
    free(a.command);
    return ok ? 0 : command_failed(&st);
}
