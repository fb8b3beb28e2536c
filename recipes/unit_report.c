/* What an RL step makes known beside its metrics: warnings and rollouts. */
#include <math.h>
#include <stdlib.h>

#include "recipes/stage_rl.h"

static bool write_warning(UnitRun *u, const Warning *w, Status *st)
{
    progress_note(u->run->progress, "warning %s (%s step %lld): %s. %s %s", warning_name(w->kind), u->unit->name,
                  (long long)u->step + 1, w->evidence, warning_what(w->kind), warning_try(w->kind));
    Json *line = json_new_object();
    json_set(line, "warning", warning_json(w));
    return run_metrics_append(u->run->folder, u->unit->name, u->step + 1, line, st);
}

bool unit_warn_rl(UnitRun *u, const RlNumbers *n, double reference_age, Status *st)
{
    double beta = u->unit->stage->rl.beta;
    StepStats s = {.step = u->step + 1, .zero_groups = (double)n->zero_groups / n->groups, .truncated = n->truncated,
                   .entropy = n->updated ? n->entropy : (double)NAN, .accuracy = n->pass1, .format = n->format,
                   .language = n->language, .think = n->thinks, .rm = n->helpful, .oracle = n->oracle,
                   .kl = beta > 0 && n->updated ? n->kl : (double)NAN, .beta = beta, .reference_age = reference_age};
    Warning fired[WARN_KINDS];
    int count = warnings_step(u->run->warnings, &s, fired);
    for (int i = 0; i < count; i++)
        if (!write_warning(u, &fired[i], st)) return false;
    return true;
}
