/* Rollouts by continuous batching: a finished sequence's slot is refilled at once; the samples of a prompt share its prefill
 * and its cache pages. A sample depends on (weights, prompt, its counters) only, never on its neighbours. */
#ifndef CORE_ROLLOUT_H
#define CORE_ROLLOUT_H

#include "core/head.h"
#include "core/rollout/kv_cache.h"
#include "core/base/philox.h"

typedef struct RolloutSpec {
    int slots;      /* sequences decoded at once */
    int samples;    /* G completions a prompt */
    int max_tokens; /* of a completion, the stop token included */
    int draft;      /* tokens guessed a step by the first module of multi-token prediction (draft.h); 0: none */
    CacheKind cache;
    bool routes; /* keep the choices of experts (routes.h) */
    SampleArgs sampling;
    const int32_t *stops; /* token ids that end a completion (kept as its last token) */
    int n_stops;
    uint32_t seed, stage, step; /* of the counter-based RNG, with purpose */
    RngPurpose purpose;
    /* NULL, or called with every token as it is sampled, of item prompt * samples + sample. */
    void (*on_token)(void *ctx, int item, int32_t id);
    void *on_token_ctx;
    const volatile int *cancel; /* NULL, or the rollout stops early when it became non-zero */
} RolloutSpec;

/* Whether the device samples on while the host takes the tokens of the step before (late.c); R1_LATE=yes or no: asked for. Drafts
 * and kept routes are read by the host in every step, and a keeper fetches weights for it: those are not. */
bool rollout_is_late(const Engine *e, const Weights *w, int draft, bool routes);
/* Bytes of the device's memory that its tokens take; slots: as needed. */
size_t rollout_late_bytes(int slots);

typedef struct RolloutPrompt {
    const int32_t *ids;
    int n;
    uint32_t index; /* global prompt index, the RNG's */
} RolloutPrompt;

/* Completion of (prompt p, sample g) is out[p * samples + g]; ids and logprobs point into the sampler's storage and stay
 * valid until its next rollout. logprob: of softmax(logits / T) (T = 1 when greedy), before top-k and top-p. */
typedef struct Completion {
    const int32_t *ids;
    const float *logprobs;
    int n;
    bool truncated; /* max_tokens without a stop token */
    /* With routes: of every token but the last, and of the prompt's tokens, the experts chosen in each MoE layer in turn, K a
     * layer, ascending; NULL without. */
    const uint16_t *routes, *prompt_routes;
} Completion;

typedef struct RolloutStats {
    long tokens, prefill_tokens, steps; /* sampled, computed in prefill, decode steps */
    long drafted, accepted;             /* tokens guessed; of them those that the model sampled too */
    long discarded;   /* computed behind the end of a sequence, where decoding is one step late (late.c) */
    double occupancy; /* mean share of busy slots while the queue was not empty (1 when it never was) */
    size_t cache_bytes;
} RolloutStats;

typedef struct Sampler Sampler; /* the cache and the completions' storage, kept between rollouts */

Sampler *sampler_new(Engine *e);
void sampler_free(Sampler *s);

/* Samples spec->samples completions of every prompt. stats may be NULL. Fails when the cache cannot be had or a
 * prompt is empty, and with "interrupted" when it was cancelled. */
bool rollout_run(Sampler *s, const Weights *w, const RolloutSpec *spec, const RolloutPrompt *prompts, int n,
                 Completion *out, RolloutStats *stats, Status *st);

#endif
