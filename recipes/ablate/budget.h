/* --minutes: how many seeds, and where they do not fit how many steps, a time allows. */
#ifndef RECIPES_ABLATE_BUDGET_H
#define RECIPES_ABLATE_BUDGET_H

#include "recipes/ablate/schedule.h"

/* Runs a pilot (every stage for a few steps, evaluations at a tenth), scales its times up, and chooses 2 to
 * BUDGET_SEEDS seeds; where two do not fit, shortens the stages that the arms do not share, to a fifth at most. Says
 * on stderr what it chose, what that will take, and which difference can be resolved. Fails when even that does not
 * fit, naming the minutes that would. jobs 0: measured. */
enum { BUDGET_SEEDS = 10 };
bool budget_plan(Ablation *a, double minutes, int jobs, Sharing *sharing, const volatile int *cancel, Status *st);

#endif
