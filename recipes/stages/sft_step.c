/* The step of supervised training. */
#include "recipes/stages/sft_step.h"

#include <math.h>
#include <stdlib.h>

#include "core/base/check.h"
#include "recipes/stages/step.h"

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
                      .balance = p->config.E ? &balance : NULL};
    TrainOut out;
    train_gradients(&p->engine, &p->w, &p->g, &task, &out);
    free(weight);
    double norm = 0;
    if (!isfinite(out.loss))
        return fail(st, "the loss became %g in step %lld of %s: try a lower lr (%g now) or a smaller init", out.loss,
                    (long long)u->step + 1, u->unit->name, (double)lr);
    if (!run_update(u->run, p, u->unit->stage, out.routing, lr, &norm, st))
        return fail_prefix(st, "step %lld of %s", (long long)u->step + 1, u->unit->name);
    u->tokens_trained += batch->n;
    u->flops += 3 * forward_flops(p, batch->n);
    json_set(metrics, "loss", json_new_number(out.loss));
    if (p->config.E) json_set(metrics, "aux", json_new_number(out.aux));
    json_set(metrics, "lr", json_new_number(lr));
    json_set(metrics, "grad_norm", json_new_number(norm));
    return true;
}
