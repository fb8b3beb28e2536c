/* A struct as YAML, by the rows of a section of the key table. */
#ifndef RECIPES_BIND_WRITE_H
#define RECIPES_BIND_WRITE_H

#include <stdio.h>

#include "recipes/config/schema.h"

/* Writes every key the struct's variant has, one a line, indented by `indent` spaces. */
void bind_write(const Section *b, const void *in, FILE *f, int indent);

#endif
