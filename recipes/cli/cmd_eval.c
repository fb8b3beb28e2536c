/* r1 eval: a model on held-out problems of built-in tasks or of a file. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/base/durable.h"
#include "recipes/cli/command.h"
#include "recipes/cli/commands.h"
#include "recipes/model/eval_numbers.h"
#include "recipes/model/eval_text.h"
#include "recipes/model/needle_grid.h"
#include "recipes/run/eval_rows.h"
#include "recipes/run/interrupt.h"
#include "recipes/run/run_folder.h"
#include "recipes/cli/json_lines.h"
#include "recipes/model/open_model.h"
#include "recipes/model/shots.h"
#include "recipes/stages/reward_model.h"
#include "recipes/config/recipe_load.h"
#include "recipes/cli/task_source.h"

enum { PROBLEMS = 200, SAMPLES = 16 }; /* of a built-in task, of a problem */

typedef struct EvalArgs {
    const char *model, *text, *tasks, *levels, *dump, *problems, *template_name, *effort, *rm;
    int cache;                                /* CacheKind */
    int n, k, max_tokens, seed;               /* n, k, max_tokens 0, seed -1: not given */
    int best_of, by, shots, refine, feedback; /* by: BestBy, feedback: Feedback */
    double temperature, top_p, zh_share;      /* -1: not given */
    double heldout;                           /* of a file named by --task: the share that is judged; 0: every row */
    int range[2];
    bool json, curve;
    RuntimeOptions runtime;
} EvalArgs;

typedef struct Evaluation {
    const EvalArgs *args;
    OpenModel model;
    Recipe *recipe; /* of the checkpoint; NULL: none */
    TaskSource sources[EVAL_TASKS];
    const char *names[EVAL_TASKS], *general_names[EVAL_TASKS]; /* of the sources of reasoning and general */
    int n_sources;
    CorpusSpec reasoning, general;
    FILE *dump;
    Durable dumped; /* the file of `dump` */
    EvalRows *rows; /* --problems */
    NeedleGrid needles;
    OpenModel judge; /* --rm */
} Evaluation;

/* A source by the recipe's name for it, or by a task's or file's. */
static bool open_source(Evaluation *e, const char *name, TaskSource *out, Status *st)
{
    const RecipeTasks *lists[] = {e->recipe ? &e->recipe->tasks : NULL, e->recipe ? &e->recipe->general : NULL};
    for (int l = 0; l < 2; l++) {
        for (int i = 0; lists[l] && i < lists[l]->n; i++) {
            const RecipeTask *t = &lists[l]->list[i];
            if (strcmp(t->name, name)) continue;
            const int *levels = e->args->levels ? e->args->range : t->levels;
            if (!task_source_open(out, t->task[0] ? t->task : t->file, levels, t->heldout, e->args->runtime.skip_bad,
                                  st))
                return false;
            snprintf(out->name, sizeof out->name, "%s", name);
            if (out->dataset && out->dataset->n_test == 0)
                fprintf(stderr, "%s: no rows are held out, so these are the rows that %s was trained on\n", name,
                        e->args->model);
            return true;
        }
    }
    return task_source_open(out, name, e->args->range, e->args->heldout, e->args->runtime.skip_bad, st);
}

static bool add_source(Evaluation *e, const char *name, Status *st)
{
    if (e->n_sources == EVAL_TASKS) return fail(st, "at most %d tasks at once", EVAL_TASKS);
    TaskSource *s = &e->sources[e->n_sources];
    if (!open_source(e, name, s, st) || (s->dataset && !dataset_judges(s->dataset, st))) return false;
    e->n_sources++;
    bool general = s->source.task && s->source.task->kind != KIND_REASONING;
    CorpusSpec *c = general ? &e->general : &e->reasoning;
    (general ? e->general_names : e->names)[c->n_sources] = s->name;
    c->sources[c->n_sources++] = s->source;
    return true;
}

/* The named tasks, or all of the recipe. */
static bool add_sources(Evaluation *e, Status *st)
{
    if (!e->args->tasks && !e->recipe) return fail(st, "%s carries no recipe; name tasks with --task", e->args->model);
    if (!e->args->tasks) {
        bool ok = true;
        for (int i = 0; i < e->recipe->tasks.n && ok; i++) ok = add_source(e, e->recipe->tasks.list[i].name, st);
        for (int i = 0; i < e->recipe->general.n && ok; i++) ok = add_source(e, e->recipe->general.list[i].name, st);
        return ok;
    }
    char *list = strdup(e->args->tasks), *rest = NULL;
    CHECK(list != NULL);
    bool ok = true;
    for (char *name = strtok_r(list, ",", &rest); name && ok; name = strtok_r(NULL, ",", &rest))
        ok = add_source(e, name, st);
    free(list);
    return ok;
}

/* What was given, or else the recipe's, or else `otherwise`. */
static double choose(double given, const double *recipe, double otherwise)
{
    return given >= 0 ? given : recipe ? *recipe : otherwise;
}

static void dump_sample(void *ctx, int sample, const JudgedText *judged)
{
    (void)sample;
    const Problem *p = judged->problem;
    Json *o = json_new_object();
    json_set(o, "prompt", json_new_text(p->prompt));
    json_set(o, "completion", json_new_text(judged->completion));
    json_set(o, "answer", p->answer ? json_new_text(p->answer) : json_new_null());
    json_set(o, "correct", json_new_bool(judged->verdict.score >= 1.0f));
    json_set(o, "reason", json_new_text(reason_name(judged->verdict.reason)));
    if (judged->tests) json_set(o, "tests", json_copy(judged->tests));
    char *line = json_write(o, false);
    fprintf(ctx, "%s\n", line);
    free(line);
    json_free(o);
}

static void see_sample(void *ctx, int sample, const JudgedText *judged)
{
    Evaluation *e = ctx;
    needle_grid_add(&e->needles, judged);
    if (e->rows && (judged->problem->kind == KIND_REASONING || sample == 0))
        eval_rows_add(e->rows, judged->problem, sample, judged->completion, judged->verdict);
    if (e->dump) dump_sample(e->dump, sample, judged);
}

/* EvalRate by the reward model of --rm, RATED sequences at once. */
static bool rate_samples(void *ctx, const PromptSet *set, const Completion *c, int k, float *score, Status *st)
{
    enum { RATED = 64 };
    const Evaluation *e = ctx;
    RewardModel m = {.policy = e->judge.policy, .std = 1, .answer_only = true};
    for (int from = 0; from < set->n * k; from += RATED) {
        int n = set->n * k - from < RATED ? set->n * k - from : RATED;
        int32_t offsets[RATED + 1] = {0};
        Ids ids = {0};
        bool fits = true, ok = true;
        for (int i = 0; i < n; i++) {
            const RolloutPrompt *p = &set->prompts[(from + i) / k];
            reward_model_input(&m, e->model.file->tokenizer, p->ids, p->n, c[from + i].ids, c[from + i].n, &ids);
            offsets[i + 1] = ids.n;
            fits = fits && offsets[i + 1] - offsets[i] <= m.policy->config.max_positions;
        }
        if (fits) ok = reward_model_scores(&m, ids.ids, offsets, n, score + from, st);
        free(ids.ids);
        if (!ok) return false;
        if (!fits)
            return fail(st, "a sample is longer than %s has positions for (%d): lower --max-tokens", e->args->rm,
                        m.policy->config.max_positions);
    }
    return true;
}

static bool open_judge(Evaluation *e, Status *st)
{
    if (!e->args->rm) return true;
    if (e->judge.policy->config.head != HEAD_SCALAR)
        return fail(st, "%s is not a reward model: --rm names what a reward_model stage made (RUN/STAGE.helpful)",
                    e->args->rm);
    return e->judge.policy->config.V == e->model.policy->config.V ||
           fail(st, "%s reads another vocabulary than %s", e->args->rm, e->args->model);
}

static EvalSpec spec_of(Evaluation *e)
{
    const EvalArgs *a = e->args;
    const Recipe *r = e->recipe;
    uint32_t seed = r ? r->seed : 1;
    int max_tokens = r ? r->eval.max_tokens : 256;
    e->reasoning.zh_share = e->general.zh_share = (float)choose(a->zh_share, r ? &r->zh_share : NULL, 0.0);
    return (EvalSpec){.reasoning = &e->reasoning,
                      .general = &e->general,
                      .names = e->names,
                      .general_names = e->general_names,
                      .n = a->n ? a->n : PROBLEMS,
                      .file_n = a->n,
                      .k = a->k         ? a->k
                           : a->best_of ? a->best_of
                                        : SAMPLES,
                      .shots = a->shots >= 0 ? a->shots
                               : r           ? r->eval.shots
                                             : 0,
                      .best_of = a->best_of,
                      .by = (BestBy)a->by,
                      .rate = rate_samples,
                      .rate_ctx = e,
                      .refine = a->refine,
                      .feedback = (Feedback)a->feedback,
                      .general_n = a->n ? a->n : PROBLEMS,
                      .temperature = choose(a->temperature, r ? &r->eval.temperature : NULL, 0.6),
                      .top_p = choose(a->top_p, r ? &r->eval.top_p : NULL, 0.95),
                      .max_tokens = a->max_tokens ? a->max_tokens : max_tokens,
                      .cache = (CacheKind)a->cache,
                      .seed = a->seed >= 0 ? (uint32_t)a->seed : seed,
                      .slots = 128,
                      .curve = a->curve,
                      .on_sample = see_sample,
                      .on_sample_ctx = e,
                      .cancel = &interrupted};
}

static void print_chosen(const EvalResult *r, const char *name, double best, double se, double first)
{
    printf("%s: best of %d by %s %.1f +- %.1f (one sample: %.1f)\n", name, r->best_of, best_by_name((int)r->by),
           100 * best, 100 * se, 100 * first);
}

/* What is counted of thoughts with a budget, chosen samples, refinements. */
static void print_more(const EvalResult *r, const TaskEval *t)
{
    if (t->reflects && t->checks + t->slips + t->revisions > 0)
        printf("%s: %.2f checks, %.2f slips, %.2f revisions a sample; right after a revision %.1f %%\n", t->name,
               t->checks, t->slips, t->revisions, 100 * t->corrected);
    if (r->forced)
        printf("%s: %.1f %% of thoughts closed, %.2f continued a sample\n", t->name, 100 * t->closed, t->continued);
    if (r->best_of > 0) print_chosen(r, t->name, t->best, t->best_se, t->pass1);
    for (int i = 0; i < t->rounds; i++)
        printf("%s: refined %d (feedback: %s) %.1f +- %.1f; asked %.1f, fixed %.1f, broken %.1f %%\n", t->name, i + 1,
               feedback_name((int)r->feedback), 100 * t->refine[i].score, 100 * t->refine[i].se,
               100 * t->refine[i].asked, 100 * t->refine[i].fixed, 100 * t->refine[i].broken);
}

static void print_task(const TaskEval *t)
{
    printf("%-12s %6.1f +- %-4.1f %8.1f %8.1f %7.0f %9.0f %7.1f %10.1f\n", t->name, 100 * t->pass1, 100 * t->se,
           100 * t->passk, 100 * t->consk, 100 * t->format, 100 * t->language, t->length, 100 * t->truncated);
}

static void print_reasons(const TaskEval *t)
{
    long samples = (long)t->n * t->k;
    for (int i = 0; i < REASON_COUNT; i++)
        if (t->reasons[i])
            printf("  %5.1f %%  %s\n", 100.0 * (double)t->reasons[i] / (double)samples, reason_name((Reason)i));
}

/* How many problems were judged, and how many of them are different where some came twice. */
static void print_counts(const EvalResult *r)
{
    for (int i = 0; i < r->n_tasks; i++) {
        const TaskEval *t = &r->tasks[i];
        printf("%s: %d problems", t->name, t->n);
        if (t->distinct < t->n) printf(" (%d different)", t->distinct);
        printf(", %d samples each\n", t->k);
    }
    printf("verdicts:\n");
}

static void print_general(const GeneralEval *g)
{
    if (g->kind == KIND_SAFETY)
        printf("%s: safe %.1f %% +- %.1f, harmless prompts refused %.1f %% (%d prompts)\n", g->name, 100 * g->score,
               100 * g->se, 100 * g->over_refusal, g->n);
    else
        printf("%s: %.3f +- %.3f (%s, 0 to 1; %d prompts)\n", g->name, g->score, g->se,
               g->kind == KIND_HELPFUL ? "hidden oracle" : "mean verdict", g->n);
}

/* pass, votes and best-of of every k, with standard errors. */
static void print_curve(const TaskEval *t)
{
    printf("%s, %% of problems by samples:\n%6s", t->name, "k");
    for (int kind = 0; curve_kind_name(kind); kind++) printf(" %14s", curve_kind_name(kind));
    printf("\n");
    for (int i = 0; i < t->curve.n; i++) {
        printf("%6d", 1 << i);
        for (int kind = 0; kind < CURVE_KINDS; kind++)
            printf(" %6.1f +- %-4.1f", 100 * t->curve.value[i][kind], 100 * t->curve.se[i][kind]);
        printf("\n");
    }
}

static void print_table(const EvalResult *r)
{
    if (r->n_tasks) {
        printf("%-12s %-14s %8s %8s %7s %9s %7s %10s\n", "%", "pass@1", "pass@k", "cons@k", "format", "language",
               "length", "truncated");
        for (int i = 0; i < r->n_tasks; i++) print_task(&r->tasks[i]);
        if (r->n_tasks > 1) print_task(&r->all);
        print_counts(r);
        print_reasons(&r->all);
        if (r->all.curve.n) print_curve(&r->all);
        for (int i = 0; i < r->n_tasks; i++) print_more(r, &r->tasks[i]);
        if (r->n_tasks > 1) print_more(r, &r->all);
    }
    for (int i = 0; i < r->n_choices; i++) {
        const ChoiceEval *c = &r->choices[i];
        printf("%s: chosen by likelihood %.1f +- %.1f %%, by likelihood a byte %.1f +- %.1f (chance %.1f; %d rows)\n",
               c->name, 100 * c->raw, 100 * c->raw_se, 100 * c->normalised, 100 * c->normalised_se, 100 * c->chance,
               c->n);
    }
    for (int i = 0; i < r->n_general; i++) {
        const GeneralEval *g = &r->general[i];
        print_general(g);
        if (r->best_of > 0) print_chosen(r, g->name, g->best, g->best_se, g->score);
    }
}

/* --text: no problem is put, so no template is asked for. */
static bool run_text(Evaluation *e, Status *st)
{
    const EvalArgs *a = e->args;
    TextEval t;
    if (!open_model_speaks(&e->model, a->model, st) || !open_model_reads_text(&e->model, a->model, st) ||
        !eval_text(e->model.policy, e->model.file->tokenizer, a->text, a->runtime.skip_bad, &t, st))
        return false;
    double perplexity = exp(t.nats / (double)t.tokens);
    if (a->json) {
        Json *o = json_new_object();
        json_set(o, "bits_per_byte", json_new_number(text_bits_per_byte(&t)));
        json_set(o, "nll", json_new_number(t.nats / (double)t.tokens));
        json_set(o, "tokens", json_new_int(t.tokens));
        json_set(o, "bytes", json_new_int(t.bytes));
        json_set(o, "unknown", json_new_int(t.unknown));
        json_set(o, "texts", json_new_int(t.texts));
        json_set(o, "windows", json_new_int(t.windows));
        json_line_print(o);
    } else {
        printf("%.4f bits per byte (%ld bytes in %ld tokens, perplexity of a token %.3f; %d texts in %d windows)\n",
               text_bits_per_byte(&t), t.bytes, t.tokens, perplexity, t.texts, t.windows);
        if (t.unknown) printf("%ld of the tokens are characters that the tokenizer does not know\n", t.unknown);
    }
    return true;
}

static bool write_rows(Evaluation *e, const EvalResult *r, Status *st)
{
    if (!e->rows) return true;
    char *text = eval_rows_text(e->rows, r);
    bool ok = run_write_file(e->args->problems, text, strlen(text), st);
    free(text);
    return ok;
}

/* --dump: a file is replaced when the evaluation is done; a pipe or a device is written to. */
static bool open_dump(Evaluation *e, Status *st)
{
    const char *path = e->args->dump, *place = path;
    if (!durable_special(path)) {
        if (!durable_begin(&e->dumped, path, st)) return false;
        place = e->dumped.temp;
    }
    e->dump = fopen(place, "w");
    return e->dump || durable_fail(path, errno, st);
}

static bool close_dump(Evaluation *e, bool ok, Status *st)
{
    if (!e->dump) return ok;
    if ((ferror(e->dump) | fclose(e->dump)) && ok) ok = durable_fail(e->args->dump, errno, st);
    e->dump = NULL;
    if (!e->dumped.temp[0]) return ok;
    if (ok) return durable_commit(&e->dumped, st);
    durable_abandon(&e->dumped);
    return false;
}

static bool run(Evaluation *e, Status *st)
{
    const EvalArgs *a = e->args;
    const LoadedModel *file = e->model.file;
    EvalResult r;
    Voice voice;
    if (!open_model_speaks(&e->model, a->model, st) || !open_model_reads_text(&e->model, a->model, st)) return false;
    if (!voice_open(&voice, file->tokenizer, a->template_name, &file->config, &file->attached, st)) return false;
    if (file->checkpoint && file->checkpoint->meta.recipe)
        e->recipe = recipe_parse_resolved(file->checkpoint->meta.recipe, a->model, st);
    if (st->failed || !add_sources(e, st) || !open_judge(e, st)) return false;
    EvalSpec spec = spec_of(e);
    const char *effort = a->effort ? a->effort : e->recipe ? e->recipe->eval.effort : "";
    if (effort[0] && !effort_read(effort, spec.max_tokens, &spec.effort))
        return fail(st, "--effort %s: expected low, medium, high, TOKENS or +TOKENS", effort);
    if (a->problems) e->rows = eval_rows_new(file->tokenizer, spec.k);
    if (a->dump && !open_dump(e, st)) return false;
    bool ok = evaluate(e->model.policy, &voice, &spec, &r, st);
    ok = close_dump(e, ok, st);
    if (!ok) return false;
    ok = write_rows(e, &r, st);
    if (a->json) {
        Json *o = eval_json(&r), *needles = needle_grid_json(&e->needles);
        if (needles) json_set(o, "needle", needles);
        json_line_print(o);
    } else {
        print_table(&r);
        needle_grid_print(&e->needles);
    }
    eval_result_free(&r);
    return ok;
}

/* "A,B", or "A" for A alone. */
static bool parse_levels(const char *text, int range[2])
{
    char *end;
    range[0] = range[1] = (int)strtol(text, &end, 10);
    if (*end == ',') range[1] = (int)strtol(end + 1, &end, 10);
    return !*end && range[0] >= 1 && range[1] >= range[0];
}

static int read_args(int argc, char **argv, EvalArgs *a)
{
    const Option options[] = {
        {"--task", "T[,T..]", OPTION_TEXT, &a->tasks, 0, 0,
         "built-in tasks, JSONL files, or names of the checkpoint's recipe\n(default: all of that recipe)"},
        {"--text", "FILE", OPTION_TEXT, &a->text, 0, 0,
         "instead of problems: bits per byte of a JSONL file's \"text\" rows, or of a\nfile as it is"},
        {"--n", "N", OPTION_INT, &a->n, 1, 1 << 20, "problems a task, rows of a file (default: 200, every row)"},
        {"--heldout", "X", OPTION_REAL, &a->heldout, 0, 0.5,
         "of a file only the share that a recipe with this heldout keeps\nfrom training (default 0: every row)"},
        {"--k", "K", OPTION_INT, &a->k, 1, 4096, "samples a problem (default 16, or N of --best-of)"},
        {"--curve", NULL, OPTION_FLAG, &a->curve, 0, 0,
         "what more samples buy: pass@k, votes, votes weighted by likelihood\nand the likeliest of k, for k = 1, 2, 4, "
         ".. K"},
        {"--best-of", "N", OPTION_INT, &a->best_of, 1, 4096,
         "one of N samples is chosen (--by); of helpful prompts too, judged by their hidden oracle"},
        {"--by", "WHAT", OPTION_CHOICE, &(OptionChoice){&a->by, best_by_name, NULL}, 0, 0,
         "helpful_rm (with --rm), verifier, or likelihood (default): the highest mean log-prob"},
        {"--rm", "MODEL", OPTION_TEXT, &a->rm, 0, 0, "the reward model that chooses: RUN/STAGE.helpful"},
        {"--shots", "N", OPTION_INT, &a->shots, 0, SHOTS_MAX,
         "N worked examples of the training split before each question\n(default: the recipe's, or 0)"},
        {"--effort", "HOW", OPTION_TEXT, &a->effort, 0, 0,
         "budget of a thought: low, medium (an eighth, a quarter of\n--max-tokens) or TOKENS close it there; high "
         "(half) and "
         "+TOKENS\nalso continue shorter ones until then"},
        {"--refine", "ROUNDS", OPTION_INT, &a->refine, 1, REFINE_ROUNDS,
         "the model sees its answer and answers again, ROUNDS times"},
        {"--feedback", "WHAT", OPTION_CHOICE, &(OptionChoice){&a->feedback, feedback_name, NULL}, 0, 0,
         "none (default): all are asked to check; verdict: the wrong ones\nare told what the verifier said"},
        {"--levels", "A,B", OPTION_TEXT, &a->levels, 0, 0, "from level A to B (default: the recipe's, or all)"},
        {"--temperature", "T", OPTION_REAL, &a->temperature, 0, 100, "0: greedy (default: the recipe's, or 0.6)"},
        {"--top-p", "P", OPTION_REAL, &a->top_p, 1e-6, 1, "nucleus (default: the recipe's, or 0.95)"},
        {"--max-tokens", "N", OPTION_INT, &a->max_tokens, 1, 1 << 20,
         "longest completion (default: the recipe's, or 256)"},
        {"--zh-share", "X", OPTION_REAL, &a->zh_share, 0, 1, "share of Chinese prompts (default: the recipe's, or 0)"},
        {"--seed", "N", OPTION_INT, &a->seed, 0, 2147483647, "of problems and samples (default: the recipe's, or 1)"},
        {"--template", "NAME", OPTION_TEXT, &a->template_name, 0, 0,
         "a chat template by name instead of the model's own"},
        {"--cache", "KIND", OPTION_CHOICE, &(OptionChoice){&a->cache, cache_kind_name, NULL}, 0, 0,
         "exact (default) or latent"},
        ADAPTER_OPTION(a->runtime),
        {"--json", NULL, OPTION_FLAG, &a->json, 0, 0, "one JSON object instead of the table"},
        {"--dump", "FILE", OPTION_TEXT, &a->dump, 0, 0,
         "JSON lines: prompt, completion, answer, correct, reason, of a program its tests"},
        {"--problems", "FILE", OPTION_TEXT, &a->problems, 0, 0,
         "JSON lines, one a problem, as a run's evals/STAGE.jsonl: pass@1, cons@k, best, refined@1, .."},
    };
    const Usage usage = {
        .name = "eval",
        .arguments = "MODEL [--task T] [options]",
        .text = "pass@1 with its standard error over problems, pass@k, the majority's answer (cons@k), format,\n"
                "language, length. Two checkpoints of a run are judged on the same problems and random numbers.\n",
        .examples = "r1 run micro --until zero\nr1 eval runs/micro/zero --task sort --levels 4,5 --n 50 --k 4\n",
        .options = options,
        .n = sizeof options / sizeof *options,
        .least = 1,
        .most = 1,
        .runtime = &a->runtime};
    int count, code = command_read(&usage, argc, argv, &a->model, &count);
    if (code != COMMAND_GO) return code;
    if (a->levels && !parse_levels(a->levels, a->range))
        return command_usage(&usage, "--levels %s: expected A,B with 1 <= A <= B", a->levels);
    if (a->text && a->tasks) return command_usage(&usage, "--text and --task: one of them");
    if (a->rm && !(a->best_of && a->by == BY_HELPFUL_RM))
        return command_usage(&usage, "--rm belongs to --best-of N --by helpful_rm");
    if (a->best_of && a->by == BY_HELPFUL_RM && !a->rm)
        return command_usage(&usage, "--by helpful_rm needs --rm MODEL, what a reward_model stage made");
    if (a->best_of && a->k && a->best_of > a->k)
        return command_usage(&usage, "--best-of %d needs at least as many samples, not --k %d", a->best_of, a->k);
    return COMMAND_GO;
}

int cmd_eval(int argc, char **argv)
{
    EvalArgs a = {.by = BY_LIKELIHOOD,
                  .shots = -1,
                  .seed = -1,
                  .temperature = -1,
                  .top_p = -1,
                  .zh_share = -1,
                  .runtime = runtime_defaults()};
    Evaluation e = {.args = &a};
    Status st = {0};
    int code = read_args(argc, argv, &a);
    if (code != COMMAND_GO) return code;
    bool opened = a.rm ? open_model_pair(&e.model, a.model, &e.judge, a.rm, &a.runtime, &st)
                       : open_model(&e.model, a.model, &a.runtime, &st);
    if (!opened) return command_failed(&st);
    bool ok = a.text ? run_text(&e, &st) : run(&e, &st);
    for (int i = 0; i < e.n_sources; i++) task_source_close(&e.sources[i]);
    free(e.recipe);
    eval_rows_free(e.rows);
    if (a.rm) open_model_close(&e.judge);
    open_model_close(&e.model);
    return ok ? 0 : command_failed(&st);
}
