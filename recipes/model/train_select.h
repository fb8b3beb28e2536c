/* The recipe's `train:` on a model's table. */
#ifndef RECIPES_TRAIN_SELECT_H
#define RECIPES_TRAIN_SELECT_H

#include "core/params.h"
#include "recipes/config/recipe.h"

/* Freezes what no name means (core/params_select.h). A model of which no name means a tensor is trained whole: the names are
 * those of another model of the recipe. Fails where nothing is left to train, or beside adapters. */
bool train_select(ParamTable *t, const RecipeNames *names, Status *st);
/* The table of a model that the recipe's stages train: the same, and how its moments are stored. */
bool train_table(ParamTable *t, const Recipe *r, Status *st);
/* Fails where a name means no tensor of any of the tables, with the nearest that one of them has. */
bool train_check(const ParamTable *tables, int n, const RecipeNames *names, Status *st);

#endif
