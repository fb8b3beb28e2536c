/* Reflection, counted: what a thought of a built-in family does beside going on. A thought is cut into steps where its
 * family's traces have their separator; Chinese numerals are read as digits. Nothing is guessed from words.
 *
 * In families that search (Task.attempt: countdown, code) a step LEFT=RIGHT is an attempt and says what it comes to:
 *     check       the right side is what the left side gives: the attempt was worked out
 *     slip        it is not
 *     revision    an attempt behind one that does not fit by its own right side, with another left side
 * In the others (LEFT=RIGHT of add and mul; in sort and chain a step is its own left side, without a right one):
 *     check       a step that stood before in this thought, with the same right side: it was worked out again
 *     revision    one whose left side stood before with another right side: it was corrected
 * corrected: the answer is right, and there was a revision. */
#ifndef DATA_REFLECTION_H
#define DATA_REFLECTION_H

#include "data/task.h"

enum {
    REFLECTION_STEPS = 256,
    REFLECTION_STEP = 128
}; /* steps of a thought, bytes of a step; what is beyond is not read */

typedef struct Reflection {
    int steps, checks, slips, revisions;
    bool corrected;
} Reflection;

/* Whether thoughts about p can be counted: a reasoning problem of a built-in family. */
bool reflection_counts(const Problem *p);
/* Of a completion of such a problem, whose verdict is v. Without a thought: nothing. */
Reflection reflection_of(const Problem *p, const char *completion, const Verdict *v);

#endif
