/* Two resolved recipes compared. */
#ifndef RECIPES_RECIPE_DIFF_H
#define RECIPES_RECIPE_DIFF_H

#include <stdbool.h>
#include <stddef.h>

/* Whether two resolved recipes say the same, keys that have come since one of them was written apart, where their value is
 * what was done before; if not, difference becomes "KEY is A here and B there" (a's value first). */
bool recipe_same(const char *a, const char *b, char *difference, size_t size);

#endif
