/* The step of supervised training. */
#include "recipes/stages/sft_step.h"

#include <math.h>
#include <stdlib.h>

#include "core/base/check.h"
#include "recipes/stages/step.h"

/* The cross-entropy of every depth. */
static Json *mtp_json(const Policy *p, const MtpOut *out)
{
    Json *list = json_new_array();
    for (int k = 0; k < p->config.mtp; k++) json_append(list, json_new_number(out->depth[k]));
    return list;
}

bool sft_update(UnitRun *u, const BatchBuilder *batch, float lr, Json *metrics, Status *st)
{
    Policy *p = u->policy;
    if (!batch_fits(batch, &p->config, st))
        return fail_prefix(st, "step %lld of %s", (long long)u->step + 1, u->unit->name);
    float *weight = malloc((size_t)batch->m * sizeof *weight);
    CHECK(weight != NULL && batch->m > 0);
    nll_weights_mean(weight, batch->targets, batch->m);
    NllLoss nll = {weight};
    Loss loss = nll_loss(&nll);
    BalanceConfig balance = recipe_balance(u->run->recipe, &p->config);
    TrainStep task = {.batch = batch_view(batch),
                      .predict = batch_predictions(batch),
                      .inv_temperature = 1,
                      .loss = &loss,
                      .balance = p->config.E ? &balance : NULL,
                      .mtp = stage_mtp(u->unit->stage, u->step + 1, u->total)};
    TrainOut out;
    train_gradients(&p->engine, &p->w, &p->g, &task, &out);
    free(weight);
    double norm = 0;
    if (!isfinite(out.loss + out.mtp.loss))
        return fail(st, "the loss became %g in step %lld of %s: try a lower lr (%g now) or a smaller init",
                    out.loss + out.mtp.loss, (long long)u->step + 1, u->unit->name, (double)lr);
    if (!run_update(u->run, p, u->unit->stage, out.routing, lr, &norm, st))
        return fail_prefix(st, "step %lld of %s", (long long)u->step + 1, u->unit->name);
    u->tokens_trained += batch->n;
    u->flops += 3 * (forward_flops(p, batch->n) + (p->engine.mtp_ran ? mtp_flops(p, batch->n) : 0));
    json_set(metrics, "loss", json_new_number(out.loss));
    if (p->config.E) json_set(metrics, "aux", json_new_number(out.aux + out.mtp.aux));
    if (p->engine.mtp_ran) json_set(metrics, "mtp_loss", mtp_json(p, &out.mtp));
    json_set(metrics, "lr", json_new_number(lr));
    json_set(metrics, "grad_norm", json_new_number(norm));
    return true;
}
