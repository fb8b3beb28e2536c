/* The loop around a unit's steps. */
#ifndef RECIPES_UNIT_H
#define RECIPES_UNIT_H

#include "recipes/run/run.h"

/* Runs a unit to its end, resuming it where it stopped. Fails with "interrupted" after Ctrl-C (state saved). */
bool unit_execute(Run *r, const Unit *u, Status *st);

#endif
