/* What a rollout needs, from its sizes alone: asked by the sampler, which takes it, and by the memory plan, which predicts it. */
#ifndef CORE_ROLLOUT_NEED_H
#define CORE_ROLLOUT_NEED_H

#include "core/engine.h"
#include "core/rollout/kv_cache.h"

typedef struct RolloutSize {
    int prompts, longest; /* how many, and tokens of the longest */
    int samples, slots;   /* completions a prompt; sequences decoded at once */
    int max_tokens;       /* of a completion */
    int draft;            /* guesses a step and sequence */
} RolloutSize;

typedef struct RolloutNeed {
    int slots;         /* used at most: one that never is needs no pages */
    int tiles, pages;  /* of the longest sequence; of the cache */
    size_t tokens;     /* of all completions, as the sampler stores ids and log-probs */
    int first_prompts; /* prefilled at once, at the start */
    int started;       /* prompts being started at once, at most: their last logits are kept */
} RolloutNeed;

/* Key tiles of so many positions: the pages that hold them. */
static inline int rollout_tiles(int tokens)
{
    return (tokens + KEY_TILE - 1) / KEY_TILE;
}

/* Every slot has the pages of the longest sequence; every prompt being started holds its own reference to its pages. */
RolloutNeed rollout_need(const RolloutSize *s);

/* Takes from the engine's arena what the first prefill and a decode step of all slots take, on a backend that computes nothing.
 * cache: its pages are not touched. */
void rollout_dry(Engine *e, const Weights *w, const RolloutSize *s, KvCache *cache);

#endif
