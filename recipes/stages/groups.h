/* The samples of an RL step: groups of G completions with rewards and advantages, kept until the update is done. */
#ifndef RECIPES_GROUPS_H
#define RECIPES_GROUPS_H

#include "core/rollout/rollout.h"
#include "data/corpus.h"
#include "data/reward/reward.h"
#include "recipes/stages/reward_model.h"

typedef struct Sample {
    int32_t *ids;                         /* the completion's, owned */
    float *logprobs;                      /* the sampler's */
    float *entropy, *ref_logprobs;        /* [n], owned; NULL until the trainer has seen it, and without a reference */
    float *trainer_logprobs, *correction; /* [n], owned; before the step's first update; NULL without a correction */
    uint16_t
        *routes; /* the sampler's choices of experts of every token but the last (rollout.h), owned; NULL: not kept */
    float *advantages, *values, *returns; /* [n], owned; of each token, by a critic; NULL without */
    int n;
    bool truncated;
    char *text; /* owned */
    RewardOutput reward;
    float advantage; /* with a critic the mean over its tokens */
    float language;  /* share of the prompt's language in the think part; 1 when it is empty */
    bool format_ok, thinks;
} Sample;

typedef struct Group {
    Problem problem;
    Ids prompt;
    uint16_t *routes; /* the sampler's choices of experts of its tokens, owned; NULL: not kept */
    uint32_t index;   /* global prompt index */
    Sample *samples;  /* [G] */
    bool signal;      /* its rewards differ */
} Group;

/* Where rollouts and rewards of a stage come from. */
typedef struct GroupSource {
    Run *run;
    const RecipeRl *rl;
    const CorpusSpec *mix;
    RewardSet *rewards;
    const RecipeRewards *specs;    /* of `rewards` */
    RewardModel *helpful, *safety; /* NULL: their components get nothing */
    uint32_t data_seed;
    uint32_t rng_stage; /* of the sampling's counters */
    int slots;
} GroupSource;

/* Which prompts, first .. first + n - 1 of the mix, in which step (of the sampling's counters). */
typedef struct GroupDraw {
    int64_t step, first;
    int n;
} GroupDraw;

/* A sample out of a completion of a problem's prompt: its tokens, its text and what is counted of that. A truncated
 * completion has no format; a share of language is of the thought. */
void sample_fill(Sample *s, const Completion *c, const Voice *v, const Problem *p);
/* Fails when a score of a reward model is no number: it must not pass for one that did not run. */
bool reward_scores_finite(const RewardModel *m, const float *score, int n, Status *st);
/* n groups, sampled from the policy; without rewards yet. */
bool groups_sample(Group *out, const GroupSource *s, Policy *p, const GroupDraw *draw, RolloutStats *stats, Status *st);
/* The rewards of every sample of n groups: rules, programs, reward models. Fails when one is no number that can be learned from
 * (groups_check). */
bool groups_score(Group *groups, int n, const GroupSource *s, Status *st);
/* Whether every part of every reward of a group of G is a number of at most LARGEST_REWARD, weighted and summed too; the sentence
 * names reward, prompt and value. */
enum { LARGEST_REWARD = 1000000000 };
bool groups_check(const Group *groups, int n, int G, const RewardSpec *rewards, int n_rewards, Status *st);
/* The advantages within each of n groups of G, and whether a group has a signal. by_std as in grpo_advantages. */
void groups_advantages(Group *groups, int n, int G, bool by_std);
/* After it, with all groups of a step: losses whose baseline is another one (grpo.h: grpo_batch_advantages). With rewards
 * normalised over the batch a group of equal rewards has a signal too. */
void groups_batch_advantages(Group *groups, int n, int G, GrpoKind kind);

/* Puts fresh groups with a signal, in their order, in the places of those of the n groups that have none; frees the others of
 * them. fresh holds as many as `groups` has without a signal. Returns how many were replaced. */
int groups_replace(Group *groups, Group *fresh, int n, int G);

void group_free(Group *g, int G);
/* n groups, emptied; those that are empty are left alone. */
void groups_free(Group *groups, int n, int G);

#endif
