/* Sampling for rejection, distillation and seeded cold starts: many completions of every training prompt, of which the correct,
 * parseable, one-language, unrepetitive ones are kept, at most `keep` a prompt. A step is a block of prompts; its kept samples
 * are appended to RUN/samples/STAGE.jsonl.part, cut back on resume and renamed at the end. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/durable.h"
#include "core/base/check.h"
#include "core/ops/ops_clocked.h"
#include "recipes/stages/samples.h"
#include "core/rollout/rollout.h"
#include "data/conversation.h"
#include "recipes/model/prompts.h"
#include "recipes/run/counts.h"
#include "recipes/run/models.h"
#include "recipes/run/run_folder.h"
#include "recipes/run/sources.h"
#include "recipes/stages/stage_list.h"
#include "recipes/stages/step.h"

typedef struct Samples {
    CorpusSpec reasoning, general;
    Policy *policy; /* that samples */
    FILE *file;
    char *part;
    int prompts; /* to sample */
    int kept;    /* traces so far */
    int want;    /* stop after that many; 0: sample all prompts */
} Samples;

static char *samples_path(const Run *r, const char *stage, const char *suffix)
{
    return run_folder_file(r->folder, "samples", stage, suffix);
}

/* Opens the part file with exactly the bytes that were there when the last step ended. */
static bool open_part(UnitRun *u, Samples *s, Status *st)
{
    long size = (long)json_integer(json_get(u->extra, "bytes"));
    s->kept = (int)json_integer(json_get(u->extra, "kept"));
    char *folder = run_folder_file(u->run->folder, "samples", "", "");
    mkdir(folder, 0777); /* a failure shows when the file is opened */
    free(folder);
    s->part = samples_path(u->run, u->unit->stage->name, ".jsonl.part");
    if (size && access(s->part, F_OK)) { /* killed after the last step's rename, before the summary knew */
        char *whole = samples_path(u->run, u->unit->stage->name, ".jsonl");
        rename(whole, s->part);
        free(whole);
    }
    struct stat is;
    if (size && stat(s->part, &is) == 0 && is.st_size < size)
        return fail(
            st,
            "%s has %ld of the %ld bytes that were written to it: the machine lost the others; take %s.state.json "
            "away, and the samples are drawn again",
            s->part, (long)is.st_size, size, u->unit->stage->name);
    s->file = fopen(s->part, size ? "r+" : "w");
    if (!s->file || (size && (ftruncate(fileno(s->file), size) || fseek(s->file, size, SEEK_SET))))
        return fail(st, "%s cannot be written: %s", s->part, strerror(errno));
    return true;
}

static bool samples_open(UnitRun *u, Status *st)
{
    const RecipeStage *stage = u->unit->stage;
    Samples *s = calloc(1, sizeof *s);
    CHECK(s != NULL);
    u->self = s;
    if (!run_reasoning(u->run, stage, &s->reasoning, st) || !run_general(u->run, &s->general, st)) return false;
    const char *from = stage->sample_from[0] ? stage->sample_from : stage->from;
    s->policy = run_sampling_policy(u->run, stage, from, st);
    if (!s->policy) return false;
    s->prompts = stage->sample_prompts;
    if (stage->kind == STAGE_SFT) {
        s->want = (int)lround(stage->seed_share * run_documents(&s->reasoning, stage->traces));
        s->prompts = 64 * s->want;
    }
    u->total = (s->prompts + SAMPLE_PROMPTS - 1) / SAMPLE_PROMPTS;
    counts_add_mix(u, &s->reasoning, s->prompts, true);
    return open_part(u, s, st);
}

bool samples_wanted(const JudgedText *judged)
{
    const Problem *p = judged->problem;
    if (judged->verdict.score < 1) return false;
    Parsed parsed = completion_parse(judged->completion);
    if (p->kind != KIND_REASONING) return true;
    return parsed.format_ok && task_language_share(p, parsed.think, parsed.think_length) >= 0.999f &&
           repetition_share(parsed.think, parsed.think_length) < 0.2f;
}

static bool write_line(Samples *s, const Problem *p, const char *completion, const char *kind, Status *st)
{
    Json *o = json_new_object();
    json_set(o, "prompt", p->messages ? json_copy(p->messages) : json_new_text(p->prompt));
    if (p->tools) json_set(o, "tools", json_copy(p->tools));
    json_set(o, "completion", json_new_text(completion));
    json_set(o, "kind", json_new_text(kind));
    char *line = json_write(o, false);
    bool ok = fprintf(s->file, "%s\n", line) > 0;
    free(line);
    json_free(o);
    return ok ? true : fail(st, "%s cannot be written: %s", s->part, strerror(errno));
}

/* Keeps up to `keep` different wanted samples of one problem. */
static bool keep_samples(UnitRun *u, Samples *s, const Problem *p, const Completion *c, int k, int keep, Status *st)
{
    const char **kept = calloc((size_t)keep, sizeof *kept);
    JudgedText *judged = calloc((size_t)k, sizeof *judged);
    CHECK(kept != NULL && judged != NULL);
    int n = 0;
    for (int i = 0; i < k; i++)
        judged[i] = (JudgedText){
            .problem = p, .completion = completion_text(&u->run->voice, &c[i]), .truncated = c[i].truncated};
    bool ok = task_verify_all(judged, k, st);
    for (int i = 0; i < k && n < keep && ok && (!s->want || s->kept < s->want); i++) {
        const char *text = judged[i].completion;
        bool known = !samples_wanted(&judged[i]);
        for (int j = 0; j < n && !known; j++) known = !strcmp(kept[j], text);
        if (known) continue;
        kept[n++] = text;
        s->kept++;
        ok = write_line(s, p, completion_content(&u->run->voice, text), "reasoning", st);
    }
    for (int i = 0; i < k; i++) {
        json_free(judged[i].tests);
        free((char *)judged[i].completion);
    }
    free(judged);
    free(kept);
    return ok;
}

static bool sample_block(UnitRun *u, Samples *s, int n, Status *st)
{
    const RecipeStage *stage = u->unit->stage;
    int k = recipe_samples(stage), keep = stage->keep > 0 ? stage->keep : 1;
    PromptSet set;
    if (!prompts_draw(&set, &u->run->voice, &s->reasoning, run_seed(u->run, u->unit), SPLIT_TRAIN, (uint64_t)u->cursor,
                      n, st))
        return false;
    Completion *c = calloc((size_t)n * (size_t)k, sizeof *c);
    CHECK(c != NULL);
    RolloutSpec spec = {.slots = SAMPLE_SLOTS,
                        .samples = k,
                        .max_tokens = recipe_sample_tokens(u->run->recipe, stage),
                        .sampling = {.temperature = (float)stage->sample_temperature, .top_p = 1},
                        .seed = u->run->recipe->seed,
                        .purpose = RNG_ROLLOUT,
                        .stage = unit_rng_stage(u->run, u->unit),
                        .cancel = u->run->cancel};
    RolloutStats stats = {0};
    voice_rollout(&u->run->voice, &spec);
    const char *before = ops_clocked_phase(u->run->machine.times, "rollout");
    bool ok =
        prompts_ask(&set, st) && rollout_run(s->policy->sampler, &s->policy->w, &spec, set.prompts, n, c, &stats, st);
    for (int i = 0; i < n && ok; i++) ok = keep_samples(u, s, &set.problems[i], &c[(size_t)i * (size_t)k], k, keep, st);
    ops_clocked_phase(u->run->machine.times, before);
    u->tokens_sampled += stats.tokens;
    u->flops += forward_flops(s->policy, stats.tokens + stats.prefill_tokens);
    free(c);
    prompts_free(&set);
    return ok;
}

/* General documents beside the reasoning samples: general_ratio for each kept one. */
static bool add_general(UnitRun *u, Samples *s, Status *st)
{
    const RecipeStage *stage = u->unit->stage;
    int n = s->general.n_sources ? (int)lround(stage->general_ratio * s->kept) : 0;
    bool ok = true;
    for (int i = 0; i < n && ok; i++) {
        Problem p;
        corpus_problem(&p, &s->general, run_seed(u->run, u->unit), SPLIT_TRAIN, (uint64_t)i);
        Rng rng = rng_stream(run_seed(u->run, u->unit), RNG_DATA, hash_name("general samples"), (uint64_t)i);
        bool clean = rng_double(&rng) < stage->general_clean;
        char *completion = task_completion(&p, p.language, clean ? STYLE_CLEAN : STYLE_CORRUPT, &rng);
        ok = write_line(s, &p, completion, "general", st);
        free(completion);
        problem_free(&p);
    }
    return ok;
}

/* What the state counts must be on disk before the state is. */
static bool samples_save(UnitRun *u, Status *st)
{
    Samples *s = u->self;
    if (!s->file || (fflush(s->file) == 0 && fsync(fileno(s->file)) == 0)) return true;
    return durable_fail(s->part, errno, st);
}

static bool finish_file(UnitRun *u, Samples *s, Status *st)
{
    if (s->kept == 0)
        return fail(
            st,
            "no sample of stage %s was correct, so there is nothing to train on: raise sample_prompts or samples, or "
            "start from a better policy",
            u->unit->stage->name);
    if (!add_general(u, s, st)) return false;
    if (!samples_save(u, st)) return false;
    char *path = samples_path(u->run, u->unit->stage->name, ".jsonl");
    Durable whole;
    snprintf(whole.path, sizeof whole.path, "%s", path);
    snprintf(whole.temp, sizeof whole.temp, "%s", s->part);
    free(path);
    return durable_commit(&whole, st);
}

static bool samples_step(UnitRun *u, Json *metrics, bool *done, Status *st)
{
    Samples *s = u->self;
    int left = s->prompts - (int)u->cursor, n = left < SAMPLE_PROMPTS ? left : SAMPLE_PROMPTS;
    if (!sample_block(u, s, n, st)) return false;
    u->cursor += n;
    if (fflush(s->file)) return fail(st, "%s cannot be written: %s", s->part, strerror(errno));
    json_set(u->extra, "bytes", json_new_int(ftell(s->file)));
    json_set(u->extra, "kept", json_new_int(s->kept));
    json_set(metrics, "sampled", json_new_int(u->cursor));
    json_set(metrics, "kept", json_new_int(s->kept));
    *done = u->step + 1 >= u->total || (s->want && s->kept >= s->want);
    return !*done || finish_file(u, s, st);
}

static void samples_close(UnitRun *u)
{
    Samples *s = u->self;
    if (!s) return;
    if (s->file) fclose(s->file);
    free(s->part);
    policy_free(s->policy);
    free(s);
}

const UnitKind unit_samples = {.verb = "sample",
                               .makes_samples = true,
                               .open = samples_open,
                               .step = samples_step,
                               .save = samples_save,
                               .close = samples_close};

static Document sample_document(const Json *o)
{
    const Json *prompt = json_get(o, "prompt"), *tools = json_get(o, "tools");
    const char *completion = json_get_string(o, "completion", "");
    if (json_is_string(prompt)) return document_of(json_string(prompt, NULL), completion);
    Document d = {.messages = json_copy(prompt), .tools = tools ? json_copy(tools) : NULL, .row = -1};
    conversation_add(d.messages, "assistant", completion);
    return d;
}

bool samples_load(Run *r, const char *stage, int most, int max_length, Documents *d, Status *st)
{
    char *path = samples_path(r, stage, ".jsonl"), *line = NULL;
    FILE *f = fopen(path, "r");
    if (!f) {
        fail(st, "%s cannot be read: %s; delete the run's later checkpoints or start a new run", path, strerror(errno));
        free(path);
        return false;
    }
    size_t capacity = 0;
    ssize_t length;
    int number = 0;
    while (!st->failed && (most < 0 || number < most) && (length = getline(&line, &capacity, f)) > 0) {
        char where[600];
        snprintf(where, sizeof where, "%s: line %d", path, ++number);
        Json *o = json_parse(line, (size_t)length, where, st);
        if (!o) break;
        Document doc = sample_document(o);
        documents_add(d, &r->voice, &doc, TURNS_LAST, max_length, st);
        document_free(&doc);
        json_free(o);
    }
    free(line);
    fclose(f);
    free(path);
    return !st->failed;
}
