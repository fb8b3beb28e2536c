/* What the key table cannot say: names, defaults that depend on other keys, references between stages, model sizes. */
#ifndef RECIPES_RECIPE_CHECK_H
#define RECIPES_RECIPE_CHECK_H

#include "recipes/config/recipe.h"
#include "recipes/config/yaml.h"

/* Before reading: gives the built-in stages their kind and sources, rewards and tasks what their name says. */
void recipe_complete_tree(Node *tree);

/* After reading: derived values, then every check; the tree gives places for sentences. */
bool recipe_check(Recipe *r, const Node *tree, Status *st);

#endif
