/* A unit's state on disk: checkpoints/UNIT.partial.h5 until it is done, then checkpoints/UNIT.h5; units that make samples have
 * samples/STAGE.state.json and samples/STAGE.jsonl. */
#ifndef RECIPES_UNIT_STATE_H
#define RECIPES_UNIT_STATE_H

#include "recipes/run/run.h"

/* The state where the unit stopped, or a fresh one; cuts the run folder's metrics back to it. */
bool unit_begin(UnitRun *u, Status *st);
/* Writes the state as it is now, between two steps. */
bool unit_save(UnitRun *u, Status *st);
/* Of the policy's weights as they are (checkpoints/hash.h). */
bool unit_weights_sha256(const UnitRun *u, char hash[65], Status *st);
/* What unit_save keeps beside counts, and that taken over (a sentence where it cannot be). */
bool unit_take_extra(UnitRun *u, Json *state, Status *st);
/* Whether a state made on that kind of machine may go on here. */
bool unit_same_machine(const UnitRun *u, const char *kind, const char *path, Status *st);
/* Writes the finished model (samples are written by their unit's last step). */
bool unit_save_result(UnitRun *u, Status *st);
/* Takes the finished model of a unit that has no summary yet (its evaluation was cut). False when there is none, or one of
 * another run; sets st when it cannot be read. */
bool unit_take_result(UnitRun *u, Status *st);
/* Takes the state of an unfinished unit away, once its result is in the summary; that of a stage that can be trained longer
 * (recipe_longer.h) stays. */
void unit_drop_partial(const Run *r, const Unit *unit);
/* Where the finished model or samples go; free(). */
char *unit_result_path(const Run *r, const Unit *u);
/* Cuts the run folder's metrics back to the units before this one. */
bool unit_cut_before(const Run *r, const Unit *u, Status *st);
/* Whether the unit's result and its summary are there. */
bool unit_done(Run *r, const Unit *unit);
/* Whether anything of the unit is on disk. */
bool unit_begun(const Run *r, const Unit *unit);
/* Takes the result of a finished unit away, so that it goes on at its last state. Nothing to do when it is not finished; fails
 * when it is, but left no state. */
bool unit_reopen(Run *r, const Unit *unit, Status *st);

#endif
