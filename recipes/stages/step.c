/* What the training steps of all stages share: learning rate, balance losses, the AdamW update, FLOPs. */
#include "recipes/stages/step.h"

#include "core/params_select.h"
#include "core/schedule.h"

float stage_rate(const RecipeStage *s, double lr, int64_t step, int64_t total)
{
    const RecipeOptim *o = &s->optim;
    Schedule schedule = {.kind = o->schedule,
                         .peak = (float)lr,
                         .last = (float)(lr * o->lr_final),
                         .warmup = o->warmup,
                         .steps = total,
                         .factor = (float)o->lr_final,
                         .milestones = {(float)o->milestones[0], (float)o->milestones[1]}};
    if (schedule.warmup > total / 2) schedule.warmup = total / 2;
    return schedule_rate(&schedule, step);
}

float stage_mtp(const RecipeStage *s, int64_t step, int64_t total)
{
    return (float)((double)(step - 1) < s->mtp_after * (double)total ? s->mtp_weight : s->mtp_later);
}

OptimizerConfig stage_optimizer(const RecipeStage *s)
{
    return (OptimizerConfig){.beta1 = (float)s->optim.betas[0],
                             .beta2 = (float)s->optim.betas[1],
                             .eps = 1e-8f,
                             .weight_decay = (float)s->optim.weight_decay,
                             .max_norm = (float)s->optim.clip};
}

bool run_update(Run *r, Policy *p, const RecipeStage *s, const Routing *routing, float lr, double *norm, Status *st)
{
    OptimizerConfig o = stage_optimizer(s);
    o.seed = r->recipe->seed;
    o.stage = (uint32_t)(s - r->recipe->stages);
    if (!policy_update(p, &o, lr, norm, st)) return false;
    if (routing && p->config.topk == TOPK_NOAUX && r->recipe->balance.bias_speed > 0)
        policy_bias_update(p, routing, (float)r->recipe->balance.bias_speed);
    return true;
}

double forward_flops(const Policy *p, int64_t tokens)
{
    double embedding = (double)p->config.V * p->config.C;
    double matmul = (double)p->engine.table.active - (p->config.tied ? 0 : embedding);
    return 2.0 * matmul * (double)tokens;
}

double mtp_flops(const Policy *p, int64_t tokens)
{
    double heads = (double)p->config.mtp * p->config.V * p->config.C;
    return 2.0 * ((double)p->engine.table.mtp_active + heads) * (double)tokens;
}

/* Matmul parameters of parameter i that a token meets. */
static double met(const Policy *p, int i)
{
    const ParamTable *t = &p->engine.table;
    const Param *q = &t->params[i], *own = q->base < 0 ? q : &t->params[q->base];
    if (own->kind == PARAM_EMBED) return p->config.tied ? (double)q->count : 0;
    return (double)q->count * (own->expert < 0 ? 1 : (double)p->config.K / p->config.E);
}

double train_flops(const Policy *p, int64_t tokens, bool mtp)
{
    const ParamTable *t = &p->engine.table;
    double forward = forward_flops(p, tokens) + (mtp ? mtp_flops(p, tokens) : 0), backward = 0;
    if (params_all_chosen(t)) return 3 * forward;
    for (int i = 0; i < t->n; i++) {
        const Param *q = &t->params[i], *own = q->base < 0 ? q : &t->params[q->base];
        bool module = own->layer >= p->config.L, end = own->layer < 0;
        if (module && !mtp) continue;
        bool visited = module || end || own->layer >= t->lowest_trained;
        backward += ((visited ? 1 : 0) + (q->trained ? 1 : 0)) * met(p, i);
    }
    if (mtp) { /* each module has the head's product again */
        int head = params_find(t, p->config.tied ? PARAM_EMBED : PARAM_HEAD, -1, -1);
        backward += (1 + t->params[head].trained) * (double)p->config.mtp * p->config.V * p->config.C;
    }
    return forward + 2.0 * backward * (double)tokens;
}
