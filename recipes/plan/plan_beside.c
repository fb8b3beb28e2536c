/* Where models rest that a stage has beside its policy and that only compute forward. */
#include "core/params_select.h"
#include "recipes/model/placing.h"
#include "recipes/plan/plan.h"

/* The least memory of one of them whose experts rest in its file; its adapters are in memory. */
static size_t least_bytes(const Machine *m, const ModelConfig *c)
{
    ParamTable t = params_build(c);
    if (t.lora) params_set_apart(&t);
    size_t bytes = placing_estimate(&t, m->options.dtype) + m->memory / 100;
    if (t.lora) bytes += t.state_total * sizeof(float);
    params_free(&t);
    return bytes;
}

typedef struct Way {
    bool frozen_rests, policy_rests;
} Way;

/* From the fastest: a frozen model is read once a step, a policy in every pass over it. */
static const Way ways[] = {{false, false}, {true, false}, {false, true}, {true, true}};
enum { WAYS = sizeof ways / sizeof *ways };

bool plan_make_beside(Plan *out, const Machine *m, const PlanWork *w, const char *what, Status *st)
{
    if (!w->frozen.n) return plan_make(out, m, w, SIZE_MAX, what, st);
    size_t each = plan_model_bytes(m, &w->frozen.config, false), least = least_bytes(m, &w->frozen.config);
    Status own = {0};
    for (int i = 0; i < WAYS; i++) {
        if ((ways[i].frozen_rests && !m->cpu) || (ways[i].policy_rests && !w->rests)) continue;
        PlanWork work = *w;
        own = (Status){0};
        size_t one = ways[i].frozen_rests ? least : each;
        work.rests = ways[i].policy_rests;
        work.beside += (size_t)w->frozen.n * one;
        bool fits = plan_make(out, m, &work, SIZE_MAX, what, &own);
        out->frozen_placed = ways[i].frozen_rests;
        out->frozen_share = one;
        if (fits && !out->placed && out->frozen_placed)
            out->frozen_share += (out->budget - out->total) / (size_t)w->frozen.n;
        if (fits) return true;
    }
    return fail(st, "%s", own.text);
}
