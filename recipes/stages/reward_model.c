/* A trained reward model and the scores that it gives. */
#include "recipes/stages/reward_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/scalar_head.h"
#include "data/json.h"
#include "recipes/run/models.h"

/* mean and std that training wrote into the checkpoint's extra state. */
static bool read_calibration(RewardModel *m, const char *extra, const char *where, Status *st)
{
    Json *o = extra ? json_parse(extra, strlen(extra), where, st) : json_new_object();
    if (!o) return false;
    bool ok = json_get_double(o, "mean", 0, &m->mean, st) && json_get_double(o, "std", 1, &m->std, st);
    if (m->std <= 0) m->std = 1;
    json_free(o);
    return ok;
}

RewardModel *reward_model_load(Run *r, const RecipeStage *s, bool helpful, Status *st)
{
    char name[RECIPE_PATH + 16], extra_name[RECIPE_PATH + 32];
    snprintf(name, sizeof name, "%s.%s", s->reward_models, helpful ? "helpful" : "safety");
    snprintf(extra_name, sizeof extra_name, "the state of %s", name);
    char *extra = NULL;
    RewardModel *m = calloc(1, sizeof *m);
    CHECK(m != NULL);
    m->answer_only = helpful;
    m->policy = run_frozen_policy(r, s, name, &extra, st);
    if (m->policy && m->policy->config.head != HEAD_SCALAR)
        fail(st, "%s is not a reward model: reward_models names a reward_model stage", name);
    if (!m->policy || st->failed || !read_calibration(m, extra, extra_name, st)) {
        reward_model_free(r, m);
        m = NULL;
    }
    free(extra);
    return m;
}

void reward_model_free(Run *r, RewardModel *m)
{
    if (!m) return;
    run_frozen_free(r, m->policy);
    free(m);
}

/* Bytes of the text of the first n tokens. */
static size_t text_length(const Tokenizer *t, const int32_t *ids, int n)
{
    char *text = tokenizer_decode(t, ids, n, true);
    size_t length = strlen(text);
    free(text);
    return length;
}

/* The token in which the last "<answer>" of the text begins (for most tokenizers the tag is several tokens); 0: there is none,
 * and the whole completion is the answer. */
static int answer_start(const Tokenizer *t, const int32_t *ids, int n)
{
    static const char TAG[] = "<answer>";
    char *text = tokenizer_decode(t, ids, n, true), *last = NULL;
    for (char *at = strstr(text, TAG); at; at = strstr(at + 1, TAG)) last = at;
    size_t start = last ? (size_t)(last - text) : 0;
    int low = 0, high = n; /* text of `low` tokens ends at or before the tag, of `high` behind its start */
    while (last && high - low > 1) {
        int middle = low + (high - low) / 2;
        if (text_length(t, ids, middle) <= start) low = middle;
        else high = middle;
    }
    free(text);
    return last ? low : 0;
}

void reward_model_input(const RewardModel *m, const Tokenizer *t, const int32_t *prompt, int prompt_n,
                        const int32_t *completion, int n, Ids *out)
{
    int from = m->answer_only ? answer_start(t, completion, n) : 0;
    for (int i = 0; i < prompt_n; i++) ids_push(out, prompt[i]);
    for (int i = from; i < n; i++) ids_push(out, completion[i]);
}

bool reward_model_scores(RewardModel *m, const int32_t *ids, const int32_t *offsets, int n, float *score, Status *st)
{
    if (n == 0) return true;
    scalar_values(&m->policy->engine, &m->policy->w, (Batch){offsets[n], n, ids, offsets}, score);
    for (int i = 0; i < n; i++) score[i] = (float)(1.0 / (1.0 + exp(-((double)score[i] - m->mean) / m->std)));
    return keeper_fault(m->policy->w.keeper, st);
}
