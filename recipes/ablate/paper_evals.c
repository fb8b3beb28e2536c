/* Evaluations of a claim beside those of its runs: `r1 eval` as child processes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/check.h"
#include "data/file.h"
#include "recipes/ablate/jobs.h"
#include "recipes/ablate/paper.h"
#include "recipes/run/run_folder.h"

/* One evaluation of one run, and what its command is made of. */
typedef struct EvalJob {
    const ClaimEval *eval;
    char n[16], k[16]; /* problems of a family and samples, as the run's own evaluation has them */
    char stage[FOLDER + 64], rows[FOLDER + 128], said[FOLDER + 128], log[FOLDER + 128], threads[16];
    char words[256 + FOLDER]; /* the options, cut at spaces */
} EvalJob;

/* Whether the file of options that an evaluation left says the same options. */
static bool is_there(const EvalJob *e)
{
    size_t n;
    Status ignored = {0};
    if (access(e->rows, F_OK) || access(e->said, F_OK)) return false;
    char *said = file_read(e->said, &n, &ignored);
    bool same = said && !strcmp(said, e->eval->options);
    free(said);
    return same;
}

static void command(Job *j, EvalJob *e, const char *device, int threads)
{
    char *rest = NULL;
    snprintf(e->words, sizeof e->words, "%s", e->eval->options);
    snprintf(e->threads, sizeof e->threads, "%d", threads);
    const char *const first[] = {"eval", e->stage, "--n", e->n, "--k", e->k};
    for (size_t i = 0; i < sizeof first / sizeof *first; i++) job_arg(j, first[i]);
    for (char *word = strtok_r(e->words, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) job_arg(j, word);
    const char *const more[] = {"--problems", e->rows, "--threads", e->threads};
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) job_arg(j, more[i]);
    if (device) job_arg(j, "--device"), job_arg(j, device);
    j->log = e->log;
}

static bool place(EvalJob *e, const Claim *c, const ClaimEval *eval, const Arm *arm, uint32_t seed, Status *st)
{
    char folder[FOLDER], file[FOLDER + 112];
    arm_folder(&c->ablation, arm, seed, folder);
    e->eval = eval;
    snprintf(e->stage, sizeof e->stage, "%s/%s", folder, eval->stage);
    snprintf(file, sizeof file, "%.1000s/evals/%s.%s", folder, eval->stage, eval->name);
    snprintf(e->rows, sizeof e->rows, "%.1130s.jsonl", file);
    snprintf(e->said, sizeof e->said, "%.1130s.txt", file);
    snprintf(e->log, sizeof e->log, "%.1130s.log", file);
    Recipe *r = arm_recipe(&c->ablation, arm, seed, st);
    if (!r) return false;
    const RecipeStage *stage = recipe_stage(r, eval->stage);
    int families = stage ? recipe_tasks(r, stage)->n : 1;
    snprintf(e->n, sizeof e->n, "%d", (r->eval.n + families - 1) / (families ? families : 1));
    snprintf(e->k, sizeof e->k, "%d", r->eval.k);
    free(r);
    return stage ? true : fail(st, "%s: the recipe has no stage %s to evaluate", c->id, eval->stage);
}

bool claim_evaluate(const Claim *c, const Sharing *sharing, const volatile int *cancel, Status *st)
{
    const Ablation *a = &c->ablation;
    int n = a->n_arms * a->n_seeds * c->n_evals, at = 0;
    EvalJob *list = calloc((size_t)n + 1, sizeof *list);
    Job *jobs = calloc((size_t)n + 1, sizeof *jobs);
    CHECK(list && jobs);
    for (int i = 0; i < a->n_arms; i++)
        for (int s = 0; s < a->n_seeds; s++)
            for (int k = 0; k < c->n_evals && !st->failed; k++, at++) {
                if (!place(&list[at], c, &c->evals[k], &a->arms[i], a->seeds[s], st)) break;
                jobs[at].state = is_there(&list[at]) ? JOB_DONE : JOB_WAITING;
                if (jobs[at].state == JOB_WAITING) command(&jobs[at], &list[at], a->device, sharing->threads);
            }
    bool ok = !st->failed && jobs_run(jobs, at, sharing->jobs, NULL, NULL, cancel, st);
    for (int i = 0; i < at; i++)
        if (jobs[i].n_args && jobs[i].state == JOB_DONE && !st->failed)
            ok = run_write_file(list[i].said, list[i].eval->options, strlen(list[i].eval->options), st);
    free(list);
    free(jobs);
    return ok && !st->failed;
}
