/* dpo: direct preference optimisation (arXiv:2305.18290, eq. 7) on pairs of a file or of the helpful families. The reference is
 * the policy as it was when the stage began; it travels in the stage's checkpoints. */
#include <math.h>
#include <stdlib.h>

#include "core/base/check.h"
#include "core/batches.h"
#include "core/losses/dpo.h"
#include "recipes/run/counts.h"
#include "recipes/run/sources.h"
#include "recipes/stages/documents.h"
#include "recipes/stages/pairs.h"
#include "recipes/stages/stage_list.h"
#include "recipes/stages/step.h"

typedef struct Dpo {
    Pairs train, heldout;
    BatchBuilder batch;
    int32_t *output;    /* [rows] of the batch's predictions: 2 p chosen, 2 p + 1 rejected */
    float *lp, *ref_lp; /* [rows] */
    DpoOutput *outputs; /* [2 pairs] */
    int rows, pairs;    /* that there is memory for */
} Dpo;

/* Rows and times of each source, for the line that a stage begins with. */
static void count_pairs(UnitRun *u, const Dpo *s, const CorpusSpec *c, int wanted)
{
    double epochs = batch_sum(&u->unit->stage->batch, u->total, s->train.n) / s->train.n;
    for (int i = 0; i < c->n_sources; i++) {
        const Dataset *d = c->sources[i].dataset;
        int made = (int)lround(wanted * corpus_share(c, i));
        SourceCount count = {.documents = made, .rows = d && made > d->n_train ? d->n_train : made, .times = epochs};
        if (i == 0) count.too_long = s->train.too_long; /* of all sources */
        if (c->n_sources == 1) count.documents = count.rows = s->train.n;
        if (count.rows) count.times = epochs * count.documents / count.rows;
        counts_add(u, &c->sources[i], &count);
    }
}

static bool dpo_open(UnitRun *u, Status *st)
{
    const RecipeStage *stage = u->unit->stage;
    Dpo *s = calloc(1, sizeof *s);
    CHECK(s != NULL);
    u->self = s;
    CorpusSpec mix;
    if (!pairs_mix(u->run, stage, &mix, st)) return false;
    uint32_t seed = run_seed(u->run, u->unit);
    int wanted = pairs_wanted(stage, &mix), heldout = pairs_heldout(stage, &mix);
    if (!pairs_add(&s->train, u->run, stage, &mix, seed, SPLIT_TRAIN, wanted, st) ||
        !pairs_add(&s->heldout, u->run, stage, &mix, seed, SPLIT_TEST, heldout, st))
        return false;
    if (s->train.n == 0)
        return fail(st, "stage %s has no pair to learn from: %d are longer than max_length %d; raise it", stage->name,
                    s->train.too_long, stage->max_length);
    if (!u->policy->reference.plain) policy_reference_set(u->policy);
    u->total = stage->steps > 0 ? stage->steps : batch_steps(&stage->batch, stage->epochs * s->train.n);
    count_pairs(u, s, &mix, wanted);
    return true;
}

static void reserve(Dpo *s, int rows, int pairs)
{
    if (rows > s->rows) {
        s->rows = rows;
        s->output = realloc(s->output, (size_t)rows * sizeof *s->output);
        s->lp = realloc(s->lp, (size_t)rows * sizeof *s->lp);
        s->ref_lp = realloc(s->ref_lp, (size_t)rows * sizeof *s->ref_lp);
    }
    if (pairs > s->pairs) {
        s->pairs = pairs;
        s->outputs = realloc(s->outputs, 2 * (size_t)pairs * sizeof *s->outputs);
    }
    CHECK(s->output && s->lp && s->ref_lp && s->outputs);
}

/* The pairs of a list as a batch: chosen and rejected in turn. */
static void fill_batch(Dpo *s, const Pair *const *list, int n)
{
    batch_reset(&s->batch);
    for (int i = 0; i < 2 * n; i++) {
        const Sequence *q = i % 2 ? &list[i / 2]->rejected : &list[i / 2]->chosen;
        int first = batch_add_spans(&s->batch, q->ids, q->n, q->spans, q->n_spans);
        reserve(s, s->batch.m, n);
        for (int row = first; row < s->batch.m; row++) s->output[row] = i;
    }
}

static DpoLoss loss_of(const UnitRun *u, const Dpo *s, int n)
{
    const RecipeStage *stage = u->unit->stage;
    return (DpoLoss){.beta = (float)stage->rl.beta,
                     .label_smoothing = (float)stage->label_smoothing,
                     .n_pairs = n,
                     .ref_lp = s->ref_lp,
                     .output = s->output,
                     .outputs = s->outputs};
}

static TrainOut gradients(UnitRun *u, const Dpo *s, DpoLoss *dpo)
{
    Policy *p = u->policy;
    Loss loss = dpo_loss(dpo);
    BalanceConfig balance = recipe_balance(u->run->recipe, &p->config);
    TrainStep step = {.batch = batch_view(&s->batch),
                      .predict = batch_predictions(&s->batch),
                      .inv_temperature = 1,
                      .loss = &loss,
                      .balance = p->config.E ? &balance : NULL,
                      .reference = &p->ref,
                      .reference_lp = s->ref_lp};
    TrainOut out;
    train_gradients(&p->engine, &p->w, &p->g, &step, &out);
    u->tokens_trained += s->batch.n;
    u->flops += train_flops(p, s->batch.n, false) + forward_flops(p, s->batch.n);
    return out;
}

/* Share of held-out pairs in the right order, and the mean margin. */
static void heldout(UnitRun *u, Dpo *s, Json *metrics)
{
    Policy *p = u->policy;
    double right = 0, margin = 0;
    int all = s->heldout.n, at_once = batch_largest(&u->unit->stage->batch);
    for (int from = 0; from < all; from += at_once) {
        int n = all - from < at_once ? all - from : at_once;
        const Pair **list = calloc((size_t)n, sizeof *list);
        CHECK(list != NULL);
        for (int i = 0; i < n; i++) list[i] = &s->heldout.list[from + i];
        fill_batch(s, list, n);
        free(list);
        Predictions predict = batch_predictions(&s->batch);
        train_log_probs(&p->engine, &p->w, batch_view(&s->batch), &predict, 1, s->lp, NULL);
        train_log_probs(&p->engine, &p->ref, batch_view(&s->batch), &predict, 1, s->ref_lp, NULL);
        DpoLoss dpo = loss_of(u, s, n);
        Loss loss = dpo_loss(&dpo);
        loss.prepare(loss.ctx, s->lp, s->batch.m);
        DpoStats stats = dpo_stats(&dpo);
        right += stats.accuracy * n;
        margin += stats.margin * n;
    }
    if (!all) return;
    json_set(u->extra, "accuracy", json_new_number(right / all));
    json_set(metrics, "heldout_accuracy", json_new_number(right / all));
    json_set(metrics, "heldout_margin", json_new_number(margin / all));
}

static void draw_batch(UnitRun *u, Dpo *s, int n)
{
    const Pair **list = calloc((size_t)n, sizeof *list);
    CHECK(list != NULL);
    for (int i = 0; i < n; i++, u->cursor++) {
        int at = (int)(u->cursor % s->train.n), epoch = (int)(u->cursor / s->train.n);
        list[i] = &s->train.list[keyed_order(at, s->train.n, run_seed(u->run, u->unit), (uint32_t)epoch)];
    }
    fill_batch(s, list, n);
    free(list);
}

static void report(const UnitRun *u, const DpoLoss *dpo, const TrainOut *out, Json *metrics)
{
    DpoStats stats = dpo_stats(dpo);
    json_set(metrics, "loss", json_new_number(out->loss));
    if (u->policy->config.E) json_set(metrics, "aux", json_new_number(out->aux));
    json_set(metrics, "accuracy", json_new_number(stats.accuracy));
    json_set(metrics, "margin", json_new_number(stats.margin));
    json_set(metrics, "chosen_reward", json_new_number((double)dpo->beta * stats.chosen));
    json_set(metrics, "rejected_reward", json_new_number((double)dpo->beta * stats.rejected));
}

static bool dpo_step(UnitRun *u, Json *metrics, bool *done, Status *st)
{
    (void)done;
    Dpo *s = u->self;
    const RecipeStage *stage = u->unit->stage;
    int batch = batch_at(&stage->batch, u->step + 1), n = batch < s->train.n ? batch : s->train.n;
    draw_batch(u, s, n);
    if (!batch_fits(&s->batch, &u->policy->config, st))
        return fail_prefix(st, "step %lld of %s", (long long)u->step + 1, u->unit->name);
    DpoLoss dpo = loss_of(u, s, n);
    TrainOut out = gradients(u, s, &dpo);
    float lr = stage_rate(stage, stage->optim.lr, u->step + 1, u->total);
    if (!isfinite(out.loss))
        return fail(st, "the loss became %g in step %lld of %s: try a lower lr (%g now)", out.loss,
                    (long long)u->step + 1, u->unit->name, (double)lr);
    report(u, &dpo, &out, metrics);
    double norm = 0;
    if (!run_update(u->run, u->policy, stage, out.routing, lr, &norm, st))
        return fail_prefix(st, "step %lld of %s", (long long)u->step + 1, u->unit->name);
    json_set(metrics, "lr", json_new_number(lr));
    json_set(metrics, "grad_norm", json_new_number(norm));
    if (u->step + 1 == u->total) heldout(u, s, metrics);
    return true;
}

static void dpo_close(UnitRun *u)
{
    Dpo *s = u->self;
    if (!s) return;
    pairs_free(&s->train);
    pairs_free(&s->heldout);
    batch_free(&s->batch);
    free(s->output);
    free(s->lp);
    free(s->ref_lp);
    free(s->outputs);
    free(s);
}

const UnitKind unit_dpo = {.verb = "train", .open = dpo_open, .step = dpo_step, .close = dpo_close};
