/* What the key table cannot say: names, references between stages, model sizes. */
#ifndef RECIPES_RECIPE_CHECK_H
#define RECIPES_RECIPE_CHECK_H

#include "recipes/config/recipe.h"
#include "recipes/config/yaml.h"

/* After reading: derived values, then every check; the tree gives places for sentences. */
bool recipe_check(Recipe *r, const Node *tree, Status *st);

#endif
