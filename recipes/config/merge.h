/* Trees of recipes combined: `extends` and `--set`. */
#ifndef RECIPES_MERGE_H
#define RECIPES_MERGE_H

#include "recipes/config/schema.h"
#include "recipes/config/yaml.h"

/* Brings every list of named things below `map` into one form: a list of maps, each with its name. A mapping by name becomes
 * such a list; a bare value in it sets the section's `scalar` key; a bare word in a list is a name. A key that is a path
 * (`rewards.language`) becomes a list of that element, marked by_name: it changes elements of what it is put on. So does
 * `stages` written as a mapping; other lists replace. */
bool merge_normalise(const Section *b, Node *map, Status *st);

/* Puts `over` (normalised, left as it was) on top of `base` (changed): maps by key; a by_name list changes or appends
 * elements; another list replaces, but elements of `stages` start from base's element of that name. */
void merge_over(const Section *b, Node *base, const Node *over);

/* Last: rewards and tasks of a stage that are changes only (marked by_name) are put on a copy of the recipe's lists. */
void merge_inherited(Node *tree);

/* Applies the `--set` text "a.b.c=VALUE" to a normalised tree. */
bool merge_set(const Section *b, Node *base, const char *set, Status *st);

#endif
