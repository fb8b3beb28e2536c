/* The stages' units, and the kinds of units, one C file each. */
#ifndef RECIPES_STAGE_LIST_H
#define RECIPES_STAGE_LIST_H

#include "recipes/run/run.h"

extern const UnitKind unit_pretrain, unit_sft, unit_rl, unit_samples, unit_sft_samples, unit_reward_model, unit_rival,
    unit_on_policy, unit_dpo;

/* The units of a stage, in order; returns their number (at most `max`). */
int stage_units(const Run *r, int stage_index, Unit *out, int max);

#endif
