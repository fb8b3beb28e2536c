/* Learning rate and end of an RL unit. */
#include "recipes/stages/rl_rate.h"

#include "recipes/stages/step.h"

float rl_rate(const UnitRun *u, double peak)
{
    enum { PARTS = 1000 };
    const Rl *r = u->self;
    if (r->flops <= 0) return stage_rate(u->unit->stage, peak, u->step + 1, u->total);
    int64_t part = (int64_t)(PARTS * (u->flops / r->flops)) + 1;
    return stage_rate(u->unit->stage, peak, part < PARTS ? part : PARTS, PARTS);
}

bool rl_budget_spent(const UnitRun *u, double step_flops)
{
    const Rl *r = u->self;
    return r->flops > 0 && u->flops + step_flops / 2 >= r->flops;
}
