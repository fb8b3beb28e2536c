/* A unit's state in the folder of `r1 run --state DIR`: DIR/UNIT.records and its manifest (checkpoints/state_file.h) in place of
 * checkpoints/UNIT.partial.h5. Every step is a checkpoint. What is not trained is read again from where the unit begins.
 * checkpoints/UNIT.state.json in the run's folder says where DIR is, so that a run that goes on without it is refused. */
#ifndef RECIPES_STATE_TIER_H
#define RECIPES_STATE_TIER_H

#include "recipes/run/run.h"

/* The unit has its policy, with its parameters selected and no gradients yet. Nothing to do without --state. Takes the state
 * over where the unit stopped, or reserves the space. Refuses what is not this run's. */
bool state_tier_open(UnitRun *u, Status *st);
/* Between two steps. state (taken over): what the unit's checkpoint holds beside counts. */
bool state_tier_save(UnitRun *u, Json *state, Status *st);
/* Detaches the policy from it. */
void state_tier_close(UnitRun *u);

/* Whether the unit was begun with --state; *where: that folder, free() (NULL: not wanted). */
bool state_tier_begun(const Run *r, const Unit *u, char **where);
/* Whether it may go on with the command's --state, or without: as it was begun. partial: its checkpoint without. */
bool state_tier_may(const Run *r, const Unit *u, const char *partial, Status *st);
/* Takes the state away: the unit's result is on disk. */
void state_tier_drop(const Run *r, const Unit *u);

#endif
