/* Needles found, by length of the haystack and depth: the grid of `r1 eval --task needle`. */
#ifndef RECIPES_NEEDLE_GRID_H
#define RECIPES_NEEDLE_GRID_H

#include "data/task.h"
#include "data/tasks/needle.h"

enum { NEEDLE_DEPTHS = 5 }; /* fifths of the haystack */

typedef struct NeedleGrid {
    long found[NEEDLE_LEVELS + 1][NEEDLE_DEPTHS], tried[NEEDLE_LEVELS + 1][NEEDLE_DEPTHS];
    long all;
} NeedleGrid;

/* Counts a judged sample; those of other families count nowhere. */
void needle_grid_add(NeedleGrid *g, const JudgedText *judged);
/* A row a length, a column a depth, in per cent; nothing where no needle was looked for. */
void needle_grid_print(const NeedleGrid *g);
/* {"lengths": [digits], "found": [[share or null]], "tried": [[n]]}; NULL where no needle was looked for. */
Json *needle_grid_json(const NeedleGrid *g);

#endif
