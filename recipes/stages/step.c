/* What the training steps of all stages share: learning rate, balance losses, the AdamW update, FLOPs. */
#include "recipes/stages/step.h"

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
