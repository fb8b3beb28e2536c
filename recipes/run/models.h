/* The models that a recipe names: an earlier stage of this run, RUN/stage, a checkpoint, a model folder. */
#ifndef RECIPES_RUN_MODELS_H
#define RECIPES_RUN_MODELS_H

#include "checkpoints/model_file.h"
#include "core/policy.h"
#include "recipes/run/run.h"

/* A model of a stage that only computes forward, a teacher or a reward model, where its plan says so by weights that rest in its
 * file; *extra, if not NULL: the state its own stage left in the checkpoint (JSON text, free(); NULL: none). Close it with
 * run_frozen_free, which notes what was read. */
Policy *run_frozen_policy(Run *r, const RecipeStage *s, const char *from, char **extra, Status *st);
void run_frozen_free(Run *r, Policy *p);
/* The model that a stage trains: what `from` stands for, or initial weights of the stage's model block when it is empty.
 * scalar: its trunk with a fresh scalar head. */
Policy *run_initial_policy(Run *r, const RecipeStage *s, bool scalar, Status *st);

/* The same for a stage that only samples from it, where its plan says so by weights that rest on disk. */
Policy *run_sampling_policy(Run *r, const RecipeStage *s, const char *from, Status *st);

/* The policy of a stage whose plan says that its model is larger than memory. m was opened in place, and is the policy's from now
 * on, whether this succeeds or not; source: no stage of this run made it. */
Policy *run_place(Run *r, LoadedModel *m, const RecipeStage *s, bool source, Status *st);

/* PPO's critic of a stage, as it starts: critic_from, or a copy of the policy's trunk under a fresh scalar head. */
Policy *run_critic(Run *r, const RecipeStage *s, Policy *p, Status *st);

/* Where a model lies that is no stage of this run: model.from that was moved is where --base says. */
const char *run_model_file(const Run *r, const char *from);

/* Whether a checkpoint that stands in the run folder was made by this run's recipe. */
bool run_owns(const Run *r, const CheckpointMeta *meta, const char *path, Status *st);

#endif
