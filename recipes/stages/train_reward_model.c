/* reward models: the policy's trunk with a scalar head. Helpful: pairs of answers, -log sigma(chosen - rejected), scored on the
 * final answer only. Safety: labelled completions, binary cross-entropy, scored on everything (DeepSeek-R1, section 2.3.4). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/batches.h"
#include "core/scalar_head.h"
#include "recipes/model/prompts.h"
#include "recipes/run/sources.h"
#include "recipes/stages/documents.h"
#include "recipes/stages/reward_model.h"
#include "recipes/stages/stage_list.h"
#include "recipes/stages/step.h"

typedef struct Example {
    Ids first, second; /* helpful: chosen and rejected; safety: the completion */
    float label;
} Example;

typedef struct RmStage {
    Example *train, *heldout;
    int n, n_heldout;
    bool helpful;
    BatchBuilder batch;
} RmStage;

/* A prompt and a completion's text as the model's input. */
static Ids encode(const RewardModel *m, const Voice *v, const char *prompt, const char *completion)
{
    Ids ids = {0}, out = {0};
    int first;
    completion_encode(v, prompt, completion, &ids, &first);
    reward_model_input(m, v->tokenizer, ids.ids, first, ids.ids + first, ids.n - first, &out);
    free(ids.ids);
    return out;
}

static Example make_example(UnitRun *u, const RmStage *s, const CorpusSpec *general, Split split, uint64_t index)
{
    const RewardModel kind = {.answer_only = s->helpful};
    const Voice *v = &u->run->voice;
    uint32_t seed = run_seed(u->run, u->unit);
    char *prompt, *a, *b = NULL;
    Example e = {.label = 1};
    if (s->helpful) {
        float noise = split == SPLIT_TRAIN ? (float)u->unit->stage->noise : 0;
        corpus_helpful_pair(&prompt, &a, &b, general, seed, split, index, noise);
        e.second = encode(&kind, v, prompt, b);
    } else {
        bool safe;
        corpus_safety_example(&prompt, &a, &safe, general, seed, split, index);
        e.label = safe;
    }
    e.first = encode(&kind, v, prompt, a);
    free(prompt);
    free(a);
    free(b);
    return e;
}

static bool rm_open(UnitRun *u, Status *st)
{
    const RecipeStage *stage = u->unit->stage;
    RmStage *s = calloc(1, sizeof *s);
    CHECK(s != NULL);
    u->self = s;
    s->helpful = u->unit->variant == 0;
    CorpusSpec general;
    if (!run_general(u->run, &general, st)) return false;
    if (!corpus_has(&general, s->helpful ? KIND_HELPFUL : KIND_SAFETY))
        return fail(st, "stage %s needs a %s family under `general:` to learn from", stage->name,
                    s->helpful ? "helpful" : "refusal");
    s->n = s->helpful ? stage->pairs : stage->safety_examples;
    s->n_heldout = stage->heldout_pairs;
    s->train = calloc((size_t)s->n, sizeof *s->train);
    s->heldout = calloc((size_t)s->n_heldout, sizeof *s->heldout);
    CHECK(s->train && s->heldout);
    for (int i = 0; i < s->n; i++) s->train[i] = make_example(u, s, &general, SPLIT_TRAIN, (uint64_t)i);
    for (int i = 0; i < s->n_heldout; i++) s->heldout[i] = make_example(u, s, &general, SPLIT_TEST, (uint64_t)i);
    u->total = stage->steps > 0 ? stage->steps : batch_steps(&stage->batch, stage->epochs * s->n);
    return true;
}

/* Puts examples into the batch: firsts, then (pairs) seconds. */
static void fill_batch(RmStage *s, const Example *const *list, int n)
{
    batch_reset(&s->batch);
    for (int i = 0; i < n; i++) batch_add(&s->batch, list[i]->first.ids, list[i]->first.n, list[i]->first.n);
    for (int i = 0; i < n && s->helpful; i++)
        batch_add(&s->batch, list[i]->second.ids, list[i]->second.n, list[i]->second.n);
}

/* Loss and gradient of one batch. */
static ScalarOut rm_gradients(UnitRun *u, RmStage *s, const Example *const *list, int n)
{
    Policy *p = u->policy;
    float *label = malloc((size_t)n * sizeof *label);
    CHECK(label != NULL);
    for (int i = 0; i < n; i++) label[i] = list[i]->label;
    BalanceConfig balance = recipe_balance(u->run->recipe, &p->config);
    ScalarStep step = {
        .batch = batch_view(&s->batch), .label = s->helpful ? NULL : label, .balance = p->config.E ? &balance : NULL};
    ScalarOut out;
    scalar_gradients(&p->engine, &p->w, &p->g, &step, &out);
    free(label);
    return out;
}

/* Held-out accuracy (pairs in the right order, or labels) and the calibration of values. */
static bool rm_heldout(UnitRun *u, RmStage *s, Json *metrics, Status *st)
{
    enum { AT_ONCE = 256 };
    double right = 0, sum = 0, squares = 0;
    int values = 0;
    float value[2 * AT_ONCE];
    for (int from = 0; from < s->n_heldout; from += AT_ONCE) {
        const Example *list[AT_ONCE];
        int n = s->n_heldout - from < AT_ONCE ? s->n_heldout - from : AT_ONCE;
        for (int i = 0; i < n; i++) list[i] = &s->heldout[from + i];
        fill_batch(s, list, n);
        scalar_values(&u->policy->engine, &u->policy->w, batch_view(&s->batch), value);
        for (int i = 0; i < n; i++)
            right += s->helpful ? value[i] > value[n + i] : (value[i] > 0) == (list[i]->label > 0.5f);
        for (int i = 0; i < s->batch.nseq; i++, values++) {
            sum += (double)value[i];
            squares += (double)value[i] * (double)value[i];
        }
    }
    double mean = sum / values, variance = squares / values - mean * mean;
    json_set(u->extra, "mean", json_new_number(s->helpful ? mean : 0));
    json_set(u->extra, "std", json_new_number(s->helpful && variance > 1e-6 ? sqrt(variance) : 1));
    json_set(u->extra, "accuracy", json_new_number(right / s->n_heldout));
    json_set(metrics, "heldout_accuracy", json_new_number(right / s->n_heldout));
    return keeper_fault(u->policy->w.keeper, st);
}

static bool rm_step(UnitRun *u, Json *metrics, bool *done, Status *st)
{
    (void)done;
    RmStage *s = u->self;
    const RecipeStage *stage = u->unit->stage;
    int batch = batch_at(&stage->batch, u->step + 1), n = batch < s->n ? batch : s->n;
    const Example **list = calloc((size_t)n, sizeof *list);
    CHECK(list != NULL);
    for (int i = 0; i < n; i++, u->cursor++) {
        int epoch = (int)(u->cursor / s->n), at = (int)(u->cursor % s->n);
        list[i] = &s->train[keyed_order(at, s->n, run_seed(u->run, u->unit), (uint32_t)epoch)];
    }
    fill_batch(s, list, n);
    ScalarOut out = rm_gradients(u, s, list, n);
    double norm = 0;
    free(list);
    float lr = stage_rate(stage, stage->optim.lr, u->step + 1, u->total);
    if (!run_update(u->run, u->policy, stage, out.routing, lr, &norm, st))
        return fail_prefix(st, "step %lld of %s", (long long)u->step + 1, u->unit->name);
    u->tokens_trained += s->batch.n;
    u->flops += train_flops(u->policy, s->batch.n, false);
    json_set(metrics, "loss", json_new_number(out.loss));
    json_set(metrics, "lr", json_new_number(lr));
    json_set(metrics, "grad_norm", json_new_number(norm));
    return u->step + 1 < u->total || rm_heldout(u, s, metrics, st);
}

static void free_examples(Example *list, int n)
{
    for (int i = 0; i < n && list; i++) {
        free(list[i].first.ids);
        free(list[i].second.ids);
    }
    free(list);
}

static void rm_close(UnitRun *u)
{
    RmStage *s = u->self;
    if (!s) return;
    free_examples(s->train, s->n);
    free_examples(s->heldout, s->n_heldout);
    batch_free(&s->batch);
    free(s);
}

const UnitKind unit_reward_model = {
    .verb = "train", .scalar_head = true, .open = rm_open, .step = rm_step, .close = rm_close};
