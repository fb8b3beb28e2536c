/* Finite sets of encoded training sequences, and the order of an epoch. */
#ifndef RECIPES_DOCUMENTS_H
#define RECIPES_DOCUMENTS_H

#include "recipes/model/prompts.h"

typedef struct Documents {
    Sequence *list;
    int n, capacity;
    int dropped;       /* sequences longer than max_length */
    int without_reply; /* documents with nothing to train on */
} Documents;

/* Encodes and adds a document's sequences; those longer than max_length are dropped and counted, and so are documents
 * without a reply. Fails where document_encode does. */
bool documents_add(Documents *d, const Voice *v, const Document *doc, Turns turns, int max_length, Status *st);
void documents_free(Documents *d);

/* Place of item i (of n) in an order that (seed, epoch) fixes: a bijection of 0 .. n - 1. */
int keyed_order(int i, int n, uint32_t seed, uint32_t epoch);
/* Which document stands at place `at` of epoch after epoch, every epoch in an order of its own that (seed, epoch) fixes. */
int documents_pick(const Documents *d, uint32_t seed, int64_t at);

#endif
