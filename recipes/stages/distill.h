/* Distillation's rival: the same student trained by RL, with the FLOPs that distillation took. */
#ifndef RECIPES_STAGE_DISTILL_H
#define RECIPES_STAGE_DISTILL_H

#include "recipes/run/run.h"

extern const UnitKind unit_rival;

#endif
