/* Where a stage's problems come from, and the seeds of its draws. */
#ifndef RECIPES_SOURCES_H
#define RECIPES_SOURCES_H

#include "data/corpus.h"
#include "recipes/run/run.h"

/* Problems of a stage: its own tasks or the recipe's; the general families; a mix with `general_share` of the latter. */
bool run_reasoning(Run *r, const RecipeStage *s, CorpusSpec *out, Status *st);
bool run_general(Run *r, CorpusSpec *out, Status *st);
/* The files of preference pairs that a stage names. */
bool run_preferences(Run *r, const RecipeStage *s, CorpusSpec *out, Status *st);
bool run_mix(Run *r, const RecipeStage *s, double general_share, CorpusSpec *out, Status *st);

/* A seed for a unit's data, different for every unit of a run. */
uint32_t run_seed(const Run *r, const Unit *u);
/* The RNG's stage number: of the unit's name, so that a stage draws the same whatever recipe it stands in; the next free one
 * where an earlier unit of the run has that number. u: one of r->units. */
uint32_t unit_rng_stage(const Run *r, const Unit *u);

/* Documents of an SFT stage's mix: `traces`, or when 0 every row of its files once; 400 of built-in tasks. */
int run_documents(const CorpusSpec *c, int traces);

#endif
