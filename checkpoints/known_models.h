/* Configs of released models by name (docs/model.md), for planning and inspection without a file. */
#ifndef CHECKPOINTS_KNOWN_MODELS_H
#define CHECKPOINTS_KNOWN_MODELS_H

#include "core/config.h"

/* Name i in ascending order, NULL behind the last. */
const char *known_model_name(int i);
/* False when there is none of this name (upper or lower case). */
bool known_model(const char *name, ModelConfig *out);

#endif
