/* From stages to units. */
#include "recipes/stages/stage_list.h"

#include <stdio.h>

#include "core/base/check.h"

static void add_unit(Unit *out, int *n, int max, const Run *r, int stage_index, const UnitKind *kind, int variant,
                     const char *suffix)
{
    CHECK(*n < max);
    Unit *u = &out[(*n)++];
    *u = (Unit){.stage = &r->recipe->stages[stage_index], .stage_index = stage_index, .variant = variant, .kind = kind};
    snprintf(u->name, sizeof u->name, "%s%s", u->stage->name, suffix);
}

int stage_units(const Run *r, int stage_index, Unit *out, int max)
{
    const RecipeStage *s = &r->recipe->stages[stage_index];
    int n = 0;
    switch (s->kind) {
    case STAGE_PRETRAIN: add_unit(out, &n, max, r, stage_index, &unit_pretrain, 0, ""); break;
    case STAGE_SFT:
        if (s->seed_share > 0) add_unit(out, &n, max, r, stage_index, &unit_samples, 0, ".samples");
        add_unit(out, &n, max, r, stage_index, &unit_sft, 0, "");
        break;
    case STAGE_RL: add_unit(out, &n, max, r, stage_index, &unit_rl, 0, ""); break;
    case STAGE_REJECTION:
        add_unit(out, &n, max, r, stage_index, &unit_samples, 0, ".samples");
        add_unit(out, &n, max, r, stage_index, &unit_sft_samples, 0, "");
        break;
    case STAGE_REWARD_MODEL:
        add_unit(out, &n, max, r, stage_index, &unit_reward_model, 0, ".helpful");
        add_unit(out, &n, max, r, stage_index, &unit_reward_model, 1, ".safety");
        break;
    case STAGE_DISTILL:
        if (s->objective == OBJECTIVE_ON_POLICY) {
            add_unit(out, &n, max, r, stage_index, &unit_on_policy, 0, "");
        } else {
            add_unit(out, &n, max, r, stage_index, &unit_samples, 0, ".samples");
            add_unit(out, &n, max, r, stage_index, &unit_sft_samples, 0, "");
        }
        for (int i = 0; i < s->n_rival_lrs; i++) {
            char suffix[24];
            snprintf(suffix, sizeof suffix, ".rival%d", i + 1);
            add_unit(out, &n, max, r, stage_index, &unit_rival, i, suffix);
        }
        break;
    case STAGE_DPO: add_unit(out, &n, max, r, stage_index, &unit_dpo, 0, ""); break;
    default: CHECK(false);
    }
    return n;
}
