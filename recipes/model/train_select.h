/* The recipe's `train:` on a model's table. */
#ifndef RECIPES_TRAIN_SELECT_H
#define RECIPES_TRAIN_SELECT_H

#include "core/params.h"
#include "recipes/config/recipe.h"

/* Freezes what no name means (core/params_select.h). Fails where a name means no tensor, with the nearest one, or where nothing
 * is left to train. */
bool train_select(ParamTable *t, const RecipeNames *names, Status *st);

#endif
