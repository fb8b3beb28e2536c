#include "recipes/stages/documents.h"

#include <math.h>
#include <stdlib.h>

#include "core/check.h"

void documents_add(Documents *d, const Voice *v, const char *rendered_prompt, const char *completion, int max_length,
                   bool all)
{
    Ids ids = {0};
    int first = 0;
    document_encode(v, rendered_prompt, completion, &ids, &first);
    if (ids.n > max_length || ids.n < 2) {
        d->dropped++;
        free(ids.ids);
        return;
    }
    if (d->n == d->capacity) {
        d->capacity = d->capacity ? 2 * d->capacity : 256;
        d->list = realloc(d->list, (size_t)d->capacity * sizeof *d->list);
        CHECK(d->list != NULL);
    }
    d->list[d->n++] = (Sequence){ids.ids, ids.n, all || first < 1 ? 1 : first};
}

void documents_free(Documents *d)
{
    for (int i = 0; i < d->n; i++) free(d->list[i].ids);
    free(d->list);
    *d = (Documents){0};
}

/* A bijection of 0 .. n - 1 keyed by (seed, epoch): a four-round Feistel network on the next even power of two, walked until
 * it lands inside. */
static uint32_t permute(uint32_t i, uint32_t n, uint32_t seed, uint32_t epoch)
{
    uint32_t half = 1;
    while ((1u << 2 * half) < n) half++;
    uint32_t mask = (1u << half) - 1, key[2] = {seed, RNG_DATA};
    do {
        uint32_t left = i >> half, right = i & mask;
        for (uint32_t round = 0; round < 4; round++) {
            uint32_t out[4], counter[4] = {right, round, epoch, 0x5eedu};
            philox4x32(out, counter, key);
            uint32_t next = left ^ (out[0] & mask);
            left = right;
            right = next;
        }
        i = left << half | right;
    } while (i >= n);
    return i;
}

int keyed_order(int i, int n, uint32_t seed, uint32_t epoch)
{
    return (int)permute((uint32_t)i, (uint32_t)n, seed, epoch);
}

int documents_pick(const Documents *d, uint32_t seed, int64_t at)
{
    CHECK(d->n > 0);
    return keyed_order((int)(at % d->n), d->n, seed, (uint32_t)(at / d->n));
}

bool sft_update(UnitRun *u, const BatchBuilder *batch, float lr, Json *metrics, Status *st)
{
    Policy *p = u->policy;
    float *weight = malloc((size_t)batch->m * sizeof *weight);
    CHECK(weight != NULL && batch->m > 0);
    nll_weights_mean(weight, batch->targets, batch->m);
    NllLoss nll = {weight};
    Loss loss = nll_loss(&nll);
    BalanceConfig balance = run_balance(u->run, &p->config);
    TrainTask task = {.batch = batch_view(batch),
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
