/* One value of a resolved recipe, for a person or a test. */
#ifndef RECIPES_RECIPE_SHOW_H
#define RECIPES_RECIPE_SHOW_H

#include "recipes/config/recipe.h"

/* The value at a path as `--set` takes it ("zero.lr", "tasks.add3.levels"): a number or a text as it stands, "[1, 2]" for a list
 * of them, "accuracy 1, format 0.5" for a list of named things with weights, "base, zero" for one without, "KEY: value" lines
 * for a mapping. Caller frees. NULL with a sentence when there is no such key. */
char *recipe_show(const Recipe *r, const char *path, Status *st);

#endif
