/* Files of sampled traces that SFT reads: RUN/samples/STAGE.jsonl, one object a line: {"prompt": text or messages,
 * "tools"?, "completion", "kind": reasoning or general}. */
#ifndef RECIPES_SAMPLES_H
#define RECIPES_SAMPLES_H

#include "recipes/run/run.h"
#include "recipes/stages/documents.h"

/* Whether a completion is kept: right, and of a reasoning problem in the format, its reasoning in the prompt's language only and
 * without much repetition. */
bool samples_wanted(const JudgedText *judged);

/* Adds the stage's samples to d: at most `most` (-1: all). */
bool samples_load(Run *r, const char *stage, int most, int max_length, Documents *d, Status *st);

#endif
