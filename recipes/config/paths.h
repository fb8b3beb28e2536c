/* Paths in a recipe: where they lie, and whether two mean the same file. */
#ifndef RECIPES_PATHS_H
#define RECIPES_PATHS_H

#include "data/reward/command.h"
#include "recipes/config/schema.h"
#include "recipes/config/yaml.h"

/* Makes every relative path below `map` (Field.path) that lies in `folder` absolute; the others stay. Of a command, every plain
 * word that is a file is such a path. In `from` and its kin a word without '/' that is one of `stages` (NULL: unknown, so no
 * word without '/' is a path) is left alone. Called for each file of a chain of `extends` with its own folder, and last with ""
 * (the working folder) when all are merged. */
void paths_resolve(const Section *b, Node *map, const char *folder, const Node *stages);

/* Whether the texts of a path row say the same although folders differ: a file and the words of a command by their last parts
 * (what is in them is compared by hash: recipes/run/inputs.h), a model when one path ends with the other. */
bool paths_same(PathKind kind, const char *a, const char *b);

#endif
