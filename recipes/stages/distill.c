/* distill: SFT of a dense student on the teacher's correct samples (its units are those of rejection sampling), on their words or
 * on the teacher's whole distribution (`objective`; on_policy.c: on the student's own samples); beside it
 * the same initial student trained by RL at several learning rates, each until sampling + training took as many FLOPs as
 * the teacher's sampling + the student's SFT (DeepSeek-R1, section 4.1 compares the two). */
#include <stdio.h>

#include "recipes/stages/rl_state.h"
#include "recipes/run/run_folder.h"
#include "recipes/stages/stage_list.h"

/* FLOPs of the stage's units before this one: sampling and SFT, as they left them in the run folder. */
static double distill_flops(const UnitRun *u, Status *st)
{
    double flops = 0;
    const char *parts[] = {".samples", ""};
    for (int i = u->unit->stage->objective == OBJECTIVE_ON_POLICY; i < 2; i++) {
        char name[UNIT_NAME];
        snprintf(name, sizeof name, "%.60s%s", u->unit->stage->name, parts[i]);
        double part = run_summary_flops(u->run->folder, name);
        if (part <= 0) fail(st, "the summary of the run does not hold the FLOPs of %s; start the stage again", name);
        flops += part;
    }
    return flops;
}

static bool rival_open(UnitRun *u, Status *st)
{
    double flops = distill_flops(u, st);
    if (st->failed) return false;
    u->total = INT32_MAX; /* the budget ends it */
    return rl_open(u, u->unit->stage->rival_lrs[u->unit->variant], flops, st);
}

const UnitKind unit_rival = {.verb = "train",
                             .open = rival_open,
                             .step = rl_step,
                             .save = rl_save,
                             .lend = rl_lend,
                             .take_back = rl_take_back,
                             .close = rl_close};
