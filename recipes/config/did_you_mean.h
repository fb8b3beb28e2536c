/* The known word nearest to a mistyped one, for "did you mean". */
#ifndef RECIPES_NEAREST_H
#define RECIPES_NEAREST_H

#include <stddef.h>

typedef struct Nearest {
    const char *word;
    const char *best; /* a view of the candidate; NULL while none is near enough */
    int distance;
} Nearest;

/* Edit distance: insertions, deletions, substitutions and swaps of neighbours cost 1 (optimal string alignment). */
int edit_distance(const char *a, const char *b);

Nearest nearest_start(const char *word);
/* Considers a candidate; one that differs in more than a third of the word's letters (2 for short words) never wins. */
void nearest_try(Nearest *n, const char *candidate);
/* Writes ", did you mean 'best'?" or "" into out. */
const char *nearest_hint(const Nearest *n, char *out, size_t size);

#endif
