/* Training longer than a recipe said: where more steps give what they would have given from the start. */
#ifndef RECIPES_RECIPE_LONGER_H
#define RECIPES_RECIPE_LONGER_H

#include "recipes/config/recipe.h"

/* NULL when the first steps of a stage are the same whatever their number: a constant learning rate, no warm-up that was cut,
 * nothing else that counts from the end. Otherwise why not: "its cosine schedule falls over all of its steps". Such a stage
 * keeps its last state (moments and all) beside its result, so that it can go on. */
const char *recipe_fixed_length(const RecipeStage *s);

/* Whether the resolved recipe `now` is `then` but for more steps (or epochs) of stages that can go on; the first of them is
 * written to stage. Where there are more steps, but they
 * cannot be had or are not the only difference, *why is a sentence's end; otherwise "". */
bool recipe_longer(const char *then, const char *now, char stage[RECIPE_NAME], char *why, size_t size);

#endif
