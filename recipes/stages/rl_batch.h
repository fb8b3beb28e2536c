/* From groups to the rows of an update: which completions are trained on, in which mini-batch, with which weight a token. */
#ifndef RECIPES_RL_BATCH_H
#define RECIPES_RL_BATCH_H

#include "core/block.h"
#include "core/losses/grpo.h"
#include "core/batches.h"
#include "recipes/stages/groups.h"

/* One update's worth of completions: predictions with their GRPO data, [tokens.m]. */
typedef struct RlBatch {
    BatchBuilder tokens;
    float *weight, *advantage, *old_lp, *ref_lp, *ratio, *kl, *correction;
    float *value, *returns; /* of a critic, before the step's updates; else unset */
    uint8_t *flags;
    int32_t *output;     /* which of the batch's completions a row belongs to */
    GrpoOutput *outputs; /* [n_outputs] */
    int n_outputs;
    int32_t *routes;    /* [MoE layers][tokens.n][K], of rl_batch_routes */
    RoutingGiven given; /* the same */
    int capacity, outputs_capacity;
} RlBatch;

/* The completions of a step with a signal, in groups of G. Others have advantage 0 and, with no KL for them, no gradient. */
typedef struct RlPicked {
    int *list; /* [n] group * G + sample */
    int n;
    float *weight; /* [groups * G] of each token of a completion: 1 / its mean's denominator; 0: masked */
} RlPicked;

/* A mini-batch: completions list[first .. first + n), its gradient scaled so that mini-batches of equal size have the weight of
 * the whole batch. */
typedef struct RlPart {
    const int *list;
    int n;
    float scale;
} RlPart;

/* n groups of the recipe's size. Truncated completions have weight 0 with mask_truncated; a mean is over all n * G. */
RlPicked rl_pick(const Group *groups, int n, const RecipeRl *rl);
void rl_picked_free(RlPicked *p);

/* Mini-batches of the picked completions: as many as the recipe says, at most one a completion. */
int rl_part_count(const RlPicked *p, const RecipeRl *rl);
/* order [picked->n]: the completions as pass number `pass` takes them: as they come with one mini-batch, else shuffled by
 * (seed, pass). */
void rl_order(int *order, const RlPicked *p, int parts, uint32_t seed, uint32_t pass);
/* Part k of `parts` of an order. */
RlPart rl_part(const int *order, int n, int k, int parts);

/* Fills the batch with a part: its predictions' weights, advantages and the log-probs of the rollout, which stay through all
 * updates of a step (old_lp of the ratio): the sampler's, or with a correction (1 without) the trainer's own. */
void rl_batch_fill(RlBatch *b, const Group *groups, int G, const RlPicked *picked, const RlPart *part);
void rl_batch_free(RlBatch *b);

/* The sampler's choices of experts of the batch's rows (core/block.h), as the samples of the part kept them; NULL where they did
 * not. Valid until the next call. */
const RoutingGiven *rl_batch_routes(RlBatch *b, const ModelConfig *c, const Group *groups, int G, const RlPart *part);

/* The loss's constants, of a recipe. */
GrpoConfig rl_grpo_config(const RecipeRl *rl);

#endif
