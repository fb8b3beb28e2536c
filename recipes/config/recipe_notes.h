/* What a recipe says that nobody will read. */
#ifndef RECIPES_RECIPE_NOTES_H
#define RECIPES_RECIPE_NOTES_H

#include <stdio.h>

#include "recipes/config/recipe.h"

/* A line for every key with a value of its own (not the default) that no model or stage of the recipe reads: the balance keys
 * of another family. Returns their number. Nothing is said where a model comes `from` elsewhere. */
int recipe_print_notes(const Recipe *r, FILE *out);

/* The same once the one model that comes `from` elsewhere is open. */
int recipe_print_notes_of(const Recipe *r, const ModelConfig *opened, FILE *out);

#endif
