/* A trained reward model: what a reward_model stage made, and the scores that it gives to completions. */
#ifndef RECIPES_REWARD_MODEL_H
#define RECIPES_REWARD_MODEL_H

#include "core/policy.h"
#include "recipes/run/run.h"

/* A trained reward model: a policy with a scalar head and the calibration of its values. */
typedef struct RewardModel {
    Policy *policy;
    double mean, std; /* of its values on held-out examples: score = sigma((value - mean) / std) */
    bool answer_only; /* helpful: sees the prompt and the final answer only; safety: everything */
} RewardModel;

/* The model of a reward_model stage ("STAGE", "RUN/STAGE"), helpful or safety, for the rewards of stage s. */
RewardModel *reward_model_load(Run *r, const RecipeStage *s, bool helpful, Status *st);
void reward_model_free(Run *r, RewardModel *m);

/* The token sequence a reward model reads for a completion: appends to out. */
void reward_model_input(const RewardModel *m, const Tokenizer *t, const int32_t *prompt, int prompt_n,
                        const int32_t *completion, int n, Ids *out);
/* score[i] in (0, 1) of n sequences; offsets [n + 1] into ids. False: its weights could not be read. */
bool reward_model_scores(RewardModel *m, const int32_t *ids, const int32_t *offsets, int n, float *score, Status *st);

#endif
