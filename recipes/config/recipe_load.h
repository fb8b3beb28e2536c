/* A recipe read from YAML, and written out again with every key.
 *
 * YAML rules beyond the table:
 *  - `extends: tiny` (a built-in recipe, from any folder) or a path relative to the file: its values are the defaults.
 *  - A list of named things (stages, tasks, general, rewards) may be written as a list, which replaces the list of the extended
 *    recipe, or as a mapping by name, which changes its elements and keeps the rest. In a list of stages, an element whose
 *    name the extended recipe has starts from that stage's settings, so `stages: [base, zero]` selects two of them.
 *  - `--set a.b=c`: a path of keys and names; a stage's name may come first (`zero.steps=50`); the value is YAML.
 *  - Paths in values (from, file, path) are relative to the working folder. */
#ifndef RECIPES_RECIPE_LOAD_H
#define RECIPES_RECIPE_LOAD_H

#include "recipes/config/recipe.h"

/* Reads a built-in recipe by name or a file by path, applies n `--set` texts in order, checks everything. One heap block;
 * free with free(). NULL with a sentence "FILE:LINE: ..." on unknown keys, wrong types, values out of range, a stage that
 * starts from one that does not come before it, impossible model sizes. */
Recipe *recipe_load(const char *name_or_path, const char *const *sets, int n, Status *st);
/* The same from text; `where` names it in sentences, `extends` paths are relative to the working folder. */
Recipe *recipe_parse(const char *text, const char *where, const char *const *sets, int n, Status *st);

/* The resolved recipe: every key with its value, as YAML that recipe_parse reads back to an equal Recipe. Caller frees. */
char *recipe_write(const Recipe *r);

#endif
