/* A policy that trains although its model is larger than memory: what is trained is in memory, frozen experts rest in the model's
 * file and pass through a ring (placing.h). */
#ifndef RECIPES_PLACED_POLICY_H
#define RECIPES_PLACED_POLICY_H

#include "checkpoints/file_block.h"
#include "checkpoints/checkpoint.h"
#include "recipes/config/recipe.h"
#include "recipes/model/placing.h"

/* m was opened in place and has the adapters that it is to have; it is the policy's from now on, closed with it, whether
 * this succeeds or not. train: the recipe's key; NULL: it only samples. work: bytes that a step takes beside frozen weights.
 * resident: of the trained weights and gradients, which then rest in a file in the machine's --state folder
 * (checkpoints/file_block.h); 0: all. */
Policy *placed_policy_open(const Machine *machine, LoadedModel *m, const RecipeNames *train, size_t work,
                           size_t resident, Status *st);
/* Where its trained weights and gradients rest; NULL: in memory. */
FileBlock *policy_rest(const Policy *p);
/* A policy with all of m's weights in memory that is never trained: in bf16 it has 2 bytes a weight, read one by one. */
Policy *frozen_policy_open(const Machine *machine, LoadedModel *m, Status *st);
/* NULL: all weights of the policy are in memory. */
const Placing *policy_placing(const Policy *p);
/* Of such a one: the file of its frozen weights. */
const LoadedModel *policy_placed_file(const Policy *p);

/* A policy's parameters one by one, wherever they rest: as exact f32, or as the file's bf16 words; and those of its reference. */
WeightSource policy_source(const Policy *p);
WeightSource policy_reference_source(const Policy *p);

#endif
