/* A recipe's stages in order, in a run folder. */
#include "recipes/stages/pipeline.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoints/hash.h"
#include "checkpoints/model_file.h"
#include "core/base/check.h"
#include "core/base/clock.h"
#include "recipes/model/op_times.h"
#include "recipes/model/version.h"
#include "recipes/plan/plan.h"
#include "recipes/plan/plan_stages.h"
#include "recipes/report/report.h"
#include "recipes/config/recipe_load.h"
#include "recipes/config/recipe_notes.h"
#include "core/policy.h"
#include "recipes/run/inputs.h"
#include "recipes/run/longer.h"
#include "recipes/run/logger.h"
#include "recipes/run/models.h"
#include "recipes/run/progress.h"
#include "recipes/run/reuse.h"
#include "recipes/run/run_folder.h"
#include "recipes/run/sources.h"
#include "recipes/run/unit.h"
#include "recipes/run/warnings.h"
#include "recipes/stages/stage_list.h"

/* A byte-level BPE of the corpus that the first pretraining stage would see. */
static Tokenizer *train_tokenizer(Run *r, Status *st)
{
    CorpusSpec corpus;
    const RecipeStage *base = NULL;
    for (int i = 0; i < r->recipe->n_stages && !base; i++)
        if (r->recipe->stages[i].kind == STAGE_PRETRAIN) base = &r->recipe->stages[i];
    if (!run_mix(r, base, base ? base->general_share : 0.2, &corpus, st)) return NULL;
    for (int i = 0; base && i < STYLE_COUNT; i++) corpus.styles[i] = (float)base->styles[i];
    char *text = NULL;
    size_t length = 0;
    FILE *f = open_memstream(&text, &length);
    CHECK(f != NULL);
    for (int i = 0; i < r->recipe->tokenizer.documents; i++) {
        Document d;
        corpus_document(&d, &corpus, r->recipe->seed, (uint64_t)i);
        char *document = document_text(&d);
        fprintf(f, "%s\n", document);
        free(document);
        document_free(&d);
    }
    fclose(f);
    Tokenizer *t = tokenizer_train_bpe(text, length, r->recipe->tokenizer.vocab, st);
    free(text);
    return t;
}

/* The voice of the model that the run starts from, with its tokenizer. */
static bool voice_of_model(Run *r, const char *from, Status *st)
{
    LoadedModel *m = model_open(run_model_file(r, from), MODEL_TOKENIZER | MODEL_ATTACHMENTS, st);
    if (!m) return false;
    r->tokenizer = m->tokenizer;
    m->tokenizer = NULL;
    const char *why = m->tokenizer_fault[0] ? m->tokenizer_fault : "it has no tokenizer; put tokenizer.json beside it";
    bool ok = r->tokenizer || fail(st, "%s: %s", from, why);
    ok = ok && voice_open(&r->voice, r->tokenizer, r->recipe->tokenizer.template_name, &m->config, &m->attached, st);
    model_close(m);
    if (ok && !r->voice.has_template)
        return fail(st, "%s has no chat template; name one with `tokenizer: {template: chatml}`", from);
    return ok;
}

bool pipeline_open_tokenizer(Run *r, Status *st)
{
    const RecipeTokenizer *spec = &r->recipe->tokenizer;
    const char *from = r->recipe->model.from;
    if (from[0]) {
        if (!voice_of_model(r, from, st)) return false;
    } else if (spec->kind == TOKENIZER_CHAR) {
        r->tokenizer = tokenizer_new_char();
    } else if (spec->kind == TOKENIZER_BPE) {
        r->tokenizer = train_tokenizer(r, st);
    } else {
        r->tokenizer = tokenizer_load(spec->path, st);
    }
    if (!r->tokenizer) return false;
    if (!from[0] && !voice_open(&r->voice, r->tokenizer, spec->template_name, NULL, NULL, st)) return false;
    r->tokenizer_bytes = tokenizer_serialize(r->tokenizer, &r->tokenizer_length);
    return true;
}

static bool list_units(Run *r, const char *until, Status *st)
{
    int last = r->recipe->n_stages - 1;
    if (until) {
        last = recipe_stage_index(r->recipe, until);
        if (last < 0) return fail(st, "--until %s: the recipe has no stage of that name", until);
    }
    for (int i = 0; i <= last; i++) r->n_units += stage_units(r, i, r->units + r->n_units, UNITS_MAX - r->n_units);
    return true;
}

static bool write_head(Run *r, Status *st)
{
    char hash[65], program[64];
    sha256_of(r->recipe_text, strlen(r->recipe_text), hash);
    snprintf(program, sizeof program, "r1 %s (commit %s)", R1_VERSION, r1_commit);
    return run_summary_set(r->folder, "seed", json_new_int(r->recipe->seed), st) &&
           run_summary_set(r->folder, "recipe_sha256", json_new_text(hash), st) &&
           run_summary_set(r->folder, "program", json_new_text(program), st) &&
           run_summary_set(r->folder, "machine", json_new_text(r->machine.ops->machine_kind(r->machine.backend)), st);
}

static void mark_needed(const Recipe *r, const char *name, bool *needed)
{
    const RecipeStage *s = recipe_stage_of(r, name);
    if (!s || needed[s - r->stages]) return; /* a path, or marked already */
    needed[s - r->stages] = true;
    mark_needed(r, s->from, needed);
    mark_needed(r, s->sample_from, needed);
    mark_needed(r, s->reward_models, needed);
    mark_needed(r, s->critic_from, needed);
}

/* The stages of a list "A,B" with all that they depend on; NULL: all. */
static bool choose_stages(const Recipe *r, const char *only, bool *needed, Status *st)
{
    char *list = strdup(only ? only : ""), *rest = NULL;
    CHECK(list);
    for (int i = 0; i < r->n_stages; i++) needed[i] = !only;
    for (char *name = strtok_r(list, ",", &rest); name && !st->failed; name = strtok_r(NULL, ",", &rest)) {
        if (recipe_stage_index(r, name) < 0) fail(st, "--only %s: the recipe has no stage of that name", name);
        else mark_needed(r, name, needed);
    }
    free(list);
    return !st->failed;
}

/* What each stage is paid for: the first thing to look at in an ablation. */
static void print_rewards(const Recipe *recipe)
{
    for (int i = 0; i < recipe->n_stages; i++) {
        char rewards[1024];
        const RecipeStage *s = &recipe->stages[i];
        recipe_rewards_text(s, rewards, sizeof rewards);
        if (recipe_stage_rolls(s)) printf("%-14s rewards: %s\n", s->name, rewards);
    }
}

/* The last part of the folder's path. */
static const char *run_name(const char *folder)
{
    const char *slash = strrchr(folder, '/');
    return slash && slash[1] ? slash + 1 : folder;
}

static bool open_run(Run *r, const Recipe *recipe, const PipelineOptions *o, const volatile int *cancel, Status *st)
{
    *r = (Run){.recipe = recipe, .cancel = cancel, .last_pass1 = -1};
    r->recipe_text = recipe_write(recipe);
    RuntimeOptions runtime = o->runtime;
    runtime.dtype = recipe->precision;
    if (!machine_open(&r->machine, &runtime, st)) return false;
    if (runtime.verbose) op_times_machine(&r->machine);
    r->progress = progress_new(stderr, o->quiet);
    r->warnings = warnings_new();
    if (!list_units(r, o->until, st) || !pipeline_open_tokenizer(r, st) || !plan_check_trained(r, st)) return false;
    bool resumed = false;
    r->folder = run_folder_open(o->folder, r->recipe_text, &resumed, st);
    if (!r->folder) return false;
    progress_note(r->progress, "%s %s: seed %u, %s", resumed ? "resuming" : "run", o->folder, recipe->seed,
                  r->machine.ops->describe(r->machine.backend));
    if (!o->quiet) print_rewards(recipe);
    recipe_print_notes(recipe, stderr);
    bool fits = run_inputs(r, resumed, st) && run_longer(r, st) && write_head(r, st) && plan_run(r, !o->quiet, st);
    fflush(stdout);
    if (fits && o->logger) r->logger = logger_open(o->logger, run_name(o->folder), st);
    if (r->logger) run_folder_log(r->folder, r->logger);
    if (fits && o->reuse && !st->failed) r->reuse = reuse_open(o->reuse, st);
    return fits && !st->failed;
}

static void close_run(Run *r, bool refused)
{
    reuse_close(r->reuse);
    logger_close(r->logger);
    if (r->folder && refused) run_folder_abandon(r->folder);
    else if (r->folder) run_folder_close(r->folder);
    if (r->progress) progress_free(r->progress);
    if (r->warnings) warnings_free(r->warnings);
    for (int i = 0; i < r->n_datasets; i++) dataset_free(r->datasets[i]);
    if (r->tokenizer) tokenizer_free(r->tokenizer);
    free(r->tokenizer_bytes);
    free(r->recipe_text);
    machine_close(&r->machine);
}

static double number(const Json *entry, const char *block, const char *key)
{
    const Json *eval = json_get(entry, "eval");
    return 100 * json_get_number(block ? json_get(eval, block) : eval, key);
}

static void print_cell(double v)
{
    if (isnan(v)) printf(" %8s", "-");
    else printf(" %8.1f", v);
}

/* One line a unit that was evaluated. */
static void print_table(const Run *r)
{
    printf("\n%-20s %8s %8s %8s %8s %8s %8s %8s %8s %8s\n", "stage", "pass@1", "+-", "cons", "pass@k", "format",
           "language", "helpful", "safe", "seconds");
    for (int i = 0; i < r->n_units; i++) {
        const Json *e = run_summary_get(r->folder, r->units[i].name);
        if (!e || !json_get(e, "eval")) continue;
        char cons[24], pass[24];
        snprintf(cons, sizeof cons, "cons@%d", r->recipe->eval.k);
        snprintf(pass, sizeof pass, "pass@%d", r->recipe->eval.k);
        printf("%-20s", r->units[i].name);
        const char *const keys[] = {"pass@1", "se", cons, pass, "format", "language"};
        for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) print_cell(number(e, "all", keys[k]));
        print_cell(number(e, NULL, "helpful"));
        print_cell(number(e, NULL, "safe"));
        printf(" %8.1f\n", json_number(json_get(e, "seconds")));
    }
}

bool pipeline_run(const Recipe *recipe, const PipelineOptions *o, const volatile int *cancel, Status *st)
{
    Run r;
    double start = clock_seconds();
    bool needed[RECIPE_STAGES], ok = choose_stages(recipe, o->only, needed, st);
    if (!ok) return false;
    ok = open_run(&r, recipe, o, cancel, st);
    for (int i = 0; i < r.n_units && ok; i++)
        if (needed[r.units[i].stage_index]) ok = unit_execute(&r, &r.units[i], st);
    if (ok) ok = report_write(&o->folder, 1, NULL, st);
    if (ok) {
        print_table(&r);
        if (r.machine.times) op_times_print(r.machine.times, stdout);
        printf("\n%.1f s in this process, peak memory %zu MB; report: %s/report.html\n", clock_seconds() - start,
               machine_peak_memory() >> 20, o->folder);
    } else if (r.saved) {
        char own[4096];
        snprintf(own, sizeof own, "%s/recipe.yaml", o->folder);
        status_clear(st);
        fail(st, "interrupted; the state is saved. Go on with: r1 run %s --out %s%s%s",
             o->recipe_name ? o->recipe_name : own, o->folder, o->runtime.state ? " --state " : "",
             o->runtime.state ? o->runtime.state : "");
    }
    close_run(&r, !ok && !r.saved);
    return ok;
}
