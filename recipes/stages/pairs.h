/* Preference pairs as training sequences: of a stage's files (`preferences`), else of the helpful families under `general`. */
#ifndef RECIPES_PAIRS_H
#define RECIPES_PAIRS_H

#include "recipes/model/prompts.h"
#include "recipes/run/run.h"

typedef struct Pair {
    Sequence chosen, rejected; /* one prompt; only the last message is predicted */
} Pair;

typedef struct Pairs {
    Pair *list;
    int n, capacity;
    int too_long; /* left out: one of the two is longer than max_length */
} Pairs;

/* Where a stage's pairs come from; fails where there is nothing. */
bool pairs_mix(Run *r, const RecipeStage *s, CorpusSpec *out, Status *st);
/* Training pairs of the stage: `pairs`, or when 0 every row of its files once. */
int pairs_wanted(const RecipeStage *s, const CorpusSpec *c);
/* Held-out ones: at most `heldout_pairs`; of files those rows that are held out, of which there may be none. */
int pairs_heldout(const RecipeStage *s, const CorpusSpec *c);
/* Adds the pairs [0, n) of a split; built-in ones of the training split with flipped labels in a share of `noise`. */
bool pairs_add(Pairs *out, const Run *r, const RecipeStage *s, const CorpusSpec *c, uint32_t seed, Split split, int n,
               Status *st);
void pairs_free(Pairs *p);

#endif
