/* What a run reads besides its recipe: data files, a tokenizer, reward programs, models from elsewhere. */
#ifndef RECIPES_INPUTS_H
#define RECIPES_INPUTS_H

#include "recipes/run/run.h"

/* Records size and SHA-256 of each in summary.json ("inputs": [{"path", "bytes", "sha256"}], in the order of the recipe), and on
 * resume compares: a run goes on with the files that it began with. A reward program is every word of its command that is a
 * file; a model folder is hashed by the names and sizes of its files, a file above 1 GiB by its first and last MiB. Fails with
 * a sentence that names the file that changed; one that is gone is left to whoever reads it. */
bool run_inputs(Run *r, bool resumed, Status *st);

#endif
