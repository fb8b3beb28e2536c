/* The keys of a recipe for a person. */
#ifndef RECIPES_RECIPE_HELP_H
#define RECIPES_RECIPE_HELP_H

#include <stdio.h>

/* Every key with type, default, range and help (`r1 run --help-recipe`). */
void recipe_print_schema(FILE *out);

#endif
