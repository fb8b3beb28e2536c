/* What a unit's result depends on, as text and as a hash: two units of one identity have equal results, whatever runs they are
 * units of. The text has one "KEY: value" a line, so that two of them can be compared by people too. */
#ifndef RECIPES_IDENTITY_H
#define RECIPES_IDENTITY_H

#include "recipes/run/run.h"

typedef struct Identity {
    char *text; /* free() */
    char hash[65];
} Identity;

/* Of a unit whose parents are done: machine kind, seed, the number of its random draws, the resolved keys that its kind
 * reads, the hash of the tokenizer, weights_sha256 of the models it starts from, samples with or is rewarded by, the hash of
 * the samples it learns from, the FLOPs a rival is given, size and hash of the files it reads. False (no sentence) where
 * something it depends on cannot be hashed: reward models of another run. */
bool identity_of(const Run *r, const Unit *u, Identity *out);

#endif
