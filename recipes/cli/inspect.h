/* The views of r1 inspect: a model, a run, one group of rollouts. */
#ifndef RECIPES_INSPECT_H
#define RECIPES_INSPECT_H

#include "checkpoints/model_file.h"
#include "data/json.h"

typedef struct InspectOptions {
    bool json, tensors, sha256;
    const char *base; /* where the base of a checkpoint lies now; NULL: where it was */
} InspectOptions;

/* Config, parameter table (tensors of one kind and shape in a row, or each), counts; the sha256 of the weights of a
 * checkpoint that holds all of them, of other models when asked for. */
bool inspect_model(const char *name, const InspectOptions *o, Status *st);

/* The stages of a run's folder, from its summary.json; false (no sentence) when name is no run's folder. */
bool inspect_run(const char *name, bool json);

/* The group of a prompt at a step: what each sample got, and its text. */
bool inspect_group(const char *run, const char *stage, int step, int prompt, bool json, Status *st);

#endif
