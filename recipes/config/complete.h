/* Defaults that depend on other keys, put into a recipe's tree before it is read. */
#ifndef RECIPES_COMPLETE_H
#define RECIPES_COMPLETE_H

#include "recipes/config/yaml.h"

/* Gives the built-in stages their kind and sources, rewards and tasks what their name says. */
void recipe_complete_tree(Node *tree);

#endif
