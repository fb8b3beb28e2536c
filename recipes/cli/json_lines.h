/* Standard input as JSON lines, for the commands that other programs talk to. */
#ifndef RECIPES_JSON_LINES_H
#define RECIPES_JSON_LINES_H

#include <stdbool.h>

#include "data/json.h"

/* Answers one value with one line on standard output. */
typedef bool JsonLineAnswer(void *context, const Json *v, Status *st);
/* Calls answer for each line in order and flushes, so that a program may wait for a reply before its next line. Blank
 * lines are passed over. A line that is no JSON or that answer fails stops it: "standard input: line L: what". */
bool json_lines_answer(JsonLineAnswer *answer, void *context, Status *st);
/* A value as one line on standard output; takes it over. */
void json_line_print(Json *v);

#endif
