/* A tree of values -> a struct, by the rows of a section of the key table. */
#ifndef RECIPES_BIND_H
#define RECIPES_BIND_H

#include <stdbool.h>
#include "core/base/status.h"
#include "recipes/config/schema.h"
#include "recipes/config/yaml.h"

/* Fills out (zeroed, section->size bytes) from a map; absent keys take their defaults. path ("stages.zero", "" at the top) and
 * the nodes' places go into sentences. Fails on unknown keys (naming the nearest), wrong types, values out of range. */
bool bind_read(const Section *b, const Node *map, void *out, const char *path, Status *st);

/* "an integer from 1 to 64", "one of char, bpe, file", ...: what a row accepts. */
void field_expectation(const Field *f, char *out, size_t size);

#endif
