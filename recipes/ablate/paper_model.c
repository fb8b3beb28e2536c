/* The model that a claim's arms begin with: trained and exported by `r1 run` and `r1 export`, put into settings as $model. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "recipes/ablate/jobs.h"
#include "recipes/ablate/paper.h"

static const char WORD[] = "$model";

/* Every $model of a setting becomes the folder. */
static bool put_folder(char set[SET_TEXT], const char *folder, Status *st)
{
    char out[SET_TEXT + FOLDER];
    for (char *at; (at = strstr(set, WORD));) {
        snprintf(out, sizeof out, "%.*s%s%s", (int)(at - set), set, folder, at + strlen(WORD));
        if (strlen(out) >= SET_TEXT)
            return fail(st, "the folder %s makes a setting of more than %d letters; choose a shorter --out", folder,
                        SET_TEXT - 1);
        memcpy(set, out, strlen(out) + 1);
    }
    return true;
}

static bool put_everywhere(Ablation *a, const char *folder, Status *st)
{
    for (int i = 0; i < a->n_shared; i++)
        if (!put_folder(a->shared[i], folder, st)) return false;
    for (int i = 0; i < a->n_arms; i++)
        for (int k = 0; k < a->arms[i].n; k++)
            if (!put_folder(a->arms[i].sets[k], folder, st)) return false;
    return true;
}

static bool run_one(const char *const args[], const char *log, const volatile int *cancel, Status *st)
{
    Job job = {.log = log};
    for (int i = 0; args[i]; i++) job_arg(&job, args[i]);
    return jobs_run(&job, 1, 1, NULL, NULL, cancel, st);
}

bool claim_model(Claim *c, const volatile int *cancel, Status *st)
{
    const ClaimModel *m = &c->model;
    char run[FOLDER], stage[FOLDER + 80], folder[FOLDER + 8], config[FOLDER + 32], log[FOLDER + 8];
    if (!m->until[0]) return true;
    snprintf(run, sizeof run, "%.900s/%s.model", c->ablation.out, c->id);
    snprintf(stage, sizeof stage, "%s/%s", run, m->until);
    snprintf(folder, sizeof folder, "%s.hf", run);
    snprintf(config, sizeof config, "%s/config.json", folder);
    snprintf(log, sizeof log, "%s.log", run);
    if (access(config, F_OK)) {
        Job train = {.log = log};
        const char *const rest[] = {
            "run", c->ablation.recipe_file, "--out", run, "--until", m->until, "--quiet", "--set", "seed=0"};
        for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) job_arg(&train, rest[i]);
        for (int i = 0; i < m->n; i++) job_arg(&train, "--set"), job_arg(&train, m->sets[i]);
        const char *const export[] = {"export", stage, "--format", "hf", "-o", folder, NULL};
        if (!jobs_run(&train, 1, 1, NULL, NULL, cancel, st) || !run_one(export, log, cancel, st)) return false;
    }
    return put_everywhere(&c->ablation, folder, st);
}
