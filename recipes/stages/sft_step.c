/* The step of supervised training. */
#include "recipes/stages/sft_step.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "recipes/run/sources.h"
#include "recipes/stages/step.h"

/* The cross-entropy of every depth. */
static Json *mtp_json(const Policy *p, const MtpOut *out)
{
    Json *list = json_new_array();
    for (int k = 0; k < p->config.mtp; k++) json_append(list, json_new_number(out->depth[k]));
    return list;
}

/* Which rows belong to sequences that are never dropped: a function of seed, stage and step. Caller frees. */
static uint8_t *never_dropped(const UnitRun *u, const BatchBuilder *b)
{
    uint8_t *kept = malloc((size_t)b->n);
    CHECK(kept != NULL);
    Rng rng = rng_stream(run_seed(u->run, u->unit), RNG_DATA, hash_name("never dropped"), (uint64_t)u->step);
    for (int s = 0; s < b->nseq; s++) {
        bool keeps = rng_double(&rng) < u->unit->stage->drop_kept;
        memset(kept + b->offsets[s], keeps, (size_t)(b->offsets[s + 1] - b->offsets[s]));
    }
    return kept;
}

bool sft_update(UnitRun *u, const BatchBuilder *batch, float lr, const Teacher *teacher, Json *metrics, Status *st)
{
    Policy *p = u->policy, *from = teacher ? teacher->policy : NULL;
    if (!batch_fits(batch, &p->config, st) || (from && !batch_fits(batch, &from->config, st)))
        return fail_prefix(st, "step %lld of %s", (long long)u->step + 1, u->unit->name);
    TokenDrop drop = {.capacity = (float)u->unit->stage->drop_capacity, .devices = u->run->recipe->balance.devices};
    bool drops = drop.capacity > 0;
    if (drops && (!p->config.E || p->config.E % drop.devices))
        return fail(st, "%s drops tokens, but %d experts cannot lie on %d devices (balance.devices)", u->unit->name,
                    p->config.E, drop.devices);
    uint8_t *kept = drops ? never_dropped(u, batch) : NULL;
    drop.kept = kept;
    float *weight = malloc((size_t)batch->m * sizeof *weight);
    CHECK(weight != NULL && batch->m > 0);
    nll_weights_mean(weight, batch->targets, batch->m);
    NllLoss nll = {weight};
    KlLoss kl = {weight};
    Loss loss = from ? kl_loss(&kl) : nll_loss(&nll);
    BalanceConfig balance = recipe_balance(u->run->recipe, &p->config);
    TrainStep task = {.batch = batch_view(batch),
                      .predict = batch_predictions(batch),
                      .inv_temperature = 1,
                      .loss = &loss,
                      .balance = p->config.E ? &balance : NULL,
                      .drop = drops ? &drop : NULL,
                      .reference = from ? &from->w : NULL,
                      .reference_engine = from ? &from->engine : NULL,
                      .forward_kl = from && teacher->forward,
                      .mtp = stage_mtp(u->unit->stage, u->step + 1, u->total)};
    TrainOut out;
    train_gradients(&p->engine, &p->w, &p->g, &task, &out);
    free(weight);
    free(kept);
    if (from && !keeper_fault(from->w.keeper, st)) return fail_prefix(st, "the teacher of %s", u->unit->name);
    double norm = 0;
    if (!isfinite(out.loss + out.mtp.loss))
        return fail(st, "the loss became %g in step %lld of %s: try a lower lr (%g now) or a smaller init",
                    out.loss + out.mtp.loss, (long long)u->step + 1, u->unit->name, (double)lr);
    if (!run_update(u->run, p, u->unit->stage, out.routing, lr, &norm, st))
        return fail_prefix(st, "step %lld of %s", (long long)u->step + 1, u->unit->name);
    u->tokens_trained += batch->n;
    u->flops += train_flops(p, batch->n, p->engine.mtp_ran);
    if (from) u->flops += forward_flops(from, batch->n);
    json_set(metrics, "loss", json_new_number(out.loss));
    if (p->config.E) json_set(metrics, "aux", json_new_number(out.aux + out.mtp.aux));
    if (drops) json_set(metrics, "pairs_dropped", json_new_number((double)drop.dropped / (double)drop.pairs));
    if (p->engine.mtp_ran) json_set(metrics, "mtp_loss", mtp_json(p, &out.mtp));
    json_set(metrics, "lr", json_new_number(lr));
    json_set(metrics, "grad_norm", json_new_number(norm));
    return true;
}
