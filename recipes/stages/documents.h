/* Finite sets of encoded training sequences, and the order of an epoch. */
#ifndef RECIPES_DOCUMENTS_H
#define RECIPES_DOCUMENTS_H

#include "data/tokenizer/tokenizer.h"
#include "recipes/model/voice.h"

typedef struct Sequence {
    int32_t *ids;
    int n, first; /* tokens; index of the first predicted one */
} Sequence;

typedef struct Documents {
    Sequence *list;
    int n, capacity, dropped; /* dropped: longer than max_length */
} Documents;

/* Encodes and adds; longer than max_length is dropped and counted. all: every token is predicted, else the completion only. */
void documents_add(Documents *d, const Voice *v, const char *rendered_prompt, const char *completion, int max_length,
                   bool all);
void documents_free(Documents *d);

/* Place of item i (of n) in an order that (seed, epoch) fixes: a bijection of 0 .. n - 1. */
int keyed_order(int i, int n, uint32_t seed, uint32_t epoch);
/* Which document stands at place `at` of epoch after epoch, every epoch in an order of its own that (seed, epoch) fixes. */
int documents_pick(const Documents *d, uint32_t seed, int64_t at);

#endif
