/* A recipe read from YAML, and written out again with every key.
 *
 * YAML rules beyond the table:
 *  - `extends: tiny` (a built-in recipe, from any folder) or a path relative to the file: its values are the defaults.
 *  - A list of named things (tasks, general, rewards) may be written as a list or as a mapping by name; written out, it
 *    replaces the list that was there: `rewards: {accuracy: 1, format: 0.5}` is these two and no other.
 *  - A key may be a path, which changes one element and keeps the rest: `rewards.language: 0`, `tasks.add3.weight: 1`. Where a
 *    stage has no such list of its own, the path changes a copy of the recipe's.
 *  - `stages` as a mapping by name changes stages and keeps the rest; as a list it selects: an element whose name the extended
 *    recipe has starts from that stage's settings, so `stages: [base, zero]` is two of them.
 *  - `--set a.b=c`: the same paths; a stage's name may come first (`zero.steps=50`); the value is YAML.
 *  - Relative paths in values (from, file, path, the words of a command) are looked for beside the recipe's file, then in the
 *    working folder; the resolved recipe has them absolute (recipes/config/paths.h). */
#ifndef RECIPES_RECIPE_LOAD_H
#define RECIPES_RECIPE_LOAD_H

#include "recipes/config/recipe.h"

/* The built-in recipes: "lab, micro, smollm2, tiny". */
const char *recipe_names(void);

/* Reads a built-in recipe by name or a file by path, applies n `--set` texts in order, checks everything. One heap block;
 * free with free(). NULL with a sentence "FILE:LINE: ..." on unknown keys, wrong types, values out of range, a stage that
 * starts from one that does not come before it, impossible model sizes. */
Recipe *recipe_load(const char *name_or_path, const char *const *sets, int n, Status *st);
/* The same from text; `where` names it in sentences, `extends` paths are relative to the working folder. */
Recipe *recipe_parse(const char *text, const char *where, const char *const *sets, int n, Status *st);

/* A resolved recipe (of a run folder, a checkpoint): it had a line for every key of its time, so a key that it lacks was not
 * there yet and gets the value that stands for what was done then (Field.before). */
Recipe *recipe_parse_resolved(const char *text, const char *where, Status *st);

/* The resolved recipe: every key with its value, as YAML that recipe_parse reads back to an equal Recipe. Caller frees. */
char *recipe_write(const Recipe *r);

#endif
