/* Where models rest that a stage has beside its policy and that only compute forward. */
#include "core/params_select.h"
#include "recipes/model/placing.h"
#include "recipes/plan/placement.h"

/* The least memory of one of them whose experts rest in its file; its adapters are in memory. */
static size_t least_bytes(const Machine *m, const ModelConfig *c)
{
    ParamTable t = params_build(c);
    if (t.lora) params_set_apart(&t);
    size_t bytes = placing_estimate(&t, m->options.dtype) + placing_margin(m->memory);
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

static bool plan_way(Plan *out, const Machine *m, const PlanWork *w, const LoadedModel *file, const char *what,
                     Status *st)
{
    return file ? placement_stage(out, m, file, w, what, st) : plan_make(out, m, w, SIZE_MAX, what, st);
}

bool plan_make_beside(Plan *out, const Machine *m, const PlanWork *w, const LoadedModel *file, const char *what,
                      Status *st)
{
    size_t n = (size_t)w->frozen.n, each = n ? plan_model_bytes(m, &w->frozen.config, false) : 0,
           least = n ? least_bytes(m, &w->frozen.config) : 0;
    Plan best = {0};
    Status why = {0};
    for (int i = 0; i < WAYS; i++) {
        bool rests = ways[i].frozen_rests;
        if ((rests && (!m->cpu || !n)) || (ways[i].policy_rests && !file)) continue;
        PlanWork work = *w;
        Status own = {0};
        work.beside += n * (rests ? least : each);
        work.margins = rests ? (int)n : 0;
        bool fits = plan_way(out, m, &work, ways[i].policy_rests ? file : NULL, what, &own);
        out->frozen_placed = rests;
        out->frozen_share = rests ? least : each;
        if (fits && !out->placed && rests) out->frozen_share += (out->budget - out->total) / n;
        if (fits) return true;
        if (!out->least) return fail(st, "%s", own.text);
        if (best.least && best.least <= out->least) continue;
        best = *out;
        why = own;
    }
    *out = best;
    return fail(st, "%s", why.text);
}
