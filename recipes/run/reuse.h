/* Units that another run has done already: linked instead of computed. */
#ifndef RECIPES_REUSE_H
#define RECIPES_REUSE_H

#include "recipes/run/run.h"

typedef struct Reuse Reuse;
/* Runs to take from: each folder of "A:B:.." if it is one, and the runs right below it. NULL with a sentence when
 * one is no folder. */
Reuse *reuse_open(const char *folders, Status *st);
void reuse_close(Reuse *r);

/* Before a unit is computed. Where a run under the folder has a unit of the same identity (identity.h): its result
 * is linked (a hard link; copied across file systems), its metrics, samples and rollouts too, and the summary's
 * entry says "reused": RUN. Else it says on the progress line why not. When another process is computing the same
 * unit, waits for it first, until r->cancel. *done: the unit is there. The claim on the identity is held until
 * reuse_release. */
bool reuse_unit(Run *r, const Unit *u, bool *done, Status *st);
void reuse_release(Reuse *r);

/* Writes the text of a finished unit's identity to RUN/units/NAME.txt and its hash into the summary's entry. */
bool reuse_record(const Run *r, const Unit *u, Json *entry, Status *st);

#endif
