/* Few-shot prompts: worked examples as turns of the conversation before the question. */
#ifndef RECIPES_SHOTS_H
#define RECIPES_SHOTS_H

#include "recipes/model/prompts.h"

enum { SHOTS_MAX = 64 };

/* Appends the worked examples that stand before problem p of a source. */
bool shots_before(Json *messages, const Problem *p, const Source *source, uint32_t seed, int shots, Status *st);

/* Puts `shots` worked examples before every problem of a set, and encodes it anew. A built-in family's are other
 * problems of its training split with the problem's level and language; a file's are rows that it keeps for training,
 * never held-out ones. Which: a function of seed and problem index. Fails for a file that holds no rows out (its
 * examples would be the questions), or has no worked ones. */
bool shots_add(PromptSet *set, const Voice *v, const Source *source, uint32_t seed, int shots, Status *st);

#endif
