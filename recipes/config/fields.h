/* A tree of values -> a struct and back, by the rows of a Block. */
#ifndef RECIPES_FIELDS_H
#define RECIPES_FIELDS_H

#include <stdbool.h>
#include <stdio.h>

#include "core/status.h"
#include "recipes/config/schema.h"
#include "recipes/config/yaml.h"

/* Fills out (zeroed, block->size bytes) from a map; absent keys take their defaults. path ("stages.zero", "" at the top) and
 * the nodes' places go into sentences. Fails on unknown keys (naming the nearest), wrong types, values out of range. */
bool fields_read(const Block *b, const Node *map, void *out, const char *path, Status *st);

/* Writes every key the struct's variant has, one a line, indented by `indent` spaces. */
void fields_write(const Block *b, const void *in, FILE *f, int indent);

/* "an integer from 1 to 64", "one of char, bpe, file", ...: what a row accepts. */
void field_expectation(const Field *f, char *out, size_t size);

#endif
